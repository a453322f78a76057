"""Which D_s, K, D_r (and effort of an index) are enough: tried on some queries, checked on others.

Every setting of the grid is scored on every other query. Those on the frontier (nothing that costs as little is as
good) are timed in turn, and the fastest that meets the target is the choice. Its quality on the other half of the
queries, which chose nothing, is what to expect.

One search a D_s and one gather a D_r serve all lengths K at once: a shortlist of K is the head of a longer one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mrl_lab.cuts import check_sizes
from mrl_lab.errors import RequestError
from mrl_lab.search import cost
from mrl_lab.search.ann import Hnsw, Ivf
from mrl_lab.search.flat import Found, exact
from mrl_lab.search.nested import Nested, nested, unit_rows
from mrl_lab.search.shortlist import rerank

if TYPE_CHECKING:
    import pandas as pd

Quality = Callable[[Tensor, Tensor], Tensor]  # ids (q, k) found, which queries (q,) -> 0 to 1 each (q,)
EFFORT = {"flat": "", "hnsw": "ef", "ivf": "probes"}


@dataclass(frozen=True)
class Planned:
    """What :func:`plan` found.

    Attributes:
        table: one row a setting: shortlist_dim, length (K), rerank_dim, effort, flops, chosen_on and held_out (quality
            on either half of the queries, per cent), frontier, seconds (for all queries; of the frontier alone).
            The last row is the exact search at all dims.
        choice: the row to use, as plain values. target: the quality asked for.
        search: queries (Q, d) -> what the choice finds, k neighbours each; the indexes are built already.
    """

    table: pd.DataFrame
    choice: dict
    target: float
    search: Callable[[Tensor], Found]


@dataclass(frozen=True)
class Setting:
    """One point of the grid; an effort of 0 is that of an exact shortlist."""

    shortlist_dim: int
    length: int
    rerank_dim: int
    effort: int = 0


def recall(truth: Tensor) -> Quality:
    """Quality by exact neighbours: the share of truth (Q, k') that is among the k found."""
    return lambda ids, which: (truth[which][:, :, None] == ids[:, None, :]).any(2).double().mean(1)


def plan(
    database: Tensor,
    queries: Tensor,
    quality: Quality,
    *,
    shortlist_dims: Sequence[int],
    lengths: Sequence[int] = (20, 50, 100, 200, 500),
    rerank_dims: Sequence[int] = (),
    efforts: Sequence[int] = (),
    engine: str = "flat",
    k: int = 10,
    target: float | None = None,
    drop: float = 0.2,
    repeats: int = 5,
    **build: int | str,
) -> Planned:
    """Choose the sizes and the list for these vectors; see the module.

    Args:
        database: (N, d). queries: (Q, d), at least two; every other one chooses.
        quality: such as :func:`recall`, or average precision by labels.
        rerank_dims: all d by default.
        efforts: ``ef`` or ``probes`` to try, for an ``engine`` that has them.
        target: per cent; by default the exact search at all dims less ``drop`` points.
        build: for :func:`mrl_lab.search.nested`.

    Raises:
        RequestError: no setting meets the target, or what the searches refuse.
    """
    rerank_dims = rerank_dims or [database.shape[1]]
    for dims in (shortlist_dims, rerank_dims):
        check_sizes(dims, database.shape[1])
    grid = _grid(shortlist_dims, lengths, rerank_dims, efforts or [0], k)
    indexes = {m: nested(database, m, engine=engine, **build) for m in shortlist_dims}
    found = dict(_try(indexes, queries, grid, EFFORT[engine], k))
    full = unit_rows(database, database.shape[1])
    found[None] = exact(queries, full, k)[1]
    rows = [_row(s, ids, quality, _flops(s, indexes, database.shape)) for s, ids in found.items()]
    timed = [*_frontier(rows[:-1]), len(rows) - 1]
    ways = {i: _way(list(found)[i], indexes, full, EFFORT[engine], k) for i in timed}
    for i, seconds in _in_turn(ways, queries, repeats).items():
        rows[i] |= {"seconds": seconds, "frontier": i < len(rows) - 1}
    target = rows[-1]["chosen_on"] - drop if target is None else target
    table, best = _choose(rows, target)
    return Planned(table, rows[best], target, ways[best])


def _grid(
    dims: Sequence[int], lengths: Sequence[int], rerank_dims: Sequence[int], efforts: Sequence[int], k: int
) -> list[Setting]:
    """All settings whose rerank knows more than the shortlist, or as much."""
    settings = [Setting(*s) for s in product(dims, lengths, rerank_dims, efforts) if s[1] >= k and s[2] >= s[0]]
    if not settings:
        raise RequestError(f"no setting to try: lengths {list(lengths)} must reach k = {k}, and D_r must reach D_s.")
    return settings


def _try(
    indexes: dict[int, Nested], queries: Tensor, grid: Sequence[Setting], effort: str, k: int
) -> Iterable[tuple[Setting, Tensor]]:
    """Yield the ids (Q, k) that each setting finds: one search and one rerank for all lengths of a list."""
    groups: dict[tuple[int, int, int], list[Setting]] = {}
    for s in grid:
        groups.setdefault((s.shortlist_dim, s.effort, s.rerank_dim), []).append(s)
    for (m, amount, rerank_dim), settings in groups.items():
        longest = max(s.length for s in settings)
        ids = indexes[m].shortlist(queries, longest, **({effort: amount} if effort else {}))
        _, ordered = rerank(queries, indexes[m].full, ids, rerank_dim)
        for s in settings:
            yield s, _head(ordered, ids[:, : s.length], k)


def _head(ordered: Tensor, among: Tensor, k: int) -> Tensor:
    """The first k (Q, k) of each line of ordered (Q, K) that are also in ``among`` (Q, K')."""
    place = ordered.argsort(dim=1)  # where each candidate stands, once both are sorted by id
    rank = place.gather(1, torch.searchsorted(ordered.gather(1, place), among.contiguous()))  # (Q, K')
    return ordered.gather(1, rank.sort(dim=1).values[:, :k])


def _flops(s: Setting | None, indexes: dict[int, Nested], shape: tuple[int, int]) -> int | None:
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


def _row(s: Setting | None, ids: Tensor, quality: Quality, flops: int | None) -> dict:
    """One setting's line of the table, not yet timed."""
    which = torch.arange(len(ids))
    halves = {name: which[start::2] for start, name in enumerate(("chosen_on", "held_out"))}
    told = {"shortlist_dim": None, "length": None, "rerank_dim": None, "effort": None} if s is None else asdict(s)
    told |= {"flops": flops, "frontier": False, "seconds": math.nan}
    return told | {name: 100 * quality(ids[half], half).mean().item() for name, half in halves.items()}


def _frontier(rows: Sequence[dict]) -> list[int]:
    """Places of the rows that nothing as cheap equals; all of them where costs are not known."""
    if any(row["flops"] is None for row in rows):
        return list(range(len(rows)))
    best, places = -1.0, []
    for i in sorted(range(len(rows)), key=lambda i: (rows[i]["flops"], -rows[i]["chosen_on"])):
        if rows[i]["chosen_on"] > best:
            best, places = rows[i]["chosen_on"], [*places, i]
    return places


def _way(s: Setting | None, indexes: dict[int, Nested], full: Tensor, effort: str, k: int) -> Callable[[Tensor], Found]:
    """Return the search of one setting."""
    if s is None:
        return lambda queries: exact(queries, full, k)
    index = replace(indexes[s.shortlist_dim], rerank_dim=s.rerank_dim)
    return partial(index.search, k=k, length=s.length, **({effort: s.effort} if effort else {}))


def _in_turn(ways: dict[int, Callable[[Tensor], Found]], queries: Tensor, repeats: int) -> dict[int, float]:
    """Median seconds of each way; they are run in turn, after a warm-up, so that a slow moment hits all of them."""
    seconds: dict[int, list[float]] = {i: [] for i in ways}
    for turn in range(repeats + 1):
        for i, run in ways.items():
            began = time.perf_counter()
            run(queries)
            if turn:
                seconds[i].append(time.perf_counter() - began)
    return {i: median(times) for i, times in seconds.items()}


def _choose(rows: list[dict], target: float) -> tuple[pd.DataFrame, int]:
    """Return the table, and which row is the fastest of those that meet the target."""
    import pandas as pd

    columns = [*asdict(Setting(0, 0, 0)), "flops", "chosen_on", "held_out", "frontier", "seconds"]
    integers = dict.fromkeys(columns[:5], "Int64")
    table = pd.DataFrame(rows, columns=columns).astype(integers)
    enough = table[table["seconds"].notna() & (table["chosen_on"] >= target)]
    if enough.empty:
        best = table["chosen_on"].max()
        raise RequestError(f"no setting reaches {target:.2f} %; the best has {best:.2f} %. Lower the target.")
    return table, int(enough["seconds"].idxmin())
