"""Told: pictures as they are and as pooling leaves them, with what M3 answers at each scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from textwrap import wrap

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import oracle
from mrl_lab.methods.m3 import M3
from mrl_lab.study.tokens.world import World


@dataclass(frozen=True)
class Told:
    """One question: its picture, its words, the right answer, and what was answered at each scale."""

    image: Tensor
    question: str
    answer: str
    said: dict[int, str]

    def smallest(self) -> int | None:
        """Return the smallest scale that answers rightly, if any."""
        return next((t for t, said in self.said.items() if said == self.answer), None)


def asked(model: M3, world: World, kinds: tuple[str, ...] = ("count", "cell", "list"), each: int = 2) -> list[Told]:
    """Return ``each`` test questions of each kind, of scenes far apart, answered greedily at every scale."""
    count = len(kinds) * each
    found = [world.of_kind(kind).nonzero()[:, 0] for kind in kinds]
    return of(model, world, [int(found[i // each][len(found[i // each]) * i // count]) for i in range(count)])


def of(model: M3, world: World, questions: Sequence[int]) -> list[Told]:
    """Return some test questions by their numbers, answered greedily at every scale."""
    turns, test = world.turns("test"), world.test
    images, ids, mask = turns.prompts(torch.tensor(questions))
    said = {t: model.generate(images, ids, t, mask=mask, max_new_tokens=4).tolist() for t in world.scales}
    return [
        Told(images[i], test.questions[q], test.answers[q], {t: world.words.decode(said[t][i]) for t in world.scales})
        for i, q in enumerate(questions)
    ]


def caption(told: Told, t: int) -> str:
    """Return question, answer at scale t with what is right, and the smallest scale that is enough, on short lines."""
    said, enough = told.said[t], told.smallest()
    mark = "✓" if said == told.answer else "✗"
    lines = [*wrap(told.question, 20), *wrap(f"{mark} {said}", 20)]
    lines += [] if said == told.answer else wrap(f"right: {told.answer}", 20)
    return "\n".join([*lines, f"enough: {enough or 'none'}"])


def averaged(image: Tensor, t: int) -> Tensor:
    """Return the picture (C, H, W) with each of t square windows painted in its mean: all that pixels would keep."""
    side = isqrt(t)
    small = torch.nn.functional.adaptive_avg_pool2d(image.float(), side)
    return small.repeat_interleave(image.shape[1] // side, 1).repeat_interleave(image.shape[2] // side, 2).byte()


def sufficient(right: Tensor, world: World) -> pd.DataFrame:
    """Return, by kind (rows), per cent of questions for which each scale is the smallest that is right, or none is."""
    columns = [*(f"{t}" for t in world.scales), "none"]
    return pd.DataFrame(
        {k: oracle.first_correct(right[:, world.of_kind(k)]).tolist() for k in world.kinds}, index=columns
    ).T
