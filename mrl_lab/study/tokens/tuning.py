"""Choosing the rate of each way on validation questions: the same rates for all, and never a look at the test split.

Three ways are tried; the others take the rate of the one that learns as they do: one scale, a random one, or all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from mrl_lab import runs
from mrl_lab.study.tokens.answering import ask
from mrl_lab.study.tokens.training import SCALES, WAYS, Effort, settings, tuned
from mrl_lab.study.tokens.world import World

TRIED = ("M3", "all tokens", "random scale")


def rates(world: World, effort: Effort, tried: Sequence[float], ways: Sequence[str] = TRIED) -> pd.DataFrame:
    """Return per cent right on validation questions by way (rows) and rate (columns), seed 0.

    It is the mean over the kinds of question, and over the scales that the way learns.
    """
    found = {(way, lr): validated(way, world, replace(effort, lr=lr), 0) for way in ways for lr in tried}
    own = {key: table.loc[[t for t in SCALES if t in WAYS[key[0]].scales]] for key, table in found.items()}
    return pd.Series({key: table.to_numpy().mean() for key, table in own.items()}).unstack(sort=False)


def chosen(grid: pd.DataFrame, effort: Effort) -> dict[str, Effort]:
    """Return what each of all ways is tuned with: the best rate of the way in ``grid`` that learns as it does."""
    best = grid.idxmax(axis=1)
    return {name: replace(effort, lr=float(best[_like(name)])) for name in WAYS}


def _like(name: str) -> str:
    way = WAYS[name]
    if way.random_scale:
        return "random scale"
    return "all tokens" if len(way.scales) == 1 else "M3"


def validated(name: str, world: World, effort: Effort, seed: int) -> pd.DataFrame:
    """Return per cent right on validation questions by scale (rows) and kind (columns)."""
    way, part = WAYS[name], "validation"

    def make() -> dict[str, torch.Tensor]:
        return ask(tuned(way, world, effort, seed), world, SCALES, part=part)

    right = runs.remember(settings("visual validation", way, world, effort, seed), make)["right"].double() * 100
    columns = {kind: right[:, world.of_kind(kind, part)].mean(1).tolist() for kind in world.kinds}
    return pd.DataFrame(columns, index=SCALES)
