"""Levels: the clusters that each head finds in its prefix, and whether coarse ones contain fine ones.

A picture belongs to the prototype that its feature is nearest to, level by level. Purity and NMI grow with the number
of clusters by themselves, so a level is compared with k-means at the *same* K: on the same prefix, and on the whole
feature of an un-nested student. AMI is corrected for chance; labels that are shuffled give 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from mrl_lab import score
from mrl_lab.distil.teacher import SelfDistillation
from mrl_lab.lab import Recipe, kept, trained
from mrl_lab.study.clusters.prefixes import Unlabelled
from mrl_lab.study.clusters.students import Student
from mrl_lab.study.pictures import States, states


@torch.no_grad()
def assigned(student: SelfDistillation, z: Tensor) -> dict[int, np.ndarray]:
    """Return {m: the teacher's nearest prototype (n,)} of class features z (n, d)."""
    return {m: scores.argmax(1).numpy() for m, scores in student.teacher.class_head(z).items()}


def k_means(database: Tensor, z: Tensor, k: int, seed: int) -> np.ndarray:
    """Return clusters (n,) of z by k-means (k centres, found on database) of rows at length 1."""
    found = KMeans(k, n_init=1, random_state=seed).fit(normalize(database, dim=1).numpy())
    return found.predict(normalize(z, dim=1).numpy())


@kept
def clustered(spec: Student, plain: Student, task: Unlabelled, recipe: Recipe, seed: int) -> pd.DataFrame:
    """Score the levels of ``spec`` beside k-means with the same K.

    Methods are the head's name, "HEAD, k-means of the prefix", "none, k-means" (of the whole feature of ``plain``) and
    "shuffled labels"; metrics purity, NMI, AMI and clusters by size. Between neighbouring levels, "nesting" and
    "nesting by chance", at the coarser size.
    """
    student = trained(spec, task, recipe, seed)
    f = states(student.teacher.encoder, task.data)
    other = states(trained(plain, task, recipe, seed).teacher.encoder, task.data)
    levels = assigned(student, f.z)
    rows = [row for m, c in levels.items() for row in _level(spec.head, m, c, f, other, student, seed)]
    return score.table(rows + _nested(spec.head, levels, len(f.y), seed))


def _level(
    head: str, m: int, clusters: np.ndarray, f: States, other: States, student: SelfDistillation, seed: int
) -> list[dict]:
    """Rows of one level and of its rivals at the same K."""
    k, y = student.teacher.class_head.counts[m], f.y.numpy()
    shuffled = np.random.default_rng(seed).permutation(y)
    found = {
        head: score.agreement(clusters, y),
        f"{head}, k-means of the prefix": score.agreement(k_means(f.database[:, :m], f.z[:, :m], k, seed), y),
        "none, k-means": score.agreement(k_means(other.database, other.z, k, seed), y),
        "shuffled labels": score.agreement(clusters, shuffled),
    }
    return [
        row
        for method, scores in found.items()
        for metric, value in scores.items()
        for row in score.tidy({m: value}, method=method, metric=metric, seed=seed, n=len(y))
    ]


def _nested(head: str, levels: Mapping[int, np.ndarray], n: int, seed: int) -> list[dict]:
    """Rows of the nesting score of neighbouring levels, in per cent, and of its null."""
    pairs = list(pairwise(levels))
    real = {coarse: 100 * score.nesting(levels[coarse], levels[fine]) for coarse, fine in pairs}
    null = {coarse: 100 * score.nesting_null(levels[coarse], levels[fine], seed) for coarse, fine in pairs}
    rows = score.tidy(real, method=head, metric="nesting", seed=seed, n=n)
    return rows + score.tidy(null, method=head, metric="nesting by chance", seed=seed, n=n)
