"""The settings that a plan tries: which there are, what each finds and costs, and how each is run.

One search a D_s and one gather a D_r serve all lengths K at once where all rows are looked at: a shortlist of K is the
head of a longer one. An index is searched for each K: asked for more neighbours than its effort would find, it looks
farther, so that the head of a long list is better than a short list is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from mrl_lab.errors import RequestError
from mrl_lab.search import cost
from mrl_lab.search.ann import Hnsw, Ivf
from mrl_lab.search.flat import Found, exact
from mrl_lab.search.nested import Nested
from mrl_lab.search.quantise import Stored
from mrl_lab.search.shortlist import rerank


@dataclass(frozen=True)
class Setting:
    """One point of the grid; an effort of 0 is that of an exact shortlist."""

    shortlist_dim: int
    length: int
    rerank_dim: int
    effort: int = 0


def grid(
    dims: Sequence[int], lengths: Sequence[int], rerank_dims: Sequence[int], efforts: Sequence[int], k: int
) -> list[Setting]:
    """All settings whose rerank knows more than the shortlist, or as much."""
    settings = [Setting(*s) for s in product(dims, lengths, rerank_dims, efforts) if s[1] >= k and s[2] >= s[0]]
    if not settings:
        raise RequestError(f"no setting to try: lengths {list(lengths)} must reach k = {k}, and D_r must reach D_s.")
    return settings


def tried(
    indexes: dict[int, Nested], queries: Tensor, grid: Sequence[Setting], effort: str, k: int
) -> Iterable[tuple[Setting, Tensor]]:
    """Yield the ids (Q, k) that each setting finds: one search a shortlist, one rerank for all lengths of a list."""
    for shared in _alike(grid, lambda s: (s.shortlist_dim, s.effort, s.length if effort else None)):
        index, longest = indexes[shared[0].shortlist_dim], max(s.length for s in shared)
        ids = index.shortlist(queries, longest, **({effort: shared[0].effort} if effort else {}))
        for settings in _alike(shared, lambda s: s.rerank_dim):
            _, ordered = rerank(queries, index.full, ids, settings[0].rerank_dim, unit=index.unit)
            for s in settings:
                yield s, _head(ordered, ids[:, : s.length], k)


def _alike(settings: Sequence[Setting], key: Callable[[Setting], object]) -> Iterable[list[Setting]]:
    """Groups of settings with one key, in the order in which they first appear."""
    groups: dict[object, list[Setting]] = {}
    for s in settings:
        groups.setdefault(key(s), []).append(s)
    return groups.values()


def _head(ordered: Tensor, among: Tensor, k: int) -> Tensor:
    """The first k (Q, k) of each line of ordered (Q, K) that are also in ``among`` (Q, K')."""
    place = ordered.argsort(dim=1)  # where each candidate stands, once both are sorted by id
    rank = place.gather(1, torch.searchsorted(ordered.gather(1, place), among.contiguous()))  # (Q, K')
    return ordered.gather(1, rank.sort(dim=1).values[:, :k])


def flops(s: Setting | None, indexes: dict[int, Nested], shape: tuple[int, int]) -> int | None:
    """Multiply-adds a query; None for a graph, which does not say how many vertices it will visit."""
    n, d = shape
    if s is None:
        return cost.exact(n, d)
    first = indexes[s.shortlist_dim].first
    if isinstance(first, Hnsw):
        return None
    listed = isinstance(first, Ivf)
    found = cost.probed(n, s.shortlist_dim, first.lists, s.effort) if listed else cost.exact(n, s.shortlist_dim)
    return found + cost.exact(s.length, s.rerank_dim)


def way(s: Setting | None, indexes: dict[int, Nested], full: Stored, effort: str, k: int) -> Callable[[Tensor], Found]:
    """Return the search of one setting."""
    if s is None:
        return lambda queries: exact(queries, full, k)
    index = replace(indexes[s.shortlist_dim], rerank_dim=s.rerank_dim)
    return partial(index.search, k=k, length=s.length, **({effort: s.effort} if effort else {}))
