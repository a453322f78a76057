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
from sklearn.metrics import adjusted_mutual_info_score, homogeneity_score, normalized_mutual_info_score
from torch import Tensor
from torch.nn.functional import normalize

from mrl_lab import runs, score
from mrl_lab.data import Labelled
from mrl_lab.errors import RequestError
from mrl_lab.study.clusters.students import Learned, Lesson, Student, learned
from mrl_lab.study.models import settings
from mrl_lab.study.pictures import States, states

NULLS = 20  # permutations of the null of the nesting score

# ---------------------------------------------------------------------------------- scores of a partition


def purity(clusters: np.ndarray, y: np.ndarray) -> float:
    """Share of items whose class is the commonest of their cluster; 1 for clusters of a single item."""
    return sum(np.bincount(y[clusters == c]).max() for c in np.unique(clusters)) / len(y)


def agreement(clusters: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return purity, NMI, AMI in per cent, and how many clusters are in use."""
    return {
        "purity": 100 * purity(clusters, y),
        "NMI": 100 * normalized_mutual_info_score(y, clusters),
        "AMI": 100 * adjusted_mutual_info_score(y, clusters),
        "clusters": float(len(np.unique(clusters))),
    }


def nesting(coarse: np.ndarray, fine: np.ndarray) -> float:
    """Return 1 - H(coarse | fine) / H(coarse): 1 where every fine cluster lies inside one coarse cluster.

    Raises:
        RequestError: partitions of different numbers of items.
    """
    if len(coarse) != len(fine):
        raise RequestError(f"two partitions of the same items are compared, got {len(coarse)} and {len(fine)} items.")
    return float(homogeneity_score(coarse, fine))


def nesting_null(coarse: np.ndarray, fine: np.ndarray, seed: int) -> float:
    """Return the mean nesting score when ``fine`` is shuffled: many fine clusters look nested by chance."""
    draw = np.random.default_rng(seed)
    return float(np.mean([nesting(coarse, draw.permutation(fine)) for _ in range(NULLS)]))


# ------------------------------------------------------------------------------------ clusters of levels


@torch.no_grad()
def assigned(student: Learned, z: Tensor) -> dict[int, np.ndarray]:
    """Return {m: the teacher's nearest prototype (n,)} of class features z (n, d)."""
    return {m: scores.argmax(1).numpy() for m, scores in student.model.teacher.class_head(z).items()}


def k_means(database: Tensor, z: Tensor, k: int, seed: int) -> np.ndarray:
    """Return clusters (n,) of z by k-means (k centres, found on database) of rows at length 1."""
    found = KMeans(k, n_init=1, random_state=seed).fit(normalize(database, dim=1).numpy())
    return found.predict(normalize(z, dim=1).numpy())


def clustered(spec: Student, plain: Student, data: Labelled, lesson: Lesson, seed: int) -> pd.DataFrame:
    """Score the levels of ``spec`` beside k-means with the same K.

    Methods are the head's name, "HEAD, k-means of the prefix", "none, k-means" (of the whole feature of ``plain``) and
    "shuffled labels"; metrics purity, NMI, AMI and clusters by size. Between neighbouring levels, "nesting" and
    "nesting by chance", at the coarser size.
    """

    def make() -> pd.DataFrame:
        student = learned(spec, data, lesson, seed)
        f, other = states(student.encoder, data), states(learned(plain, data, lesson, seed).encoder, data)
        levels = assigned(student, f.z)
        rows = [row for m, c in levels.items() for row in _level(spec.head, m, c, f, other, student, seed)]
        return score.table(rows + _nested(spec.head, levels, len(f.y), seed))

    key = settings("levels", spec, data, lesson, seed)
    return runs.remember(key | {"plain": settings("", plain, data, lesson, seed)}, make)


def _level(
    head: str, m: int, clusters: np.ndarray, f: States, other: States, student: Learned, seed: int
) -> list[dict]:
    """Rows of one level and of its rivals at the same K."""
    k, y = student.model.teacher.class_head.counts[m], f.y.numpy()
    shuffled = np.random.default_rng(seed).permutation(y)
    found = {
        head: agreement(clusters, y),
        f"{head}, k-means of the prefix": agreement(k_means(f.database[:, :m], f.z[:, :m], k, seed), y),
        "none, k-means": agreement(k_means(other.database, other.z, k, seed), y),
        "shuffled labels": agreement(clusters, shuffled),
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
    real = {coarse: 100 * nesting(levels[coarse], levels[fine]) for coarse, fine in pairs}
    null = {coarse: 100 * nesting_null(levels[coarse], levels[fine], seed) for coarse, fine in pairs}
    rows = score.tidy(real, method=head, metric="nesting", seed=seed, n=n)
    return rows + score.tidy(null, method=head, metric="nesting by chance", seed=seed, n=n)
