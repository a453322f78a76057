"""Adaptive classification: small sizes first, larger ones only where the small are unsure (MRL, appendix D.1).

A cascade reads sizes m_1 < m_2 < ... and stops at the first whose confidence, the largest softmax probability,
is above its threshold t_m; the last always stops. Thresholds are fitted greedily, each pair of neighbouring sizes
on its own and on *all* items of a fit set: t_m is the smallest value of a grid with the highest accuracy of
"m where its confidence is above t, else the next". They are then scored on other items. A pair looks one size
ahead: where accuracy still rises steeply at large sizes, such a cascade stops too early to equal the largest.

How we differ: temperatures can be fitted first, one a size (Guo et al., ICML 2017), in the place of the paper's
averaging over a flipped image "for reliable thresholds"; they change no prediction, so no baseline needs the same
treatment. What a cascade costs is given twice, see :func:`expected_dim` and :func:`cumulative_dim`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mrl_lab import score
from mrl_lab.cuts import check_sizes
from mrl_lab.errors import RequestError

GRID = torch.linspace(0.1, 1, 100, dtype=torch.float64)  # the paper's code; its text says (0, 1)

# ---------------------------------------------------------------------------------------- confidence


def fit_temperature(logits: Tensor, y: Tensor) -> float:
    """Return the T > 0 that minimises the cross-entropy of logits / T (n, C) against labels y (n,)."""
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return cross_entropy(logits / 2.0**log_t, y).item()

    return float(2.0 ** minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 0.01}).x)


def confidence(logits: Tensor, temperatures: Tensor | None = None) -> Tensor:
    """Return the largest softmax probability (S, n) of logits (S, n, C), each size divided by its temperature (S,)."""
    if temperatures is not None:
        logits = logits / temperatures.to(logits)[:, None, None]
    return logits.double().softmax(-1).amax(-1)


# ---------------------------------------------------------------------------------------- thresholds


def fit_thresholds(confidence: Tensor, right: Tensor, grid: Tensor = GRID) -> Tensor:
    """Return t (S - 1,): for each size but the last, the smallest of ``grid`` with the highest accuracy of its pair.

    Args:
        confidence: (S, n) on the fit set, sizes rising.
        right: (S, n), whether each size predicts the item's label.
        grid: thresholds to try, within [0, 1].

    Raises:
        RequestError: fewer than two sizes, shapes that differ, or a grid outside [0, 1].
    """
    _check(confidence, right)
    grid = _in_unit_interval(grid).double().sort().values
    pairs = zip(confidence[:-1], right[:-1].long() - right[1:].long(), strict=True)
    return torch.stack([_fit_pair(sure, gain, grid) for sure, gain in pairs])


def _fit_pair(sure: Tensor, gain: Tensor, grid: Tensor) -> Tensor:
    """The smallest t with the largest sum of gain (n,) over the items that are surer (n,) than t.

    Gain is 1 where the smaller size alone is right, -1 where the larger alone is: with items in falling order of
    confidence its running sum has the answer for every t at once.
    """
    order = sure.double().sort()
    total = torch.cat([gain.new_zeros(1), gain[order.indices].flip(0).cumsum(0)])  # of the 0, 1, ..., n surest
    surer = len(sure) - torch.searchsorted(order.values, grid, right=True)  # items with sure > t
    return grid[total[surer].argmax()]  # argmax takes the first of equals, and the grid rises


def run(confidence: Tensor, predicted: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cascade's predictions (n,) and the place (n,) of the size at which each item stopped.

    A cascade that may reach place j at most needs no second run: its stops are ``stop.clamp(max=j)``.

    Args:
        confidence, predicted: (S, n), sizes rising.
        thresholds: (S - 1,) within [0, 1]; 0 always stops, 1 never does.
    """
    _check(confidence, predicted)
    if len(thresholds) != len(confidence) - 1:
        raise RequestError(f"{len(thresholds)} thresholds for {len(confidence)} sizes: give one for each but the last.")
    sure = confidence[:-1] > _in_unit_interval(thresholds)[:, None]  # (S - 1, n)
    stops = torch.cat([sure, torch.ones_like(sure[:1])])
    stop = stops.int().argmax(0)  # the first that is sure
    return at_stop(predicted, stop), stop


def at_stop(predicted: Tensor, stop: Tensor) -> Tensor:
    """Return the predictions (n,) of the sizes at place ``stop`` (n,), from predicted (S, n)."""
    return predicted.gather(0, stop[None])[0]  # (S, n) -> (1, n) -> (n,)


