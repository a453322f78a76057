"""Adaptive search: what shortlist and rerank, funnels and indexes gain at equal quality.

One :func:`searched` is one model at one seed: a gallery of its embeddings (:mod:`mrl_lab.study.gallery`), the test
pictures as queries, and every question asked of the two. FF-d, cut to its first dims, is the control: what an index
or a shortlist gains by itself it gains there too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd
from torch import Tensor
from torch.nn.functional import normalize

from mrl_lab import cuts, score, search
from mrl_lab.data.rows import check_count
from mrl_lab.lab import Recipe, embed, kept, trained
from mrl_lab.search import cost
from mrl_lab.study.gallery import K, Quest, gallery
from mrl_lab.study.models import Model
from mrl_lab.study.pictures import Pictures
from mrl_lab.study.speed import Setup, timed


@kept
def searched(
    spec: Model, task: Pictures, recipe: Recipe, seed: int, setups: Sequence[Setup], method: str
) -> pd.DataFrame:
    """Search with one model at one seed, in each setup; a smaller database is the head of the largest.

    Rows map@10 with multiply-adds, for a method M: "M, single-shot" at every size; "M, funnel" from each D_s; "M, int8"
    and the other forms at every size, with their bytes. Then the grid and what :mod:`mrl_lab.study.speed` times.

    Raises:
        RequestError: a setup asks more queries than there are test pictures.
    """
    data = task.data
    for setup in setups:
        check_count(setup.queries, len(data.test), "queries among the test pictures")
    encoder = trained(spec, task, recipe, seed).encoder
    whole = gallery(encoder, data.train, max(setup.views for setup in setups), seed)
    z, y = normalize(embed(encoder, data.test.images), dim=1), data.test.labels
    rows = []
    for setup in setups:
        quest = Quest(method, seed, whole.first(setup.views), z[: setup.queries], y[: setup.queries])
        rows += single_shot(quest, setup) + funnels(quest, setup) + (forms(quest, setup) if setup.forms else [])
        rows += timed(quest, setup)
    return score.table(rows)


def single_shot(quest: Quest, setup: Setup) -> list[dict]:
    """Rows of exact search at each size."""
    rows = []
    for m in setup.sizes:
        flops = cost.exact(len(quest.gallery.y), m)
        rows.append(quest.row("single-shot", m, f"map@{K}", quest.mean_quality(quest.exactly(m)), flops=flops))
    return rows


def schedule(start: int, d: int, length: int) -> tuple[list[int], list[int]]:
    """Return dims and lists of a funnel: dims doubled from ``start`` to d, the list halved at each, never below 10.

    The paper's are of this kind: [32, 64, 128, 256, 2048] and [200, 100, 50, 25, 10] after a shortlist at 16.
    """
    dims = [*(start * 2**i for i in range(1, 5) if start * 2**i < d), d]
    return dims, [max(K, length // 2**i) for i in range(len(dims) - 1)] + [K]


def funnels(quest: Quest, setup: Setup, length: int = 200) -> list[dict]:
    """Rows of a funnel from each D_s: map@10, and "MACs saved", those of one rerank of its shortlist less its own."""
    rows, n, d = [], len(quest.gallery.y), setup.sizes[-1]
    for m in setup.dims:
        dims, lists = schedule(m, d, length)
        ids = search.nested(quest.gallery.z, m).shortlist(quest.z, length)
        found = search.funnel(quest.z, quest.gallery.z, ids, dims, lists)[1]
        flops = cost.funnelled(n, m, dims, lists)
        rows.append(quest.row("funnel", m, f"map@{K}", quest.mean_quality(found), flops=flops))
        rows.append(quest.row("funnel", m, "MACs saved", cost.reranked(n, m, length, d) - flops))
    return rows


def moved(quest: Quest, query: int, m: int, length: int, k: int) -> tuple[Tensor, Tensor, list[int]]:
    """What reranking does to one query: the first k ids by D_s = m dims, then by all, and the places these had."""
    z = quest.z[query : query + 1]
    ids = search.nested(quest.gallery.z, m).shortlist(z, length)
    after = search.rerank(z, quest.gallery.z, ids, quest.z.shape[1], k)[1][0]
    place = {row: i for i, row in enumerate(ids[0].tolist(), 1)}
    return ids[0, :k], after, [place[row] for row in after.tolist()]


def settings_of(scores: pd.DataFrame, method: str, rerank_dim: int, n: int) -> pd.DataFrame:
    """One row a setting of the exact shortlist over ``n`` rows: dim (D_s), length (K), flops, value (mAP@10)."""
    pattern = rf"{re.escape(method)}, K = (\d+), D_r = {rerank_dim}$"
    length = scores["method"].str.extract(pattern)[0]
    rows = scores[length.notna() & (scores["n"] == n)].assign(length=length.dropna().astype(int))
    means = rows.astype({"dim": int, "flops": float}).groupby(["dim", "length"])[["flops", "value"]].mean()
    return means.reset_index()


def forms(quest: Quest, setup: Setup) -> list[dict]:
    """Rows of exact search at each size in each form of storage: truncation and quantisation on one axis of bytes."""
    rows = []
    for form in search.FORMS:
        for m in setup.sizes:
            stored = search.store(search.unit_rows(quest.gallery.z, m), form)
            plain = form == "float32"  # as in single-shot search
            ids = quest.exactly(m) if plain else search.exact(cuts.unit_prefix(quest.z, m), stored, K)[1]
            row = quest.row(form, m, f"map@{K}", quest.mean_quality(ids), flops=cost.exact(len(stored), m))
            rows.append(row | {"bytes": stored.bytes})
    return rows
