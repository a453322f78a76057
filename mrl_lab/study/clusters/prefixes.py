"""Prefixes: how good the first m dims of a self-supervised feature are, and whether any m dims would do as well.

Weighted k-NN of test pictures among the training ones. Of each trained feature: its first dims, dims at random (the
mean of :data:`DRAWS` draws), its principal components and its dims of most variance. Floors: pixels, and the encoder
before training. The random draws are the control that matters: where nothing orders the dims, a prefix is one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import pandas as pd
from torch import Tensor

from mrl_lab import runs, score
from mrl_lab.data import Labelled
from mrl_lab.methods import baselines
from mrl_lab.study.clusters.students import Lesson, Student, learned, untrained
from mrl_lab.study.models import settings
from mrl_lab.study.pictures import States, states

DRAWS = 5
PROBED = 4000  # training pictures of a linear probe: beyond it takes long and changes little

Cut = Callable[[Tensor], Tensor]


def knn(s: States, cut: Cut) -> float:
    """Per cent right by weighted k-NN after ``cut`` of queries and database."""
    z = cut(s.z)
    m = z.shape[1]
    return score.knn(z, cut(s.database), s.database_y, s.y, [m])[m]


def scored(spec: Student, data: Labelled, lesson: Lesson, seed: int, probe: Sequence[int] = ()) -> pd.DataFrame:
    """Score one student: rows knn by the head's name and by "HEAD, random dims", "HEAD, PCA", "HEAD, top variance".

    ``probe``: sizes at which a linear probe is fitted too, as rows top1.
    """

    def make() -> pd.DataFrame:
        f = states(learned(spec, data, lesson, seed).encoder, data)
        return score.table(by_cut(f, spec.head, spec.sizes, seed) + _probed(f, spec.head, probe, seed))

    return runs.remember(settings("prefixes", spec, data, lesson, seed) | {"probe": list(probe)}, make)


def by_cut(f: States, name: str, sizes: Sequence[int], seed: int) -> list[dict]:
    """Rows knn of every way to keep m dims of any encoder's features, at every size."""
    pca = baselines.FeatureSVD.fit(f.database)
    loudest = f.database.var(0).argsort(descending=True)
    found = {
        name: {m: knn(f, lambda z, m=m: baselines.first_dims(z, m)) for m in sizes},
        f"{name}, random dims": {m: _random(f, m, seed) for m in sizes},
        f"{name}, PCA": {m: knn(f, lambda z, m=m: pca.project(z, m)) for m in sizes},
        f"{name}, top variance": {m: knn(f, lambda z, m=m: z[:, loudest[:m]]) for m in sizes},
    }
    rows = []
    for method, by_size in found.items():
        rows += score.tidy(by_size, method=method, metric="knn", seed=seed, n=len(f.y))
    return rows


def _random(f: States, m: int, seed: int) -> float:
    """k-NN on m dims at random, the mean of several draws (one, where all dims are kept)."""
    draws = DRAWS if m < f.z.shape[1] else 1
    return fmean(knn(f, lambda z, i=i: baselines.random_dims(z, m, 1000 * seed + i)) for i in range(draws))


def _probed(f: States, head: str, sizes: Sequence[int], seed: int) -> list[dict]:
    """Rows top1 of a linear probe on the first m dims."""
    some, y = f.database[:PROBED], f.database_y[:PROBED]
    right = {m: score.accuracy(baselines.linear_probe(some[:, :m], y, f.z[:, :m]), f.y) for m in sizes}
    return score.tidy(right, method=head, metric="top1", seed=seed, n=len(f.y))


def floors(spec: Student, data: Labelled, seed: int) -> pd.DataFrame:
    """Rows knn of "untrained", the encoder before training, at every size, and of "pixels" at their own number."""

    def make() -> pd.DataFrame:
        f = states(untrained(spec, data, seed), data)
        at = {m: knn(f, lambda z, m=m: baselines.first_dims(z, m)) for m in spec.sizes}
        raw = States(*(x.flatten(1).float() if x.ndim == 4 else x for x in _pixels(data)))
        named = {"metric": "knn", "seed": seed, "n": len(f.y)}
        rows = score.tidy(at, method="untrained", **named)
        return score.table(rows + score.tidy({raw.z.shape[1]: knn(raw, lambda z: z)}, method="pixels", **named))

    return runs.remember(settings("floors", spec, data, Lesson(), seed), make)


def _pixels(data: Labelled) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return data.train.images, data.train.labels, data.test.images, data.test.labels


def validated(spec: Student, data: Labelled, lesson: Lesson, seed: int) -> dict[int, float]:
    """Return k-NN on *validation* pictures at each size: what settings are chosen by."""
    f = states(learned(spec, data, lesson, seed).encoder, data, "validation")
    return {m: knn(f, lambda z, m=m: baselines.first_dims(z, m)) for m in spec.sizes}
