"""Nesting a backbone that somebody else has trained: its features are computed once and a small head learns on them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from torch import Tensor, nn

from mrl_lab import runs, score
from mrl_lab.data import Labelled, Split
from mrl_lab.methods import baselines
from mrl_lab.study.models import embed


def features(backbone: nn.Module, name: str, data: Labelled) -> Labelled:
    """Return ``data`` with each picture replaced by the feature (d,) that a frozen ``backbone`` gives it.

    ``name`` stands for the backbone's weights in the key under which the features are kept.
    """
    parts = ("train", "validation", "test")

    def make() -> dict[str, Tensor]:
        return {part: embed(backbone.eval(), getattr(data, part).images) for part in parts}

    found = runs.remember({"what": "features", "backbone": name, "data": data.key}, make)
    splits = {part: Split(found[part], getattr(data, part).labels) for part in parts}
    return replace(data, name=f"{data.name} seen by {name}", key=[data.key, name], **splits)


def cut_as_it_is(data: Labelled, sizes: list[int], draws: int) -> pd.DataFrame:
    """1-NN and mAP@10 of the features themselves, cut to ``sizes`` without any training, in three ways."""
    z, database = data.test.images, data.train.images
    svd = baselines.FeatureSVD.fit(database, centre=False)
    rows = []
    for seed in range(draws):
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

