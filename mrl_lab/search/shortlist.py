"""Shortlist and rerank: few dims find the candidates, more dims put them in order (MRL, section 4.3.1).

K candidates by the first D_s dims, ordered by cosine on the first D_r: N D_s + K D_r multiply-adds a query instead of
N d. A **funnel** orders in stages, halving the list while it doubles the dims: stage i takes the first K_i of the
order so far and sorts them by D_i.

How we differ: nothing is re-ordered in place. The official code sorts a view of its shortlist, so that each setting
starts from what the one before has refined.

In a rerank the gathering of K rows a query is all the work. It goes through one buffer of 2 MB that stays in the
cache, and its rows are used there at once: 256 queries, K = 50 of 1,000,000 x 1024 take 5 ms, against 57 ms for
``database[ids]`` (2 cores), most of which is the system handing out 50 MB of fresh pages. float16 rows take as long
as float32 ones: both wait for memory, row by row. Rows that are known to be of length 1 are not gathered at all:
faiss multiplies them where they lie, 1.0 microseconds a row of 2048 float32 against 5.3 (one thread of a shared
machine, in turn), of which 3 are torch's product of many small matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrl_lab.cuts import check_sizes, prefix, unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.search import ann, checks
from mrl_lab.search.checks import Rows
from mrl_lab.search.flat import Found

BUFFER = 2**19  # values gathered at once


@torch.no_grad()
def rerank(queries: Rows, database: Rows, ids: Tensor, m: int, k: int | None = None, *, unit: bool = False) -> Found:
    """Order each query's candidates by cosine on the first ``m`` dims, each prefix normalised after the cut.

    Args:
        queries: (Q, d). database: (N, d), of any floating type and any lengths.
        ids: (Q, K) candidates, rows of the database, each once; their order does not matter and is not changed.
        k: how many to return, all K by default.
        unit: whether all d dims of every row are known to be finite and of length 1; it saves time where m is d.

    Returns:
        scores (Q, k), falling, and ids (Q, k); equal scores are ordered by id.

    Raises:
        RequestError: tables of other widths, candidates that do not exist or stand there twice, k above K, NaN or
            infinite values in a query or in the first ``m`` dims of a candidate: the only rows that are looked at.
    """
    database = checks.floats(database, "database")
    queries = checks.asked(queries, database.shape, 1)
    ids = checks.candidates(ids, len(queries), len(database))
    k = checks.neighbours(ids.shape[1] if k is None else k, ids.shape[1])
    checks.same_place(queries, database)
    cosines = ann.inner_products if unit and ann.takes(database) and m == database.shape[1] else _cosines
    found = cosines(unit_prefix(queries, m), prefix(database, m), ids).sort(dim=1, descending=True, stable=True)
    return found.values[:, :k], ids.gather(1, found.indices[:, :k])


def funnel(queries: Rows, database: Rows, ids: Tensor, dims: Sequence[int], lists: Sequence[int]) -> Found:
    """Order the first ``lists[i]`` of the candidates by ``dims[i]``, stage after stage.

    Args:
        queries: (Q, d). database: (N, d). ids: (Q, K) candidates, best first.
        dims: rising. lists: as many lengths, from K or less, never rising; the last is how many are returned.

    Raises:
        RequestError: dims or lists that are not as said, or what :func:`rerank` refuses.
    """
    dims, lists = (
        check_sizes(dims, checks.floats(database, "database").shape[-1]),
        [checks.number("list length", n) for n in lists],
    )
    ids = checks.row_numbers(ids, 2, len(queries), len(database), "candidates")
    if (
        len(lists) != len(dims)
        or lists != sorted(lists, reverse=True)
        or not 1 <= lists[-1] <= lists[0] <= ids.shape[1]
    ):
        raise RequestError(
            f"a funnel needs one list length for each of {list(dims)}, falling from at most {ids.shape[1]} candidates; "
            f"got {lists}."
        )
    for m, length in zip(dims, lists, strict=True):
        scores, ids = rerank(queries, database, ids[:, :length], m)
    return scores, ids


def _cosines(unit: Tensor, database: Tensor, ids: Tensor) -> Tensor:
    """Cosines (Q, K) of unit queries (Q, m) with their candidates ids (Q, K), rows of database (N, m)."""
    length, m = ids.shape[1], database.shape[1]
    step = max(1, BUFFER // (length * m))
    buffer = database.new_empty(step * length, m)
    cosines = unit.new_empty(ids.shape)
    for start in range(0, len(ids), step):
        some = ids[start : start + step]
        rows = torch.index_select(database, 0, some.reshape(-1), out=buffer[: some.numel()])
        rows = rows.view(*some.shape, m).to(unit.dtype)  # (q K, m) -> (q, K, m)
        long = torch.linalg.vector_norm(rows, dim=2)  # (q, K)
        checks.gathered(long, some)
        inner = torch.bmm(rows, unit[start : start + step, :, None])[:, :, 0]  # (q, K, m) (q, m, 1) -> (q, K)
        cosines[start : start + step] = inner / long.clamp(min=1e-12)
    return cosines
