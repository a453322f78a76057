"""Adapting: a model that people have, fine-tuned by each method for a short time, and scored wherever there is a test.

A model is trained once, all that is asked of it is computed, and that is kept in the place of its weights, which take
90 MB each. Scores are grids (N+1, |M|) from one encoding, NaN where a cut was not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor

from mrl_lab import runs, stats
from mrl_lab.data import texts
from mrl_lab.device import choose
from mrl_lab.encoders.texts import SentenceEncoder
from mrl_lab.study import judged
from mrl_lab.study.sentences import grids, models, pretraining, tests
from mrl_lab.study.sentences.models import on_list
from mrl_lab.study.sentences.setups import Setup

UNTOUCHED = "untouched"
SHOWN = 200  # sentences whose states are kept for the slider
Found = dict[str, Tensor]


def outcome(method: str, setup: Setup, seed: int, sets: Sequence[str], cut: tuple[int, int] | None = None) -> Found:
    """Train a method and return what the sets of :data:`SETS` say of it; the method "untouched" is not trained.

    Returns:
        Grids by metric, such as "STS-B spearman", each with its "n ..."; "cosines of ..." all test pairs (P, |S|) and
        "queries of ..." all queries (Q, |S|) at Starbucks' pairs; "said".
    """

    def make() -> Found:
        if method == UNTOUCHED:
            encoder = pretraining.begin(setup, seed).to(choose().device)
        else:
            model = models.build(method, setup, seed, cut)
            models.learn(model, setup, seed)
            encoder = model.encoder
        return {name: value for some in sets for name, value in SETS[some](encoder.eval(), setup).items()}

    key = {"what": "adapted", "method": method, "setup": asdict(setup), "seed": seed, "cut": cut, "sets": list(sets)}
    return runs.remember(key, make)


def table(found: Found, setup: Setup, method: str, seed: int, cut: tuple[int, int] | None = None) -> pd.DataFrame:
    """Return the grids of an outcome as rows of the tidy table; of a separate model its own cut alone."""
    named = {name: grid for name, grid in found.items() if f"n {name}" in found}
    parts = [
        grids.rows(grid, setup.sizes, method=method, metric=metric, seed=seed, n=int(found[f"n {metric}"]))
        for metric, grid in named.items()
    ]
    rows = pd.concat(parts, ignore_index=True).dropna(subset="value")
    return rows if cut is None else rows[(rows.layer == cut[0]) & (rows.dim == cut[1])]


def scored(method: str, setup: Setup, seed: int, sets: Sequence[str], cut: tuple[int, int] | None = None):
    """Return :func:`table` of :func:`outcome`."""
    return table(outcome(method, setup, seed, sets, cut), setup, method, seed, cut)


def tune(
    methods: Sequence[str],
    setup: Setup,
    lrs: Sequence[float],
    seeds: int = 1,
    pairs: Sequence[tuple[int, int]] = (),
    sets: Sequence[str] = (),
) -> pd.DataFrame:
    """Try each rate on each method, and on a separate model of each of ``pairs``, with the first seeds.

    Args:
        sets: asked of each model that is trained, the dev pairs of the test that judges among them, or these alone if
            none are given; what the same is asked of again need not be trained again.

    Returns:
        Columns method, lr, and Spearman on dev pairs, a mean over seeds: validation, averaged over Starbucks' pairs
        (of a separate model, called :func:`alone`, at its own), and whole, of layer N at all dims (not of separate).
    """
    sets = sets or [_dev(setup)]
    kinds = [(method, None) for method in methods] + [("separate", pair) for pair in pairs]
    asked = [(method, replace(setup, lr=lr), pair, sets) for method, pair in kinds for lr in lrs]
    names = [method if pair is None else alone(pair) for method, _, pair, _ in asked]
    return models.tried(asked, _validation, seeds).assign(method=names)


def _dev(setup: Setup) -> str:
    return tests.name(setup.tests[0], "dev")


def alone(pair: tuple[int, int]) -> str:
    """Return what the separate model of a pair is called where each has a rate of its own."""
    return f"separate ({pair[0]}, {pair[1]})"


def _validation(
    method: str, setup: Setup, pair: tuple[int, int] | None, sets: Sequence[str], seed: int
) -> dict[str, float]:
    grid = outcome(method, setup, seed, sets, pair)[f"{_dev(setup)} spearman"]  # (N+1, |M|), separate: (n+1, |M|)
    if pair is not None:
        return {"validation": grid[pair[0], setup.sizes.index(pair[1])].item(), "whole": torch.nan}
    return {"validation": on_list(grid, setup).mean().item(), "whole": grid[-1, -1].item()}


def watched(method: str, setup: Setup, seed: int, at: Sequence[int]) -> pd.DataFrame:
    """Train a method again and look at dev pairs after each of the steps ``at``: columns step, method, seed, value.

    The column "method" names the pair, such as "layer 1, 16 dims".
    """

    def make() -> pd.DataFrame:
        model, found = models.build(method, setup, seed), []

        def look(step: int) -> None:
            if step + 1 not in at:
                return
            values = on_list(models.grid(model.encoder, setup.tests[0], "dev", setup)[0], setup).tolist()
            for pair, value in zip(setup.pairs, values, strict=True):
                name = f"layer {pair.layer}, {pair.dim} dims"
                found.append({"step": step + 1, "method": name, "metric": "spearman", "seed": seed, "value": value})

        models.learn(model, setup, seed, after_step=look)
        return pd.DataFrame(found)

    key = {"what": "watched", "method": method, "setup": asdict(setup), "seed": seed, "at": list(at)}
    return runs.remember(key, make)


def over_pairs(of: Found, minus: Found, columns: Sequence[int], test: str) -> stats.Interval:
    """Return the difference of two models on a test, with its bootstrap interval over the test's sentence pairs.

    Each model's score is the mean Spearman over some of Starbucks' pairs, whose places in the list are ``columns``.
    The interval says what other test pairs would give; it knows nothing of other seeds. It takes pairs for independent:
    three of graded SNLI share a premise, so there it is somewhat too narrow.
    """
    cosines = [found[f"cosines of {tests.metric(test)}"][:, list(columns)] for found in (of, minus)]
    gold = tests.pairs(test).some(len(cosines[0])).score
    sides = [np.column_stack([side, gold]) for side in cosines]  # (P, k) -> (P, k + 1)
    return stats.bootstrap(*sides, mean_spearman, resamples=1000)


def over_queries(of: Found, minus: Found, columns: Sequence[int], searched: str) -> stats.Interval:
    """Return the difference of two models in nDCG@10 on a collection, with its bootstrap interval over the queries."""
    sides = [found[f"queries of {searched} ndcg@10"][:, list(columns)].mean(1).numpy() for found in (of, minus)]
    return stats.bootstrap(*sides)


def mean_spearman(items: np.ndarray) -> float:
    """Return the mean over columns of Spearman's rho x 100 with the last column, (P, k + 1) -> number."""
    ranks = rankdata(items, axis=0)
    ranks -= ranks.mean(0)
    ranks /= np.sqrt((ranks**2).sum(0))
    return 100 * float((ranks[:, :-1].T @ ranks[:, -1]).mean())


