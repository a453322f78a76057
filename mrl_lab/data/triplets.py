"""Triplets of your own, to fine-tune a model by: ``.tsv .csv .jsonl .parquet``, checked before any work.

=============================  ====================================================================================
``anchor`` (or ``query``)      what asks: a question, a title, a sentence
``positive``                   what answers it, or says the same
``negative`` (may be absent)   what does not, though it looks as if; without it the other rows of a batch must do
=============================  ====================================================================================

All cells are texts, and none is empty. In a ``.tsv`` quotes mean nothing, as in BEIR's tables.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mrl_lab.data import tables
from mrl_lab.data.searched import MINILM, NONE
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

LEAST = 16  # rows: those of a batch are each other's wrong answers
COLUMNS = {"anchor": ("anchor", "query"), "positive": ("positive",), "negative": ("negative",)}
MRL = "mrl"  # how a model is fine-tuned where nothing else is said
GIVEN = ("triplets", "nest_by", "model", "vectors")  # parameters that must go together


@dataclass(frozen=True)
class Triplets:
    """Rows of two or three texts each: anchor, positive and, if the file has it, negative.

    Attributes:
        left_out: columns of the file that are not used.
    """

    rows: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


def check(given: Mapping[str, str]) -> None:
    """Check that triplets, if there are any, can be read, and that there is a model to fine-tune by them.

    Raises:
        RequestError: as :func:`read`, triplets without a model of one's own, or a method without triplets.
    """
    if given["triplets"] == NONE and given["nest_by"] == MRL:
        return
    if given["triplets"] == NONE:
        raise RequestError("nest_by says how a model learns from triplets: give triplets as well, or leave it out.")
    if given["vectors"] != NONE:
        raise RequestError("triplets fine-tune a model, and vectors are made already: give texts in their place.")
    if given["model"] == MINILM:
        raise RequestError(
            "triplets fine-tune a model of your own: give model as well, the folder of one that sentence-transformers "
            "opens, or a hub name."
        )
    read(Path(given["triplets"]))


def read(path: Path) -> Triplets:
    """Return the rows of a file.

    Raises:
        RequestError: a file of another kind or damaged, columns that are missing, too few rows, or a cell that is no
            text, by its column and row (counted from 0).
    """
    table = _table(path)
    names = {what: tables.single(path, tables.named(table, names)) for what, names in COLUMNS.items()}
    lacking = [what for what in ("anchor", "positive") if names[what] is None]
    if lacking:
        raise RequestError(
            f"{path} has no column {' and no column '.join(lacking)}; it has {tables.told(table.columns)}. Triplets "
            "are anchor, positive and, if there are any, negative."
        )
    if len(table) < LEAST:
        raise RequestError(
            f"{path} has {len(table)} row{'s' * (len(table) != 1)}: at least {LEAST} are needed, for the rows of a "
            "batch are each other's wrong answers."
        )
    kept = [name for name in names.values() if name is not None]
    rows = tuple(zip(*(_texts(path, table, name) for name in kept), strict=True))
    return Triplets(rows, tuple(str(name) for name in table.columns if name not in kept))


def _texts(path: Path, table: pd.DataFrame, name: str) -> list[str]:
    cells = table[name].tolist()
    for row, cell in enumerate(cells):
        if not isinstance(cell, str) or not cell.strip():
            raise RequestError(
                f"{path}: column {name!r}, row {row}, holds {cell!r:.40}: each cell is a text. Mend or leave out such "
                "rows" + (", or the whole column." if name in COLUMNS["negative"] else ".")
            )
    return cells


def _written(separator: str, quoting: int, path: Path) -> pd.DataFrame:
    """All cells as text; lines longer than the header are an error."""
    import pandas as pd

    how = {"sep": separator, "quoting": quoting, "encoding": "utf-8-sig"}
    with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, **how)


READERS = tables.READERS | {
    ".csv": partial(_written, ",", csv.QUOTE_MINIMAL),
    ".tsv": partial(_written, "\t", csv.QUOTE_NONE),
}


def _table(path: Path) -> pd.DataFrame:
    if path.suffix not in READERS:
        raise RequestError(f"{path}: files of triplets end in {', '.join(READERS)}.")
    try:
        return READERS[path.suffix](path)
    except RequestError:
        raise
    except (OSError, ValueError, Warning) as error:
        raise RequestError(f"{path} cannot be read as {path.suffix} ({error}): save it again.") from error
