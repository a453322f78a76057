"""The task of visual tokens: scenes of real things with questions, the words, and what lies at each place of a picture.

:func:`covered` says which thing covers the middle of each visual token: what the tower learns first, in the place of
CLIP's own pre-training (there is no text for these pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import score
from mrl_lab.data import Labelled
from mrl_lab.data.asking import KINDS
from mrl_lab.data.questions import Questions
from mrl_lab.data.scenes import Scenes, scenes
from mrl_lab.data.turns import Turns, Words, best_blind
from mrl_lab.device import choose

if TYPE_CHECKING:
    from mrl_lab.methods.m3 import M3

GRIDS = {4: (1, 4, 16), 12: (1, 4, 36, 144)}  # visual tokens a side, and the numbers of tokens that are asked with
ASKED = ("count", "more", *3 * ("cell",), "list")  # a scene's questions: cells thrice, since they are the hard ones
GRID, PATCH, THING = 4, 7, 13 / 28  # visual tokens a side, pixels of each, side of a thing as a share of the picture's


@dataclass(frozen=True, eq=False)
class World:
    """Pictures with questions by split, the vocabulary, and the key under which results on them are kept.

    Attributes:
        sorts: by split, the kind of each question.
        patch: pixels of the side of a visual token. grid: visual tokens a side, one of :data:`GRIDS`.
        classes: of the things in scenes; 0 where pictures are not scenes.
        talk: train on rows of a picture and all its questions. Alone, as at test, a question always begins right after
            the picture, and the language model may learn to find a token by its distance.
    """

    train: Questions
    validation: Questions
    test: Questions
    words: Words
    key: dict
    sorts: dict[str, list[str]] = field(repr=False)
    patch: int = PATCH
    grid: int = GRID
    classes: int = 0
    talk: bool = False

    @property
    def scales(self) -> tuple[int, ...]:
        """Numbers of visual tokens that are asked with, rising to all."""
        return GRIDS[self.grid]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of question, each once."""
        return tuple(dict.fromkeys(self.sorts["train"]))

    def rows(self) -> Turns:
        """Return what is learnt from."""
        return self.turns("train")

    def ask(self, module: M3, split: str, seed: int) -> pd.DataFrame:
        """Return per cent right by kind of question (metric) and scale; a blind model has the scale 0 alone.

        On validation questions, what rates are chosen by: "own scales", at those that the module learns, and "cell, 4
        tokens", of the dense kind, where there is one.
        """
        scales = (0,) if module.scales == (0,) else self.scales
        rows = self.shares(answers(module, self, scales, part=split)["right"], scales, split)
        if split != "validation":
            return score.table(rows)
        own = [row | {"metric": "own scales"} for row in rows if row["tokens"] in module.scales]
        dense = [r | {"metric": "cell, 4 tokens"} for r in rows if (r["metric"], r["tokens"]) == ("cell", 4)]
        return score.table(own + dense)

    def turns(self, part: str) -> Turns:
        """Return rows of a picture and one question or, to train on in a ``talk``, all of its questions."""
        return Turns(getattr(self, part), self.words.encode, alone=part != "train" or not self.talk)

    def shares(self, right: Tensor, scales: Sequence[int], part: str = "test", method: str = "") -> list[dict]:
        """Return rows of the tidy table: per cent right (S, Q) of each kind of question at each scale."""
        rows = []
        for kind in self.kinds:
            of = self.of_kind(kind, part)
            shared = {"method": method, "metric": kind, "n": int(of.sum())}
            values = (right[:, of].double() * 100).mean(1).tolist()
            rows += [shared | {"tokens": t, "value": v} for t, v in zip(scales, values, strict=True)]
        return rows

    def of_kind(self, kind: str, part: str = "test") -> Tensor:
        """Return which questions (Q,) are of a kind."""
        return torch.tensor([k == kind for k in self.sorts[part]])

    def blind(self) -> dict[str, float]:
        """Per cent that the best answer to the words alone gets right, by kind."""
        right = best_blind(self.train, self.test).double()
        return {kind: right[self.of_kind(kind)].mean().item() * 100 for kind in self.kinds}


def answers(model: M3, asked: World, scales: Sequence[int], select: str = "", part: str = "test") -> dict[str, Tensor]:
    """Ask a model every question on its own at every scale: right (S, Q), uint8, and sure (S, Q).

    ``select`` other than the model's own drops tokens at inference only.
    """
    turns, device = asked.turns(part), choose().device
    model.to(device)
    rows = ([tensor.to(device) for tensor in turns[i]] for i in torch.arange(len(turns)).split(512))
    found = [model.answers(*some, scales, select) for some in rows]
    model.cpu()
    columns = {"right": lambda a: a.right.to(torch.uint8).cpu(), "sure": lambda a: a.sure.cpu()}
    return {name: torch.stack([torch.cat([of(f[t]) for f in found]) for t in scales]) for name, of in columns.items()}


def world(data: Labelled, train: int, test: int, validation: int = 400, talk: bool = False, grid: int = GRID) -> World:
    """Return scenes of ``data``'s pictures, 2 x 2 cells, with up to ``len(ASKED)`` questions each.

    ``grid`` patches are a side; things grow with the picture, so that on a finer grid more tokens cover each.
    """
    counts, side = {"train": train, "validation": validation, "test": test}, grid * PATCH
    made = scenes(data, **counts, side=side, thing=round(THING * side), kinds=ASKED)
    words = Words([*made["train"].questions, *made["train"].answers])
    key = {"things": data.key, **counts, "asked": ASKED, "talk": talk, "grid": grid}
    sorts = {part: some.kinds for part, some in made.items()}
    return World(**made, words=words, key=key, sorts=sorts, grid=grid, classes=len(data.classes), talk=talk)


def covered(asked: Scenes, classes: int, where: bool = False, grid: int = GRID) -> Tensor:
    """Return what covers the middle of each token's patch (N, grid^2): 0 nothing, else 1 + class.

    ``where`` adds classes * cell, so that which of the cells it is has to be said too.
    """
    middle, thing = torch.arange(grid) * PATCH + PATCH // 2, round(THING * grid * PATCH)
    begins = asked.corners[:, :, None]  # (N, 2, 1, cells)
    inside = ((middle[:, None] >= begins) & (middle[:, None] < begins + thing)).double()  # (N, 2, tokens, cells)
    cells = asked.grids.shape[1]
    number = torch.arange(cells * cells).view(cells, cells) * where
    code = (1 + asked.grids + classes * number) * (asked.grids >= 0)
    return torch.einsum("nir,njc,nrc->nij", inside[:, 0], inside[:, 1], code.double()).long().flatten(1)


def chance(kind: str, classes: int) -> float:
    """Per cent that guessing gets right."""
    return 100 * KINDS[kind].chance(2, classes)