# ------------------------------------------------------------------------------------------------ sets


def _similar(test: str, part: str) -> Callable[[SentenceEncoder, Setup], Found]:
    def of(encoder: SentenceEncoder, setup: Setup) -> Found:
        pairs, metric = tests.pairs(test, part).some(setup.most), tests.metric(test, part)
        x, y = grids.encode(encoder, pairs.sentence1, pairs.sentence2)
        found = {metric: grids.spearman(x, y, pairs.score, setup.sizes)}
        cuts = [cut for cut in setup.pairs if cut.layer <= encoder.layers]
        of_cuts = [grids.cosines(x[:, [c.layer]], y[:, [c.layer]], [c.dim])[..., 0] for c in cuts]  # (P, 1) each
        return found | {f"n {metric}": torch.tensor(len(x)), f"cosines of {metric}": torch.cat(of_cuts, 1)}

    return of


def _semeval(encoder: SentenceEncoder, setup: Setup) -> Found:
    """Spearman of each year of STS 2012 to 2016 in the "all" setting."""
    found: Found = {}
    subsets = texts.pairs("sts12-16")
    for year in sorted({name.split()[0] for name in subsets}):
        chosen = {name: pairs for name, pairs in subsets.items() if name.startswith(year)}
        states = {name: (*grids.encode(encoder, p.sentence1, p.sentence2), p.score) for name, p in chosen.items()}
        metric = f"STS{year[2:]} spearman"
        found |= {metric: grids.of_subsets(states, setup.sizes)}
        found[f"n {metric}"] = torch.tensor(sum(map(len, chosen.values())))
    return found


def _searched(name: str, title: str) -> Callable[[SentenceEncoder, Setup], Found]:
    """nDCG@10 and MRR@10 of a collection's test queries at Starbucks' pairs."""

    def of(encoder: SentenceEncoder, setup: Setup) -> Found:
        collection = texts.retrieval(name)
        asked = [collection.queries[query] for query in collection.judged["test"]]
        queries = encoder.encode(asked, side="query")
        corpus = encoder.encode(list(collection.corpus.values()), side="document")
        relevant, found = judged.gains(name), {}
        for place, cut in enumerate(setup.pairs):
            each = grids.by_query(queries[:, cut.layer], corpus[:, cut.layer], relevant, cut.dim)
            for metric, values in ((f"{title} {metric}", 100 * values) for metric, values in each.items()):
                grid = found.setdefault(metric, torch.full((encoder.layers + 1, len(setup.sizes)), torch.nan))
                grid[cut.layer, setup.sizes.index(cut.dim)] = values.mean()
                found[f"n {metric}"] = torch.tensor(len(asked))
                found.setdefault(f"queries of {metric}", torch.zeros(len(asked), len(setup.pairs)))[:, place] = values
        return found

    return of


def said(setup: Setup) -> list[str]:
    """Return the sentences of the slider: the first ones of the test that judges, each once."""
    return tests.sentences(setup.tests[0], SHOWN)


SETS = {tests.name(test, part): _similar(test, part) for test in tests.PAIRS for part in ("dev", "test")} | {
    "STS12-16": _semeval,
    "SciFact": _searched("scifact", "SciFact"),
    "Cranfield": _searched("cranfield", "Cranfield"),
    "said": lambda encoder, setup: {"said": encoder.encode(said(setup))},
}
