"""Scenes: real pictures of single things put together on a canvas, and questions that need more or less of it.

Rows and columns of things stand at random places, so that no window of a model's visual tokens coincides with a
cell: a third of the things reach over the border of two windows. What is asked is in :mod:`mrl_lab.data.asking`; a
blind model is at chance on questions asked *alone* (in a talk, earlier answers can give later ones away). Things of
the training, validation and test scenes come from the splits of their source, so that none is in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mrl_lab.data.asking import EMPTY, KINDS, Asking
from mrl_lab.data.labelled import Labelled, Split
from mrl_lab.data.questions import Questions
from mrl_lab.errors import RequestError, unknown


@dataclass(frozen=True, eq=False)
class Scenes(Questions):
    """Scenes with questions; images are (N, 3, side, side) uint8.

    Attributes:
        kinds: (Q) the kind of each question, one of :data:`KINDS`.
        grids: (N, cells, cells) class of each cell, -1 where it is empty.
        things: (N, cells, cells) row of the source's split that stands there, -1 where it is empty.
        corners: (N, 2, cells) top of each row and left of each column, in pixels.
    """

    kinds: list[str]
    grids: Tensor
    things: Tensor
    corners: Tensor


def scenes(
    data: Labelled,
    *,
    train: int,
    test: int,
    validation: int = 0,
    cells: int = 2,
    side: int = 32,
    thing: int = 13,
    kinds: Sequence[str] = tuple(KINDS),
    seed: int = 0,
) -> dict[str, Scenes]:
    """Return scenes by split, each with at most one question of each kind; fixed by ``seed``, made in memory.

    Args:
        data: pictures of single things, such as ``load("fashion_mnist")``.
        train, validation, test: numbers of scenes; a split of 0 is left out.
        cells: rows and columns of cells; 1 to cells^2 of them hold a thing.
        side, thing: side of the canvas and of a thing in pixels; what they leave free is where things move about.

    Raises:
        RequestError: things that do not fit, no split, a split of ``data`` that lacks a class, an unknown kind, or
            scenes too few for any question.
    """
    counts = {"train": train, "validation": validation, "test": test}
    _check(data, counts, cells, side, thing, kinds)
    names = ["-".join(name.lower().split()) for name in data.classes]
    made = {}
    for i, (part, n) in enumerate(counts.items()):
        if n:
            stream = torch.Generator().manual_seed(3 * seed + i)
            split = getattr(data, part)
            grids, things = _fill(n, cells, split, len(names), stream)
            images, corners = _paint(split, things, side, thing, stream)
            picture, asked = _ask(grids, names, kinds, stream)
            made[part] = Scenes(images, picture, *(list(column) for column in asked), grids, things, corners)
    return made


def _check(data: Labelled, counts: dict[str, int], cells: int, side: int, thing: int, kinds: Sequence[str]) -> None:
    if cells < 2 or thing < 4 or cells * thing >= side:
        raise RequestError(
            f"{cells} x {cells} things of {thing} pixels need a canvas of more than {cells * thing}, to move about in, "
            f"2 cells a side and 4 pixels a thing at the least; got side = {side}."
        )
    if data.train.images.ndim != 4:
        raise RequestError(f"scenes are made of pictures (N, C, H, W); {data.name} has none.")
    if min(counts.values()) < 0 or not any(counts.values()):
        raise RequestError(f"numbers of scenes are at least 0, and one above it; got {counts}.")
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of question", kind, KINDS)
    if not kinds:
        raise RequestError(f"scenes need a kind of question: some of {', '.join(KINDS)}.")


def _dealt(n: int, values: int, stream: torch.Generator) -> Tensor:
    """Return (n,) numbers below ``values``, each as often as any other, in a random order."""
    return torch.randperm(n, generator=stream) % values


def _fill(n: int, cells: int, split: Split, classes: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the class and the row of ``split`` of the thing in each cell, both (n, cells, cells), -1 where empty."""
    members = split.labels.bincount(minlength=classes)
    if not members.all():
        raise RequestError(f"class {int(members.argmin())} has no picture in a split that scenes are made of.")
    order, begins = split.labels.argsort(stable=True), members.cumsum(0) - members  # pictures, class after class
    shape = n, cells * cells
    rank = torch.rand(shape, generator=stream).argsort(1).argsort(1)  # a random order of the cells of each scene
    empty = rank > _dealt(n, cells * cells, stream)[:, None]  # keeps 1 to cells^2 of them
    kind = torch.randint(classes, shape, generator=stream)
    within = (torch.rand(shape, generator=stream) * members[kind]).long()
    of = order[begins[kind] + within]
    return tuple(x.masked_fill(empty, EMPTY).view(n, cells, cells) for x in (kind, of))


def _paint(split: Split, things: Tensor, side: int, thing: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return canvases (n, 3, side, side) uint8 and corners (n, 2, cells): rising, ``thing`` or more apart."""
    n, cells, _ = things.shape
    free = torch.randint(side - cells * thing + 1, (n, 2, cells), generator=stream).sort(2).values
    corners = free + thing * torch.arange(cells)
    canvas = torch.zeros(n, side, side, 3, dtype=torch.uint8)
    for r in range(cells):
        for c in range(cells):
            here = (things[:, r, c] != EMPTY).nonzero()[:, 0]  # (m,) scenes
            rows = (corners[here, 0, r, None] + torch.arange(thing))[:, :, None]  # (m, thing, 1)
            columns = (corners[here, 1, c, None] + torch.arange(thing))[:, None]  # (m, 1, thing)
            canvas[here[:, None, None], rows, columns] = _shrunk(split.images[things[here, r, c]], thing)
    return canvas.permute(0, 3, 1, 2).contiguous(), corners  # (n, side, side, 3) -> (n, 3, side, side)


def _shrunk(images: Tensor, size: int) -> Tensor:
    """Return images (m, C, H, W) as (m, size, size, 3) uint8; grey ones have three equal channels."""
    small = interpolate(images.float(), (size, size), mode="bilinear", antialias=True).round().clamp(0, 255)
    return small.to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)  # (m, C, s, s) -> (m, s, s, 3)


def _ask(
    grids: Tensor, names: Sequence[str], kinds: Sequence[str], stream: torch.Generator
) -> tuple[Tensor, tuple[tuple[str, ...], ...]]:
    """Return the scene (Q,) of each question, and questions, answers and kinds."""
    n = len(grids)
    yes = {kind: _dealt(n, 2, stream).bool().tolist() for kind in kinds}
    draw = Random(int(torch.randint(2**31, (), generator=stream)))
    found = [
        (i, *asked, kind)
        for i, grid in enumerate(grids.tolist())
        for kind in kinds
        if (asked := KINDS[kind].ask(Asking(grid, names, yes[kind][i], draw)))
    ]
    if not found:
        raise RequestError(
            f"none of {n} scenes allows a question of the kinds {list(kinds)}: make more, or more kinds."
        )
    scene, *texts = zip(*found, strict=True)
    return torch.tensor(scene), tuple(texts)
