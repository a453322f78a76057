"""Claims as data, and verdicts on them computed from the tidy table by one rule (:data:`RULE`).

A :class:`Claim` says one thing: a contrast with a name, a unit and a bound, and ``delta``, the smallest difference
that matters. Bound and delta are written before the seeds that judge are looked at. What else there is to know of it
are side conditions, told below it and no part of the verdict.

**Every size.** A claim that speaks of all sizes is a band: each of its k contrasts has an interval of confidence
1 - 0.05/k (Bonferroni), so that all of them hold together with 95 %; it shows the size that decides.

**Times.** A condition whose unit is "times" is computed in logarithms, as a ratio of cells: its figure is a geometric
mean, its bound and delta are factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from mrl_lab import stats
from mrl_lab.contrasts import Contrast, by_seed, summed, words
from mrl_lab.errors import RequestError
from mrl_lab.schema import AT_THE_BOUND, CLAIMS, CONTRADICTED, SHOWN, UNDECIDED, bounds
from mrl_lab.stats import CONFIDENCE, Interval

FEWEST = 3  # seeds without which nothing that noise touches is judged
SEVERE = (CONTRADICTED, UNDECIDED, AT_THE_BOUND, SHOWN)  # of several parts the first that occurs decides
TIMES = "times"
RULE = (  # as HTML has it, for the pages
    "A claim is one contrast, with its unit, computed inside every seed and averaged over the seeds, with its 95 % "
    "t-interval; where it speaks of every size, the intervals hold for all sizes together (Bonferroni), and the size "
    "that decides is shown. It is <b>shown</b> if the interval lies on the claim's side of its bound, "
    "<b>contradicted</b> if it lies on the other, <b>at the bound</b> if it holds the bound and reaches no farther "
    "than <i>delta</i>, the smallest difference that matters: the effect is known, and it is that small. Else it is "
    "<b>undecided</b>, and always with a score missing or fewer than three seeds. Side conditions are told with their "
    "own intervals and are no part of the verdict. Costs and counts, which no noise touches, are compared as they "
    "are. A first look (budget <i>seconds</i>) judges no claim."
)


@dataclass(frozen=True)
class Condition:
    """A contrast and its bound: at least ``above``, at most ``below``; both make an equivalence ("within one point").

    Attributes:
        of: a contrast, or several by the name of the size that each speaks of: all must keep the bound.
        name: how the page calls the quantity.
        unit: of the quantity, the bounds and delta; "times" for a ratio, see the head of this module.
        delta: the smallest difference that matters, in the unit; a factor for "times".
        exact: a cost or a count that no noise touches, compared as it is with any number of seeds.
    """

    of: Contrast | Mapping[str, Contrast]
    name: str
    above: float | None = None
    below: float | None = None
    unit: str = "points"
    delta: float = 1.0
    exact: bool = False

    def __post_init__(self) -> None:
        low, high = self.limits
        least = 1 if self.unit == TIMES else 0
        if not self.parts or not low < high or (low, high) == (-math.inf, math.inf):
            raise RequestError(
                f"condition {self.name!r} needs a contrast and a bound, above= or below= or a lower and a higher one; "
                f"got {len(self.parts)} contrasts, above={self.above}, below={self.below}."
            )
        if not self.exact and not self.delta > least:
            raise RequestError(
                f"condition {self.name!r}: delta is the smallest difference that matters, more than {least} for "
                f"the unit {self.unit}; got {self.delta}."
            )

    @property
    def parts(self) -> Mapping[str, Contrast]:
        parts = {"": self.of} if isinstance(self.of, Contrast) else self.of
        return {name: part for name, part in parts.items() if part.terms}

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value that keep the bounds."""
        return -math.inf if self.above is None else self.above, math.inf if self.below is None else self.below

    @property
    def bound(self) -> str:
        """The bounds in words."""
        return bounds(self.above, self.below)

    def holds(self, value: float) -> bool:
        """Whether a value, such as a paper's own figure, keeps the bounds."""
        low, high = self.limits
        return low <= value <= high

    def margin(self, value: float) -> float:
        """How far ``value`` is inside the nearest bound, negative outside; in logarithms for "times"."""
        low, high = self.limits
        if self.unit == TIMES:
            value, low, high = (_log(number) for number in (value, low, high))
        return min(value - low, high - value)

    def verdict(self, interval: Interval) -> str:
        """Return what an interval of the quantity says of the bounds."""
        low, high = self.limits
        if interval.low >= low and interval.high <= high:
            return SHOWN
        if interval.high < low or interval.low > high:
            return CONTRADICTED
        narrow = interval.low >= self._off(interval.mean, -1) and interval.high <= self._off(interval.mean, 1)
        return AT_THE_BOUND if narrow else UNDECIDED  # also where there is no interval: NaN compares as false

    def _off(self, value: float, side: int) -> float:
        return value * self.delta**side if self.unit == TIMES else value + side * self.delta


