"""Elsewhere: the same model, loss and ways on pictures with questions that nobody here made, easy-VQA and NLVR.

Pictures become 64 x 64 pixels, sixteen patches of 16 x 16 (72 x 72 on a grid of 12): easy-VQA's are that already, three
boxes of NLVR's side by side (100 x 400) are squeezed. The tower has no patches to learn first and begins with the
language model.
"""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from mrl_lab.data import places
from mrl_lab.data.questions import Questions, questions
from mrl_lab.data.turns import Words
from mrl_lab.errors import unknown
from mrl_lab.study.tokens.world import GRID, World

SIDE = 64  # pixels of a picture at the least
SETS = {  # how each is called, and which of its splits are learnt from and tested on
    "easy_vqa": ("easy-VQA", ("train",), "test"),
    "nlvr": ("NLVR", ("dev", "test"), "hidden"),
}


def elsewhere(name: str, train: int, test: int, grid: int = GRID) -> World:
    """Return a set's first ``train`` and ``test`` pictures with all their questions; a tenth of ``train`` validates.

    All words of all questions are in the vocabulary, since a sentence of NLVR's is in one split only.

    Raises:
        RequestError: an unknown set, or one that cannot be had.
    """
    if name not in SETS:
        raise unknown("set of questions", name, SETS)
    called, learnt, tested = SETS[name]
    splits = questions(name)
    words = Words(text for asked in splits.values() for text in [*asked.questions, *asked.answers])
    known = joined([splits[part] for part in learnt])
    n, patch = min(train, len(known.images)), -(-SIDE // grid)
    rows = {"train": (known, 0, n - n // 10), "validation": (known, n - n // 10, n), "test": (splits[tested], 0, test)}
    made = {part: some(*place, side=grid * patch) for part, place in rows.items()}
    sorts = {part: [f"{called}, {sort(answer)}" for answer in asked.answers] for part, asked in made.items()}
    key = {"questions": name, "files": places.ensure(name).sha256, "train": train, "test": test, "grid": grid}
    return World(**made, words=words, key=key, sorts=sorts, patch=patch, grid=grid)


def sort(answer: str) -> str:
    """Return whether a question is open or closed, which its answer tells."""
    return "closed" if answer in ("yes", "no", "true", "false") else "open"


def joined(several: list[Questions]) -> Questions:
    """Return the pictures and questions of several splits as one."""
    begins = torch.tensor([0, *(len(asked.images) for asked in several)]).cumsum(0)
    return Questions(
        torch.cat([asked.images for asked in several]),
        torch.cat([asked.picture + begin for asked, begin in zip(several, begins.tolist(), strict=False)]),
        [text for asked in several for text in asked.questions],
        [text for asked in several for text in asked.answers],
    )


def some(asked: Questions, begin: int, end: int, side: int = SIDE) -> Questions:
    """Return the pictures from ``begin`` up to ``end``, as ``side`` x ``side`` pixels, and all questions about them."""
    images = asked.images[begin:end]
    if images.shape[-2:] != (side, side):
        images = interpolate(images.float(), (side, side), mode="bilinear", antialias=True).round().byte()
    kept = ((asked.picture >= begin) & (asked.picture < end)).nonzero()[:, 0]
    rows = kept.tolist()
    return Questions(
        images, asked.picture[kept] - begin, [asked.questions[i] for i in rows], [asked.answers[i] for i in rows]
    )
