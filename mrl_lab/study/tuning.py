"""Choosing rate and length on validation data: the same grid for every method, and never a look at the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import runs, score
from mrl_lab.data import Labelled
from mrl_lab.methods import baselines, mrl
from mrl_lab.study.models import Recipe, Spec, embed, settings, trained


def tune(
    methods: Mapping[str, Sequence[Spec]],
    data: Labelled,
    base: Recipe,
    lrs: Sequence[float],
    epochs: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """Try every rate and length on every method, with one seed.

    Returns:
        One row a method and setting: method, lr, epochs, validation (per cent, averaged over sizes and models).
    """
    rows = []
    for method, specs in methods.items():
        for length in epochs:
            for lr in lrs:
                recipe = replace(base, lr=lr, epochs=length)
                found = torch.cat([validated(spec, data, recipe, seed) for spec in specs])
                rows.append({"method": method, "lr": lr, "epochs": length, "validation": found.mean().item()})
    return pd.DataFrame(rows)


def best(tuned: pd.DataFrame, base: Recipe) -> dict[str, Recipe]:
    """Return each method's recipe with the highest validation score."""
    top = tuned.loc[tuned.groupby("method", sort=False)["validation"].idxmax()]
    return {row.method: replace(base, lr=row.lr, epochs=row.epochs) for row in top.itertuples()}


def validated(spec: Spec, data: Labelled, recipe: Recipe, seed: int) -> Tensor:
    """Return the score of each size on ``data.validation``, in per cent: top-1, or 1-NN where there are no labels."""
    made = partial(_validate, spec, data, recipe, seed)
    return runs.remember(settings("validated", spec, data, recipe, seed), made)["score"]


def _validate(spec: Spec, data: Labelled, recipe: Recipe, seed: int) -> dict[str, Tensor]:
    model = trained(spec, data, recipe, seed)
    model = model.model if isinstance(model, baselines.PartlyFrozen) else model
    if isinstance(model, baselines.Slimmable):
        found = slim_top1(model, data.validation.images, data.validation.labels)
    elif isinstance(model, mrl.Contrastive):
        found = _one_nn(model, data)
    else:
        found = _top1(model, data)
    return {"score": torch.tensor(list(found.values()))}


def _top1(model: mrl.Classifier, data: Labelled) -> dict[int, float]:
    z = embed(model.encoder, data.validation.images)
    return {m: score.accuracy(p, data.validation.labels) for m, p in score.predictions(model.head, z).items()}


def _one_nn(model: mrl.Contrastive, data: Labelled) -> dict[int, float]:
    z, database = embed(model.encoder, data.validation.images), embed(model.encoder, data.train.images)
    found = score.neighbours(z, database, model.sizes, k=1)
    return {m: score.one_nn(ids, data.train.labels, data.validation.labels) for m, ids in found.items()}


@torch.no_grad()
def slim_top1(model: baselines.Slimmable, images: Tensor, labels: Tensor) -> dict[int, float]:
    """Top-1 of a slimmable network run at each width it was trained for: {width * d: per cent}."""
    found = {}
    for width, m in zip(model.encoder.widths, model.encoder.sizes, strict=True):
        z = embed(model.encoder.at(width), images)
        found[m] = score.accuracy(model.truncated(z, m).argmax(1), labels)
    return found


def spread(specs: Sequence[Spec], most: int = 3) -> list[Spec]:
    """Return at most ``most`` of the models, first and last among them: a rate is chosen on these for all."""
    places = torch.linspace(0, len(specs) - 1, min(most, len(specs))).round().int().unique().tolist()
    return [specs[i] for i in places]
