"""Nearest neighbours: exact by a blocked matrix product, every size from the same stored vectors; or by a graph."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    import faiss

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


@dataclass(frozen=True)
class Hnsw:
    """A graph of near neighbours (Malkov and Yashunin, 2018), searched approximately; made by :func:`hnsw`.

    Attributes:
        index: faiss's own.
        links: neighbours a vertex keeps (the 32 of HNSW32).
        threads: used to build and to search.
    """

    index: faiss.IndexHNSWFlat
    links: int
    threads: int

    def search(self, queries: Tensor, k: int, ef: int) -> Found:
        """Return scores (Q, k), falling, and ids (Q, k); ``ef`` candidates are kept on the way, at least k."""
        import faiss

        _check_request(queries, (self.index.ntotal, self.index.d), k, self.index.ntotal)
        with _threads(self.threads):
            wanted = faiss.SearchParametersHNSW(efSearch=ef)
            scores, ids = self.index.search(queries.contiguous().numpy(), k, params=wanted)
        return torch.from_numpy(scores), torch.from_numpy(ids)

    def describe(self, k: int, ef: int, batch: int) -> str:
        """Everything that a time of this search depends on, in one line."""
        return (
            f"HNSW{self.links} over {self.index.ntotal} vectors of {self.index.d} dims: k = {k}, ef = {max(ef, k)}, "
            f"{self.threads} thread(s), {batch} queries a call"
        )


def hnsw(database: Tensor, *, links: int = 32, build_ef: int = 40, threads: int = 1) -> Hnsw:
    """Build a graph index over **unit** rows (N, m), the MRL paper's HNSW32 (section 4.3), by faiss.

    Cut first, ``hnsw(unit_prefix(z, m))``: every size needs a graph of its own. One thread always builds the same
    graph; several are faster and do not.

    Raises:
        RequestError: faiss is not installed, or rows that are not of length 1.
    """
    try:
        import faiss
    except ImportError as error:
        raise RequestError("an HNSW index needs faiss: pip install 'mrl-lab[test]', or faiss-cpu alone.") from error
    if not torch.allclose(database.norm(dim=1), torch.ones(len(database)), atol=1e-3):
        raise RequestError("an HNSW index needs rows of length 1: pass unit_prefix(z, m).")
    index = faiss.IndexHNSWFlat(database.shape[1], links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = build_ef
    with _threads(threads):
        index.add(database.contiguous().numpy())
    return Hnsw(index, links, threads)


@contextmanager
def _threads(number: int):
    """Let faiss use ``number`` threads, and as many as before afterwards."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


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
    _check_request(queries, tuple(database.shape), k, len(database) - (exclude is not None))
    _refuse_nan(database)


def _check_request(queries: Tensor, database: tuple[int, ...], k: int, available: int) -> None:
    """Refuse queries that do not fit a database of that shape, and a k above the rows available."""
    if queries.ndim != 2 or len(database) != 2 or queries.shape[1] != database[1]:
        raise RequestError(f"queries {tuple(queries.shape)} and database {database} must be tables of the same width.")
    if not 1 <= k <= available:
        raise RequestError(f"k = {k} neighbours asked of {available} rows: use 1 to {available}.")
    _refuse_nan(queries)


def _refuse_nan(table: Tensor) -> None:
    if table.isnan().any():
        raise RequestError("queries or database hold NaN: drop or repair those rows first.")
