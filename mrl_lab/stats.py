"""Statistics of claims: intervals over seeds, paired differences, and verdicts computed from the tidy table.

**Interval.** All methods share their seeds (first weights, order of the data), so a comparison is made inside each
seed and its n values d are averaged: mean(d) ± t(n - 1) sd(d) / sqrt(n) (Student, 1908). It speaks of training again
on the same data and test set; what other test questions would give is what :func:`bootstrap` is for.

**Claim.** Data, not code: conditions that must **all** hold, each a linear contrast of cells of the table against a
bound. A number that is not linear (a best size, a ratio of times) enters the table as a metric of its own.

**Verdict.** :data:`RULE`. "Every condition holds" is an intersection-union test (Berger, 1982): each condition at its
own 95 % is enough, since a false claim is called shown only if a condition that is false errs, which happens in at
most 2.5 % of cases. "Some condition fails" is a union: k conditions are k chances to err, so that side uses intervals
of confidence 1 - 0.05/k (Bonferroni; whether *any* fails is Holm's first step, hence the same answer).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from mrl_lab.errors import RequestError, unknown
from mrl_lab.schema import CLAIMS, INCONCLUSIVE, NOT_SHOWN, SHOWN

CONFIDENCE = 0.95
CELL = ("method", "layer", "dim", "tokens", "metric")  # with a seed, what names one row of the tidy table
RULE = (
    "A claim is a list of conditions. Each is computed inside every seed and averaged over the seeds, with its 95 % "
    "t-interval. The claim is **shown** if every condition's interval lies on the right side of its bound; **not "
    "shown** if some condition's interval, widened for the number of conditions (Bonferroni), lies wholly on the "
    "wrong side; **inconclusive** otherwise, and always with a score missing or fewer than three seeds. *Ours*, *low* "
    "and *high* are those of the condition that decides, the one nearest to its bound in standard errors. Costs and "
    "counts, which no noise touches, are compared as they are. A first look (budget *seconds*) judges no claim."
)

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
    values = _finite(values)
    n, error = len(values), _standard_error(values)
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
    _check_columns(by, scores)
    _refuse_repeats(scores, [*by, "seed"])
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
    _check_columns([by, *where], scores)
    for column, value in (("metric", metric), ("method", of), ("method", minus)):
        if value not in set(scores[column]):
            raise unknown(column, value, sorted(set(scores[column])))
    rows = []
    for place in sorted(scores.loc[scores["metric"] == metric, by].dropna().unique()):
        values = _contrast(_by_seed(scores, difference(of, minus, metric, **where, **{by: place}).terms))
        if len(values):
            i = t_interval(values)
            p = 2 * scipy_stats.t.sf(abs(i.mean) / _standard_error(values), i.n - 1)
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


def seeds_needed(distance: float, sd: float, confidence: float = CONFIDENCE, most: int = 1000) -> int | None:
    """Return the fewest seeds, 3 to ``most``, whose t-interval reaches less than ``distance`` to either side."""
    n = np.arange(3, most + 1)
    half = scipy_stats.t.ppf((1 + confidence) / 2, n - 1) * sd / np.sqrt(n)
    enough = n[half < distance]
    return int(enough[0]) if len(enough) else None


def _finite(values: Iterable[float]) -> np.ndarray:
    values = np.asarray(list(values), dtype=float)
    return values[np.isfinite(values)]


def _standard_error(values: np.ndarray) -> float:
    """sd / sqrt(n); NaN for fewer than two values, or values that differ by no more than rounding."""
    if len(values) < 2 or np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())):
        return math.nan
    return float(scipy_stats.sem(values))


# --------------------------------------------------------------------------------------------- cells


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells, built with ``+``, ``-`` and ``*``; a bound makes it a :class:`Condition`.

    ``terms`` is ((coefficient, {column: value, ...}), ...); the value ``None`` asks for an empty field.
    """

    terms: tuple[tuple[float, Mapping[str, object]], ...]

    def __add__(self, other: Contrast) -> Contrast:
        return Contrast(self.terms + other.terms)

    def __sub__(self, other: Contrast) -> Contrast:
        return self + -1 * other

    def __rmul__(self, factor: float) -> Contrast:
        return Contrast(tuple((factor * coefficient, where) for coefficient, where in self.terms))

    def must(
        self, *, above: float | None = None, below: float | None = None, name: str = "", exact: bool = False
    ) -> Condition:
        """Return the condition that this contrast lies above, below, or between the two."""
        return Condition(self.terms, above, below, name, exact)


