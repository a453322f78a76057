"""Nested classifiers of pictures: train every method at every seed, embed once, score every cut."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor, nn

from mrl_lab import runs, score
from mrl_lab.data import Labelled
from mrl_lab.study.models import Model, Recipe, embed, separate, settings, trained

Plan = dict[str, list[Model]]  # method -> its models: one for a nested method, one a size for FF


@dataclass(frozen=True)
class States:
    """Embeddings by one encoder, computed once and cut many times: of the database (train) and of queries."""

    database: Tensor  # (N, d)
    database_y: Tensor  # (N,)
    z: Tensor  # (n, d)
    y: Tensor  # (n,)


def methods(sizes: Sequence[int], d: int, encoder: str = "conv") -> Plan:
    """Return the paper's three: MRL, MRL-E, and FF as one separately trained model a size."""
    base = Model(tuple(sizes), d, encoder=encoder)
    return {"MRL": [base], "MRL-E": [replace(base, efficient=True)], "FF": separate(base, sizes)}


def states(encoder: nn.Module, data: Labelled, split: str = "test") -> States:
    """Embed the training pictures (the database) and those of ``split`` (the queries) once."""
    queries = getattr(data, split)
    return States(embed(encoder, data.train.images), data.train.labels, embed(encoder, queries.images), queries.labels)


def sweep(plan: Plan, data: Labelled, recipes: Mapping[str, Recipe], seeds: Iterable[int]) -> pd.DataFrame:
    """Train and score every method at every seed: rows top1, coarse_top1, 1nn and map@10 at each size."""
    tables = []
    for seed in seeds:
        began = time.perf_counter()
        tables += [scored(method, m, data, recipes[method], seed) for method, models in plan.items() for m in models]
        print(f"{data.name}, seed {seed}: {sum(map(len, plan.values()))} models, {time.perf_counter() - began:.0f} s")
    return pd.concat(tables, ignore_index=True)


def scored(
    method: str, model: Model, data: Labelled, recipe: Recipe, seed: int, sizes: Sequence[int] = ()
) -> pd.DataFrame:
    """Score one model: top-1 by its heads; 1-NN and mAP@10 at ``sizes`` (its own where none are given)."""
    sizes = list(sizes or model.sizes)

    def make() -> pd.DataFrame:
        classifier = trained(model, data, recipe, seed)
        s = states(classifier.encoder, data)
        named = {"method": method, "seed": seed}
        rows = score.classification(classifier, s.z, s.y, coarse=data.coarse, **named)
        return score.table(rows + score.retrieval(s.z, s.y, s.database, s.database_y, sizes, **named))

    key = settings("scored", model, data, recipe, seed) | {"method": method, "sizes": sizes}
    return runs.remember(key, make)
