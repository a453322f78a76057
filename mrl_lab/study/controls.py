"""Controls: what the trained models are compared with, and what happens to them under other conditions.

Everything here reads models that ``pictures.trained`` has made; nothing but the slimmable network is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import oracle, score
from mrl_lab.data import Labelled
from mrl_lab.data.corrupt import KINDS, STRENGTHS, corrupt
from mrl_lab.methods import baselines
from mrl_lab.study.pictures import Model, Plan, Recipe, States, states, trained


def shrunk(model: Model, data: Labelled, sizes: Sequence[int], recipe: Recipe, seed: int) -> pd.DataFrame:
    """Score every way of making a full-width model's features smaller after training (MRL, section 4.1).

    ``model`` is FF-d. 1-NN of its first, random and projected dims and of its SVD; top-1 of the SVD of its
    classifier and of a linear probe on random dims.
    """
    classifier = trained(model, data, recipe, seed)
    s = states(classifier.encoder, data)
    ways = {
        "FF, first dims": lambda z, m: z[:, :m],
        "FF, random dims": lambda z, m: baselines.random_dims(z, m, seed),
        "FF, last dims": lambda z, m: baselines.last_dims(z, m),
        "FF, random projection": lambda z, m: z @ baselines.random_projection(model.d, m, seed),
        "FF, SVD of features": baselines.FeatureSVD.fit(s.database, centre=False).project,
        "FF, SVD of centred features": baselines.FeatureSVD.fit(s.database, centre=True).project,
    }
    rows = []
    for method, cut in ways.items():
        for m in sizes:
            rows += score.retrieval(cut(s.z, m), s.y, cut(s.database, m), s.database_y, [m], method=method, seed=seed)
    return score.table(rows + _shrunk_classifiers(classifier, s, sizes, seed))


def _shrunk_classifiers(classifier, s: States, sizes: Sequence[int], seed: int) -> list[dict]:
    head = classifier.head.linear(classifier.head.sizes[-1])
    cut, probed = {}, {}
    for m in sizes:
        weight = baselines.svd_of_classifier(head.weight.detach(), m)
        cut[m] = score.accuracy((s.z @ weight.T + head.bias.detach()).argmax(1), s.y)
        columns = baselines.random_columns(s.z.shape[1], m, seed)
        probed[m] = score.accuracy(baselines.linear_probe(s.database[:, columns], s.database_y, s.z[:, columns]), s.y)
    common = {"metric": "top1", "seed": seed, "n": len(s.y)}
    rows = score.tidy(cut, method="FF, SVD of the classifier", **common)
    return rows + score.tidy(probed, method="FF, probe on random dims", **common)


def between(model: Model, data: Labelled, recipe: Recipe, seed: int) -> pd.DataFrame:
    """1-NN and mAP@10 at sizes half-way between the trained ones (1.5 m), which no loss ever saw."""
    s = states(trained(model, data, recipe, seed).encoder, data)
    sizes = [m + m // 2 for m in model.sizes[:-1] if m % 2 == 0]
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


def right(model: Model, data: Labelled, recipe: Recipe, seed: int, images: Tensor | None = None) -> Tensor:
    """Which test pictures each size classifies rightly: (sizes, n), optionally of changed ``images``."""
    classifier = trained(model, data, recipe, seed)
    z = score.embed(classifier.encoder, data.test.images if images is None else images)
    return torch.stack([p == data.test.labels for p in score.predictions(classifier.head, z).values()])


def headroom(nested: Model, full: Model, data: Labelled, recipes: tuple[Recipe, Recipe], seed: int) -> pd.DataFrame:
    """Oracle gain over the best size of one MRL model, and over as many FF-d models that differ in their seed.

    The control says how much an oracle gains by luck alone: models that differ in nothing but the seed disagree too.
    """
    sizes = right(nested, data, recipes[0], seed)
    again = torch.cat([right(full, data, recipes[1], 1000 + 10 * seed + i) for i in range(len(sizes))])
    rows = []
    for method, matrix in (("MRL", sizes), ("FF, other seeds", again)):
        named = {"method": method, "seed": seed, "n": matrix.shape[1]}
        rows.append(named | {"metric": "oracle gain", "value": oracle.gain(matrix)})
        rows.append(named | {"metric": "disagreement", "value": oracle.disagreement(matrix)})
    return score.table(rows)


def robustness(plan: Plan, data: Labelled, recipes: dict[str, Recipe], seed: int) -> pd.DataFrame:
    """Top-1 of every method at every size under each corruption and strength: metric "noise 2 top1"."""
    changed = {(kind, k): corrupt(data.test.images, kind, k, seed) for kind in KINDS for k in STRENGTHS}
    rows = []
    for method, models in plan.items():
        for model in models:
            for (kind, strength), images in changed.items():
                found = right(model, data, recipes[method], seed, images).float().mean(1) * 100
                values = dict(zip(model.sizes, found.tolist(), strict=True))
                rows += score.tidy(values, method=method, metric=f"{kind} {strength} top1", seed=seed, n=len(images))
    return score.table(rows)
