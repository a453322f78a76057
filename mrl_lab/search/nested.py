"""One database of nested vectors, ready to be searched: short prefixes to find candidates, full vectors to order them.

The prefixes are cut, normalised and stored as a table of their own. A prefix read out of full rows would still pull
every row's cache lines through memory: of 1,000,000 x 1024 float32, 16 dims are 64 MB beside 4 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mrl_lab.cuts import check_sizes, unit_prefix
from mrl_lab.errors import RequestError, unknown
from mrl_lab.search import ann, checks
from mrl_lab.search.checks import Rows
from mrl_lab.search.flat import Found, exact
from mrl_lab.search.quantise import Stored, store
from mrl_lab.search.shortlist import rerank


class Searcher(Protocol):
    """What finds the candidates: :class:`Flat`, :class:`mrl_lab.search.ann.Hnsw` or :class:`mrl_lab.search.ann.Ivf`."""

    def search(self, queries: Rows, k: int, **effort: int) -> Found: ...


@dataclass(frozen=True)
class Flat:
    """All rows, exactly as they are stored."""

    rows: Stored

    def search(self, queries: Rows, k: int) -> Found:
        """:func:`mrl_lab.search.exact`."""
        return exact(queries, self.rows, k)


@dataclass(frozen=True)
class Nested:
    """Candidates by ``first`` on D_s dims, put in order by D_r dims of the full vectors; made by :func:`nested`.

    Attributes:
        first: searches the unit prefixes.
        full: (N, d) the vectors as they were given, not a copy.
        shortlist_dim, rerank_dim: D_s and D_r.
        unit: whether all rows of ``full`` are of length 1.
    """

    first: Searcher
    full: Tensor
    shortlist_dim: int
    rerank_dim: int
    unit: bool = False

    def search(self, queries: Rows, k: int, *, length: int = 200, **effort: int) -> Found:
        """Return the ``k`` best of a shortlist of K = ``length``: cosines on D_r dims (Q, k), falling, and ids (Q, k).

        Args:
            queries: (Q, d), of any lengths.
            effort: ``ef`` for a graph, ``probes`` for inverted lists.

        Raises:
            RequestError: queries of another width or with NaN, k above K, or K above the rows there are.
        """
        if not 1 <= checks.number("k", k) <= checks.number("length", length):
            raise RequestError(
                f"k = {k} neighbours asked of a shortlist of {length}: use 1 to {length}, or lengthen it."
            )
        queries = checks.asked(queries, self.full.shape, length)
        ids = self.shortlist(queries, length, **effort)
        return rerank(queries, self.full, ids, self.rerank_dim, k, unit=self.unit)

    def shortlist(self, queries: Rows, length: int, **effort: int) -> Tensor:
        """Return the candidates (Q, K) alone, best first by D_s dims."""
        queries = checks.asked(queries, self.full.shape, length)
        return self.first.search(unit_prefix(queries, self.shortlist_dim), length, **effort)[1]


def unit_rows(z: Rows, m: int) -> Tensor:
    """Return ``unit_prefix(z, m)``; z itself where that changes nothing, since a copy of a large one may not fit.

    Raises:
        RequestError: rows that :func:`mrl_lab.search.checks.table` refuses, or an m that they do not have.
    """
    z = checks.table(z)
    return z if m == z.shape[1] and checks.unit(z, within=1e-5) else unit_prefix(z, m)


ENGINES = ("flat", "hnsw", "ivf")


def nested(
    z: Rows,
    shortlist_dim: int,
    *,
    rerank_dim: int | None = None,
    engine: str = "flat",
    form: str = "float32",
    **build: int,
) -> Nested:
    """Prepare vectors (N, d) for shortlist and rerank.

    Args:
        shortlist_dim: D_s. rerank_dim: D_r, by default all dims.
        engine: "flat" looks at all prefixes; "hnsw" and "ivf" are faiss's (:mod:`mrl_lab.search.ann`).
        form: how "flat" stores the prefixes (:func:`mrl_lab.search.store`).
        build: what the engine is built with, such as ``threads`` and ``lists``.

    Raises:
        RequestError: sizes that the vectors do not have, an unknown engine or form, NaN or infinite values in any
            dim, whether the shortlist looks at it or not.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if (build and engine == "flat") or (form != "float32" and engine != "flat"):
        raise RequestError(
            f"engine {engine!r} takes no {', '.join(build) if engine == 'flat' else 'form'}: leave it out."
        )
    z = checks.database(z)
    rerank_dim = z.shape[1] if rerank_dim is None else rerank_dim
    for m in (shortlist_dim, rerank_dim):
        check_sizes([m], z.shape[1])
    prefixes = unit_rows(z, shortlist_dim)
    first = Flat(store(prefixes, form)) if engine == "flat" else getattr(ann, engine)(prefixes, **build)
    return Nested(first, z, shortlist_dim, rerank_dim, unit=bool(((checks.lengths(z) - 1).abs() < 1e-5).all()))
