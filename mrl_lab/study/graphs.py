"""Graphs at equal quality: HNSW on a prefix, with a rerank by all dims, beside HNSW at all dims.

Equal is recall@10: the share of the ten true neighbours, those of an exact search at all dims, that a search finds. On
half of the queries either side chooses for itself the fastest of its settings that reaches the target: links of a
vertex and ef, and on the prefix D_s and K as well. On the other half both are timed in turn, in one run, with one
thread and with two, and what they find there stands beside the ratio.

The MRL paper asks both for 200 neighbours. That says nothing of equal quality: a prefix needs a long list to be put in
order by the whole, and a graph at all dims, which needs none, is made to walk as far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from statistics import median

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import search
from mrl_lab.clock import measure
from mrl_lab.cuts import unit_prefix
from mrl_lab.search import Found, Hnsw, Nested, ann
from mrl_lab.study.gallery import K, Quest

PREFIX, WHOLE = "graph on the prefix", "graph at all dims"
EFS = (10, 12, 14, 17, 20, 24, 28, 34, 40, 48, 57, 68, 80, 100, 140, 200, 400)
THREADS = {1: "1 thread", 2: "2 threads"}


@dataclass(frozen=True)
class Graphs:
    """What is tried.

    Attributes:
        dims: D_s of the graphs on prefixes, all below d. links: of a vertex, on prefixes and at all dims.
        efs: rising. longest: K, at most.
        target: recall@10 in per cent, on the queries that choose.
        repeats: of every timing, after a warm-up.
    """

    dims: tuple[int, ...]
    links: tuple[int, ...] = (16, 32)
    efs: tuple[int, ...] = EFS
    longest: int = 200
    target: float = 98.0
    repeats: int = 5


@dataclass(frozen=True, eq=False)
class Walk:
    """One setting of one graph: on a prefix (Nested) it finds K = ``length`` rows for the rerank, else the ten."""

    index: Hnsw | Nested
    length: int
    ef: int

    @property
    def graph(self) -> Hnsw:
        """The graph itself."""
        return self.index.first if isinstance(self.index, Nested) else self.index

    def on(self, threads: int) -> Walk:
        """Return the same walk by so many threads."""
        graph = replace(self.graph, threads=threads)
        return replace(self, index=replace(self.index, first=graph) if isinstance(self.index, Nested) else graph)

    def alone(self, queries: Tensor) -> Found:
        """Return what the graph finds of queries (Q, d), before any rerank."""
        return self.graph.search(unit_prefix(queries, self.graph.index.d), self.length, ef=self.ef)

    def search(self, queries: Tensor) -> Found:
        """Return ten neighbours of queries (Q, d)."""
        longer = {"length": self.length} if isinstance(self.index, Nested) else {}
        return self.index.search(queries, K, ef=self.ef, **longer)


@dataclass(frozen=True, eq=False)
class Half:
    """Queries z (q, d) and the ids (q, 10) of their true neighbours."""

    z: Tensor
    truth: Tensor

    def recall(self, ids: Tensor) -> Tensor:
        """Per cent of the true neighbours among the first 1, 2 ... of ids (q, n): (n,)."""
        hits = (ids[:, :, None] == self.truth[:, None]).any(2)  # (q, n)
        return 100 * hits.double().mean(0).cumsum(0) / K


def compared(quest: Quest, how: Graphs) -> list[dict]:
    """Choose both sides' settings on every other query, time them in turn on the others, and say where time goes.

    Rows for a method M, of "M, graph on the prefix" and "M, graph at all dims", ``dim`` being D_s or d:

    * "recall@10" on the queries that chose nothing; "links", "ef" and "length" (K) of the setting
    * "distances" and "hops" a query, as faiss counts them
    * "microseconds, 1 thread", "microseconds, 2 threads" a query
    * with one thread "microseconds walking", "microseconds in distances" (as many products with rows drawn at random:
      a part of walking) and, on the prefix, "microseconds reranking"
    * on the prefix "speedup, 1 thread" and "speedup, 2 threads" over the graph at all dims

    A side of which no setting reaches the target has one row, "best recall@10"; there is no speedup then.
    """
    d = quest.z.shape[1]
    truth = quest.exactly(d)
    chooses, scores = (Half(quest.z[part], truth[part]) for part in (slice(0, None, 2), slice(1, None, 2)))
    rows, sides = [], {}
    for side, dims in ((PREFIX, how.dims), (WHOLE, (d,))):
        walk, best = _fastest(quest.gallery.z, dims, chooses, how)
        if walk is None:
            rows.append(quest.row(side, d, f"best recall@{K}", best))
        else:
            sides[side] = walk
    for side, walk in sides.items():
        rows += _told(quest, side, walk, scores) + _parts(quest, side, walk, scores, how.repeats)
    return rows + _clocked(quest, sides, scores, how.repeats)


def _fastest(z: Tensor, dims: Sequence[int], half: Half, how: Graphs) -> tuple[Walk | None, float]:
    """The fastest walk by one thread that finds enough, over all graphs; and the best recall of any."""
    fastest, least, best = None, math.inf, 0.0
    for m, links in product(dims, how.links):
        walks, found = _enough(_built(z, m, links), half, how)
        ways = {walk: partial(walk.search, half.z) for walk in walks}
        with _threads(1):
            seconds = {walk: median(times) for walk, times in measure(ways, 2, 0).items()} if ways else {}
        best = max(best, found)
        for walk, taken in seconds.items():
            if taken < least:
                fastest, least = walk, taken
    return fastest, best


def _built(z: Tensor, m: int, links: int) -> Hnsw | Nested:
    build = {"links": links, "threads": torch.get_num_threads()}
    return search.hnsw(z, **build) if m == z.shape[1] else search.nested(z, m, engine="hnsw", **build)


def _enough(index: Hnsw | Nested, half: Half, how: Graphs) -> tuple[list[Walk], float]:
    """Walks over one graph that find enough, by rising ef, each with a shorter list; and the best recall of any.

    A rerank by all dims puts every true neighbour on the list before all others, so the list alone says the recall.
    """
    walks, best = [], 0.0
    longest = min(how.longest, len(index.full)) if isinstance(index, Nested) else K
    for ef in how.efs:
        walk = Walk(index, min(max(ef, K), longest), ef).on(torch.get_num_threads())
        recall = half.recall(walk.alone(half.z)[1])
        best = max(best, recall[-1].item())
        enough = (recall >= how.target).nonzero()
        if len(enough):
            length = max(K, int(enough[0]) + 1)
            if not walks or length < walks[-1].length:
                walks.append(Walk(index, length, ef).on(1))
            if length == K:
                break
    return walks, best


def _told(quest: Quest, side: str, walk: Walk, half: Half) -> list[dict]:
    """Rows of a walk's setting, what it finds, and what it looks at."""
    m, d = walk.graph.index.d, quest.z.shape[1]
    distances, hops = _steps(walk, half.z)
    flops = round(distances * m) + (walk.length * d if m < d else 0)
    recall = half.recall(walk.search(half.z)[1])[-1].item()
    told = {"links": walk.graph.links, "ef": walk.ef, "length": walk.length, "distances": distances, "hops": hops}
    rows = [quest.row(side, m, metric, value) for metric, value in told.items()]
    return [quest.row(side, m, f"recall@{K}", recall, flops=flops), *rows]


