"""Canvases: pictures whose every patch has a known label, and the features of their patches.

Things of one class or another stand on an empty canvas (:mod:`mrl_lab.data.scenes`). A patch belongs to the class that
covers most of it, or to none: a free segmentation task. What stands where is drawn at random, so the content of a
patch says nothing about its place, and what a feature knows of place comes from the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from mrl_lab.data import Labelled, Split
from mrl_lab.data.labelled import statistics
from mrl_lab.data.scenes import EMPTY, Scenes, scenes
from mrl_lab.device import choose
from mrl_lab.encoders.patches import PatchViT, PretrainedViT
from mrl_lab.lab import Recipe, kept, trained
from mrl_lab.study.clusters.students import Student


@dataclass(frozen=True, eq=False)
class Canvases:
    """Canvases to learn from without labels, and the class of each patch, C where it is empty.

    Attributes:
        data: the pictures; their labels are all 0.
        made, thing: the scenes by split, and the side of a thing in pixels.
        train_y, test_y: (N, t) int64, patches in raster order. grid: rows and columns of patches.
    """

    data: Labelled
    made: dict[str, Scenes]
    thing: int
    train_y: Tensor
    test_y: Tensor
    grid: tuple[int, int]

    @property
    def key(self) -> dict:
        """What identifies them, and the patches that they are cut into."""
        return {"canvases": self.data.key, "grid": self.grid}

    @property
    def empty(self) -> int:
        """The label of a patch without a thing."""
        return len(self.data.classes)

    def at(self, grid: tuple[int, int]) -> Canvases:
        """Return the same canvases with labels for the patches of another grid, whatever number of pixels they are."""
        labels = [patch_labels(self.made[part], self.thing, grid, self.empty) for part in ("train", "test")]
        return Canvases(self.data, self.made, self.thing, *labels, grid)


def canvases(
    source: Labelled, *, train: int, test: int, side: int = 32, thing: int = 12, patch: int = 4, seed: int = 0
) -> Canvases:
    """Put things of ``source`` on canvases of ``side`` pixels, two rows of two at most."""
    made = scenes(source, train=train, test=test, side=side, thing=thing, seed=seed)
    splits = {part: Split(one.images, torch.zeros(len(one.images), dtype=torch.int64)) for part, one in made.items()}
    mean, std = statistics(splits["train"].images)
    key = {"canvases of": source.key, "train": train, "test": test, "side": side, "thing": thing, "seed": seed}
    name = f"{source.name} on canvases"
    nothing = Split(splits["train"].images[:0], splits["train"].labels[:0])
    whole = (source.classes, mean, std, source.provenance)
    data = Labelled(name, key, splits["train"], nothing, splits["test"], *whole)
    grid = (side // patch, side // patch)
    labels = [patch_labels(made[part], thing, grid, len(source.classes)) for part in ("train", "test")]
    return Canvases(data, made, thing, *labels, grid)


def patch_labels(made: Scenes, thing: int, grid: tuple[int, int], classes: int) -> Tensor:
    """Return the label (N, t) that most pixels of each patch have; ``classes`` where most are empty.

    Where patches are not whole pixels, a patch has all pixels that it touches.
    """
    n, _, side, _ = made.images.shape
    pixels = torch.full((n, side, side), classes)
    at = torch.arange(side)
    for r in range(made.grids.shape[1]):
        for c in range(made.grids.shape[2]):
            top, left = made.corners[:, 0, r, None], made.corners[:, 1, c, None]  # (N, 1)
            rows, columns = ((at >= start) & (at < start + thing) for start in (top, left))  # (N, side) each
            here = rows[:, :, None] & columns[:, None] & (made.grids[:, r, c] != EMPTY)[:, None, None]
            pixels = torch.where(here, made.grids[:, r, c, None, None], pixels)
    shares = adaptive_avg_pool2d(one_hot(pixels, classes + 1).movedim(-1, 1).float(), grid)  # (N, C + 1, h, w)
    return shares.argmax(1).flatten(1)  # (N, h, w) -> (N, t)


@kept
def patch_features(spec: Student, made: Canvases, recipe: Recipe, seed: int) -> dict[str, Tensor]:
    """Features (N, t, d) of the patches of training ("train") and test canvases, by the student's teacher."""
    encoder = trained(spec, made, recipe, seed).teacher.encoder
    return dict(zip(("train", "test"), embedded(encoder, made), strict=True))


def embedded(encoder: PatchViT | PretrainedViT, made: Canvases, **where: int) -> tuple[Tensor, Tensor]:
    """Features (N, t, d) of the patches of training and of test canvases; ``layer`` takes an earlier block's."""
    device, parts = choose().device, (made.data.train.images, made.data.test.images)
    encoder.to(device)
    one = lambda some: encoder.patches(some.to(device), **where).float().cpu()  # noqa: E731
    train, test = (torch.cat([one(some) for some in images.split(64)]) for images in parts)
    encoder.cpu()
    return train, test
