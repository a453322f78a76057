"""Exact nearest neighbours by a blocked matrix product; every size from the same stored vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError

Found = tuple[Tensor, Tensor]  # scores (Q, k) and ids (Q, k)


def exact(queries: Tensor, database: Tensor, k: int, *, exclude: Tensor | None = None, rows: int = 512) -> Found:
    """Return the ``k`` most similar database rows of each query by inner product.

    On unit vectors this is cosine order, and L2 order too. Inputs are not changed.

    Args:
        queries: (Q, m). database: (N, m), in the same units.
        exclude: (Q,) one database row to leave out for each query (itself), if any.
        rows: queries a block; a block's scores take rows x N x 4 bytes.

    Returns:
        scores (Q, k), falling, and ids (Q, k), int64; equal scores are ordered by id.
    """
    _check(queries, database, k, exclude)
    scores, ids = zip(*(_block(q, database, k, e) for q, e in _blocks(queries, exclude, rows)), strict=True)
    return torch.cat(scores), torch.cat(ids)


def at_size(queries: Tensor, database: Tensor, m: int, k: int, **how) -> Found:
    """:func:`exact` on the first ``m`` dims, each prefix normalised after the cut (MRL, section 4.3)."""
    return exact(unit_prefix(queries, m), unit_prefix(database, m), k, **how)


def _blocks(queries: Tensor, exclude: Tensor | None, rows: int):
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        yield queries[part], None if exclude is None else exclude[part]


def _block(queries: Tensor, database: Tensor, k: int, exclude: Tensor | None) -> Found:
    scores = queries @ database.T  # (q, m) (m, N) -> (q, N)
    if exclude is not None:
        scores.scatter_(1, exclude[:, None], float("-inf"))
    best = scores.topk(min(k + 1, len(database)), dim=1)
    ids = best.indices[:, :k].clone()
    for row in _tied_at_the_end(best.values, k):
        ids[row] = _lowest_ids(scores[row], best.values[row, k - 1], k)
    ids = ids.sort(dim=1).values  # by id first, so that the stable sort by score leaves ties in the order of ids
    rank = scores.gather(1, ids).sort(dim=1, descending=True, stable=True)
    return rank.values, ids.gather(1, rank.indices)


def _tied_at_the_end(best: Tensor, k: int) -> list[int]:
    """Rows whose k-th and next scores (q, k + 1) are equal: topk keeps any of them."""
    return (best[:, k - 1] == best[:, k]).nonzero()[:, 0].tolist() if best.shape[1] > k else []


def _lowest_ids(scores: Tensor, last: Tensor, k: int) -> Tensor:
    """Ids of the k highest of scores (N,), the lowest ids of those equal to the ``last``."""
    better, equal = (scores > last).nonzero()[:, 0], (scores == last).nonzero()[:, 0]
    return torch.cat([better, equal[: k - len(better)]])


def _check(queries: Tensor, database: Tensor, k: int, exclude: Tensor | None) -> None:
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise RequestError(
            f"queries {tuple(queries.shape)} and database {tuple(database.shape)} must be tables of the same width."
        )
    available = len(database) - (exclude is not None)
    if not 1 <= k <= available:
        raise RequestError(f"k = {k} neighbours asked of {available} rows: use 1 to {available}.")
    if queries.isnan().any() or database.isnan().any():
        raise RequestError("queries or database hold NaN: drop or repair those rows first.")
