"""Costs by the clock: what fewer blocks save, and what a step of training takes."""

from __future__ import annotations

from statistics import median

import pandas as pd
import torch

from mrl_lab import clock, lab, score
from mrl_lab.device import choose
from mrl_lab.encoders.texts import SentenceEncoder
from mrl_lab.lab import Methods, Recipe
from mrl_lab.study.sentences import tests
from mrl_lab.study.sentences.task import Sentences


def speed(whole: SentenceEncoder, seed: int, sentences: int = 256, repeats: int = 5) -> pd.DataFrame:
    """Time tokenising and encoding by the lowest n blocks: rows "sentences a second" and "speed-up over N / n"."""
    said = tests.sentences(tests.SNLI, sentences)
    kept = {n: whole.keep(n).to(choose().device).eval() for n in range(1, whole.layers + 1)}
    ways = {n: lambda encoder=encoder: encoder.encode(said, batch=32) for n, encoder in kept.items()}
    middle = {n: median(times) for n, times in clock.measure(ways, repeats, 0).items()}
    found = []
    for n, taken in middle.items():
        values = {"sentences a second": sentences / taken, "speed-up over N / n": middle[whole.layers] / taken}
        values["speed-up over N / n"] *= n / whole.layers
        common = {"method": "2DMSE", "seed": seed, "layer": n, "n": sentences}
        found += [common | {"metric": metric, "value": value} for metric, value in values.items()]
    return score.table(found)


def steps(methods: Methods, task: Sentences, recipe: Recipe, repeats: int) -> pd.DataFrame:
    """Time a training step of every method in turn, encoder and update included: rows "seconds a step".

    Each repeat counts as a seed; a model for one cut has its layer and dim as well.
    """
    ways = {}
    for name, one in [(name, one) for name, some in methods.items() for one in lab.several(some)]:
        batch = lab.learnt_from(one, task)[torch.arange(recipe.batch)]
        way = clock.training_step(lab.built(one, task, 0), recipe.lr, batch, choose().device)
        ways[name, getattr(one, "cut", None)] = way
    found = []
    for (method, cut), times in clock.measure(ways, repeats, 0).items():
        at = {"method": method, "layer": cut and cut[0], "dim": cut and cut[1], "metric": "seconds a step"}
        found += [at | {"seed": i, "value": seconds} for i, seconds in enumerate(times)]
    return score.table(found)