def _steps(walk: Walk, queries: Tensor) -> tuple[float, float]:
    """Distances and hops a query, as faiss counts them."""
    import faiss

    faiss.cvar.hnsw_stats.reset()
    walk.alone(queries)
    counted = faiss.cvar.hnsw_stats
    return counted.ndis / len(queries), counted.nhops / len(queries)


def _parts(quest: Quest, side: str, walk: Walk, half: Half, repeats: int) -> list[dict]:
    """Rows of where the time of a walk goes, with one thread."""
    m, z = walk.graph.index.d, quest.gallery.z
    rows, asked = search.unit_rows(z, m), unit_prefix(half.z, m)
    anywhere = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(z), (len(asked), round(_steps(walk, half.z)[0])), generator=anywhere)
    ids = walk.alone(half.z)[1]
    ways = {
        "walking": lambda: walk.alone(half.z),
        "in distances": lambda: ann.inner_products(asked, rows, drawn),
    }
    if isinstance(walk.index, Nested):
        ways["reranking"] = lambda: search.rerank(half.z, z, ids, z.shape[1], K, unit=walk.index.unit)
    with _threads(1):
        taken = {part: 1e6 * median(times) / len(asked) for part, times in measure(ways, repeats, 0).items()}
    return [quest.row(side, m, f"microseconds {part}", value) for part, value in taken.items()]


def _clocked(quest: Quest, sides: dict[str, Walk], half: Half, repeats: int) -> list[dict]:
    """Rows of both sides' times, in turn, and of their ratio where there are both."""
    rows = []
    for threads, word in THREADS.items():
        ways = {side: partial(walk.on(threads).search, half.z) for side, walk in sides.items()}
        with _threads(threads):
            taken = {side: median(times) for side, times in measure(ways, repeats, 0).items()} if ways else {}
        for side, seconds in taken.items():
            m = sides[side].graph.index.d
            rows.append(quest.row(side, m, f"microseconds, {word}", 1e6 * seconds / len(half.z), seconds=seconds))
        if len(taken) == 2:
            ratio = taken[WHOLE] / taken[PREFIX]
            rows.append(quest.row(PREFIX, sides[PREFIX].graph.index.d, f"speedup, {word}", ratio))
    return rows


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let torch use so many threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def summary(scores: pd.DataFrame, method: str, n: int) -> pd.DataFrame:
    """One column a side, one row a quantity, means over the seeds, for graphs over ``n`` rows."""
    names = {f"{method}, {side}": side for side in (PREFIX, WHOLE)}
    rows = scores[(scores["n"] == n) & scores["method"].isin(names)]
    rows = rows.assign(side=rows["method"].map(names))
    dims = rows.drop_duplicates(["side", "seed"]).assign(metric="dims", value=lambda t: t["dim"].astype(float))
    return pd.concat([dims, rows]).pivot_table(index="metric", columns="side", values="value", sort=False)
