"""Ablations: what changes when one part of the recipe does. Each is trained with the effort of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import pandas as pd
import torch
from torch import nn

from mrl_lab import runs, score
from mrl_lab.data import Labelled
from mrl_lab.data.views import TwoViews
from mrl_lab.methods import baselines, mrl
from mrl_lab.study.pictures import Model, Plan, Recipe, states, trained


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


def at_sizes(
    model: Model, data: Labelled, sizes: Sequence[int], recipe: Recipe, seed: int, method: str
) -> pd.DataFrame:
    """1-NN and mAP@10 of a model at ``sizes`` other than its own, so that two spacings can be compared."""
    s = states(trained(model, data, recipe, seed).encoder, data)
    rows = score.retrieval(s.z, s.y, s.database, s.database_y, sizes, method=method, seed=seed)
    return score.table(rows)


PARTS = ("head", "last block", "last two blocks", "all")


def nested_later(
    full: Model, sizes: Sequence[int], data: Labelled, recipes: tuple[Recipe, Recipe], seed: int
) -> pd.DataFrame:
    """Give a trained FF-d fresh MRL heads and train on, more and more of it unfrozen (MRL, appendix K.1).

    ``recipes``: that of FF-d and that of the nesting.
    """
    settings = {"what": "nested later", "full": asdict(full), "sizes": list(sizes), "data": data.key, "seed": seed}
    settings |= {"recipes": [asdict(r) for r in recipes]}
    return runs.remember(settings, lambda: _nest_later(full, sizes, data, recipes, seed))


def _nest_later(
    full: Model, sizes: Sequence[int], data: Labelled, recipes: tuple[Recipe, Recipe], seed: int
) -> pd.DataFrame:
    rows = []
    for part in PARTS:
        start = trained(full, data, recipes[0], seed)
        model = replace(full, sizes=tuple(sizes)).build(data, seed)
        model.encoder.load_state_dict(start.encoder.state_dict())
        recipes[1].fit(baselines.unfreeze(model, part), _rows(data), seed)
        z = score.embed(model.encoder.eval(), data.test.images)
        rows += score.classification(model, z, data.test.labels, method=f"nested later: {part}", seed=seed)
    return score.table(rows)


def _rows(data: Labelled) -> torch.utils.data.TensorDataset:
    return torch.utils.data.TensorDataset(data.train.images, data.train.labels)


FORMS = {
    "InfoNCE, nested": {},
    "InfoNCE, whole normalised": {"normalise": "the whole"},
    "InfoNCE, one side nested": {"towers": "first"},
    "InfoNCE, full size only": {},
}


def contrastive(base: Model, data: Labelled, recipe: Recipe, seed: int) -> pd.DataFrame:
    """Two augmented views of each picture, no labels: nested InfoNCE in right and wrong forms, scored by 1-NN."""
    settings = {"what": "contrastive", "model": asdict(base), "data": data.key, "recipe": asdict(recipe), "seed": seed}
    return runs.remember(settings, lambda: _contrast(base, data, recipe, seed))


def _contrast(base: Model, data: Labelled, recipe: Recipe, seed: int) -> pd.DataFrame:
    rows = []
    for method, form in FORMS.items():
        sizes = base.sizes[-1:] if method.endswith("only") else base.sizes
        model = mrl.Contrastive(_encoder(base, data, seed), sizes, temperature=0.1, symmetric=True, **form)
        torch.manual_seed(seed)  # the views draw from the global stream: the same views for every form
        recipe.fit(model, TwoViews(data.train.images), seed)
        s = states(model.encoder.eval(), data)
        rows += score.retrieval(s.z, s.y, s.database, s.database_y, base.sizes, method=method, seed=seed)
    return score.table(rows)


def _encoder(base: Model, data: Labelled, seed: int) -> nn.Module:
    return base.build(data, seed).encoder
