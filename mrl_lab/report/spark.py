"""A word-sized picture of a run for the index: score against size, one line a method, from scores.csv alone."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

SIZES = {"dim": "dims", "layer": "layers", "tokens": "tokens"}
WIDTH, HEIGHT, EDGE = 120, 32, 3  # in pixels
MOST = 4  # lines

Scores = dict[str, dict[float, float]]  # method -> size -> mean score


@dataclass(frozen=True)
class Spark:
    """Lines to draw, each as the points of an SVG polyline, the first one's method and what is seen in words."""

    lines: tuple[str, ...]
    words: str


def spark(file: Path) -> Spark | None:
    """Return the picture of the first metric that was scored at several sizes; None when there is none."""
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    for metric in dict.fromkeys(row["metric"] for row in rows):
        for size, plural in SIZES.items():
            found = _means([row for row in rows if row["metric"] == metric and row[size]], size)
            if found:
                return _draw(found, f"{metric} by {plural}")
    return None


def _means(rows: Sequence[dict], size: str) -> Scores:
    """Return the mean over all else of each method at each size; only methods with two sizes or more."""
    values: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        values[row["method"]][float(row[size])].append(float(row["value"]))
    return {m: {s: fmean(v) for s, v in sorted(at.items())} for m, at in values.items() if len(at) > 1}


def _draw(scores: Scores, what: str) -> Spark:
    first = next(iter(scores))
    some = dict(list(scores.items())[:MOST])
    sizes = sorted({size for at in some.values() for size in at})
    values = [value for at in some.values() for value in at.values()]
    low, high = min(values), max(values)
    across = (WIDTH - 2 * EDGE) / (len(sizes) - 1)
    up = (HEIGHT - 2 * EDGE) / (high - low or 1)

    def points(at: dict[float, float]) -> str:
        return " ".join(
            f"{EDGE + across * sizes.index(s):.1f},{HEIGHT - EDGE - up * (v - low):.1f}" for s, v in at.items()
        )

    ends = [f"{scores[first][s]:.1f} at {s:g}" for s in (min(scores[first]), max(scores[first]))]
    return Spark(tuple(map(points, some.values())), f"{what}: {first} {', '.join(ends)}")
