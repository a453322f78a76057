"""How sizes differ in what they get right: the oracle over sizes, and which classes leave first (MRL, appendix J).

All functions read one matrix ``right`` (S, N): whether model or size s classifies item n rightly, sizes rising.

How we differ: any set of models that are not the same has an oracle above its best member. The control is the
**same function** on as many full-size models that differ in nothing but their seed, stacked to (models, N); only a
gain beyond theirs speaks of sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrl_lab.errors import RequestError

# ------------------------------------------------------------------------------------------ oracle


def accuracy(right: Tensor) -> float:
    """Per cent of items that some size gets right: who would always choose the right size scores this."""
    return _matrix(right).any(0).double().mean().item() * 100


def gain(right: Tensor) -> float:
    """Points of the oracle over the best single size: the most that choosing a size for each item could give."""
    return accuracy(right) - right.double().mean(1).max().item() * 100


def first_correct(right: Tensor) -> Tensor:
    """Per cent of items that each size is the smallest to get right, then of those that none does: (S + 1,)."""
    stop = _first(right)
    return torch.bincount(stop, minlength=len(right) + 1) / stop.numel() * 100


def expected_dim(right: Tensor, sizes: Sequence[int]) -> float:
    """Mean of the smallest size that is right, the largest counted where none is: the oracle's cost."""
    return torch.tensor([*sizes, sizes[-1]], dtype=torch.float64)[_first(right)].mean().item()


def _first(right: Tensor) -> Tensor:
    """Place (N,) of the smallest size that is right, S where none is."""
    matrix = _matrix(right)
    return torch.cat([matrix, torch.ones_like(matrix[:1])]).int().argmax(0)  # argmax takes the first of equals


# --------------------------------------------------------------------------- disagreement and voting


def disagreements(answers: Tensor) -> Tensor:
    """Per cent of items on which each two rows of answers (S, N), predictions or right/wrong, differ: (S, S)."""
    answers = _matrix(answers, least=2)
    return (answers[:, None] != answers[None]).double().mean(2) * 100  # (S, S, N) -> (S, S)


def disagreement(answers: Tensor) -> float:
    """Mean of :func:`disagreements` over all pairs of different rows."""
    table = disagreements(answers)
    return (table.sum() / (len(table) * (len(table) - 1))).item()


def majority(predicted: Tensor) -> Tensor:
    """Return the class (N,) that most of predicted (S, N) name; among equals, that of the largest size."""
    votes = (_matrix(predicted)[:, None] == predicted[None]).sum(1)  # (S, S, N) -> (S, N): who says the same
    winner = len(votes) - 1 - votes.flip(0).argmax(0)
    return predicted.gather(0, winner[None])[0]


# ----------------------------------------------------------------------------------------- classes


def by_class(right: Tensor, y: Tensor, classes: int) -> Tensor:
    """Accuracy in per cent of each size on each class: (S, classes); NaN for a class without items."""
    if len(y) != _matrix(right).shape[1]:
        raise RequestError(f"{len(y)} labels for {right.shape[1]} items: give one each.")
    members = torch.nn.functional.one_hot(y, classes).double()  # (N, C)
    return right.double() @ members / members.sum(0) * 100  # (S, N) (N, C) -> (S, C)


def trends(accuracies: Tensor, slack: float = 2.0) -> list[str]:
    """Name the trend of each class over rising sizes, from :func:`by_class` (S, C).

    "up" never falls from one size to the next, "down" never rises, "dip" falls by at most ``slack`` points, else
    "mixed". A class that never changes is "up"; one without items is "mixed".
    """
    steps = _matrix(accuracies, least=2).diff(dim=0)  # (S - 1, C)
    names = []
    for lowest, highest in zip(steps.amin(0).tolist(), steps.amax(0).tolist(), strict=True):
        holds = {"up": lowest >= 0, "down": highest <= 0, "dip": lowest >= -slack, "mixed": True}
        names.append(next(name for name, it_does in holds.items() if it_does))
    return names


def leaves_at(accuracies: Tensor, sizes: Sequence[int], share: float = 0.9) -> Tensor:
    """Return the largest size (C,) at which a class is below ``share`` of its accuracy at full size, 0 if at none.

    Going down from d, the classes with the largest value leave first.
    """
    below = _matrix(accuracies) < share * accuracies[-1]  # (S, C)
    return (below * torch.tensor(sizes)[:, None]).amax(0)


def _matrix(table: Tensor, least: int = 1) -> Tensor:
    if table.ndim != 2 or len(table) < least or not table.shape[1]:
        raise RequestError(
            f"a table (sizes, items) with at least {least} row(s) and 1 item is needed; got shape {tuple(table.shape)}."
        )
    return table
