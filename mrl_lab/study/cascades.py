"""Adaptive classification: what a cascade of one model's sizes costs, beside plain sizes and beside a cascade of FF.

The paper's "14 times smaller" (section 4.2.1) has two parts: a plain MRL size is already as accurate as a larger FF
one, and the cascade takes it from there. :func:`ratios` gives both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import cascade, score
from mrl_lab.lab import Recipe, embed, kept, trained
from mrl_lab.study.models import Model
from mrl_lab.study.pictures import Pictures

EQUAL = 0.2  # points of top-1 within which two accuracies count as equal


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
    """How many times fewer dims a cascade needs for the accuracy of the largest FF, within :data:`EQUAL` points.

    Rows, for each cascade: "ratio to MRL" and "ratio to FF", the smallest plain size of that accuracy by the expected
    dims, and the same with "cumulative" in front, by the dims that separate heads compute. 0 where the cascade, or no
    plain size, gets there.
    """
    plain = {method: _by_dim(table, method, "top1") for method in ("MRL", "FF")}
    target = plain["FF"].iloc[-1] - EQUAL
    rows = []
    for method in ("MRL cascade", "FF cascade"):
        reached = _by_dim(table, method, "cascade_top1") >= target
        cap = reached.idxmax() if reached.any() else None
        for cost, word in (("expected_dim", ""), ("cumulative_dim", "cumulative ")):
            needs = _by_dim(table, method, cost)[cap] if cap else float("inf")
            for other, by_size in plain.items():
                size = min(by_size.index[by_size >= target], default=0)
                named = {"method": method, "seed": seed, "metric": f"{word}ratio to {other}"}
                rows.append(named | {"value": size / needs, "n": int(table["n"].min())})
    return score.table(rows)


def with_plain_sizes(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` with each plain size as a cascade that stops at once, so that one figure can show both."""
    plain = table[table["metric"] == "top1"]
    stops = [plain.assign(metric="cascade_top1"), plain.assign(metric="expected_dim", value=plain["dim"].astype(float))]
    return pd.concat([table, *stops], ignore_index=True)


def _by_dim(table: pd.DataFrame, method: str, metric: str) -> pd.Series:
    rows = table[(table["method"] == method) & (table["metric"] == metric)]
    return rows.astype({"dim": int}).set_index("dim")["value"].sort_index()
