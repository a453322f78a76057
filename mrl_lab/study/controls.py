"""Controls: what the trained models are compared with, and what happens to them under other conditions.

Everything here reads models that :func:`mrl_lab.lab.trained` has made, and is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import oracle, score
from mrl_lab.data.corrupt import KINDS, STRENGTHS, corrupt
from mrl_lab.lab import Recipe, embed, kept, trained
from mrl_lab.methods import baselines, mrl
from mrl_lab.study.models import Model, Slim
from mrl_lab.study.pictures import Pictures, States, at_widths, states


@kept
def shrunk(full: Model, task: Pictures, sizes: Sequence[int], recipe: Recipe, seed: int) -> pd.DataFrame:
    """Score every way of making the features of FF-d smaller after training (MRL, section 4.1).

    1-NN of its first, last, random and projected dims and of its SVD; top-1 of the SVD of its classifier and of a
    linear probe on random dims.
    """
    classifier = trained(full, task, recipe, seed)
    s = states(classifier.encoder, task.data)
    return score.table(_shrunk_features(s, sizes, seed) + _shrunk_classifiers(classifier, s, sizes, seed))


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


@kept
def slimmable(spec: Slim, task: Pictures, sizes: Sequence[int], recipe: Recipe, seed: int) -> pd.DataFrame:
    """Top-1 of a slimmable network: run at full width and cut to each size (the paper), or run at its own widths."""
    model, test = trained(spec, task, recipe, seed), task.data.test
    z = embed(model.encoder, test.images)
    with torch.no_grad():
        cut = {m: score.accuracy(model.truncated(z, m).argmax(1), test.labels) for m in sizes}
    rows = score.table(score.tidy(cut, method="slimmable, cut", metric="top1", seed=seed, n=len(z)))
    own = at_widths(model, test).assign(method="slimmable, at its widths", seed=seed)
    return pd.concat([rows, own], ignore_index=True)


@kept
def between(model: Model, task: Pictures, recipe: Recipe, seed: int) -> pd.DataFrame:
    """1-NN and mAP@10 at sizes of 1.5 m, between the trained ones, which no loss ever saw."""
    sizes = [m + m // 2 for m, following in pairwise(model.sizes) if m + m // 2 < following]
    s = states(trained(model, task, recipe, seed).encoder, task.data)
    return score.table(score.retrieval(s.z, s.y, s.database, s.database_y, sizes, method="MRL", seed=seed))


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


def right(model: Model, task: Pictures, recipe: Recipe, seed: int) -> Tensor:
    """Which test pictures each size classifies rightly: (sizes, n)."""
    return _right(trained(model, task, recipe, seed), task.data.test.images, task.data.test.labels)


def _right(classifier: mrl.Classifier, images: Tensor, labels: Tensor) -> Tensor:
    z = embed(classifier.encoder, images)
    return torch.stack([p == labels for p in score.predictions(classifier.head, z).values()])


def by_class(model: Model, task: Pictures, recipe: Recipe, seed: int) -> pd.DataFrame:
    """Return top-1 of each class (rows) at each size (columns), the class that needs most numbers last."""
    data = task.data
    found = oracle.by_class(right(model, task, recipe, seed), data.test.labels, len(data.classes))
    order = oracle.leaves_at(found, model.sizes).argsort(stable=True)
    return pd.DataFrame(found.T[order].numpy(), [data.classes[i] for i in order.tolist()], model.sizes)


def headroom(
    nested: Model, full: Model, task: Pictures, recipes: Mapping[str, Recipe], seed: int
) -> tuple[pd.DataFrame, Tensor]:
    """Oracle gain over the best size of one MRL model, and over as many FF-d models that differ in their seed.

    The control says how much an oracle gains by luck alone: models that differ in nothing but the seed disagree too.

    Returns:
        The scores, and per cent of pictures that each size is the first to get right, then of those none does.
    """
    sizes = right(nested, task, recipes["MRL"], seed)
    again = torch.cat([right(full, task, recipes["FF"], 1000 + 10 * seed + i) for i in range(len(sizes))])
    rows = []
    for method, matrix in (("MRL", sizes), ("FF, other seeds", again)):
        named = {"method": method, "seed": seed, "n": matrix.shape[1]}
        rows.append(named | {"metric": "oracle gain", "value": oracle.gain(matrix)})
        rows.append(named | {"metric": "disagreement", "value": oracle.disagreement(matrix)})
    return score.table(rows), oracle.first_correct(sizes)


@kept
def corrupted(model: Model, task: Pictures, recipe: Recipe, seed: int) -> pd.DataFrame:
    """Top-1 of a model at every size under each corruption and strength: metric "noise 2 top1"."""
    rows, classifier, test = [], trained(model, task, recipe, seed), task.data.test
    for kind, strength in product(KINDS, STRENGTHS):
        found = _right(classifier, corrupt(test.images, kind, strength, seed), test.labels).double().mean(1) * 100
        values = dict(zip(model.sizes, found.tolist(), strict=True))
        rows += score.tidy(values, method="", metric=f"{kind} {strength} top1", seed=seed, n=len(test))
    return score.table(rows)


def spared(scores: pd.DataFrame, of: str, minus: str) -> pd.DataFrame:
    """Return how many points fewer ``of`` loses under each corruption (rows) and strength (columns), over all sizes."""
    mean = scores[scores["method"].isin([of, minus])].groupby(["method", "metric"])["value"].mean()

    def lost(method: str, kind: str, strength: int) -> float:
        return mean[method, "top1"] - mean[method, f"{kind} {strength} top1"]

    table = {k: [lost(minus, kind, k) - lost(of, kind, k) for kind in KINDS] for k in STRENGTHS}
    return pd.DataFrame(table, index=list(KINDS))