def cell(method: str, metric: str, **where: object) -> Contrast:
    """One cell of the table, such as ``cell("MRL", "top1", dim=8)``."""
    return Contrast(((1.0, {"method": method, "metric": metric, **where}),))


def difference(of: str, minus: str, metric: str, **where: object) -> Contrast:
    """``of`` minus ``minus`` in one cell."""
    return cell(of, metric, **where) - cell(minus, metric, **where)


def average(contrasts: Iterable[Contrast]) -> Contrast:
    """The mean of contrasts, such as of the differences at each size."""
    contrasts = list(contrasts)
    return 1 / len(contrasts) * Contrast(tuple(term for contrast in contrasts for term in contrast.terms))


def off_the_line(method: str, metric: str, size: int, left: int, right: int, by: str = "dim") -> Contrast:
    """How far the score at ``size`` lies above the line, straight in log2 of the size, from ``left`` to ``right``."""
    share = math.log2(size / left) / math.log2(right / left)
    at = {m: cell(method, metric, **{by: m}) for m in (size, left, right)}
    return at[size] - (1 - share) * at[left] - share * at[right]


def _by_seed(scores: pd.DataFrame, terms: Sequence[tuple[float, Mapping[str, object]]]) -> pd.DataFrame:
    """Return the weighted cells, one a column and one seed a row; NaN where a cell lacks a seed."""
    columns = [factor * _cell(scores, where) for factor, where in terms]
    return pd.concat(columns, axis=1, keys=range(len(columns)))


def _contrast(by_seed: pd.DataFrame) -> np.ndarray:
    """Return the sum of the cells at the seeds (n,) that all of them have."""
    return _finite(by_seed.sum(axis=1, skipna=False))


def _cell(scores: pd.DataFrame, where: Mapping[str, object]) -> pd.Series:
    """Return the finite values of one cell by seed; two rows of one seed would be a cell that is not one."""
    _check_columns(where, scores)
    rows = scores[np.isfinite(scores["value"].astype(float))]
    for column, value in where.items():
        rows = rows[rows[column].isna() if value is None else rows[column] == value]
    _refuse_repeats(rows, ["seed"], f" in the cell {_words(where)}")
    return rows.set_index("seed")["value"].astype(float)


def _check_columns(columns: Iterable[str], scores: pd.DataFrame) -> None:
    for column in columns:
        if column not in scores.columns:
            raise unknown("column", column, scores.columns)


def _refuse_repeats(rows: pd.DataFrame, key: list[str], where: str = "") -> None:
    repeated = rows[rows.duplicated(key, keep=False)]
    if len(repeated):
        differ = [c for c in CELL if c not in key and repeated[c].nunique(dropna=False) > 1]
        advice = f"say which {' and '.join(differ)}" if differ else "the same rows are there twice"
        raise RequestError(f"seed {repeated['seed'].iloc[0]} has several rows{where}: {advice}.")


def _words(where: Mapping[str, object], without: Iterable[str] = ()) -> str:
    """A cell in words: "MRL top1 dim 8"."""
    plain = ("method", "metric")
    return " ".join(str(v) if k in plain else f"{k} {v}" for k, v in where.items() if k not in without)


# -------------------------------------------------------------------------------------------- claims


