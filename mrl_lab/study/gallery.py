"""A database large enough to matter: every training picture under several augmentations, embedded by a trained model.

Row i shows picture i mod n; the first n rows are the pictures as they are. All are written into one table of unit
rows, so that 1,000,000 x 1024 take 4 GB and no more. A :class:`Quest` is what is asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mrl_lab import score
from mrl_lab.data import Split
from mrl_lab.data.views import view
from mrl_lab.search.planning import Quality
from mrl_lab.study.models import embed


@dataclass(frozen=True, eq=False)
class Gallery:
    """Unit vectors z (N, d) and their labels y (N,); row i shows picture i mod ``pictures``."""

    z: Tensor
    y: Tensor
    pictures: int

    def first(self, views: int) -> Gallery:
        """Return the rows of the first ``views`` views, sharing their memory."""
        n = views * self.pictures
        return Gallery(self.z[:n], self.y[:n], self.pictures)


def gallery(encoder: nn.Module, split: Split, views: int, seed: int) -> Gallery:
    """Embed the pictures of ``split`` as they are and under ``views`` - 1 random augmentations each.

    An augmentation crops, changes the light and erases a square (:mod:`mrl_lab.data.views`); it never mirrors, since
    left and right are what tells pairs apart.
    """
    n = len(split)
    z = None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for i in range(views):
            images = split.images if i == 0 else torch.cat([view(some) for some in split.images.split(1000)])
            embedded = normalize(embed(encoder, images), dim=1)
            z = embedded.new_empty(views * n, embedded.shape[1]) if z is None else z
            z[i * n : (i + 1) * n] = embedded
    return Gallery(z, split.labels.repeat(views), n)


def by_labels(database_y: Tensor, y: Tensor) -> Quality:
    """Quality for :func:`mrl_lab.search.plan`: average precision of ids found, by labels (N,) and of queries (Q,)."""
    return lambda ids, which: score.average_precision(database_y[ids] == y[which, None])


@dataclass(frozen=True, eq=False)
class Quest:
    """Queries z (Q, d), unit rows with labels y (Q,), to a gallery; ``method`` and ``seed`` name the rows of scores."""

    method: str
    seed: int
    gallery: Gallery
    z: Tensor
    y: Tensor

    @property
    def quality(self) -> Quality:
        """Average precision of the ids that a search finds."""
        return by_labels(self.gallery.y, self.y)

    def mean_quality(self, ids: Tensor) -> float:
        """mAP@k in per cent of ids (Q, k)."""
        return 100 * self.quality(ids, torch.arange(len(self.y))).mean().item()

    def row(
        self,
        what: str,
        dim: int,
        metric: str,
        value: float,
        *,
        flops: float | None = None,
        seconds: float | None = None,
    ) -> dict:
        """Return one row of the tidy table; ``n`` is the number of rows in the database."""
        named = {"method": f"{self.method}, {what}", "metric": metric, "seed": self.seed, "n": len(self.gallery.y)}
        (row,) = score.tidy({dim: value}, flops=flops and {dim: flops}, seconds=seconds, **named)
        return row
