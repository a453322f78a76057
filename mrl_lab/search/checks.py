"""What a search refuses, in words, before it begins: one check of tables, queries and numbers for every search.

A table is checked by the lengths of its rows. NaN, infinite and overflowing values leave their row without a finite
length, and reading lengths needs no second table of the same size. 20,000 x 384 float32, one thread, medians in turn:
1.7 ms, where ``isfinite`` takes 55 ms, and the search itself 17 ms for one query, 32 ms for 16 and 190 ms for 256. Rows
that are searched again and again are checked once: keep what :func:`mrl_lab.search.store` returns.
"""

from __future__ import annotations

import operator
import warnings

import numpy as np
import torch
from torch import Tensor

from mrl_lab.errors import RequestError

Rows = Tensor | np.ndarray  # (N, m), floating point
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
BLOCK = 2**12  # rows whose lengths are taken at once: half the time of all 20,000 at once
LONGEST = 1e18  # of a row; the product of two such is still a float32
SHORTEST = 1e-12  # of a row that is not zeros; what is shorter counts as zeros where rows are normalised


def table(given: Rows, what: str = "database") -> Tensor:
    """Return rows (N, m) as a tensor that shares their memory, if every one of them can be searched.

    Rows of zeros may stand in it: a prefix of a feature after a ReLU may well be one. They are like nothing.

    Raises:
        RequestError: names what is given instead of a table of floating point numbers, or the first row that holds
            NaN or infinite values or is too long or too short for float32.
    """
    rows = floats(given, what)
    if rows.ndim != 2 or not rows.shape[1]:
        raise RequestError(f"{what}: a table (rows, dims) of floating point numbers, got {tuple(rows.shape)}.")
    long = lengths(rows)
    _refuse(~(long <= LONGEST), long, what)  # also where it is NaN, which compares with nothing
    short = long < SHORTEST
    if short.any():
        short[short.clone()] = (rows[short] != 0).any(1)
        _refuse(short, long, what)
    return rows


def database(given: Rows) -> Tensor:
    """:func:`table` of one row or more."""
    rows = table(given)
    if not len(rows):
        raise RequestError("a database of 0 rows: there is nothing to search.")
    return rows


def asked(queries: Rows, shape: tuple[int, int], k: int, available: int | None = None) -> Tensor:
    """Return queries (Q, m) as a tensor, if they and ``k`` fit a database of that shape; see :func:`table`."""
    found = floats(queries, "queries")
    if found.ndim != 2 or len(shape) != 2 or found.shape[1] != shape[1]:
        raise RequestError(
            f"queries {tuple(found.shape)} and database {tuple(shape)} must be tables of the same width."
        )
    neighbours(k, shape[0] if available is None else available)
    return table(found, "queries")


def neighbours(k: int, available: int) -> int:
    """Return ``k`` if it is a whole number from 1 to the rows available."""
    if _index(k) is None or not 1 <= k <= available:
        raise RequestError(f"k = {k} neighbours asked of {available} rows: use 1 to {available}.")
    return _index(k)


def number(name: str, value: int, least: int = 1, most: int | None = None) -> int:
    """Return ``value`` if it is a whole number within bounds."""
    if _index(value) is None or value < least or (most is not None and value > most):
        raise RequestError(f"{name} = {value!r}: a whole number from {least}{f' to {most}' if most else ''}.")
    return _index(value)


def same_place(queries: Tensor, rows: Tensor) -> None:
    """Refuse queries that lie on another device than the rows."""
    if queries.device != rows.device:
        raise RequestError(f"queries are on {queries.device}, the database on {rows.device}: move one with .to(...).")


def row_numbers(given: Tensor | np.ndarray, axes: int, queries: int, rows: int, what: str) -> Tensor:
    """Return row numbers of a database as an int64 tensor of so many axes, the first of them the queries'."""
    ids = torch.as_tensor(given)
    whole = not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
    fits = whole and ids.ndim == axes and len(ids) == queries
    if not fits or (ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < rows):
        raise RequestError(
            f"{what} {tuple(ids.shape)} {ids.dtype}: row numbers, whole and from 0 to {rows - 1}, a line for each of "
            f"{queries} queries."
        )
    return ids.long()


def candidates(given: Tensor | np.ndarray, queries: int, rows: int) -> Tensor:
    """Return candidates (Q, K), rising in each line, if they are row numbers, each once a line."""
    ids = row_numbers(given, 2, queries, rows, "candidates").sort(dim=1).values
    twice = (ids.diff(dim=1) == 0).any(1)
    if twice.any():
        raise RequestError(f"candidates of query {int(twice.nonzero()[0, 0])} name a row twice: give each once.")
    return ids


def lengths(rows: Tensor) -> Tensor:
    """Return the lengths (N,) of rows (N, m), in float32 at least."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    return torch.cat([torch.linalg.vector_norm(block.to(wide), dim=1) for block in rows.split(BLOCK)])


def unit(rows: Tensor, within: float = 1e-3) -> bool:
    """Whether all rows (N, m) have length 1, or are zeros."""
    long = lengths(rows)
    return bool((((long - 1).abs() < within) | (long == 0)).all())


def gathered(long: Tensor, ids: Tensor) -> None:
    """Refuse rows ids (q, K) that were gathered, by their lengths (q, K)."""
    if not long.max() <= LONGEST:
        bad = ~(long <= LONGEST)
        raise _unsound("database", int(ids[bad].min()), 0, float(long[bad][0]))


def _refuse(bad: Tensor, long: Tensor, what: str) -> None:
    if bad.any():
        row = int(bad.nonzero()[0, 0])
        raise _unsound(what, row, int(bad.sum()) - 1, float(long[row]))


def _unsound(what: str, row: int, more: int, long: float) -> RequestError:
    where = f"{what}, row {row}{f' and {more} more' if more else ''}"
    if 0 <= long < np.inf:
        return RequestError(
            f"{where}: a length of {long:.1g}, outside {SHORTEST:g} to {LONGEST:g}: scale all rows alike."
        )
    return RequestError(f"{where}: NaN, infinite or overflowing values: mend or leave out.")


def floats(given: Rows, what: str) -> Tensor:
    """Return a tensor of floating point numbers of any shape, which shares the memory of what is given."""
    if isinstance(given, np.ndarray) and given.dtype.kind == "f" and not isinstance(given, np.ma.MaskedArray):
        given = _of_numpy(given)
    if not isinstance(given, Tensor) or given.layout != torch.strided or given.dtype not in FLOATS:
        kind = f"{type(given).__name__} {getattr(given, 'dtype', '')}".strip()
        raise RequestError(
            f"{what}: a torch tensor or numpy array of floating point numbers, got {kind}: use .float()."
        )
    return given.detach()


def _of_numpy(array: np.ndarray) -> Tensor:
    """Share the memory where torch can: not with foreign byte orders, extended precision or steps backwards."""
    array = array.astype(f"f{min(array.itemsize, 8)}", copy=False)
    if any(step < 0 for step in array.strides):
        array = array.copy()
    with warnings.catch_warnings():  # nothing is written into a read-only (memory-mapped) array here
        warnings.filterwarnings("ignore", message=".*not writable")
        return torch.from_numpy(array)


def _index(value: object) -> int | None:
    """A whole number as an int, else None."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