@dataclass(frozen=True)
class Claim:
    """What a paper says, its own figure in words, and the one condition that decides.

    Attributes:
        sides: what else is told of it, no part of the verdict.
        figure: the paper's own figure in the unit of ``what``, where it gives one.
        headline: whether the paper's abstract stands or falls with it.
    """

    id: str | int
    text: str
    paper: str
    what: Condition
    sides: Sequence[Condition] = ()
    figure: float | None = None
    headline: bool = False
    note: str = ""


# ------------------------------------------------------------------------------------------ verdicts


def judge(claims: Sequence[Claim], scores: pd.DataFrame, budget: str) -> pd.DataFrame:
    """Return the verdicts by :data:`RULE`, with exactly the columns of ``claims.csv``.

    At ``night`` seeds are added until intervals are narrow enough, so there they are those of :func:`stats.stein`.

    Raises:
        RequestError: two claims with one id, an unknown column, or a cell that names several rows of a seed.
    """
    ids = [str(claim.id) for claim in claims]
    if len(set(ids)) < len(ids):
        raise RequestError(f"each claim needs an id of its own, got {', '.join(ids)}.")
    table = pd.DataFrame([_judged(claim, scores, budget) for claim in claims], columns=list(CLAIMS))
    return table.astype({name: kind for name, kind in CLAIMS.items() if kind == "float64"})


def detail(claims: Sequence[Claim], scores: pd.DataFrame, budget: str) -> pd.DataFrame:
    """Return one row a contrast, the sides' as well: claim, part, condition, bound, unit, mean, low, high, seeds, p,
    verdict, note.

    ``p`` is two-sided, against the nearest bound: below 0.05 over the number of sizes where the interval clears it.
    """
    rows = []
    for claim in claims:
        for part, condition in [("claim", claim.what), *(("side", side) for side in claim.sides)]:
            rows += [{"claim": claim.id, "part": part} | row for row in _weighed(condition, scores, budget)]
    return pd.DataFrame(rows).drop(columns=["margin", "needs"])


def seeds_wanted(claims: Sequence[Claim], scores: pd.DataFrame) -> int:
    """Return how many seeds bring the interval of every claim within its delta, by the spread of the first few.

    At least :data:`stats.PILOT`, at most :data:`stats.MOST`; what would take more stays open and says so.
    """
    needs = [row["needs"] for claim in claims for row in _weighed(claim.what, scores, "night")]
    return max([stats.PILOT, *(int(n) for n in needs if n <= stats.MOST)])


def _judged(claim: Claim, scores: pd.DataFrame, budget: str) -> dict:
    rows = _weighed(claim.what, scores, budget)
    verdict = next(word for word in SEVERE if word in {row["verdict"] for row in rows})
    alike = [row for row in rows if row["verdict"] == verdict]
    decides = min(alike, key=lambda row: (math.isnan(row["margin"]), row["margin"]))
    note = _explained(verdict, decides)
    if budget == "seconds":
        verdict, note = UNDECIDED, "a first look judges no claim"
    told = {"id": claim.id, "claim": claim.text, "paper": claim.paper, "ours": decides["mean"]}
    told |= {"what": decides["condition"], "headline": claim.headline, "paper_value": claim.figure}
    told |= {name: decides[name] for name in ("unit", "low", "high", "seeds", "p")}
    told |= {name: getattr(claim.what, name) for name in ("above", "below")}
    told["delta"] = None if claim.what.exact else claim.what.delta
    return told | {"verdict": verdict, "note": f"{claim.note} {note}".strip()}


