"""Rows that are not decoded yet, and the fixed draws that make splits of them.

Pictures of some sources are JPEG or PNG: only the rows that are kept are ever decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from mrl_lab.errors import RequestError

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Rows:
    """Labels (N,) int64, and ``images`` from an index (n,) to the rows' pictures or vectors (n, ...)."""

    labels: Tensor
    images: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Rows:
        return Rows(self.labels[index], lambda i: self.images(index[i]))


@dataclass(frozen=True, eq=False)
class Parts:
    """What a reader makes of a source: rows by split, and the classes. See ``Labelled`` for the two levels.

    ``validation`` is None where the source has no split for it; ``share`` of the training rows is held out then.
    """

    title: str
    train: Rows
    test: Rows
    validation: Rows | None
    classes: tuple[str, ...]
    coarse: tuple[int, ...] | None = None
    coarse_classes: tuple[str, ...] = ()


def tensors(images: Tensor, labels: Tensor) -> Rows:
    """Return rows of pictures or vectors that are in memory already."""
    return Rows(labels.long(), lambda index: images[index])


def spread(labels: Tensor, seed: int) -> Tensor:
    """Return a random order (N,) of which every beginning holds the classes in their proportions.

    Each class's rows are shuffled and laid out evenly over the whole, so that a smaller draw is part of every
    larger one, and no class is missing from a draw of a few rows a class.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]  # rows, class after class
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    of = labels[by_class]
    rank = torch.arange(len(labels)) - starts[of]  # 0, 1, ... within each class
    place = (rank + torch.rand(len(labels), generator=generator, dtype=torch.float64)) / counts[of]
    return by_class[place.argsort(stable=True)]


def hold_out(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Return (what stays, what is held out): ``share`` of the rows, every class in its proportion."""
    order = spread(rows.labels, seed)
    held = max(1, round(share * len(rows)))
    return rows[order[held:]], rows[order[:held]]


def take(rows: Rows, count: int | None, seed: int, what: str) -> Rows:
    """Return ``count`` rows (None: all), every class in its proportion.

    Raises:
        RequestError: there are not as many; says how many there are.
    """
    if count is not None:
        check_count(count, len(rows), what)
    return rows[spread(rows.labels, seed)[:count]]


def first(rows: Sequence[T], count: int, what: str) -> Sequence[T]:
    """Return the first ``count`` of a list or of a tensor's rows.

    Raises:
        RequestError: there are not as many; says how many there are.
    """
    check_count(count, len(rows), what)
    return rows[:count]


def check_count(count: int, there: int, what: str) -> None:
    """Check that there are as many rows as are asked for: a slice would give fewer without a word.

    Raises:
        RequestError: ``count`` is no whole number from 1 to ``there``.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= there:
        raise RequestError(f"{what}: a whole number from 1 to {there}, which is what there is, got {count!r}.")
