"""The clock: searches of one gallery timed in turn, each with the settings that keep its mAP@10 close to exact's.

"Equal" means within 0.2 points, on queries that chose nothing. Settings are chosen on other queries, where they must
lose less than that even by the lower bound of the paired difference.

Multiply-adds are not seconds: the MRL authors' own log of exact search on a GPU shows 3.6 times for 256 times fewer
(their retrieval notebook). So every way that is compared runs in one process, with the same threads, queries and k,
in turn after a warm-up, and what is reported is the ratio of medians. An index gains at all dims too: it stands beside
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import search, stats
from mrl_lab.clock import measure
from mrl_lab.cuts import unit_prefix
from mrl_lab.data.rows import check_count
from mrl_lab.search import Planned, cost
from mrl_lab.study.gallery import K, Quest
from mrl_lab.study.graphs import Graphs, compared

EXACT = "exact prefix + rerank"
DROP = 0.2  # points of mAP@10 that a setting may surely lose on the queries that choose it


@dataclass(frozen=True)
class Setup:
    """What is searched, and how.

    Attributes:
        views: of each training picture in the gallery; the database has views x training pictures rows.
        queries: test pictures that ask; every other one chooses settings, the others score them.
        batch: so many of the queries are timed, in one call.
        sizes: of single-shot search, rising to d.
        dims, lengths, rerank_dims: D_s, K and D_r to try.
        repeats: of every timing, after a warm-up.
        forms: search in every form of storage too.
        lists, probes: of inverted lists; no lists, no index. whole: build them at all dims too.
        graphs: compare graphs on prefixes and at all dims (:mod:`mrl_lab.study.graphs`); None, no graph.

    Raises:
        RequestError: a batch that is larger than the queries.
    """

    views: int
    queries: int
    batch: int
    sizes: tuple[int, ...]
    dims: tuple[int, ...]
    lengths: tuple[int, ...] = (20, 50, 100, 200)
    rerank_dims: tuple[int, ...] = ()
    repeats: int = 5
    forms: bool = True
    lists: int = 0
    probes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    whole: bool = True
    graphs: Graphs | None = None

    def __post_init__(self) -> None:
        check_count(self.batch, self.queries, "queries that are timed in one call, of those that ask")


def timed(quest: Quest, setup: Setup) -> list[dict]:
    """Plan every way of searching, time all of them in turn, and return what each costs and finds.

    Rows for a method M and ways W such as "exact prefix + rerank", ``dim`` being D_s, or d without a prefix:

    * "M, K = 50, D_r = 512": map@10 of every setting of the exact shortlist that was tried (seconds on the frontier)
    * "M, W": map@10 and "planned gap", the points above exact search, both on queries that chose nothing
    * "M, W": "speedup" over the faster of our exact search and faiss Flat at all dims; "MACs ratio"

    And those of :func:`mrl_lab.study.graphs.compared`.
    """
    asked, stored = quest.z[: setup.batch], search.store(quest.gallery.z)
    (taken,) = measure({"exact": lambda: search.exact(asked, stored, K)}, 1, 0)["exact"]
    how = {"known": search.Known(quest.exactly(setup.sizes[-1]), taken)}
    plans = {EXACT: _plan(quest, setup, setup.dims, setup.lengths, **how)}
    plans["int8 prefix + rerank"] = _plan(quest, setup, setup.dims, setup.lengths, form="int8", **how)
    if setup.lists:
        lists = {"engine": "ivf", "efforts": setup.probes, "lists": setup.lists}
        plans |= _index(quest, setup, "IVF", setup.dims, setup.whole, **lists, **how)
    rows = _grid(quest, plans[EXACT]) + _compared(quest, setup, plans) + _stages(quest, setup, plans[EXACT])
    del plans  # with their indexes, before graphs of the same size are built
    return rows + (compared(quest, setup.graphs) if setup.graphs else [])


def _index(quest: Quest, setup: Setup, name: str, dims: tuple[int, ...], whole: bool, **how) -> dict[str, Planned]:
    """Plans of an index on prefixes, with a rerank, and of the same at all dims if ``whole``."""
    how |= {"threads": torch.get_num_threads()}
    plans = {f"{name}, prefix + rerank": _plan(quest, setup, dims, setup.lengths, **how)}
    return plans | ({f"{name}, all dims": _plan(quest, setup, setup.sizes[-1:], [K], **how)} if whole else {})


def _plan(quest: Quest, setup: Setup, dims: tuple[int, ...], lengths: Sequence[int], **how) -> Planned:
    rerank_dims = setup.rerank_dims if dims != setup.sizes[-1:] else ()
    how |= {"k": K, "drop": DROP, "batch": setup.batch, "repeats": 2}  # timed properly later, all together
    return search.plan(
        quest.gallery.z, quest.z, quest.quality, shortlist_dims=dims, lengths=lengths, rerank_dims=rerank_dims, **how
    )


def _grid(quest: Quest, planned: Planned) -> list[dict]:
    rows = []
    for s in planned.table.iloc[:-1].itertuples():
        value = (s.chosen_on + s.held_out) / 2
        what = f"K = {s.length}, D_r = {s.rerank_dim}"
        rows.append(quest.row(what, s.shortlist_dim, f"map@{K}", value, flops=s.flops, seconds=s.seconds))
    return rows


def _compared(quest: Quest, setup: Setup, plans: dict[str, Planned]) -> list[dict]:
    """Rows of every plan, and of exact search at all dims by us and by faiss, timed in one run."""
    d, n, asked = setup.sizes[-1], len(quest.gallery.y), quest.z[: setup.batch]
    stored = search.store(quest.gallery.z)  # checked once, before the clock runs
    ways = {
        "exact, all dims": lambda: search.exact(asked, stored, K),
        "faiss Flat, all dims": lambda: search.brute_force(asked, stored, K, threads=torch.get_num_threads()),
    }
    ways |= {name: lambda p=plan: p.search(asked) for name, plan in plans.items()}
    seconds = {name: median(times) for name, times in measure(ways, setup.repeats, 0).items()}
    best = min(seconds["exact, all dims"], seconds["faiss Flat, all dims"])
    rows = []
    for name, taken in seconds.items():
        found = plans.get(name)
        m = found.choice["shortlist_dim"] or d if found else d
        rows.append(quest.row(name, m, "speedup", best / taken, seconds=taken))
        rows += _found(quest, name, m, found, cost.exact(n, d)) if found else []
    return rows


def _found(quest: Quest, name: str, m: int, planned: Planned, full: int) -> list[dict]:
    """Rows of what one plan's choice finds and costs; ``full``: multiply-adds of exact search at all dims."""
    choice, exact = planned.choice, planned.table["held_out"].iloc[-1]
    rows = [quest.row(name, m, f"map@{K}", choice["held_out"], flops=choice["flops"], seconds=choice["seconds"])]
    rows.append(quest.row(name, m, "planned gap", choice["held_out"] - exact))
    rows += [quest.row(name, m, "length", choice["length"])] if choice["length"] else []
    return rows + ([quest.row(name, m, "MACs ratio", full / choice["flops"])] if choice["flops"] else [])


