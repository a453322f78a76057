"""Tables of your own, ``.csv``, ``.jsonl`` and ``.parquet``: which columns are vectors, labels and names of rows.

Labels and names are as written: "007", "NA" and "None" stay what they are. Numbers are numbers or refused, by column
and row. What is neither is left out and named.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

ROWS = ("images", "embeddings", "embedding", "x")
LABELS = ("labels", "label", "y")
IDS = ("ids", "id", "index", "key")
TEXTS = ("text", "texts", "sentence")


@dataclass(frozen=True, eq=False)
class Read:
    """What a file holds, as written.

    Attributes:
        rows: (N, ...). labels, ids: (N,) or None. classes: names of numbered labels, if the file has them.
        left_out: columns that are no part of the rows, and why; "" if there are none.
    """

    rows: np.ndarray
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    classes: np.ndarray | None = None
    left_out: str = ""


def read(path: Path) -> Read:
    """Read a table.

    Raises:
        RequestError: names the column and the row that cannot be used. A damaged file raises what its reader does.
    """
    table = READERS[path.suffix](path)
    if not len(table):
        raise RequestError(f"{path} has no rows.")
    labels, ids = named(table, LABELS), named(table, IDS)
    listed = [name for name in named(table, ROWS) if table[name].dtype.kind not in "iuf"]
    listed = listed or _unnamed(table.drop(columns=[*labels, *ids]))
    if listed:
        chosen = single(path, listed)
        others = table.drop(columns=[*labels, *ids, chosen])
        numbers = [name for name in others if _is_number(others[name].iloc[0])]
        rows, left_out = _lists(path, table[chosen]), dict.fromkeys(numbers, f"beside the lists of {chosen}")
    else:
        rows, left_out = _numbers(path, table.drop(columns=[*labels, *ids]))
        left_out |= dict.fromkeys(ids[1:], "names of rows, as is " + (ids[0] if ids else ""))
    unused = ", ".join(f"{name} ({why})" for name, why in left_out.items())
    return Read(rows, _cells(table, single(path, labels)), _cells(table, ids[0] if ids else None), left_out=unused)


def texts(path: Path) -> tuple[list[str], list[str] | None]:
    """Return the texts of a table, each behind its title if it has one, and the names of its rows, or None.

    Raises:
        RequestError: no column of texts, or a damaged file.
    """
    try:
        table = READERS[path.suffix](path)
    except (OSError, ValueError, Warning) as error:
        raise RequestError(f"{path} cannot be read as {path.suffix} ({error}): save it again.") from error
    said, ids, titles = single(path, named(table, TEXTS)), named(table, IDS), named(table, ("title",))
    if said is None:
        raise RequestError(f"{path} has no column {' or '.join(TEXTS)}; it has {told(table.columns)}.")
    parts = [_cells(table, name) for name in (*titles[:1], said)]
    joined = [" ".join(str(part) for part in row if part) for row in zip(*parts, strict=True)]
    return joined, [str(name) for name in _cells(table, ids[0])] if ids else None


def _csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    header = list(pd.read_csv(path, nrows=0, index_col=False).columns)
    numbers = [name for name in header if re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", name, re.IGNORECASE)]
    if not all(map(str.isdecimal, numbers)) or numbers != sorted(set(numbers), key=int):
        raise RequestError(f"{path}: the first line holds numbers; put a line with the names of the columns before it.")
    text = dict.fromkeys([*named(header, LABELS), *named(header, IDS)], str)
    with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):  # lines longer than the header
        return pd.read_csv(path, dtype=text, keep_default_na=False, low_memory=False, index_col=False)


def _jsonl(path: Path) -> pd.DataFrame:
    import pandas as pd

    lines = enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1)
    return pd.DataFrame([_object(path, i, line) for i, line in lines if line.strip()], dtype=object)


def _object(path: Path, number: int, line: str) -> dict:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise RequestError(f"{path}, line {number}, is no JSON ({error}).") from error
    if not isinstance(found, dict):
        raise RequestError(f"{path}, line {number}: each line is an object with names, got {line:.40}.")
    return found


def _parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    table = pd.read_parquet(path)
    return table if isinstance(table.index, pd.RangeIndex) else table.reset_index()


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}


def named(columns: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """Return the columns that bear one of the names, in the order of the names; "doc_id" is an "id"."""
    low = {column: str(column).strip().lower() for column in columns}
    return [c for name in names for c in low if low[c] == name or (name == "id" and low[c].endswith("_id"))]


def single(path: Path, names: list[str]) -> str | None:
    """Return the one name, None if there is none.

    Raises:
        RequestError: there are several.
    """
    if len(names) > 1:
        raise RequestError(f"{path} has the columns {' and '.join(map(repr, names))}: keep the one that is meant.")
    return names[0] if names else None


def _cells(table: pd.DataFrame, name: str | None) -> np.ndarray | None:
    """The cells of a column as written, None where there is none."""
    return None if name is None else table[name].to_numpy(object, na_value=None)


def _unnamed(table: pd.DataFrame) -> list[str]:
    """Return the columns of lists of numbers, whatever they are called; and of dims a column each, the first.

    More than one can be the rows, and which is meant is not guessed: counts of something beside a list of 768 numbers
    are no dims, but numbered columns may be.
    """
    listed = [name for name in table if _is_list(table[name].iloc[0])]
    stems = [_stem(name) for name in table]
    numbered = [name for name, stem in zip(table, stems, strict=True) if stem is not None and stems.count(stem) > 1]
    return listed and [*listed, *numbered[:1]]


def _is_list(cell: object) -> bool:
    text = isinstance(cell, str) and not cell.lstrip().startswith("[")
    return not text and _list(cell) is not None


def _is_number(cell: object) -> bool:
    return isinstance(cell, Number) and not isinstance(cell, bool)


def _lists(path: Path, column: pd.Series) -> np.ndarray:
    """Return the lists in the cells of a column, or in their text, as one array (N, ...)."""
    rows = [_list(cell) for cell in column]
    for i, row in enumerate(rows):
        if row is None or row.shape != rows[0].shape:
            what = f"{column.iloc[i]!r:.40}" if row is None else f"{_size(row)}, where row 0 has {_size(rows[0])}"
            raise RequestError(
                f"{path}: column {column.name!r}, row {i}: each row is a list of as many numbers; got {what}."
            )
    return np.stack(rows)


def _list(cell: object) -> np.ndarray | None:
    """An array of the numbers in a cell: a list, or the text of one with commas or (numpy's way) blanks; else None."""
    try:
        if isinstance(cell, str):
            cell = [float(word) for word in cell.strip().removeprefix("[").removesuffix("]").replace(",", " ").split()]
        found = np.array(cell.tolist() if isinstance(cell, np.ndarray) and cell.dtype == object else cell)
    except ValueError:
        return None
    return found if found.ndim and found.dtype.kind in "uifb" else None


def _size(row: np.ndarray) -> str:
    return " x ".join(map(str, row.shape))


def _numbers(path: Path, table: pd.DataFrame) -> tuple[np.ndarray, dict[str, str]]:
    """Return the columns of numbers (N, f), and those that are left out, with the reason.

    Where some are numbered, as d0 to d7, they are the dims, and no others.
    """
    columns = {name: _column(path, table[name]) for name in table}
    dims = {name: numbers for name, numbers in columns.items() if numbers is not None}
    why = {name: "no numbers" for name in columns if name not in dims}
    why |= {name: "row numbers" for name, numbers in dims.items() if _counts_rows(name, numbers)}
    numbered = [name for name in dims if name not in why and _stem(name) is not None]
    why |= {name: f"not numbered as {numbered[0]}" for name in dims if numbered and name not in [*why, *numbered]}
    broken = [name for name in columns if name not in dims and _stem(name) in map(_stem, numbered)]
    if broken:
        raise RequestError(f"{path}: column {broken[0]!r} holds no numbers, though {numbered[0]!r} does: mend it.")
    kept = [dims[name] for name in dims if name not in why]
    if not kept:
        raise RequestError(f"{path} has no {' or '.join(ROWS)}, nor columns of numbers; it has {told(table.columns)}.")
    return np.stack(kept, 1), why


def _column(path: Path, column: pd.Series) -> np.ndarray | None:
    """Return a column's numbers (N,), or None if it has none."""
    import pandas as pd

    if column.dtype.kind in "iuf" and isinstance(column.dtype, np.dtype):
        numbers = column.to_numpy()
    else:
        cells = column.where(~column.map(lambda cell: isinstance(cell, bool | list | dict)), None)
        numbers = pd.to_numeric(cells.astype(object), errors="coerce").to_numpy(np.float64, na_value=np.nan)
        if np.isnan(numbers).all():
            return None
    bad = ~np.isfinite(numbers)
    if bad.any():
        row, more = int(bad.argmax()), int(bad.sum()) - 1
        raise RequestError(
            f"{path}: column {column.name!r}, row {row}: {column.iloc[row]!r:.40} is no number"
            f"{f' (nor are {more} more in the column)' if more else ''}: mend it, or take the column out."
        )
    return numbers


def _counts_rows(name: object, numbers: np.ndarray) -> bool:
    """Whether a column is the index of the table that was written: one without a name, or that counts 0, 1, 2 ..."""
    count = len(numbers) > 2 and numbers[0] in (0, 1) and (np.diff(numbers) == 1).all()
    return bool(count) or re.fullmatch(r"Unnamed: \d+", str(name)) is not None


def _stem(name: object) -> str | None:
    """The name of a numbered column without its number, "d" of "d7"; None if it has none."""
    found = re.fullmatch(r"(.*?)\d+", str(name), re.DOTALL)
    return None if found is None else found[1]


def told(names: Iterable[object]) -> str:
    """Return names as a list for a person, its end left out where it is long."""
    names = list(map(str, names))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
