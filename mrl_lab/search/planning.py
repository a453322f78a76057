"""Which D_s, K, D_r (and effort of an index) are enough: tried on some queries, checked on others.

Every setting of the grid is scored on every other query. Timed, in turn, are those on the frontier (nothing that costs
as few multiply-adds is as good), and for each D_s, D_r and effort the shortest list that meets the target: a longer
list costs few multiply-adds and much time. The fastest of them that surely meets the target is the choice: what is
picked among many by its mean alone owes part of that mean to luck, so the lower bound of it decides (one-sided, 95 %,
over the queries; paired with exact search where that sets the target). The quality on the other half of the queries,
which chose nothing, is what to expect.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mrl_lab.cuts import check_sizes
from mrl_lab.errors import RequestError, unknown
from mrl_lab.search import checks, settings
from mrl_lab.search.checks import Rows
from mrl_lab.search.flat import Found, exact
from mrl_lab.search.nested import nested, unit_rows
from mrl_lab.search.quantise import store

if TYPE_CHECKING:
    import pandas as pd

Quality = Callable[[Tensor, Tensor], Tensor]  # ids (q, k) found, which queries (q,) -> 0 to 1 each (q,)
SURE = 1.645  # standard errors under the mean: the one-sided 95 % bound
EFFORT = {"flat": ("", 0), "hnsw": ("ef", 64), "ivf": ("probes", 8)}  # its name, and what is tried if none is given


@dataclass(frozen=True)
class Planned:
    """What :func:`plan` found.

    Attributes:
        table: one row a setting: shortlist_dim, length (K), rerank_dim, effort, flops, chosen_on and held_out (quality
            on either half of the queries, per cent), margin (lower bound of the points above the target, on the half
            that chooses), frontier, seconds (for one batch; where timed). The last row is the exact search at all dims.
        choice: the row to use, as plain values. target: the quality asked for.
        search: queries (Q, d) -> what the choice finds, k neighbours each; the indexes are built already.
    """

    table: pd.DataFrame
    choice: dict
    target: float
    search: Callable[[Tensor], Found]


@dataclass(frozen=True, eq=False)
class Known:
    """What exact search at all dims finds, ids (Q, k), and takes for one batch: for several plans over one database."""

    ids: Tensor
    seconds: float


def recall(truth: Tensor) -> Quality:
    """Quality by exact neighbours: the share of truth (Q, k') that is among the k found."""
    return lambda ids, which: (truth[which][:, :, None] == ids[:, None, :]).any(2).double().mean(1)


def plan(
    database: Rows,
    queries: Rows,
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
    batch: int | None = None,
    known: Known | None = None,
    **build: int | str,
) -> Planned:
    """Choose the sizes and the list for these vectors; see the module.

    Args:
        database: (N, d). queries: (Q, d), at least two; every other one chooses.
        quality: such as :func:`recall`, or average precision by labels. rerank_dims: all d by default.
        lengths: K to try, from k to N; a warning says which of them are cut to N or left out.
        efforts: ``ef`` or ``probes`` to try, for an ``engine`` that has them; its own default if none is given.
        target: per cent; by default that of exact search less ``drop`` points. known: of it, else run and timed here.
        batch: so many of the queries are timed, in one call; all at most. build: for :func:`search.nested`.

    Raises:
        RequestError: no setting surely meets the target, or what the searches refuse.
    """
    database, queries = _checked(database, queries, k, repeats, batch)
    shortlist_dims = check_sizes(shortlist_dims, database.shape[1])
    rerank_dims = check_sizes(rerank_dims or [database.shape[1]], database.shape[1])
    effort, efforts = _efforts(engine, efforts)
    grid = settings.grid(shortlist_dims, _lengths(lengths, k, len(database)), rerank_dims, efforts, k)
    indexes = {m: nested(database, m, engine=engine, **build) for m in shortlist_dims}
    found = dict(settings.tried(indexes, queries, grid, effort, k))
    full = store(unit_rows(database, database.shape[1]))
    found[None] = exact(queries, full, k)[1] if known is None else known.ids
    of = {s: 100 * quality(ids, torch.arange(len(queries))) for s, ids in found.items()}  # (Q,) each, per cent
    goal = of[None] - drop if target is None else torch.full_like(of[None], target)
    rows = [_row(s, each, goal, settings.flops(s, indexes, database.shape)) for s, each in of.items()]
    frontier = _frontier(rows[:-1])
    places = sorted({*frontier, *_shortest(rows[:-1]), len(rows) - 1})
    ways = {i: settings.way(list(found)[i], indexes, full, effort, k) for i in places}
    for i, seconds in _clock(ways, known, queries[:batch], repeats).items():
        rows[i] |= {"seconds": seconds, "frontier": i in frontier}
    table, best = _choose(rows, target := goal[::2].mean().item())
    return Planned(table, rows[best], target, ways[best])


def _checked(database: Rows, queries: Rows, k: int, repeats: int, batch: int | None) -> tuple[Tensor, Tensor]:
    database = checks.database(database)
    queries = checks.asked(queries, database.shape, k)
    if len(queries) < 2:
        raise RequestError(f"{len(queries)} queries: a plan needs two at least, one to choose and one to check.")
    checks.number("repeats", repeats)
    checks.number("batch", 1 if batch is None else batch)
    return database, queries


def _efforts(engine: str, efforts: Sequence[int]) -> tuple[str, Sequence[int]]:
    """Return how the engine calls its effort, and which ones to try."""
    if engine not in EFFORT:
        raise unknown("engine", engine, EFFORT)
    name, default = EFFORT[engine]
    if efforts and not name:
        raise RequestError(f"engine {engine!r} looks at all rows, whatever efforts {list(efforts)}: leave them out.")
    return name, efforts or [default]


def _lengths(lengths: Sequence[int], k: int, rows: int) -> list[int]:
    """Return the lengths that can be tried, each once, and say where they are others than those asked for."""
    able = sorted({min(checks.number("length", length), rows) for length in lengths if length >= k})
    if able and able != sorted(set(lengths)):
        warnings.warn(f"of the lengths {list(lengths)}, {able} are tried: k = {k}, of {rows} rows.", stacklevel=3)
    return able or list(lengths)  # which the grid refuses, by their names


def _row(s: settings.Setting | None, of: Tensor, goal: Tensor, flops: int | None) -> dict:
    """One setting's line of the table, not yet timed; ``of`` and ``goal`` (Q,) are its quality and what is asked."""
    told = {"shortlist_dim": None, "length": None, "rerank_dim": None, "effort": None} if s is None else asdict(s)
    told |= {"flops": flops, "chosen_on": of[::2].mean().item(), "held_out": of[1::2].mean().item()}
    return told | {"margin": _surely((of - goal)[::2]), "frontier": False, "seconds": math.nan}


def _surely(above: Tensor) -> float:
    """Lower bound of the mean of what the queries (Q,) say; the mean itself for one query, which has no spread."""
    error = above.std().item() / math.sqrt(len(above)) if len(above) > 1 else 0.0
    return above.mean().item() - SURE * error


def _frontier(rows: Sequence[dict]) -> list[int]:
    """Places of the rows that nothing as cheap equals; none where costs are not known."""
    best, places = -1.0, []
    known = [i for i, row in enumerate(rows) if row["flops"] is not None]
    for i in sorted(known, key=lambda i: (rows[i]["flops"], -rows[i]["chosen_on"])):
        if rows[i]["chosen_on"] > best:
            best, places = rows[i]["chosen_on"], [*places, i]
    return places


def _shortest(rows: Sequence[dict]) -> list[int]:
    """Places of the shortest lists that surely meet the target, one for each D_s, D_r and effort."""
    found: dict[tuple, int] = {}
    for i in sorted(range(len(rows)), key=lambda i: rows[i]["length"]):
        if rows[i]["margin"] >= 0:
            found.setdefault(tuple(rows[i][name] for name in ("shortlist_dim", "rerank_dim", "effort")), i)
    return list(found.values())


def _clock(
    ways: dict[int, Callable[[Tensor], Found]], known: Known | None, queries: Tensor, repeats: int
) -> dict[int, float]:
    """Seconds of each way; the last is the exact search at all dims, whose seconds may be known."""
    told = {max(ways): known.seconds} if known else {}
    return _in_turn({i: run for i, run in ways.items() if i not in told}, queries, repeats) | told


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
    """Return the table, and which row is the fastest of those that surely meet the target."""
    import pandas as pd

    columns = [*asdict(settings.Setting(0, 0, 0)), "flops", "chosen_on", "held_out", "margin", "frontier", "seconds"]
    integers = dict.fromkeys(columns[:5], "Int64")
    table = pd.DataFrame(rows, columns=columns).astype(integers)
    enough = table[table["seconds"].notna() & (table["margin"] >= 0)]
    if enough.empty:
        best = table.loc[table["margin"].idxmax()]
        raise RequestError(
            f"no setting surely reaches {target:.2f} %; the best has {best['chosen_on']:.2f} % on the queries that "
            f"choose, and is sure of {target + best['margin']:.2f} %. Lower the target, or bring more queries."
        )
    return table, int(enough["seconds"].idxmin())
