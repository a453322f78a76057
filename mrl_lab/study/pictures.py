"""Pictures: the task of telling their classes. Every picture is embedded once, and each size is a cut of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from mrl_lab import encoders, lab, score
from mrl_lab.data import Labelled, Split
from mrl_lab.lab import Recipe, embed, kept
from mrl_lab.methods import baselines
from mrl_lab.study import models

CHANNELS = (32, 64)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Learn from the training pictures and their classes; be asked about others.

    Attributes:
        sizes: at which neighbours are asked for; where none are given, at a model's own.
        channels: of the encoder's first two blocks.
    """

    data: Labelled
    sizes: tuple[int, ...] = ()
    channels: tuple[int, int] = field(default=CHANNELS, kw_only=True)

    @property
    def key(self) -> dict:
        """What identifies the rows that are learnt from, and the encoder where it is another than the small one."""
        return self.data.key | ({} if self.channels == CHANNELS else {"channels": self.channels})

    def rows(self) -> TensorDataset:
        """Return pictures (N, C, H, W) with their classes (N,)."""
        return TensorDataset(self.data.train.images, self.data.train.labels)

    def encoder(self, d: int) -> nn.Module:
        """Return an untrained encoder of width d, drawn from torch's global stream: for vectors, an MLP."""
        return encoders.build("conv", self.data, d, widths=self.channels)

    def ask(self, module: nn.Module, split: str, seed: int) -> pd.DataFrame:
        """Return top-1 of a module's heads and, by its encoder alone, 1-NN and mAP@10, at every size.

        On the validation split, what settings are chosen by: top-1, or 1-NN where there are no heads.
        """
        module = module.model if isinstance(module, baselines.PartlyFrozen) else module
        if isinstance(module, baselines.Slimmable):
            return _chosen_by(at_widths(module, getattr(self.data, split)), split)
        s, named = states(module.encoder, self.data, split), {"method": "", "seed": seed}
        sizes = self.sizes or (module.head.sizes if hasattr(module, "head") else module.sizes)
        rows = []
        if hasattr(module, "head"):
            rows += score.classification(module, s.z, s.y, coarse=self.data.coarse, **named)
        if not rows or split == "test":
            rows += score.retrieval(s.z, s.y, s.database, s.database_y, sizes, **named)
        return _chosen_by(score.table(rows), split)


def _chosen_by(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Of a validation split, return the rows of the first metric, called "validation"."""
    first = table[table["metric"] == table["metric"].iloc[0]]
    return table if split == "test" else first.assign(metric="validation")


@dataclass(frozen=True)
class States:
    """Embeddings by one encoder, computed once and cut many times: of the database (train) and of queries."""

    database: Tensor  # (N, d)
    database_y: Tensor  # (N,)
    z: Tensor  # (n, d)
    y: Tensor  # (n,)


def states(encoder: nn.Module, data: Labelled, split: str = "test") -> States:
    """Embed the training pictures (the database) and those of ``split`` (the queries) once."""
    queries = getattr(data, split)
    return States(embed(encoder, data.train.images), data.train.labels, embed(encoder, queries.images), queries.labels)


@torch.no_grad()
def at_widths(model: baselines.Slimmable, asked: Split) -> pd.DataFrame:
    """Top-1 of a slimmable network, run at each width it was trained for."""
    found = {}
    for width, m in zip(model.encoder.widths, model.encoder.sizes, strict=True):
        z = embed(model.encoder.at(width), asked.images)
        found[m] = score.accuracy(model.truncated(z, m).argmax(1), asked.labels)
    return score.table(score.tidy(found, method="", metric="top1", seed=0, n=len(asked)))


# --------------------------------------------------------------------------------- a backbone made elsewhere


def seen_by_mobilenet(weights: Path, data: Labelled, side: int = 128) -> Labelled:
    """Return ``data`` with each picture replaced by the feature (1280,) of a MobileNetV2 trained on ImageNet."""
    found, name = _features(weights, data, side), "MobileNetV2"
    splits = {part: Split(z, getattr(data, part).labels) for part, z in found.items()}
    return replace(data, name=f"{data.name} seen by {name}", key=data.key | {"seen by": name}, **splits)


@kept
def _features(weights: Path, data: Labelled, side: int) -> dict[str, Tensor]:
    backbone = encoders.mobilenet_v2(weights, side=side).eval()
    return {part: embed(backbone, getattr(data, part).images) for part in ("train", "validation", "test")}


def nested_on(seen: Labelled, base: Recipe, seeds: Sequence[int]) -> list[pd.DataFrame]:
    """Score MRL, MRL-E and FF-k, trained on frozen features by a small network, beside the features cut as they are."""
    plan, task = models.three((8, 16, 32, 64, 128)), Pictures(seen)
    tried = {name: models.spread(some) for name, some in plan.items()}
    grid = lab.tune(tried, task, base, epochs=[40], lr=[0.001, 0.003, 0.01])  # a pass is a few steps
    sizes = (8, 16, 32, 64, 128, 512, seen.train.images.shape[1])
    return [lab.sweep(plan, task, lab.best(grid, base), seeds), cut_as_it_is(seen, sizes, seeds)]


def cut_as_it_is(data: Labelled, sizes: Sequence[int], seeds: Sequence[int]) -> pd.DataFrame:
    """1-NN and mAP@10 of the features themselves, cut to ``sizes`` without any training, in three ways."""
    svd = baselines.FeatureSVD.fit(data.train.images, centre=False)
    rows = []
    for seed in seeds:
        ways = {
            "backbone, random dims": lambda x, m, s=seed: baselines.random_dims(x, m, s),
            "backbone, random projection": lambda x, m, s=seed: x @ baselines.random_projection(x.shape[1], m, s),
            "backbone, SVD": svd.project,
        }
        for method, cut in ways.items():
            for m in sizes:
                sides = cut(data.test.images, m), data.test.labels, cut(data.train.images, m), data.train.labels
                rows += score.retrieval(*sides, [m], method=method, seed=seed)
    return score.table(rows)
