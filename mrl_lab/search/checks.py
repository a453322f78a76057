"""What a search refuses, in words, before it begins."""

from __future__ import annotations

import torch
from torch import Tensor

from mrl_lab.errors import RequestError


def request(queries: Tensor, database: tuple[int, ...], k: int, available: int) -> None:
    """Refuse queries that do not fit a database of that shape, or are not finite, and a k above the rows available."""
    if queries.ndim != 2 or len(database) != 2 or queries.shape[1] != database[1]:
        raise RequestError(f"queries {tuple(queries.shape)} and database {database} must be tables of the same width.")
    if not 1 <= k <= available:
        raise RequestError(f"k = {k} neighbours asked of {available} rows: use 1 to {available}.")
    finite(queries)


def finite(table: Tensor) -> None:
    """Refuse NaN and infinite values; by blocks, since looking takes twice the memory of what is looked at."""
    if not all(block.isfinite().all() for block in table.split(2**16)):
        raise RequestError("queries or database hold NaN or infinite values: drop or repair those rows first.")


def candidates(ids: Tensor, queries: int, rows: int) -> None:
    """Refuse candidates that are not one list of row numbers a query."""
    if ids.ndim != 2 or len(ids) != queries or (ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < rows):
        raise RequestError(
            f"candidates {tuple(ids.shape)} must be a table with a line for each of {queries} queries, of row numbers "
            f"from 0 to {rows - 1}."
        )


def unit(table: Tensor) -> bool:
    """Whether all rows (N, m) have length 1, or are zeros: a prefix of a feature after a ReLU may well be."""
    lengths = torch.linalg.vector_norm(table, dim=1)
    return bool((((lengths - 1).abs() < 1e-3) | (lengths == 0)).all())
