"""Few-shot: classes told apart by the mean of one to nine examples each, classes that were never trained on too.

Nearest class mean (MRL, appendix G) in episodes: each draws n examples of every class, and asks for the class of
other pictures. The paper's finding is that fewer shots are content with fewer dims.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from mrl_lab import score
from mrl_lab.data import Labelled, Split
from mrl_lab.data.rows import first
from mrl_lab.lab import Recipe, embed, kept, trained
from mrl_lab.study.models import Model
from mrl_lab.study.pictures import Pictures

ASKED = 15  # pictures of each class that an episode asks for
CLOSE = 1.0  # points below the best within which a size is enough


def draw(classes: Sequence[int], count: int, seed: int) -> list[int]:
    """Return ``count`` of the classes, in their order; the same ones at one seed, for every method.

    Raises:
        RequestError: there are not as many.
    """
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    chosen = first(order, count, "classes to draw for episodes")
    return [classes[i] for i in chosen.sort().values.tolist()]


@kept
def few_shot(
    spec: Model,
    data: Labelled,
    unseen: Sequence[int],
    sizes: Sequence[int],
    recipe: Recipe,
    seed: int,
    *,
    shots: Sequence[int] = (1, 3, 5, 9),
    episodes: int = 200,
) -> pd.DataFrame:
    """Train without the ``unseen`` classes, then score episodes on them, and on as many seen ones, by size.

    Rows "1-shot unseen", "1-shot seen" ... (per cent, mean over episodes), and "1-shot unseen log2 dims" ...: log2 of
    the smallest size within :data:`CLOSE` points of the best. Examples and questions are test pictures.
    """
    seen = [c for c in range(len(data.classes)) if c not in set(unseen)]
    sides = {"unseen": list(unseen), "seen": draw(seen, len(unseen), seed)}
    encoder = trained(spec, Pictures(data.select(seen)), recipe, seed).encoder
    rows = []
    for word, classes in sides.items():
        test = data.select(classes).test
        z = embed(encoder, test.images)
        for n in shots:
            found = accuracies(z, test, sizes, n, episodes, seed)
            rows += _rows(found, f"{n}-shot {word}", seed, episodes)
    return score.table(rows)


def accuracies(z: Tensor, test: Split, sizes: Sequence[int], shots: int, episodes: int, seed: int) -> dict[int, float]:
    """Return {m: per cent right}, the mean over episodes with ``shots`` examples a class; z (N, d) is of ``test``."""
    random = torch.Generator().manual_seed(seed)
    total = dict.fromkeys(sizes, 0.0)
    for _ in range(episodes):
        examples, asked = _episode(test.labels, shots, random)
        found = score.nearest_class_mean(z[examples], test.labels[examples], z[asked], sizes)
        for m, predicted in found.items():
            total[m] += score.accuracy(predicted, test.labels[asked]) / episodes
    return total


def _episode(y: Tensor, shots: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return rows drawn as examples (C * shots,), and others to ask for, at most :data:`ASKED` a class."""
    order = torch.randperm(len(y), generator=random)
    order = order[y[order].sort(stable=True).indices]  # class by class, shuffled within each
    counts = y.bincount()
    place = torch.arange(len(y)) - (counts.cumsum(0) - counts)[y[order]]  # 0, 1, ... within each class
    return order[place < shots], order[(place >= shots) & (place < shots + ASKED)]


def _rows(found: dict[int, float], metric: str, seed: int, episodes: int) -> list[dict]:
    enough = min(m for m, value in found.items() if value >= max(found.values()) - CLOSE)
    needed = {"seed": seed, "metric": f"{metric} log2 dims", "value": math.log2(enough), "n": episodes}
    return [*score.tidy(found, method="", metric=metric, seed=seed, n=episodes), needed]
