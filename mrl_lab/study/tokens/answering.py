"""Answering: every way asked every question at every scale, once; scores, oracle, its luck control, and a cascade."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import cascade, oracle, runs, score
from mrl_lab.methods.m3 import M3, oracle_tokens
from mrl_lab.study.tokens.training import SCALES, WAYS, Effort, settings, tuned
from mrl_lab.study.tokens.world import World

POOLED = {"all tokens, pooled": "average", "all tokens, spatial": "spatial", "all tokens, first": "first"}
POOLED |= {"all tokens, in place": "in place"}
FIT = 0.2  # share of the questions on which a cascade's thresholds are fitted


def answered(name: str, world: World, effort: Effort, seed: int, select: str = "") -> dict[str, Tensor]:
    """Return right (S, Q), uint8, and sure (S, Q) of test questions at the scales (a blind model has one).

    ``select`` other than the way's own drops tokens at inference only.
    """
    way = WAYS[name]
    scales = (0,) if way.scales == (0,) else SCALES

    def make() -> dict[str, Tensor]:
        return ask(tuned(way, world, effort, seed), world, scales, select)

    return runs.remember(settings("visual answers", way, world, effort, seed) | {"select": select}, make)


def ask(model: M3, world: World, scales: Sequence[int], select: str = "", part: str = "test") -> dict[str, Tensor]:
    """Ask a model every question on its own at every scale: right (S, Q), uint8, and sure (S, Q)."""
    turns = world.turns(part)
    found = [model.answers(*turns[i], scales, select) for i in torch.arange(len(turns)).split(512)]
    columns = {"right": lambda a: a.right.to(torch.uint8), "sure": lambda a: a.sure}
    return {name: torch.stack([torch.cat([of(f[t]) for f in found]) for t in scales]) for name, of in columns.items()}


def scores(name: str, world: World, effort: Effort, seed: int) -> pd.DataFrame:
    """Accuracy of a way by kind of question (metric) and scale; "all tokens" also as it is pooled at inference."""
    asked = {name: ""} if name != "all tokens" else POOLED | {"all tokens": ""}
    rows = []
    for method, select in asked.items():
        right = answered(name, world, effort, seed, select)["right"].double() * 100
        scales = (0,) if len(right) == 1 else SCALES
        rows += [row for kind in world.kinds for row in _by_scale(method, kind, right, scales, world, seed)]
    return score.table(rows)


def _by_scale(method: str, kind: str, right: Tensor, scales: Sequence[int], world: World, seed: int) -> list[dict]:
    of = world.of_kind(kind)
    values = zip(scales, right[:, of].mean(1).tolist(), strict=True)
    shared = {"method": method, "metric": kind, "seed": seed, "n": int(of.sum())}
    return [shared | {"tokens": t, "value": value} for t, value in values]


def choosing(world: World, effort: Effort, seed: int, seeds: int, luck: bool = True) -> pd.DataFrame:
    """What choosing the scale for each question could give (oracle), by luck alone, and does (cascade).

    The ``luck`` control is an oracle over as many models as there are scales, all asked at all tokens: this one and
    re-runs of other seeds, see :func:`reruns`.
    """
    found = answered("M3", world, effort, seed)
    right = found["right"].bool()
    values = {"oracle": oracle.accuracy(right), "best scale": right.double().mean(1).max().item() * 100}
    values |= {"oracle gain": oracle.gain(right)}
    if luck:
        again = [answered("M3", world, effort, other)["right"][-1] for other in reruns(seed, seeds)]
        values |= {"luck gain": oracle.gain(torch.stack(again).bool())}
    charged = oracle_tokens(oracle.first_correct(right), SCALES)
    values |= {f"oracle tokens, {how}": tokens for how, tokens in charged.items()}
    values |= _cascade(right, found["sure"], seed)
    shared = {"method": "M3", "seed": seed, "n": right.shape[1]}
    return score.table([shared | {"metric": metric, "value": value} for metric, value in values.items()])


def reruns(seed: int, seeds: int) -> list[int]:
    """Return as many seeds as there are scales: ``seed`` itself and others, such that no two of ``seeds`` share one.

    Of 3 seeds: 0, 4, 8; 1, 5, 6; 2, 3, 7. So the luck of each is its own, and has an interval; and with 3 starts,
    no two models of a set come from one.
    """
    return [i * seeds + (seed + i) % seeds for i in range(len(SCALES))]


def _cascade(right: Tensor, sure: Tensor, seed: int) -> dict[str, float]:
    """Accuracy and tokens read, of all scales visited, where the first scale sure enough answers."""
    order = torch.randperm(right.shape[1], generator=torch.Generator().manual_seed(seed))
    n = round(FIT * len(order))
    thresholds = cascade.fit_thresholds(sure[:, order[:n]].double(), right[:, order[:n]])
    kept = order[n:]
    got, stop = cascade.run(sure[:, kept].double(), right[:, kept], thresholds)
    return {"cascade": got.double().mean().item() * 100, "cascade tokens": cascade.cumulative_dim(stop, SCALES)}
