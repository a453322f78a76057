"""Costs: what fewer visual tokens save, by formula for LLaVA-1.5-7B and by the clock for the model trained here."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import pandas as pd
import torch

from mrl_lab import clock, cost
from mrl_lab.methods.m3 import M3
from mrl_lab.study.tokens.world import World

PAPER = {576: 8.0, 144: 2.2, 36: 0.9, 9: 0.5, 1: 0.4}  # table 9: prefill with 30 text tokens, TFLOPs


def of_llava() -> pd.DataFrame:
    """Return TFLOPs of the prefill (the paper's table 9 beside ours), of all, and MB of keys and values, by tokens."""
    from transformers import LlavaConfig

    rows = pd.DataFrame(cost.by_scale(LlavaConfig(), list(PAPER), 30)).set_index("tokens")
    table = {"prefill, paper (TFLOPs)": pd.Series(PAPER), "prefill, ours (TFLOPs)": rows["prefill"] / 1e12}
    whole = {"with the tower (TFLOPs)": rows["flops"] / 1e12, "keys and values (MB)": rows["bytes"] / 1e6}
    return pd.DataFrame(table | whole)


def measured(model: M3, world: World, batches: Sequence[int], least: int = 7) -> pd.DataFrame:
    """Return what a question costs here, tower and answer, by tokens (rows) and questions at a time (columns).

    First the milliseconds a question, median, then the peak of memory in MB beyond weights and inputs, of all at a
    time.
    """
    turns, table = world.turns("test"), {}
    for n in batches:
        rows = turns[torch.arange(n)]
        ways = {t: lambda t=t, rows=rows: model.answers(*rows, [t]) for t in model.scales}
        found = clock.measure(ways, least=least, seconds_at_least=0.0)
        table["ms a question", n] = {t: 1e3 * median(seconds) / n for t, seconds in found.items()}
        table["peak, MB", n] = {t: clock.peak_bytes(run) / 1e6 for t, run in ways.items()}
    return pd.DataFrame(table).sort_index(axis=1, level=0, sort_remaining=False)
