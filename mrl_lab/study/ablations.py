"""Ablations: what changes when one part of the recipe does. Each is tuned and trained with the effort of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from mrl_lab import runs, score
from mrl_lab.data import Labelled
from mrl_lab.methods import baselines
from mrl_lab.study.models import Contrast, Model, NestedLater, Recipe, embed, settings, trained
from mrl_lab.study.pictures import Plan, states


def uniform_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """As many sizes as M, evenly spaced from its first to its last (MRL, appendix K.1)."""
    return tuple(sorted({round(x) for x in torch.linspace(sizes[0], sizes[-1], len(sizes)).tolist()}))


def variants(base: Model) -> Plan:
    """MRL with uniform sizes, and with c = 2 at the first; MRL-E with a bias, or a bias and a scale, for each size."""
    double = (2.0, *(1.0 for _ in base.sizes[1:]))
    return {
        "MRL, uniform sizes": [replace(base, sizes=uniform_sizes(base.sizes))],
        "MRL, c = 2 at first": [replace(base, weights=double)],
        "MRL-E, own bias": [replace(base, efficient=True, per_size="bias")],
        "MRL-E, own bias and scale": [replace(base, efficient=True, per_size="scale")],
    }


def later(full: Model, first: Recipe, sizes: Sequence[int]) -> dict[str, list[NestedLater]]:
    """FF-d nested after its training, more and more of it unfrozen (MRL, appendix K.1)."""
    return {f"nested later: {part}": [NestedLater(full, first, tuple(sizes), part)] for part in baselines.PARTS}


def nested_later(method: str, spec: NestedLater, data: Labelled, recipe: Recipe, seed: int) -> pd.DataFrame:
    """Top-1 at each size of a model that was nested after its training."""

    def make() -> pd.DataFrame:
        model = trained(spec, data, recipe, seed).model
        z = embed(model.encoder, data.test.images)
        return score.table(score.classification(model, z, data.test.labels, method=method, seed=seed))

    return runs.remember(settings("nested later", spec, data, recipe, seed) | {"method": method}, make)


def forms(sizes: Sequence[int], d: int) -> dict[str, list[Contrast]]:
    """Nested InfoNCE as the paper has it, its two wrong forms, and InfoNCE at the full size alone."""
    base = Contrast(tuple(sizes), d)
    return {
        "InfoNCE, nested": [base],
        "InfoNCE, whole normalised": [replace(base, normalise="the whole")],
        "InfoNCE, one side nested": [replace(base, towers="first")],
        "InfoNCE, full size only": [replace(base, sizes=(d,))],
    }


def contrastive(
    method: str, spec: Contrast, data: Labelled, sizes: Sequence[int], recipe: Recipe, seed: int
) -> pd.DataFrame:
    """1-NN and mAP@10 at ``sizes`` of an encoder that learned from two views of each picture."""

    def make() -> pd.DataFrame:
        s = states(trained(spec, data, recipe, seed).encoder, data)
        return score.table(score.retrieval(s.z, s.y, s.database, s.database_y, sizes, method=method, seed=seed))

    return runs.remember(settings("contrastive", spec, data, recipe, seed) | {"method": method}, make)
