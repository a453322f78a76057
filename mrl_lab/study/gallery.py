"""A database large enough to matter: every training picture under several augmentations, embedded by a trained model.

Row i shows picture i mod n; the first n rows are the pictures as they are. All are written into one table of unit
rows, so that 1,000,000 x 1024 take 4 GB and no more. A :class:`Quest` is what is asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mrl_lab import score, search
from mrl_lab.cuts import unit_prefix
from mrl_lab.data import Split
from mrl_lab.data.rows import check_count
from mrl_lab.data.views import view
from mrl_lab.lab import embed
from mrl_lab.search.planning import Quality

BLOCK = 1000  # pictures embedded at a time: fresh memory for all of a view takes 1.4 times as long
K = 10  # neighbours that are returned and scored


@dataclass(frozen=True, eq=False)
class Gallery:
    """Unit vectors z (N, d) and their labels y (N,); row i shows picture i mod ``pictures``."""

    z: Tensor
    y: Tensor
    pictures: int

    def first(self, views: int) -> Gallery:
        """Return the rows of the first ``views`` views, sharing their memory.

        Raises:
            RequestError: there are not as many views.
        """
        check_count(views, len(self.z) // self.pictures, "views of a gallery")
        n = views * self.pictures
        return Gallery(self.z[:n], self.y[:n], self.pictures)


def gallery(encoder: nn.Module, split: Split, views: int, seed: int) -> Gallery:
    """Embed the pictures of ``split`` as they are and under ``views`` - 1 random augmentations each.

    An augmentation crops, changes the light and erases a square (:mod:`mrl_lab.data.views`); it never mirrors, since
    left and right are what tells pairs apart.
    """
    n, d = len(split), embed(encoder, split.images[:1]).shape[1]
    z = torch.empty(views * n, d)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for i, start in product(range(views), range(0, n, BLOCK)):
            images = split.images[start : start + BLOCK]
            block = z[i * n + start :][: len(images)]
            normalize(embed(encoder, view(images) if i else images), dim=1, out=block)
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
    neighbours: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)  # found so far, by size

    def exactly(self, m: int) -> Tensor:
        """Ids (Q, K) that exact search finds by the first ``m`` dims; searched once."""
        if m not in self.neighbours:
            rows = search.unit_rows(self.gallery.z, m)
            self.neighbours[m] = search.exact(unit_prefix(self.z, m), rows, K)[1]
        return self.neighbours[m]

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
