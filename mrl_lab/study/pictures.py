"""Nested classifiers of pictures: choose the rate on validation data, train, embed once, score every cut."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from mrl_lab import encoders, runs, score
from mrl_lab.data import Labelled
from mrl_lab.methods import mrl
from mrl_lab.train import Rows, fit

Plan = dict[str, list["Model"]]  # method -> its models; one for a nested method, one a size for FF


@dataclass(frozen=True)
class Recipe:
    """How long and how a model is trained."""

    epochs: float = 1.0
    lr: float = 1e-2
    batch: int = 128
    weight_decay: float = 0.05

    def fit(self, model: nn.Module, rows: Rows, seed: int) -> pd.DataFrame:
        """Train ``model`` in place by this recipe."""
        batch = min(self.batch, len(rows))
        steps = max(1, round(self.epochs * len(rows) / batch))
        return fit(model, rows, steps=steps, batch=batch, lr=self.lr, weight_decay=self.weight_decay, seed=seed)


@dataclass(frozen=True)
class Model:
    """Which nested classifier: sizes M, width d of the embedding, kind of head and of encoder."""

    sizes: tuple[int, ...]
    d: int
    efficient: bool = False
    per_size: str = "none"
    weights: tuple[float, ...] | None = None
    encoder: str = "conv"

    def build(self, data: Labelled, seed: int) -> mrl.Classifier:
        """Return it untrained; at one seed the encoder is the same whatever the head."""
        head = {"efficient": self.efficient, "per_size": self.per_size, "weights": self.weights}
        body = lambda: encoders.build(self.encoder, data, self.d)  # noqa: E731
        return mrl.classifier(body, self.sizes, len(data.classes), seed=seed, **head)


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
    separate = [replace(base, sizes=(k,)) for k in sizes]
    return {"MRL": [base], "MRL-E": [replace(base, efficient=True)], "FF": separate}


def trained(model: Model, data: Labelled, recipe: Recipe, seed: int) -> mrl.Classifier:
    """Return ``model`` trained on ``data.train``, reused where these very settings were trained before."""
    classifier = model.build(data, seed)

    def make() -> dict[str, Tensor]:
        recipe.fit(classifier, TensorDataset(data.train.images, data.train.labels), seed)
        return classifier.cpu().state_dict()

    classifier.load_state_dict(runs.remember(_settings("trained", model, data, recipe, seed), make))
    return classifier.eval()


def states(encoder: nn.Module, data: Labelled, split: str = "test") -> States:
    """Embed the training pictures (the database) and those of ``split`` (the queries) once."""
    queries = getattr(data, split)
    database = score.embed(encoder, data.train.images)
    return States(database, data.train.labels, score.embed(encoder, queries.images), queries.labels)


def sweep(plan: Plan, data: Labelled, recipes: dict[str, Recipe], seeds: Iterable[int]) -> pd.DataFrame:
    """Train and score every method at every seed: rows top1, coarse_top1, 1nn and map@10 at each size."""
    tables = []
    for seed in seeds:
        began = time.perf_counter()
        tables += [_scored(method, m, data, recipes[method], seed) for method, models in plan.items() for m in models]
        print(f"{data.name}, seed {seed}: {sum(map(len, plan.values()))} models, {time.perf_counter() - began:.0f} s")
    return pd.concat(tables, ignore_index=True)


def tune(
    plan: Plan, data: Labelled, base: Recipe, lrs: Sequence[float], epochs: Sequence[float], seed: int
) -> pd.DataFrame:
    """Try every rate and length on every method, one seed, and score on ``data.validation``, never on test.

    Returns:
        One row a method and setting: method, lr, epochs, validation (top-1 in per cent, averaged over sizes).
    """
    rows = []
    for (method, models), lr, length in product(plan.items(), lrs, epochs):
        recipe = replace(base, lr=lr, epochs=length)
        by_size = [_validated(model, data, recipe, seed) for model in models]
        rows.append({"method": method, "lr": lr, "epochs": length, "validation": torch.cat(by_size).mean().item()})
    return pd.DataFrame(rows)


def best(tuned: pd.DataFrame, base: Recipe) -> dict[str, Recipe]:
    """Return each method's recipe with the highest validation score."""
    top = tuned.loc[tuned.groupby("method", sort=False)["validation"].idxmax()]
    return {row.method: replace(base, lr=row.lr, epochs=row.epochs) for row in top.itertuples()}


def _validated(model: Model, data: Labelled, recipe: Recipe, seed: int) -> Tensor:
    """Return the validation top-1 of each size, in per cent."""

    def make() -> dict[str, Tensor]:
        classifier = trained(model, data, recipe, seed)
        z, y = score.embed(classifier.encoder, data.validation.images), data.validation.labels
        found = [score.accuracy(p, y) for p in score.predictions(classifier.head, z).values()]
        return {"top1": torch.tensor(found)}

    return runs.remember(_settings("validated", model, data, recipe, seed), make)["top1"]


def _scored(method: str, model: Model, data: Labelled, recipe: Recipe, seed: int) -> pd.DataFrame:
    def make() -> pd.DataFrame:
        classifier = trained(model, data, recipe, seed)
        s = states(classifier.encoder, data)
        named = {"method": method, "seed": seed}
        rows = score.classification(classifier, s.z, s.y, coarse=data.coarse, **named)
        return score.table(rows + score.retrieval(s.z, s.y, s.database, s.database_y, model.sizes, **named))

    return runs.remember(_settings("scored", model, data, recipe, seed) | {"method": method}, make)


def _settings(what: str, model: Model, data: Labelled, recipe: Recipe, seed: int) -> dict:
    return {"what": what, "model": asdict(model), "data": data.key, "recipe": asdict(recipe), "seed": seed}
