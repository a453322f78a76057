"""Intervals over seeds and over items, paired differences, and how many seeds an interval of a given width takes.

**Over seeds.** A comparison is made inside each seed and its n values d are averaged: mean(d) ± t(n - 1) sd(d) /
sqrt(n) (Student, 1908). It speaks of training again on the same data and test set; what other test questions would
give is what :func:`bootstrap` is for.

**Seeds until it is narrow enough.** To add seeds until a claim is *decided* lets it err as often as it is looked at:
from 2.5 to 12.5 % a side with a cap of 40. To stop on the *width* does not (Stein, 1945): a pilot of n0 seeds gives
sd, N = ceil((t(n0 - 1) sd / delta)^2) seeds make the interval no wider than ± delta, and with the pilot's sd and
degrees of freedom it is exact, since a mean says nothing of the spread around it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from mrl_lab.contrasts import CELL, by_seed, check_columns, difference, finite, refuse_repeats, summed
from mrl_lab.errors import RequestError, unknown

CONFIDENCE = 0.95
PILOT, MOST = 10, 40  # seeds that say how many are needed, and the most that are run

# ----------------------------------------------------------------------------------------- intervals


@dataclass(frozen=True)
class Interval:
    """A mean of ``n`` values from ``low`` to ``high``; both are NaN where the values say nothing of their noise."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of the finite values with its t-interval.

    One value, or values that are all the same, give no interval (NaN): a width of zero would be a false promise.
    """
    values = finite(values)
    n, error = len(values), standard_error(values)
    mean = float(values.mean()) if n else math.nan
    if math.isnan(error):
        return Interval(mean, math.nan, math.nan, n)
    low, high = scipy_stats.t.interval(confidence, n - 1, loc=mean, scale=error)
    return Interval(mean, float(low), float(high), n)


def intervals(scores: pd.DataFrame, by: Sequence[str] = CELL) -> pd.DataFrame:
    """Return the mean, low, high (95 %) and number of seeds of each group of rows that agree on ``by``.

    Raises:
        RequestError: a group holds a seed twice, so its rows are not independent; filter, or add a column to ``by``.
    """
    by = list(by)
    check_columns(by, scores)
    refuse_repeats(scores, [*by, "seed"])
    groups = scores.groupby(by, dropna=False, sort=False)["value"]
    found = [(key, t_interval(values)) for key, values in groups]
    rows = [(*key, i.mean, i.low, i.high, i.n) for key, i in found]
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])


def paired(scores: pd.DataFrame, of: str, minus: str, metric: str, by: str = "dim", **where: object) -> pd.DataFrame:
    """Return the difference of two methods, paired by seed, at each value of ``by`` where they share a seed.

    Args:
        where: further columns that pick the cells, such as ``layer=6``.

    Returns:
        Columns ``by``, difference, low, high (95 % each), seeds, p (two-sided) and p_holm (over the values of ``by``).

    Raises:
        RequestError: an unknown metric, method or column, or no seed in common anywhere.
    """
    check_columns([by, *where], scores)
    for column, value in (("metric", metric), ("method", of), ("method", minus)):
        if value not in set(scores[column]):
            raise unknown(column, value, sorted(set(scores[column])))
    rows = []
    for place in sorted(scores.loc[scores["metric"] == metric, by].dropna().unique()):
        values = summed(by_seed(scores, difference(of, minus, metric, **where, **{by: place})))
        if len(values):
            i = t_interval(values)
            p = 2 * scipy_stats.t.sf(abs(i.mean) / standard_error(values), i.n - 1)
            rows.append((place, i.mean, i.low, i.high, i.n, float(p)))
    if not rows:
        raise RequestError(f"{of} and {minus} share no seed at any {by} in metric {metric!r}: nothing to compare.")
    table = pd.DataFrame(rows, columns=[by, "difference", "low", "high", "seeds", "p"])
    return table.assign(p_holm=holm(table["p"]))


def holm(p: Iterable[float]) -> np.ndarray:
    """Return p-values adjusted for their number (Holm, 1979); NaN stays NaN and is not counted.

    In rising order p_(i) times (k - i + 1), never below the one before, at most 1.
    """
    p = np.asarray(list(p), dtype=float)
    adjusted, known = np.full(len(p), math.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def bootstrap(
    values: Sequence | np.ndarray,
    minus: Sequence | np.ndarray | None = None,
    statistic: Callable[[np.ndarray], float] = np.mean,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of items (queries, pairs) with its BCa bootstrap interval (Efron, 1987).

    Args:
        values: (N,) or (N, ...), one item a row.
        minus: the same items under another model: the interval of the two statistics' difference, one draw for both.
        statistic: rows -> number, such as ``lambda pairs: spearmanr(*pairs.T).statistic``.

    Raises:
        RequestError: ``minus`` holds another number of items.
    """
    sides = [np.asarray(side) for side in (values, minus) if side is not None]
    n = len(sides[0])
    if any(len(side) != n for side in sides):
        raise RequestError(f"a paired bootstrap needs the same items twice, got {n} and {len(sides[1])}.")

    def of_items(i: np.ndarray) -> float:
        return statistic(sides[0][i]) - (statistic(sides[1][i]) if len(sides) == 2 else 0.0)

    mean = float(of_items(np.arange(n))) if n else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    how = {"n_resamples": resamples, "confidence_level": confidence, "batch": 100, "vectorized": False}
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # all draws alike: NaN
        found = scipy_stats.bootstrap((np.arange(n),), of_items, rng=np.random.default_rng(seed), **how)
    low, high = map(float, found.confidence_interval)
    return Interval(mean, low, high, n)


def stein(values: Iterable[float], pilot: int = PILOT, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of all values with the interval of a two-stage sample: the first ``pilot`` give its spread.

    With no more values than the pilot it is :func:`t_interval`.
    """
    values = finite(values)
    first = t_interval(values[:pilot], confidence)
    half = (first.high - first.low) / 2 * math.sqrt(first.n / max(1, len(values)))
    mean = float(values.mean()) if len(values) else math.nan
    return Interval(mean, mean - half, mean + half, len(values))


def seeds_needed(delta: float, sd: float, pilot: int = PILOT, confidence: float = CONFIDENCE) -> float:
    """Return how many seeds make the interval of :func:`stein` no wider than ± ``delta``; infinite for delta 0."""
    if not delta:
        return math.inf
    t = scipy_stats.t.ppf((1 + confidence) / 2, pilot - 1)
    return max(pilot, math.ceil((t * sd / delta) ** 2))


def standard_error(values: np.ndarray) -> float:
    """Return sd / sqrt(n); NaN for fewer than two values, or values that differ by no more than rounding."""
    if len(values) < 2 or np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())):
        return math.nan
    return float(scipy_stats.sem(values))
