"""Prefixes: how good the first m dims of a self-supervised feature are, and whether any m dims would do as well.

Weighted k-NN of test pictures among the training ones. Of each trained feature: its first dims, dims at random (the
mean of :data:`DRAWS` draws), its principal components and its dims of most variance. Floors: pixels, and the encoder
before training. The random draws are the control that matters: where nothing orders the dims, a prefix is one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd
from torch import Tensor
from torch.utils.data import TensorDataset

from mrl_lab import score
from mrl_lab.data import Labelled
from mrl_lab.distil.teacher import SelfDistillation
from mrl_lab.lab import built, kept
from mrl_lab.methods import baselines
from mrl_lab.study.clusters.students import Student
from mrl_lab.study.pictures import States, states

DRAWS = 5
PROBED = 4000  # training pictures of a linear probe: beyond it takes long and changes little

Cut = Callable[[Tensor], Tensor]


def right(s: States, cut: Cut) -> Tensor:
    """Which queries (n,) are right by weighted k-NN after ``cut`` of queries and database."""
    z = cut(s.z)
    return score.knn_classes(z, cut(s.database), s.database_y, z.shape[1]) == s.y


def knn(s: States, cut: Cut) -> float:
    """Per cent right by weighted k-NN after ``cut`` of queries and database."""
    return right(s, cut).float().mean().item() * 100


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Learn from pictures without their labels; be asked, by labels, what the first m dims are worth.

    Attributes:
        sizes: m to ask for. probe: those at which a linear probe is fitted too.
    """

    data: Labelled
    sizes: tuple[int, ...]
    probe: tuple[int, ...] = ()

    @property
    def key(self) -> dict:
        """What identifies the rows that are learnt from."""
        return self.data.key

    def rows(self) -> TensorDataset:
        """Return pictures (N, C, H, W); students take crops of them."""
        return TensorDataset(self.data.train.images)

    def ask(self, module: SelfDistillation, split: str, seed: int) -> pd.DataFrame:
        """Return rows knn of :func:`by_cut` for the teacher's encoder, and top1 of probes; "validation" rows else."""
        f = states(module.teacher.encoder, self.data, split)
        if split != "test":
            found = {m: knn(f, lambda z, m=m: baselines.first_dims(z, m)) for m in self.sizes}
            return score.table(score.tidy(found, method="", metric="validation", seed=seed, n=len(f.y)))
        return score.table(by_cut(f, "", self.sizes, seed) + _probed(f, "", self.probe, seed))


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


@kept
def floors(spec: Student, task: Unlabelled, seed: int) -> pd.DataFrame:
    """Rows knn of "untrained", the encoder before training, at every size, and of "pixels" at their own number."""
    f = states(built(spec, task, seed).teacher.encoder.eval(), task.data)
    at = {m: knn(f, lambda z, m=m: baselines.first_dims(z, m)) for m in spec.sizes}
    raw = States(*(x.flatten(1).float() if x.ndim == 4 else x for x in _pixels(task.data)))
    named = {"metric": "knn", "seed": seed, "n": len(f.y)}
    rows = score.tidy(at, method="untrained", **named)
    return score.table(rows + score.tidy({raw.z.shape[1]: knn(raw, lambda z: z)}, method="pixels", **named))


def _pixels(data: Labelled) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return data.train.images, data.train.labels, data.test.images, data.test.labels