def _explained(verdict: str, row: dict) -> str:
    """Return the note: the bound, what would bring the interval within delta, what is missing."""
    parts = [f"bound {row['bound']}"]
    if verdict == UNDECIDED and row["needs"]:
        seeds = f"about {row['needs']} seeds" if row["needs"] <= 1000 else "not even 1000 seeds"
        parts.append(f"{seeds} would bring the interval within delta")
    return "; ".join(filter(None, [*parts, row["note"]]))


def _weighed(condition: Condition, scores: pd.DataFrame, budget: str) -> list[dict]:
    return [_weigh(condition, name, scores, budget) for name in condition.parts]


def _weigh(condition: Condition, part: str, scores: pd.DataFrame, budget: str) -> dict:
    """Return one contrast's row of :func:`detail`, its ``margin`` in standard errors, and the seeds it ``needs``."""
    log, family = condition.unit == TIMES, len(condition.parts)
    cells = by_seed(scores, condition.parts[part], log)
    values, strict = summed(cells), 1 - (1 - CONFIDENCE) / family
    pilot = max(1, min(len(values), stats.PILOT if budget == "night" else len(values)))
    inner = _range(values) if condition.exact else stats.stein(values, pilot, strict)
    interval = _exp(inner) if log else inner
    few = interval.n < (1 if condition.exact else FEWEST)
    verdict = UNDECIDED if few else condition.verdict(interval)
    error, margin = stats.standard_error(values[:pilot]), condition.margin(interval.mean)
    p = math.nan if condition.exact else _p(margin * math.sqrt(interval.n / pilot) / error, pilot, family)
    delta = math.log(condition.delta) if log else condition.delta
    needs = (
        0 if few or math.isnan(error) else stats.seeds_needed(delta, float(values[:pilot].std(ddof=1)), pilot, strict)
    )
    name = f"{condition.name}, {part}" if part else condition.name
    row = {"condition": name, "bound": condition.bound, "unit": condition.unit, "mean": interval.mean}
    row |= {"low": interval.low, "high": interval.high, "seeds": interval.n, "p": p, "verdict": verdict}
    note = _trouble(condition, condition.parts[part], cells, interval)
    return row | {"note": note, "margin": margin if condition.exact else margin / error, "needs": needs}


def _p(t: float, pilot: int, family: int) -> float:
    return min(1.0, 2 * family * float(scipy_stats.t.sf(abs(t), pilot - 1))) if pilot > 1 else math.nan


def _range(values: np.ndarray) -> Interval:
    """From the least to the greatest value: the interval of a number that no noise touches."""
    if not len(values):
        return Interval(math.nan, math.nan, math.nan, 0)
    return Interval(float(values.mean()), float(values.min()), float(values.max()), len(values))


def _exp(of: Interval) -> Interval:
    return Interval(math.exp(of.mean), math.exp(of.low), math.exp(of.high), of.n)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _trouble(condition: Condition, contrast: Contrast, cells: pd.DataFrame, interval: Interval) -> str:
    """Return what is wrong with the scores of a contrast, in words, or an empty string."""
    empty = zip(contrast.terms, cells.isna().all(), strict=True)
    absent = [words(where) for (_, where), none in empty if none]
    if absent:
        return f"no score for {', '.join(absent)}"
    if condition.exact:
        return ""
    shared = f" in every cell, of {len(cells)}" if interval.n < len(cells) else ""
    if interval.n < FEWEST:
        return f"seeds{shared}: {interval.n}, at least {FEWEST} are needed"
    if math.isnan(interval.low):
        return "all seeds gave the same value, so their noise is unknown"
    return f"seeds{shared}: {interval.n}" if shared else ""
