"""Costs: what a pair of layer and dim takes, counted and by the clock, and what it takes to train it.

Depth saves parameters, operations and time; width saves bytes of the index and operations of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn

from mrl_lab import cost, score
from mrl_lab.clock import measure
from mrl_lab.cuts import stored_bytes
from mrl_lab.device import choose
from mrl_lab.encoders.texts import SentenceEncoder
from mrl_lab.study.sentences import models, pretraining, setups
from mrl_lab.study.sentences.pretraining import WAYS
from mrl_lab.study.sentences.setups import Setup

TOKENS = 16  # of the sentence that multiply-adds are counted for


def of_pairs(whole: SentenceEncoder, setup: Setup, speed: pd.DataFrame) -> pd.DataFrame:
    """Return one row a pair: layer, dim, parameters, flops, bytes, sentences a second.

    ``flops`` are multiply-adds of a sentence's encoding, ``bytes`` those of its vector.

    Args:
        speed: the table of :func:`models.speed`.
    """
    rate = speed[speed.metric == "sentences a second"].groupby("layer")["value"].mean()
    found = []
    for cut in setup.pairs:
        parameters = sum(weight.numel() for weight in whole.keep(cut.layer).parameters())
        flops = cost.multiply_adds(whole.body.config, cut.layer, TOKENS)
        row = {"layer": cut.layer, "dim": cut.dim, "parameters": parameters, "flops": flops}
        found.append(row | {"bytes": stored_bytes(cut.dim), "sentences a second": rate[cut.layer]})
    return pd.DataFrame(found)


def training(setup: Setup, repeats: int) -> pd.DataFrame:
    """Time a training step of Starbucks, of plain training and of a separate model for each pair, in turn.

    Returns:
        Rows "seconds a step" of each, and "training time over all separate" of Starbucks: six models, equal steps,
        against one. Each repeat counts as a seed.
    """
    ways = {("plain", None): step("plain", setup), ("Starbucks", None): step("Starbucks", setup)}
    ways |= {("separate", cut): step("separate", setup, (cut.layer, cut.dim)) for cut in setup.pairs}
    found, taken = [], measure(ways, repeats, 0)
    for (method, cut), times in taken.items():
        at = {"method": method, "layer": cut and cut.layer, "dim": cut and cut.dim, "metric": "seconds a step"}
        found += [at | {"seed": i, "value": seconds} for i, seconds in enumerate(times)]
    for i in range(repeats):
        alone = sum(times[i] for (method, _), times in taken.items() if method == "separate")
        value = taken["Starbucks", None][i] / alone
        found.append({"method": "Starbucks", "metric": "training time over all separate", "seed": i, "value": value})
    return score.table(found)


def reading(setup: Setup, repeats: int) -> pd.DataFrame:
    """Time a step of each way of pre-training, in turn: rows "seconds a step"; each repeat counts as a seed."""
    rows = pretraining.rows(setup)
    models_of = {start: pretraining.build(replace(setup, start=start), setups.encoder(setup, 0), 0) for start in WAYS}
    batch = rows[torch.arange(setup.batch)]
    taken = measure({start: update(model, setup.lr, batch) for start, model in models_of.items()}, repeats, 0)
    found = [
        {"method": start, "metric": "seconds a step", "seed": i, "value": seconds}
        for start, times in taken.items()
        for i, seconds in enumerate(times)
    ]
    return score.table(found)


def step(method: str, setup: Setup, cut: tuple[int, int] | None = None) -> Callable[[], None]:
    """Return one training step on the first rows, encoder and update included."""
    return update(models.build(method, setup, 0, cut), setup.lr, setups.rows(setup)[torch.arange(setup.batch)])


def update(model: nn.Module, lr: float, batch: Sequence[Tensor]) -> Callable[[], None]:
    """Return a way to learn from one batch, over and over, on the device that is chosen; it ends when that has done."""
    device = choose().device
    rule = torch.optim.AdamW(model.to(device).train().parameters(), lr, fused=True)
    here = [part.to(device) for part in batch]

    def way() -> None:
        rule.zero_grad()
        total, _ = model(*here)
        total.backward()
        rule.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return way
