"""Contrasts: weighted sums of cells of the tidy table, computed inside every seed.

All methods share their seeds (first weights, order of the data), so that what two of them differ by is taken within a
seed and averaged afterwards. A number that is not linear in the cells enters the table as a metric of its own; a
*ratio* is a difference of logarithms (``log`` of :func:`by_seed`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mrl_lab.errors import RequestError, unknown

CELL = ("method", "layer", "dim", "tokens", "metric")  # with a seed, what names one row of the tidy table


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells, built with ``+``, ``-`` and ``*``.

    ``terms`` is ((coefficient, {column: value, ...}), ...); the value ``None`` asks for an empty field.
    """

    terms: tuple[tuple[float, Mapping[str, object]], ...]

    def __add__(self, other: Contrast) -> Contrast:
        return Contrast(self.terms + other.terms)

    def __sub__(self, other: Contrast) -> Contrast:
        return self + -1 * other

    def __rmul__(self, factor: float) -> Contrast:
        return Contrast(tuple((factor * coefficient, where) for coefficient, where in self.terms))

    def renamed(self, column: str, names: Mapping[object, object]) -> Contrast:
        """Return the same contrast of other cells: values of ``column`` in ``names`` replaced."""
        return Contrast(tuple((f, {**w, column: names.get(w.get(column), w.get(column))}) for f, w in self.terms))

    @property
    def methods(self) -> set[object]:
        """The methods that it names."""
        return {where["method"] for _, where in self.terms}


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


# --------------------------------------------------------------------------------------------- in a table


def by_seed(scores: pd.DataFrame, contrast: Contrast, log: bool = False) -> pd.DataFrame:
    """Return the weighted cells, one a column and one seed a row; NaN where a cell lacks a seed.

    Args:
        log: natural logarithms of the cells in their place; NaN where a cell is not positive.

    Raises:
        RequestError: an unknown column, or a cell that names several rows of a seed.
    """
    cells = [_cell(scores, where) for _, where in contrast.terms]
    columns = [
        f * (np.log(one.where(one > 0)) if log else one) for (f, _), one in zip(contrast.terms, cells, strict=True)
    ]
    return pd.concat(columns, axis=1, keys=range(len(columns)))


def summed(cells: pd.DataFrame) -> np.ndarray:
    """Return the sum of the cells of :func:`by_seed` at the seeds (n,) that all of them have, seeds rising."""
    return finite(cells.sort_index().sum(axis=1, skipna=False))


def finite(values: Iterable[float]) -> np.ndarray:
    """Return the values that are numbers."""
    values = np.asarray(list(values), dtype=float)
    return values[np.isfinite(values)]


def _cell(scores: pd.DataFrame, where: Mapping[str, object]) -> pd.Series:
    """Return the finite values of one cell by seed; two rows of one seed would be a cell that is not one."""
    check_columns(where, scores)
    rows = scores[np.isfinite(scores["value"].astype(float))]
    for column, value in where.items():
        rows = rows[rows[column].isna() if value is None else rows[column] == value]
    refuse_repeats(rows, ["seed"], f" in the cell {words(where)}")
    return rows.set_index("seed")["value"].astype(float)


def check_columns(columns: Iterable[str], scores: pd.DataFrame) -> None:
    """Raise a RequestError for the first column that the table does not have."""
    for column in columns:
        if column not in scores.columns:
            raise unknown("column", column, scores.columns)


def refuse_repeats(rows: pd.DataFrame, key: list[str], where: str = "") -> None:
    """Raise a RequestError where two rows agree on ``key``, and say by what to tell them apart."""
    repeated = rows[rows.duplicated(key, keep=False)]
    if len(repeated):
        differ = [c for c in CELL if c not in key and repeated[c].nunique(dropna=False) > 1]
        advice = f"say which {' and '.join(differ)}" if differ else "the same rows are there twice"
        raise RequestError(f"seed {repeated['seed'].iloc[0]} has several rows{where}: {advice}.")


def words(where: Mapping[str, object], without: Iterable[str] = ()) -> str:
    """A cell in words: "MRL top1 dim 8"."""
    plain = ("method", "metric")
    return " ".join(str(v) if k in plain else f"{k} {v}" for k, v in where.items() if k not in without)
