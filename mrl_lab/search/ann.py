"""Approximate search by faiss: a graph (HNSW) or inverted lists (IVF), over unit rows of any size.

* HNSW (Malkov and Yashunin, 2018) walks a graph of near neighbours and keeps ``ef`` candidates on the way. HNSW32 is
  the MRL paper's index (section 4.3).
* IVF (Jégou et al., 2011) sorts rows to their nearest of some centroids and looks into ``probes`` lists.

Cut first: ``hnsw(unit_rows(z, m))``; every size needs an index of its own. What an index gains it gains at all
dims too, so a comparison of sizes needs the same index on both sides.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.search import checks, copies
from mrl_lab.search.checks import Rows
from mrl_lab.search.copies import Copies
from mrl_lab.search.flat import Found
from mrl_lab.search.quantise import Plain, Stored, store

if TYPE_CHECKING:
    import faiss

LINKS = (2, 512)  # of a vertex: with one faiss divides by zero, and ends the process
MOST_EF = 2**16
MOST_THREADS = 256


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

    def __len__(self) -> int:
        return self.index.ntotal

    def _found(self, queries: Tensor, k: int, parameters: faiss.SearchParameters) -> Found:
        with faiss_threads(self.threads):
            scores, ids = self.index.search(_as_faiss(queries), k, params=parameters)
        return torch.from_numpy(scores), torch.from_numpy(ids)

    def _asked(self, queries: Rows, k: int) -> Tensor:
        return checks.asked(queries, (len(self), self.index.d), k)

    def _describe(self, name: str, k: int, effort: str, batch: int, aside: str = "") -> str:
        return (
            f"{name} over {len(self)} vectors of {self.index.d} dims{aside}, built in {self.seconds:.1f} s: k = {k}, "
            f"{effort}, {self.threads} thread(s), {batch} queries a call"
        )


@dataclass(frozen=True)
class Hnsw(_Index):
    """A graph of near neighbours; made by :func:`hnsw`. A vertex keeps ``links`` of them (the 32 of HNSW32).

    Attributes:
        copies: which rows are the same as another; the graph holds one of each (:mod:`mrl_lab.search.copies`).
    """

    links: int
    copies: Copies

    def __len__(self) -> int:
        return len(self.copies.rows)

    def search(self, queries: Rows, k: int, ef: int = 64) -> Found:
        """Return scores (Q, k), falling, and ids (Q, k); ``ef`` candidates are kept on the way, from k to all.

        Raises:
            RequestError: as :func:`mrl_lab.search.exact`, or a graph from which fewer than k rows can be reached.
        """
        import faiss

        queries = self._asked(queries, k)
        kinds = min(k, self.index.ntotal)
        scores, ids = self._found(queries, kinds, faiss.SearchParametersHNSW(efSearch=self._kept(k, ef)))
        if (ids < 0).any():
            raise RequestError(
                f"the graph reaches fewer than {kinds} rows from some queries: build it with more links."
            )
        return _placed(*self.copies.expand(scores, ids, k), queries)

    def _kept(self, k: int, ef: int) -> int:
        return min(max(checks.number("ef", ef), k), self.index.ntotal)

    def describe(self, k: int, ef: int, batch: int) -> str:
        """Everything that a time of this search depends on, in one line."""
        same = len(self) - self.index.ntotal
        aside = f", {same} of them copies that the graph leaves out" if same else ""
        return self._describe(f"HNSW{self.links}", k, f"ef = {self._kept(k, ef)}", batch, aside)


@dataclass(frozen=True)
class Ivf(_Index):
    """Inverted lists, ``lists`` of them; made by :func:`ivf`."""

    lists: int

    def search(self, queries: Rows, k: int, probes: int = 8) -> Found:
        """Return scores (Q, k), falling, and ids (Q, k) from the ``probes`` lists nearest to each query, at most all.

        A query whose lists hold fewer than k rows looks into all lists.
        """
        import faiss

        queries = self._asked(queries, k)
        probes = min(checks.number("probes", probes), self.lists)
        scores, ids = self._found(queries, k, faiss.SearchParametersIVF(nprobe=probes))
        short = (ids < 0).any(1)
        if short.any():
            everywhere = faiss.SearchParametersIVF(nprobe=self.lists)
            scores[short], ids[short] = self._found(queries.cpu()[short], k, everywhere)
        return _placed(scores, ids, queries)

    def describe(self, k: int, probes: int, batch: int) -> str:
        """Everything that a time of this search depends on, in one line."""
        return self._describe(f"IVF{self.lists}", k, f"{min(probes, self.lists)} probes", batch)


def hnsw(database: Rows, *, links: int = 32, build_ef: int = 40, threads: int = 1) -> Hnsw:
    """Build a graph over **unit** rows (N, m). One thread always builds the same one; several are faster and do not.

    Of rows that are the same one is held: ``describe`` says how many are not, and a search names them all.

    Raises:
        RequestError: faiss is not installed, rows that are not of length 1, or links outside 2 to 512.
    """
    faiss = _faiss()
    rows = _unit(database, threads)
    index = faiss.IndexHNSWFlat(rows.shape[1], checks.number("links", links, *LINKS), faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = checks.number("build_ef", build_ef, 1, MOST_EF)
    began = time.perf_counter()
    same = copies.find(rows)
    with faiss_threads(threads):
        index.add(rows if len(same.first) == len(rows) else rows[same.first.numpy()])
    return Hnsw(index, threads, time.perf_counter() - began, links, same)


def ivf(database: Rows, *, lists: int | None = None, threads: int = 1) -> Ivf:
    """Sort **unit** rows (N, m) into ``lists``, by default 4 sqrt(N), faiss's own advice.

    Centroids are those of 64 rows a list, taken at even distances, so that the same rows give the same lists.

    Raises:
        RequestError: as for :func:`hnsw`, or more lists than rows.
    """
    faiss = _faiss()
    rows = _unit(database, threads)
    lists = max(1, min(round(4 * len(rows) ** 0.5), len(rows) // 39)) if lists is None else lists
    checks.number("lists", lists, 1, len(rows))
    index = faiss.index_factory(rows.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # few rows a list are the caller's choice, not worth faiss's warning
    began = time.perf_counter()
    with faiss_threads(threads):
        index.train(np.ascontiguousarray(rows[:: max(1, len(rows) // (64 * lists))]))
        index.add(rows)
    return Ivf(index, threads, time.perf_counter() - began, lists)


def brute_force(queries: Rows, database: Rows | Stored, k: int, *, threads: int = 1) -> Found:
    """Search all rows (N, d) by faiss's brute force, the one behind IndexFlatIP: what to compare with.

    float32 rows are not copied; those of :func:`mrl_lab.search.store` are checked already, as for ``exact``.

    By matrix products, always: faiss leaves them for plain loops where Q d is below its threshold of 128,000, which
    take 10 times as long (50,000 x 256, 256 queries: 446 ms against 46).

    Raises:
        RequestError: faiss is not installed, rows stored as int8 or bits, or what ``exact`` refuses.
    """
    faiss = _faiss()
    stored = database if isinstance(database, Stored) else store(database)
    if not isinstance(stored, Plain):
        raise RequestError(f"faiss's brute force takes floating point rows, not {type(stored).__name__}: use exact.")
    queries = checks.asked(queries, stored.shape, k)
    asked, rows = _as_faiss(queries), _as_faiss(stored.rows)
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 1
    try:
        with faiss_threads(threads):
            scores, ids = faiss.knn(asked, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
    finally:
        faiss.cvar.distance_compute_blas_threshold = before
    return _placed(torch.from_numpy(scores), torch.from_numpy(ids), queries)


def takes(rows: Tensor) -> bool:
    """Whether faiss can read rows where they lie."""
    return rows.dtype == torch.float32 and rows.device.type == "cpu" and rows.is_contiguous()


def inner_products(queries: Tensor, rows: Tensor, ids: Tensor) -> Tensor:
    """Return the products (Q, K) of queries (Q, m) with ``rows[ids]``, ids (Q, K); rows are read where they lie.

    With as many threads as torch has. Nothing is checked: rows that :func:`takes` accepts, ids that are there.
    """
    faiss = _faiss()
    asked, wanted, out = _as_faiss(queries), ids.contiguous().numpy(), np.empty(ids.shape, np.float32)
    places = [faiss.swig_ptr(array) for array in (out, asked, rows.numpy(), wanted)]
    with faiss_threads(torch.get_num_threads()):
        faiss.fvec_inner_products_by_idx(*places, rows.shape[1], *ids.shape)
    return torch.from_numpy(out)


@contextmanager
def faiss_threads(number: int):
    """Let faiss use ``number`` threads, and as many as before afterwards."""
    faiss = _faiss()
    checks.number("threads", number, 1, MOST_THREADS)
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


def _as_faiss(rows: Tensor) -> np.ndarray:
    """Rows as faiss takes them: float32 (no bfloat16), in one piece, on the CPU; the same memory where they are."""
    return rows.to("cpu", torch.float32).contiguous().numpy()


def _placed(scores: Tensor, ids: Tensor, queries: Tensor) -> Found:
    return scores.to(queries.device), ids.to(queries.device)


def _unit(database: Rows, threads: int) -> np.ndarray:
    checks.number("threads", threads, 1, MOST_THREADS)
    rows = checks.database(database)
    rounding = torch.finfo(rows.dtype).eps
    if not checks.unit(rows, within=max(1e-3, rounding)):
        raise RequestError("an index needs rows of length 1: pass unit_rows(z, m), a prefix normalised after the cut.")
    return _as_faiss(rows if rounding < 1e-5 else unit_prefix(rows, rows.shape[1]))  # half precision is 1 % off
