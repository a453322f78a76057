"""Nesting a backbone that somebody else has trained: its features are computed once and a small head learns on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from torch import Tensor, nn

from mrl_lab import runs, score
from mrl_lab.data import Labelled, Split
from mrl_lab.methods import baselines
from mrl_lab.study import pictures, tuning
from mrl_lab.study.models import Recipe, embed

SIZES = (8, 16, 32, 64, 128)  # of the embedding that is trained on top
RATES, LENGTHS = (0.001, 0.003, 0.01), (40,)  # the grid of every method here; one pass is a few steps


def compare(seen: Labelled, base: Recipe, seeds: Sequence[int]) -> list[pd.DataFrame]:
    """Score MRL, MRL-E and FF-k, trained on frozen features by a small network, beside the features cut as they are."""
    plan = pictures.methods(SIZES, SIZES[-1], encoder="mlp")
    tried = {name: tuning.spread(specs) for name, specs in plan.items()}
    recipes = tuning.best(tuning.tune(tried, seen, base, RATES, LENGTHS, seed=0), base)
    full = seen.train.images.shape[1]
    return [pictures.sweep(plan, seen, recipes, seeds), cut_as_it_is(seen, [*SIZES, 4 * SIZES[-1], full], seeds)]


def features(backbone: nn.Module, name: str, data: Labelled) -> Labelled:
    """Return ``data`` with each picture replaced by the feature (d,) that a frozen ``backbone`` gives it.

    ``name`` stands for the backbone's weights in the key under which the features are kept.
    """
    parts = ("train", "validation", "test")

    def make() -> dict[str, Tensor]:
        return {part: embed(backbone.eval(), getattr(data, part).images) for part in parts}

    found = runs.remember({"what": "features", "backbone": name, "data": data.key}, make)
    splits = {part: Split(found[part], getattr(data, part).labels) for part in parts}
    return replace(data, name=f"{data.name} seen by {name}", key=data.key | {"seen by": name}, **splits)


def cut_as_it_is(data: Labelled, sizes: Sequence[int], seeds: Sequence[int]) -> pd.DataFrame:
    """1-NN and mAP@10 of the features themselves, cut to ``sizes`` without any training, in three ways."""
    z, database = data.test.images, data.train.images
    svd = baselines.FeatureSVD.fit(database, centre=False)
    rows = []
    for seed in seeds:
        ways = {
            "backbone, random dims": lambda x, m, s=seed: baselines.random_dims(x, m, s),
            "backbone, random projection": lambda x, m, s=seed: x @ baselines.random_projection(x.shape[1], m, s),
            "backbone, SVD": svd.project,
        }
        for method, cut in ways.items():
            for m in sizes:
                own = cut(z, m), data.test.labels, cut(database, m), data.train.labels
                rows += score.retrieval(*own, [m], method=method, seed=seed)
    return score.table(rows)
