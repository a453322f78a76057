"""Answering: tokens dropped at inference alone; an oracle over scales, its control of luck, and a cascade."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import cascade, oracle, score
from mrl_lab.lab import Recipe, kept, trained
from mrl_lab.methods.m3 import oracle_tokens
from mrl_lab.study.tokens.training import Way
from mrl_lab.study.tokens.world import World, answers

POOLED = {"all tokens, pooled": "average", "all tokens, spatial": "spatial", "all tokens, first": "first"}
POOLED |= {"all tokens, in place": "in place"}
FIT = 0.2  # share of the questions on which a cascade's thresholds are fitted


@kept
def answered(way: Way, task: World, recipe: Recipe, seed: int, select: str = "") -> dict[str, Tensor]:
    """Return right (S, Q), uint8, and sure (S, Q) of the test questions; see :func:`answers`."""
    return answers(trained(way, task, recipe, seed), task, task.scales, select)


def pooled(full: Way, task: World, recipe: Recipe, seed: int) -> pd.DataFrame:
    """Per cent right of the way that learnt with all tokens, asked at fewer that are made at inference only."""
    found = {name: answered(full, task, recipe, seed, select)["right"] for name, select in POOLED.items()}
    rows = [row for name, right in found.items() for row in task.shares(right, task.scales, method=name)]
    return score.table(row | {"seed": seed} for row in rows)


def choosing(way: Way, task: World, recipe: Recipe, seed: int, seeds: Sequence[int], luck: bool = True) -> pd.DataFrame:
    """What choosing the scale for each question could give (oracle), by luck alone, and does (cascade).

    The ``luck`` control is an oracle over as many models as there are scales, all asked at all tokens: this one and
    re-runs of other seeds, see :func:`reruns`.
    """
    found = answered(way, task, recipe, seed)
    right = found["right"].bool()
    values = {"oracle": oracle.accuracy(right), "best scale": right.double().mean(1).max().item() * 100}
    values |= {"oracle gain": oracle.gain(right)}
    if luck:
        again = [answered(way, task, recipe, other)["right"][-1] for other in reruns(seed, seeds, len(task.scales))]
        values |= {"luck gain": oracle.gain(torch.stack(again).bool())}
    charged = oracle_tokens(oracle.first_correct(right), task.scales)
    values |= {f"oracle tokens, {how}": tokens for how, tokens in charged.items()}
    values |= _cascade(right, found["sure"], task.scales, seed)
    shared = {"method": "M3", "seed": seed, "n": right.shape[1]}
    return score.table([shared | {"metric": metric, "value": value} for metric, value in values.items()])


def reruns(seed: int, seeds: Sequence[int], count: int) -> list[int]:
    """Return ``count`` seeds: ``seed`` itself and others, such that no two of ``seeds`` share one.

    Three for each of 0, 1, 2: 0, 4, 8; 1, 5, 6; 2, 3, 7. So the luck of each is its own, and has an interval; and with
    as many starts as seeds, no two models of a set come from one.
    """
    n, place = len(seeds), list(seeds).index(seed)
    return [seeds[0] + i * n + (place + i) % n for i in range(count)]


def _cascade(right: Tensor, sure: Tensor, scales: Sequence[int], seed: int) -> dict[str, float]:
    """Accuracy and tokens read, of all scales visited, where the first scale sure enough answers."""
    order = torch.randperm(right.shape[1], generator=torch.Generator().manual_seed(seed))
    n = round(FIT * len(order))
    thresholds = cascade.fit_thresholds(sure[:, order[:n]].double(), right[:, order[:n]])
    held_out = order[n:]
    got, stop = cascade.run(sure[:, held_out].double(), right[:, held_out], thresholds)
    return {"cascade": got.double().mean().item() * 100, "cascade tokens": cascade.cumulative_dim(stop, scales)}
