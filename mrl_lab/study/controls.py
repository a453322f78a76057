"""Controls: what the trained models are compared with, and what happens to them under other conditions.

Everything here reads models that :func:`mrl_lab.study.models.trained` has made, and keeps its answer under their key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import oracle, runs, score
from mrl_lab.data import Labelled
from mrl_lab.data.corrupt import KINDS, STRENGTHS, corrupt
from mrl_lab.methods import baselines, mrl
from mrl_lab.study.models import Model, Recipe, Slim, embed, settings, trained
from mrl_lab.study.pictures import Plan, States, states
from mrl_lab.study.tuning import slim_top1


def shrunk(full: Model, data: Labelled, sizes: Sequence[int], recipe: Recipe, seed: int) -> pd.DataFrame:
    """Score every way of making the features of FF-d smaller after training (MRL, section 4.1).

    1-NN of its first, last, random and projected dims and of its SVD; top-1 of the SVD of its classifier and of a
    linear probe on random dims.
    """

    def make() -> pd.DataFrame:
        classifier = trained(full, data, recipe, seed)
        s = states(classifier.encoder, data)
        return score.table(_shrunk_features(s, sizes, seed) + _shrunk_classifiers(classifier, s, sizes, seed))

    return runs.remember(settings("shrunk", full, data, recipe, seed) | {"sizes": list(sizes)}, make)


def _shrunk_features(s: States, sizes: Sequence[int], seed: int) -> list[dict]:
    d = s.z.shape[1]
    ways = {
        "FF, first dims": baselines.first_dims,
        "FF, last dims": baselines.last_dims,
        "FF, random dims": lambda z, m: baselines.random_dims(z, m, seed),
        "FF, random projection": lambda z, m: z @ baselines.random_projection(d, m, seed),
        "FF, SVD of features": baselines.FeatureSVD.fit(s.database, centre=False).project,
        "FF, SVD of centred features": baselines.FeatureSVD.fit(s.database, centre=True).project,
    }
    rows = []
    for method, cut in ways.items():
        for m in sizes:
            rows += score.retrieval(cut(s.z, m), s.y, cut(s.database, m), s.database_y, [m], method=method, seed=seed)
    return rows


def _shrunk_classifiers(classifier: mrl.Classifier, s: States, sizes: Sequence[int], seed: int) -> list[dict]:
    head = classifier.head.linear(classifier.head.sizes[-1])
    weight, bias = head.weight.detach(), head.bias.detach()
    cut, probed = {}, {}
    for m in sizes:
        cut[m] = score.accuracy((s.z @ baselines.svd_of_classifier(weight, m).T + bias).argmax(1), s.y)
        columns = baselines.random_columns(s.z.shape[1], m, seed)
        probed[m] = score.accuracy(baselines.linear_probe(s.database[:, columns], s.database_y, s.z[:, columns]), s.y)
    common = {"metric": "top1", "seed": seed, "n": len(s.y)}
    rows = score.tidy(cut, method="FF, SVD of the classifier", **common)
    return rows + score.tidy(probed, method="FF, probe on random dims", **common)


def slimmable(spec: Slim, data: Labelled, sizes: Sequence[int], recipe: Recipe, seed: int) -> pd.DataFrame:
    """Top-1 of a slimmable network: run at full width and cut to each size (the paper), or run at its own widths."""

    def make() -> pd.DataFrame:
        model = trained(spec, data, recipe, seed)
        z = embed(model.encoder, data.test.images)
        with torch.no_grad():
            cut = {m: score.accuracy(model.truncated(z, m).argmax(1), data.test.labels) for m in sizes}
        common = {"metric": "top1", "seed": seed, "n": len(z)}
        run = slim_top1(model, data.test.images, data.test.labels)
        rows = score.tidy(cut, method="slimmable, cut", **common)
        return score.table(rows + score.tidy(run, method="slimmable, at its widths", **common))

    return runs.remember(settings("slimmable", spec, data, recipe, seed) | {"sizes": list(sizes)}, make)


def between(model: Model, data: Labelled, recipe: Recipe, seed: int) -> pd.DataFrame:
    """1-NN and mAP@10 at sizes of 1.5 m, between the trained ones, which no loss ever saw."""
    sizes = [m + m // 2 for m, following in pairwise(model.sizes) if m + m // 2 < following]

    def make() -> pd.DataFrame:
        s = states(trained(model, data, recipe, seed).encoder, data)
        return score.table(score.retrieval(s.z, s.y, s.database, s.database_y, sizes, method="MRL", seed=seed))

    return runs.remember(settings("between", model, data, recipe, seed), make)


def coarse_drop(scores: pd.DataFrame, sizes: Sequence[int]) -> pd.DataFrame:
    """Drop of top1 and coarse_top1 from the largest to the smallest size, plain and relative to the error at d."""
    rows = []
    for (method, seed), group in scores.groupby(["method", "seed"]):
        for level, metric in (("fine", "top1"), ("coarse", "coarse_top1")):
            at = group[group["metric"] == metric].set_index("dim")["value"]
            drop = at[sizes[-1]] - at[sizes[0]]
            named = {"method": method, "seed": seed}
            rows.append(named | {"metric": f"{level} drop", "value": drop})
            rows.append(named | {"metric": f"{level} drop relative", "value": drop / max(100 - at[sizes[-1]], 0.1)})
    return score.table(rows)


def right(model: Model, data: Labelled, recipe: Recipe, seed: int) -> Tensor:
    """Which test pictures each size classifies rightly: (sizes, n)."""
    return _right(trained(model, data, recipe, seed), data.test.images, data.test.labels)


def _right(classifier: mrl.Classifier, images: Tensor, labels: Tensor) -> Tensor:
    z = embed(classifier.encoder, images)
    return torch.stack([p == labels for p in score.predictions(classifier.head, z).values()])


def headroom(
    nested: Model, full: Model, data: Labelled, recipes: Mapping[str, Recipe], seed: int
) -> tuple[pd.DataFrame, Tensor]:
    """Oracle gain over the best size of one MRL model, and over as many FF-d models that differ in their seed.

    The control says how much an oracle gains by luck alone: models that differ in nothing but the seed disagree too.

    Returns:
        The scores, and per cent of pictures that each size is the first to get right, then of those none does.
    """
    sizes = right(nested, data, recipes["MRL"], seed)
    again = torch.cat([right(full, data, recipes["FF"], 1000 + 10 * seed + i) for i in range(len(sizes))])
    rows = []
    for method, matrix in (("MRL", sizes), ("FF, other seeds", again)):
        named = {"method": method, "seed": seed, "n": matrix.shape[1]}
        rows.append(named | {"metric": "oracle gain", "value": oracle.gain(matrix)})
        rows.append(named | {"metric": "disagreement", "value": oracle.disagreement(matrix)})
    return score.table(rows), oracle.first_correct(sizes)


def robustness(plan: Plan, data: Labelled, recipes: Mapping[str, Recipe], seed: int) -> pd.DataFrame:
    """Top-1 of every method at every size under each corruption and strength: metric "noise 2 top1"."""
    changed = {(kind, k): corrupt(data.test.images, kind, k, seed) for kind in KINDS for k in STRENGTHS}
    tables = [
        _corrupted(method, model, data, recipes[method], seed, changed)
        for method, models in plan.items()
        for model in models
    ]
    return pd.concat(tables, ignore_index=True)


def _corrupted(
    method: str, model: Model, data: Labelled, recipe: Recipe, seed: int, changed: Mapping[tuple[str, int], Tensor]
) -> pd.DataFrame:
    def make() -> pd.DataFrame:
        rows, classifier = [], trained(model, data, recipe, seed)
        for (kind, strength), images in changed.items():
            found = _right(classifier, images, data.test.labels).double().mean(1) * 100
            values = dict(zip(model.sizes, found.tolist(), strict=True))
            rows += score.tidy(values, method=method, metric=f"{kind} {strength} top1", seed=seed, n=len(images))
        return score.table(rows)

    return runs.remember(settings("corrupted", model, data, recipe, seed) | {"method": method}, make)


def spared(scores: pd.DataFrame, of: str, minus: str) -> pd.DataFrame:
    """Return how many points fewer ``of`` loses under each corruption (rows) and strength (columns), over all sizes."""
    mean = scores[scores["method"].isin([of, minus])].groupby(["method", "metric"])["value"].mean()

    def lost(method: str, kind: str, strength: int) -> float:
        return mean[method, "top1"] - mean[method, f"{kind} {strength} top1"]

    table = {k: [lost(minus, kind, k) - lost(of, kind, k) for kind in KINDS] for k in STRENGTHS}
    return pd.DataFrame(table, index=list(KINDS))
