"""Exact search: a blocked product with a running top-k, so that a table of Q x N scores never exists.

Scores are inner products; on unit vectors their order is that of the cosine, and of L2 (MRL, section 4.3, searches by
L2 on unit vectors). A block of rows times all queries stays in the processor's cache while its best are picked
(:mod:`mrl_lab.search.running`), which makes it as fast as faiss Flat or a little
faster, at small sizes and at large ones: ``mrl-lab bench search``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrl_lab.cuts import unit_prefix
from mrl_lab.search import checks
from mrl_lab.search.checks import Rows
from mrl_lab.search.quantise import Stored, store
from mrl_lab.search.running import GROUP, RunningBest

Found = tuple[Tensor, Tensor]  # scores (Q, k) and ids (Q, k)
BLOCK = 2**22  # scores a block: 16 MB; 4 MB take 1.3 times as long (300,000 x 16, k = 50), 64 MB 1.1 times


@torch.no_grad()
def exact(queries: Rows, database: Rows | Stored, k: int, *, exclude: Tensor | None = None, rows: int = 512) -> Found:
    """Return the ``k`` most similar database rows of each query by inner product.

    Inputs are not changed. Nothing is normalised here: see :func:`at_size`.

    Args:
        queries: (Q, m), a tensor or numpy array of floating point numbers; half precision is searched as float32.
        database: (N, m) in the same units, or rows stored by :func:`mrl_lab.search.store`, which are checked already.
        exclude: (Q,) one database row to leave out for each query (itself), if any.
        rows: queries taken at once.

    Returns:
        scores (Q, k), falling, and ids (Q, k), int64; equal scores are ordered by id.

    Raises:
        RequestError: widths that differ, k above the rows there are, integers, NaN or infinite values in any row.
    """
    stored = database if isinstance(database, Stored) else store(database)
    queries = checks.asked(queries, stored.shape, k, len(stored) - (exclude is not None))
    checks.same_place(queries, stored.rows)
    checks.number("rows", rows)
    if exclude is not None:
        exclude = checks.row_numbers(exclude, 1, len(queries), len(stored), "exclude").to(queries.device)
    height = GROUP * -(-min(BLOCK // max(1, min(rows, len(queries))), len(stored)) // GROUP)
    buffer = torch.empty(height, min(rows, len(queries)), dtype=stored.dtype, device=queries.device)
    none = torch.zeros(0, k, device=queries.device)
    found = [(none, none.long())]
    found += [_block(q, stored, k, e, buffer) for q, e in _blocks(queries, exclude, rows)]
    scores, ids = zip(*found, strict=True)
    return torch.cat(scores), torch.cat(ids)


def at_size(queries: Rows, database: Rows, m: int, k: int, **how) -> Found:
    """:func:`exact` on the first ``m`` dims, each prefix normalised after the cut (MRL, section 4.3)."""
    database = checks.database(database)
    queries = checks.asked(queries, database.shape, k)
    return exact(unit_prefix(queries, m), unit_prefix(database, m), k, **how)


def _blocks(queries: Tensor, exclude: Tensor | None, rows: int):
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        yield queries[part], None if exclude is None else exclude[part]


def _block(queries: Tensor, stored: Stored, k: int, exclude: Tensor | None, buffer: Tensor) -> Found:
    prepared = stored.prepare(queries)
    best = RunningBest(len(queries), k, buffer)
    buffer = buffer.view(-1)[: buffer.shape[0] * len(queries)].view(-1, len(queries))  # the last queries may be fewer
    for start in range(0, len(stored), len(buffer)):
        rows = slice(start, min(start + len(buffer), len(stored)))
        scores = _scores(stored, prepared, rows, buffer, best.lowest)
        if exclude is not None:
            _leave_out(scores, exclude - start, best.lowest)
        best.offer(scores, start)
    scores, ids = best.finish()
    return stored.restore(scores, queries), ids


def _scores(stored: Stored, prepared: Tensor, rows: slice, buffer: Tensor, lowest: float) -> Tensor:
    """Return the scores (b, Q) of some rows; b is their number rounded up to whole groups, by rows that never win."""
    n = rows.stop - rows.start
    whole = GROUP * -(-n // GROUP)
    stored.product(rows, prepared, buffer[:n])
    buffer[n:whole] = lowest
    return buffer[:whole]


def _leave_out(scores: Tensor, place: Tensor, lowest: float) -> None:
    """Make sure that the row at ``place`` (Q,) of the block, where it is in it, never wins."""
    inside = ((place >= 0) & (place < len(scores))).nonzero()[:, 0]
    scores[place[inside], inside] = lowest