@dataclass(frozen=True)
class Condition:
    """A contrast of cells and the bounds it must keep: at least ``above``, at most ``below``.

    Attributes:
        terms: as in :class:`Contrast`.
        above, below: one or both; both make an equivalence ("within one point").
        name: how the page calls it; made from the terms if empty.
        exact: a cost or a count that no noise touches, compared as it is with any number of seeds.
    """

    terms: tuple[tuple[float, Mapping[str, object]], ...]
    above: float | None = None
    below: float | None = None
    name: str = ""
    exact: bool = False

    def __post_init__(self) -> None:
        low, high = self.limits
        if not self.terms or not low < high or (low, high) == (-math.inf, math.inf):
            raise RequestError(
                f"condition {self.name!r} needs terms and a bound, above= or below= or a lower and a higher one; "
                f"got {len(self.terms)} terms, above={self.above}, below={self.below}."
            )

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value that keep the bounds."""
        return -math.inf if self.above is None else self.above, math.inf if self.below is None else self.below

    @property
    def title(self) -> str:
        """``name``, or the terms in words: what differs between cells, then in brackets what they share."""
        cells = [where for _, where in self.terms]
        shared = {k: v for k, v in cells[0].items() if all(where.get(k, ...) == v for where in cells)}
        if self.name or len(cells) == 1:
            return self.name or _words(shared)
        if len(cells) > 4:
            return f"{len(cells)} cells ({_words(shared)})"
        signed = [("− " if f < 0 else "+ ") + ("" if abs(f) == 1 else f"{abs(f):.3g} × ") for f, _ in self.terms]
        parts = [sign + _words(where, shared) for sign, where in zip(signed, cells, strict=True)]
        return f"{' '.join(parts).removeprefix('+ ')} ({_words(shared)})"

    @property
    def bound(self) -> str:
        """The bounds in words: "≥ −1", "≤ 2" or "−1 to 1"."""
        low, high = (f"{b:g}".replace("-", "−") for b in self.limits)
        return f"≤ {high}" if self.above is None else f"≥ {low}" if self.below is None else f"{low} to {high}"

    def margin(self, value: float) -> float:
        """How far ``value`` is inside the nearest bound; negative outside."""
        low, high = self.limits
        return min(value - low, high - value)

    def verdict(self, interval: Interval, wide: Interval) -> str:
        """Shown if the interval lies inside the bounds, not shown if the wide one lies wholly outside."""
        low, high = self.limits
        if interval.low >= low and interval.high <= high:
            return SHOWN
        return NOT_SHOWN if wide.high < low or wide.low > high else INCONCLUSIVE


@dataclass(frozen=True)
class Claim:
    """What a paper says, its own figure in words, and the conditions that must all hold."""

    id: str | int
    text: str
    paper: str
    conditions: Sequence[Condition]
    note: str = ""

    def __post_init__(self) -> None:
        if not self.conditions:
            raise RequestError(f"claim {self.id} has no condition, so nothing could contradict it.")


# ------------------------------------------------------------------------------------------ verdicts


def judge(claims: Sequence[Claim], scores: pd.DataFrame, budget: str, min_seeds: int = 3) -> pd.DataFrame:
    """Return the verdicts by :data:`RULE`, with exactly the columns of ``claims.csv``.

    Raises:
        RequestError: two claims with one id, an unknown column, or a cell that names several rows of a seed.
    """
    ids = [str(claim.id) for claim in claims]
    if len(set(ids)) < len(ids):
        raise RequestError(f"each claim needs an id of its own, got {', '.join(ids)}.")
    rows = [_judge_one(claim, scores, budget, min_seeds) for claim in claims]
    return pd.DataFrame(rows, columns=list(CLAIMS))


def detail(claims: Sequence[Claim], scores: pd.DataFrame, min_seeds: int = 3) -> pd.DataFrame:
    """Return one row a condition: claim, condition, bound, mean, low, high, seeds, p, verdict, note.

    ``p`` is one-sided, against the nearest bound: below 0.025 where the 95 % interval clears that bound.
    """
    rows = [{"claim": claim.id} | row for claim in claims for row in _conditions(claim, scores, min_seeds)]
    return pd.DataFrame(rows).drop(columns=["distance", "needs"])


def _judge_one(claim: Claim, scores: pd.DataFrame, budget: str, min_seeds: int) -> dict:
    rows = _conditions(claim, scores, min_seeds)
    found = {row["verdict"] for row in rows}
    verdict = NOT_SHOWN if NOT_SHOWN in found else INCONCLUSIVE if INCONCLUSIVE in found else SHOWN
    alike = [row for row in rows if row["verdict"] == verdict]
    decides = min(alike, key=lambda row: (math.isnan(row["distance"]), row["distance"]))
    note = _explain(verdict, decides, alike)
    if budget == "seconds":
        verdict, note = INCONCLUSIVE, "a first look judges no claim"
    told = {"id": claim.id, "claim": claim.text, "paper": claim.paper, "ours": decides["mean"]}
    numbers = {name: decides[name] for name in ("low", "high", "seeds")}
    return told | numbers | {"verdict": verdict, "note": f"{claim.note} {note}".strip()}


def _explain(verdict: str, decides: dict, alike: list[dict]) -> str:
    """Return the note: the condition that decides, the others like it, what would settle it, what is missing."""
    lead = {SHOWN: "nearest", NOT_SHOWN: "fails", INCONCLUSIVE: "open"}[verdict]
    parts = [f"{lead}: {decides['condition']}, bound {decides['bound']}"]
    others = [row["condition"] for row in alike if row is not decides]
    if others and verdict != SHOWN:
        parts.append(f"also {', '.join(others[:4])}" + (f" and {len(others) - 4} more" if len(others) > 4 else ""))
    needs = [row["needs"] for row in alike if row["needs"]]
    if needs:
        seeds = f"about {max(needs)} seeds" if max(needs) < math.inf else "not even 1000 seeds"
        parts.append(f"{seeds} would settle it if mean and spread stay")
    return "; ".join(dict.fromkeys(parts + [row["note"] for row in alike if row["note"]]))


def _conditions(claim: Claim, scores: pd.DataFrame, min_seeds: int) -> list[dict]:
    noisy = sum(not condition.exact for condition in claim.conditions)
    return [_weigh(condition, scores, max(1, noisy), min_seeds) for condition in claim.conditions]


def _weigh(condition: Condition, scores: pd.DataFrame, family: int, min_seeds: int) -> dict:
    """Return one condition's row of :func:`detail`, and its ``distance`` to the bound and the seeds it ``needs``."""
    by_seed = _by_seed(scores, condition.terms)
    values, strict = _contrast(by_seed), 1 - (1 - CONFIDENCE) / family
    interval, wide = (_range(values),) * 2 if condition.exact else (t_interval(values), t_interval(values, strict))
    few = interval.n < (1 if condition.exact else min_seeds)
    verdict = INCONCLUSIVE if few else condition.verdict(interval, wide)
    error, margin = _standard_error(values), condition.margin(interval.mean)
    open_ = verdict == INCONCLUSIVE and not (few or condition.exact or math.isnan(error))
    needs = seeds_needed(abs(margin), float(values.std(ddof=1)), CONFIDENCE if margin > 0 else strict) if open_ else 0
    p = math.nan if condition.exact else float(scipy_stats.t.sf(margin / error, interval.n - 1))
    row = {"condition": condition.title, "bound": condition.bound, "mean": interval.mean, "low": interval.low}
    row |= {"high": interval.high, "seeds": interval.n, "p": p, "verdict": verdict}
    row["note"] = _trouble(condition, by_seed, interval, min_seeds)
    return row | {"distance": margin / error, "needs": math.inf if needs is None else needs}


def _range(values: np.ndarray) -> Interval:
    """From the least to the greatest value: the interval of a number that no noise touches."""
    if not len(values):
        return Interval(math.nan, math.nan, math.nan, 0)
    return Interval(float(values.mean()), float(values.min()), float(values.max()), len(values))


def _trouble(condition: Condition, by_seed: pd.DataFrame, interval: Interval, min_seeds: int) -> str:
    """Return what is wrong with the scores of a condition, in words, or an empty string."""
    absent = [_words(where) for (_, where), empty in zip(condition.terms, by_seed.isna().all(), strict=True) if empty]
    if absent:
        return f"no score for {', '.join(absent)}"
    if condition.exact:
        return ""
    shared = f" in every cell, of {len(by_seed)}" if interval.n < len(by_seed) else ""
    if interval.n < min_seeds:
        return f"seeds{shared}: {interval.n}, at least {min_seeds} are needed"
    if math.isnan(interval.low):
        return "all seeds gave the same value, so their noise is unknown"
    return f"seeds{shared}: {interval.n}" if shared else ""