# --------------------------------------------------------------------------------------------- cost


def expected_dim(stop: Tensor, sizes: Sequence[int]) -> float:
    """Mean size at which items stop, sum over m of m * P(stop at m): the paper's cost.

    It is what MRL-E computes: its logits at 16 dims extend those at 8, so that reaching m costs m.
    """
    return torch.tensor(sizes, dtype=torch.float64)[stop].mean().item()


def cumulative_dim(stop: Tensor, sizes: Sequence[int]) -> float:
    """Mean of m_1 + ... + m at the stop: what separate heads (MRL) or models (FF, and an encoder each) compute."""
    return torch.tensor(sizes, dtype=torch.float64).cumsum(0)[stop].mean().item()


# --------------------------------------------------------------------------------------- evaluation


def evaluate(
    logits: Mapping[int, Tensor],
    y: Tensor,
    *,
    method: str,
    seed: int,
    splits: int = 30,
    share: float = 0.2,
    calibrate: bool = True,
) -> list[dict]:
    """Rows of cascade_top1, expected_dim and cumulative_dim, means over random splits into fit and scored items.

    ``dim`` of a row is the largest size the cascade may reach; the row of the smallest is its plain head on the
    very same items.

    Args:
        logits: {m: (n, C)}, sizes rising, of one nested model or of one model a size.
        share: part of the items that temperatures and thresholds are fitted on; the rest is scored.
        calibrate: fit a temperature for each size first.

    Raises:
        RequestError: sizes that do not rise, fewer than two, no split, or a share that leaves a side empty.
    """
    sizes = check_sizes(list(logits), max(logits, default=1))
    n_fit = round(share * len(y))
    if not 0 < n_fit < len(y) or splits < 1:
        raise RequestError(
            f"{splits} splits with a share of {share} of {len(y)} items leave nothing to fit on or to score: "
            "use 1 or more splits, and a share such as 0.2."
        )
    stacked = torch.stack(list(logits.values()))  # S x (n, C) -> (S, n, C)
    draw = torch.Generator().manual_seed(seed)
    orders = (torch.randperm(len(y), generator=draw) for _ in range(splits))
    found = [_one_split(stacked, y, o[:n_fit], o[n_fit:], sizes, calibrate) for o in orders]
    rows = []
    for i, metric in enumerate(("cascade_top1", "expected_dim", "cumulative_dim")):
        means = torch.tensor(found)[:, i].mean(0).tolist()  # (splits, 3, S) -> (splits, S) -> (S,)
        by_size = dict(zip(sizes, means, strict=True))
        rows += score.tidy(by_size, method=method, metric=metric, seed=seed, n=len(y) - n_fit)
    return rows


def _one_split(
    logits: Tensor, y: Tensor, fit: Tensor, scored: Tensor, sizes: Sequence[int], calibrate: bool
) -> list[list[float]]:
    """Accuracy, expected and cumulative dims (3 x S), capped at each size, of thresholds fitted on other items."""
    temperatures = torch.tensor([fit_temperature(one[fit], y[fit]) for one in logits]) if calibrate else None
    sure, predicted = confidence(logits, temperatures), logits.argmax(-1)  # (S, n, C) -> (S, n)
    thresholds = fit_thresholds(sure[:, fit], (predicted == y)[:, fit])
    _, stop = run(sure[:, scored], predicted[:, scored], thresholds)
    stops = [stop.clamp(max=last) for last in range(len(sizes))]
    accuracy = [score.accuracy(at_stop(predicted[:, scored], s), y[scored]) for s in stops]
    return [accuracy, [expected_dim(s, sizes) for s in stops], [cumulative_dim(s, sizes) for s in stops]]


def _check(confidence: Tensor, other: Tensor) -> None:
    if confidence.ndim != 2 or confidence.shape != other.shape:
        raise RequestError(
            f"confidence {tuple(confidence.shape)} and answers {tuple(other.shape)} must both be (sizes, items)."
        )
    if len(confidence) < 2:
        raise RequestError("a cascade needs at least two sizes: with one there is nothing to choose.")


def _in_unit_interval(thresholds: Tensor) -> Tensor:
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise RequestError(f"thresholds are probabilities from 0 to 1; got {thresholds.tolist()}.")
    return thresholds
