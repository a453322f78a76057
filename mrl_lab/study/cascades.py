"""Adaptive classification: what a cascade of one model's sizes costs, beside plain sizes and beside a cascade of FF.

The paper's "14 times smaller" (section 4.2.1) has two parts: a plain MRL size is already as accurate as a larger FF
one, and the cascade takes it from there. :func:`ratios` gives both, at the accuracy that the cascade ends at, as the
paper does (76.3 %, where FF-2048 has 76.9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mrl_lab import cascade, score
from mrl_lab.lab import Recipe, embed, kept, trained
from mrl_lab.study.models import Model
from mrl_lab.study.pictures import Pictures


@kept
def cascades(
    nested: Model, separate: Sequence[Model], task: Pictures, recipes: Mapping[str, Recipe], seed: int, splits: int = 30
) -> pd.DataFrame:
    """Score MRL and FF as cascades on the test split, with calibrated and with plain confidences, and each plain size.

    Rows top1, cascade_top1, expected_dim and cumulative_dim by the largest size that may be reached, and
    :func:`ratios`.

    Args:
        separate: FF, one model a size, rising.
        recipes: of "MRL" and "FF".
        splits: into pictures that thresholds are fitted on (a fifth) and others that are scored.
    """
    rows = []
    for method, models in {"MRL": [nested], "FF": separate}.items():
        logits = {m: one for model in models for m, one in _logits(model, task, recipes[method], seed).items()}
        rows += _scored(logits, task.data.test.labels, method, seed, splits)
    table = score.table(rows)
    return pd.concat([table, ratios(table, seed)], ignore_index=True)


def _logits(model: Model, task: Pictures, recipe: Recipe, seed: int) -> dict[int, Tensor]:
    """Logits {m: (n, C)} of the test pictures."""
    classifier = trained(model, task, recipe, seed)
    with torch.no_grad():
        return classifier.head(embed(classifier.encoder, task.data.test.images))


def _scored(logits: dict[int, Tensor], y: Tensor, method: str, seed: int, splits: int) -> list[dict]:
    plain = {m: score.accuracy(one.argmax(1), y) for m, one in logits.items()}
    rows = score.tidy(plain, method=method, metric="top1", seed=seed, n=len(y))
    for name, calibrate in ((f"{method} cascade", True), (f"{method} cascade, plain confidence", False)):
        rows += cascade.evaluate(logits, y, method=name, seed=seed, splits=splits, calibrate=calibrate)
    return rows


def ratios(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How many times fewer dims a cascade reads than the plain size that is as accurate.

    Rows, for each cascade that may reach every size: "ratio to MRL" and "ratio to FF", the plain size of its accuracy
    by its expected dims, and the same with "cumulative" in front, by the dims that separate heads compute.
    """
    rows = []
    for method in ("MRL cascade", "FF cascade"):
        reached = _by_dim(table, method, "cascade_top1").iloc[-1]
        for cost, word in (("expected_dim", ""), ("cumulative_dim", "cumulative ")):
            reads = _by_dim(table, method, cost).iloc[-1]
            for other in ("MRL", "FF"):
                size = _as_accurate(_by_dim(table, other, "top1"), reached)
                named = {"method": method, "seed": seed, "metric": f"{word}ratio to {other}"}
                rows.append(named | {"value": size / reads, "n": int(table["n"].min())})
    return score.table(rows)


def _as_accurate(plain: pd.Series, accuracy: float) -> float:
    """Return the size at which plain accuracy, straight in log2 of the size, first reaches ``accuracy``.

    Beyond the measured sizes it is the smallest or the largest of them.
    """
    best = plain.cummax().drop_duplicates()  # a larger size that is no better is no reason to take it
    return float(2 ** np.interp(accuracy, best.to_numpy(), np.log2(best.index.to_numpy(dtype=float))))


def with_plain_sizes(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` with each plain size as a cascade that stops at once, so that one figure can show both."""
    plain = table[table["metric"] == "top1"]
    stops = [plain.assign(metric="cascade_top1"), plain.assign(metric="expected_dim", value=plain["dim"].astype(float))]
    return pd.concat([table, *stops], ignore_index=True)


def _by_dim(table: pd.DataFrame, method: str, metric: str) -> pd.Series:
    rows = table[(table["method"] == method) & (table["metric"] == metric)]
    return rows.astype({"dim": int}).set_index("dim")["value"].sort_index()
