"""Approximate search by faiss: a graph (HNSW) or inverted lists (IVF), over unit rows of any size.

* HNSW (Malkov and Yashunin, 2018) walks a graph of near neighbours and keeps ``ef`` candidates on the way. HNSW32 is
  the MRL paper's index (section 4.3).
* IVF (Jégou et al., 2011) sorts rows to their nearest of some centroids and looks into ``probes`` lists.

Cut first: ``hnsw(unit_prefix(z, m))``; every size needs an index of its own. What an index gains it gains at all
dims too, so a comparison of sizes needs the same index on both sides.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mrl_lab.errors import RequestError
from mrl_lab.search import checks
from mrl_lab.search.flat import Found

if TYPE_CHECKING:
    import faiss


@dataclass(frozen=True)
class _Index:
    """What the indexes share.

    Attributes:
        index: faiss's own.
        threads: used to build and to search.
        seconds: that building took.
    """

    index: faiss.Index
    threads: int
    seconds: float

    def _found(self, queries: Tensor, k: int, parameters: faiss.SearchParameters) -> Found:
        rows = queries.to(torch.float32).contiguous().numpy()
        with faiss_threads(self.threads):
            scores, ids = self.index.search(rows, k, params=parameters)
        return torch.from_numpy(scores), torch.from_numpy(ids)

    def _check(self, queries: Tensor, k: int) -> None:
        checks.request(queries, (self.index.ntotal, self.index.d), k, self.index.ntotal)

    def _describe(self, name: str, k: int, effort: str, batch: int) -> str:
        return (
            f"{name} over {self.index.ntotal} vectors of {self.index.d} dims, built in {self.seconds:.1f} s: k = {k}, "
            f"{effort}, {self.threads} thread(s), {batch} queries a call"
        )


@dataclass(frozen=True)
class Hnsw(_Index):
    """A graph of near neighbours; made by :func:`hnsw`. A vertex keeps ``links`` of them (the 32 of HNSW32)."""

    links: int

    def search(self, queries: Tensor, k: int, ef: int = 64) -> Found:
        """Return scores (Q, k), falling, and ids (Q, k); ``ef`` candidates are kept on the way, at least k.

        Raises:
            RequestError: as :func:`mrl_lab.search.exact`, or a graph from which fewer than k rows can be reached.
        """
        import faiss

        self._check(queries, k)
        scores, ids = self._found(queries, k, faiss.SearchParametersHNSW(efSearch=max(ef, k)))
        if (ids < 0).any():
            raise RequestError(f"the graph reaches fewer than {k} rows from some queries: build it with more links.")
        return scores, ids

    def describe(self, k: int, ef: int, batch: int) -> str:
        """Everything that a time of this search depends on, in one line."""
        return self._describe(f"HNSW{self.links}", k, f"ef = {max(ef, k)}", batch)


@dataclass(frozen=True)
class Ivf(_Index):
    """Inverted lists, ``lists`` of them; made by :func:`ivf`."""

    lists: int

    def search(self, queries: Tensor, k: int, probes: int = 8) -> Found:
        """Return scores (Q, k), falling, and ids (Q, k) from the ``probes`` lists nearest to each query.

        A query whose lists hold fewer than k rows looks into all lists.
        """
        import faiss

        self._check(queries, k)
        scores, ids = self._found(queries, k, faiss.SearchParametersIVF(nprobe=min(probes, self.lists)))
        short = (ids < 0).any(1)
        if short.any():
            everywhere = faiss.SearchParametersIVF(nprobe=self.lists)
            scores[short], ids[short] = self._found(queries[short], k, everywhere)
        return scores, ids

    def describe(self, k: int, probes: int, batch: int) -> str:
        """Everything that a time of this search depends on, in one line."""
        return self._describe(f"IVF{self.lists}", k, f"{min(probes, self.lists)} probes", batch)


def hnsw(database: Tensor, *, links: int = 32, build_ef: int = 40, threads: int = 1) -> Hnsw:
    """Build a graph over **unit** rows (N, m). One thread always builds the same one; several are faster and do not.

    Raises:
        RequestError: faiss is not installed, or rows that are not of length 1.
    """
    faiss = _faiss()
    _check_unit(database)
    index = faiss.IndexHNSWFlat(database.shape[1], links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = build_ef
    began = time.perf_counter()
    with faiss_threads(threads):
        index.add(database.contiguous().numpy())
    return Hnsw(index, threads, time.perf_counter() - began, links)


def ivf(database: Tensor, *, lists: int | None = None, threads: int = 1) -> Ivf:
    """Sort **unit** rows (N, m) into ``lists``, by default 4 sqrt(N), faiss's own advice.

    Centroids are those of 64 rows a list, taken at even distances, so that the same rows give the same lists.

    Raises:
        RequestError: as for :func:`hnsw`, or more lists than rows.
    """
    faiss = _faiss()
    _check_unit(database)
    lists = max(1, min(round(4 * len(database) ** 0.5), len(database) // 39)) if lists is None else lists
    if not 1 <= lists <= len(database):
        raise RequestError(f"{lists} lists for {len(database)} rows: use 1 to {len(database)}.")
    index = faiss.index_factory(database.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # few rows a list are the caller's choice, not worth faiss's warning
    began = time.perf_counter()
    with faiss_threads(threads):
        index.train(database[:: max(1, len(database) // (64 * lists))].contiguous().numpy())
        index.add(database.contiguous().numpy())
    return Ivf(index, threads, time.perf_counter() - began, lists)


def brute_force(queries: Tensor, database: Tensor, k: int, *, threads: int = 1) -> Found:
    """Search all rows (N, d) by faiss's brute force, the one behind IndexFlatIP, without a copy: what to compare with.

    By matrix products, always: faiss leaves them for plain loops where Q d is below its threshold of 128,000, which
    take 10 times as long (50,000 x 256, 256 queries: 446 ms against 46).
    """
    faiss = _faiss()
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 1
    try:
        with faiss_threads(threads):
            found = faiss.knn(queries.numpy(), database.numpy(), k, metric=faiss.METRIC_INNER_PRODUCT)
    finally:
        faiss.cvar.distance_compute_blas_threshold = before
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


@contextmanager
def faiss_threads(number: int):
    """Let faiss use ``number`` threads, and as many as before afterwards."""
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss():
    try:
        import faiss
    except ImportError as error:
        raise RequestError("this index needs faiss: pip install faiss-cpu, or conda install faiss-cpu.") from error
    return faiss


def _check_unit(database: Tensor) -> None:
    if not checks.unit(database):
        raise RequestError("an index needs rows of length 1: pass unit_prefix(z, m).")
