"""Pairs: two pictures side by side make a class of their own, so that ten classes become a hundred.

Ten classes hide what the width of an embedding does. A pair "left | right" has the class 10 left + right; the
pair of their coarse classes is its coarse class. Pictures of a pair come from one split, never from two. Each is
squeezed to half its width, so that a pair has the shape and the cost of a single picture.
"""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d

from mrl_lab.data.rows import Parts, Rows


def paired(parts: Parts, seed: int) -> Parts:
    """Return pairs of the pictures of each split, as many as there are pictures: (C, H, W) each -> (C, H, W).

    Every picture is once a left and once a right one, in an order fixed by ``seed``.
    """
    classes = tuple(f"{left} | {right}" for left in parts.classes for right in parts.classes)
    coarse, coarse_classes = None, ()
    if parts.coarse is not None:
        coarse = tuple(len(parts.coarse_classes) * a + b for a in parts.coarse for b in parts.coarse)
        coarse_classes = tuple(f"{a} | {b}" for a in parts.coarse_classes for b in parts.coarse_classes)
    splits = (parts.train, parts.test, parts.validation)
    train, test, validation = (
        _pairs(rows, len(parts.classes), 3 * seed + i) if rows else None for i, rows in enumerate(splits)
    )
    return Parts(f"{parts.title} in pairs", train, test, validation, classes, coarse, coarse_classes)


def _pairs(rows: Rows, classes: int, seed: int) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randperm(len(rows), generator=generator) for _ in range(2))

    def images(index: torch.Tensor) -> torch.Tensor:
        both = torch.cat([rows.images(left[index]), rows.images(right[index])], -1)  # (n, C, H, W) twice, side by side
        return avg_pool2d(both.float(), (1, 2)).round().to(torch.uint8)  # (n, C, H, 2W) -> (n, C, H, W)

    return Rows(classes * rows.labels[left] + rows.labels[right], images)
