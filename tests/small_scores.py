"""Tidy tables made to order, for tests of intervals, contrasts and verdicts."""

import pandas as pd

from mrl_lab.schema import SCORES


def table(cells: dict[tuple, list[float]], metric: str = "top1") -> pd.DataFrame:
    """A tidy table from {(method, dim): [value of seed 0, of seed 1, ...]}."""
    rows = [
        dict.fromkeys(SCORES) | {"method": method, "dim": dim, "seed": seed, "metric": metric, "value": value}
        for (method, dim), values in cells.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=list(SCORES))


def about(mean: float, spread: float = 0.1, seeds: int = 5) -> list[float]:
    """``seeds`` values with exactly this mean, ``spread`` apart."""
    return [mean + spread * (i - (seeds - 1) / 2) for i in range(seeds)]
