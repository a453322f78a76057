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
    """Try every rate on every way, with one seed.

    Returns:
        One row a way and rate: way, rate, and per cent right on validation questions: "own scales", the mean over the
        scales that the way learns and over kinds of question, and "KIND, 4 tokens" of the dense kind, if there is one.
    """
    rows = []
    for way in ways:
        for rate in tried:
            found = validated(way, world, replace(effort, lr=rate), 0)
            own = found.loc[[t for t in SCALES if t in WAYS[way].scales]].to_numpy().mean()
            dense = {"cell, 4 tokens": found.loc[4, "cell"]} if "cell" in found else {}
            rows.append({"way": way, "rate": rate, "own scales": own} | dense)
    return pd.DataFrame(rows)


def chosen(grid: pd.DataFrame, effort: Effort) -> dict[str, Effort]:
    """Return what each way is tuned with: the best rate, by its own scales, of the tried way that learns alike.

    A way whose like was not tried keeps the rate of ``effort``.
    """
    top = grid.loc[grid.groupby("way", sort=False)["own scales"].idxmax()].set_index("way")["rate"].to_dict()
    return {name: replace(effort, lr=top.get(_like(name), effort.lr)) for name in WAYS}


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