def _stages(quest: Quest, setup: Setup, planned: Planned) -> list[dict]:
    """Rows of where the time of the exact shortlist goes: the product alone, picking the best, and the rerank."""
    choice = planned.choice
    if choice["length"] is None:
        return []
    m, length, rerank_dim = (choice[name] for name in ("shortlist_dim", "length", "rerank_dim"))
    g, asked = quest.gallery, quest.z[: setup.batch]
    short = unit_prefix(asked, m)
    stored = search.store(search.unit_rows(g.z, m))
    ids = search.exact(short, stored, length)[1]
    ways = {
        "product": lambda: product_alone(short, stored),
        "shortlist": lambda: search.exact(short, stored, length),
        "rerank": lambda: search.rerank(asked, g.z, ids, rerank_dim, K, unit=True),
    }
    taken = {name: median(times) for name, times in measure(ways, setup.repeats, 0).items()}
    parts = {"product": taken["product"], "choosing": taken["shortlist"] - taken["product"], "rerank": taken["rerank"]}
    return [quest.row(EXACT, m, f"seconds in {part}", value) for part, value in parts.items()]


def summary(scores: pd.DataFrame, method: str, n: int) -> pd.DataFrame:
    """One row a way over ``n`` rows: speedup with its interval, mAP@10 and its gap, multiply-adds saved, seconds."""
    rows = scores[(scores["n"] == n) & scores["method"].str.startswith(f"{method}, ")]
    ways = rows["method"][rows["metric"] == "speedup"].unique()
    rows = rows[rows["method"].isin(ways)].assign(way=rows["method"].str.removeprefix(f"{method}, "))
    clocked = rows[rows["metric"] == "speedup"]
    table = stats.intervals(clocked, ["way"]).set_index("way")[["mean", "low", "high"]]
    dims = clocked.groupby("way")["dim"].unique().map(lambda found: ", ".join(f"{m:.0f}" for m in sorted(found)))
    others = rows[rows["metric"].isin(["planned gap", "MACs ratio"])].pivot_table(
        index="way", columns="metric", values="value"
    )
    table = table.join(others).assign(dims=dims, seconds=clocked.groupby("way")["seconds"].mean())
    return table.rename(columns={"mean": "times as fast"}).sort_values("times as fast")


def product_alone(queries: Tensor, stored: search.Stored, rows: int = 2**13) -> None:
    """Multiply queries (Q, m) with all stored rows, block by block, and keep nothing: the floor of an exact search."""
    prepared = stored.prepare(queries)
    buffer = torch.empty(rows, len(queries), dtype=stored.dtype)
    for start in range(0, len(stored), rows):
        stop = min(start + rows, len(stored))
        stored.product(slice(start, stop), prepared, buffer[: stop - start])
