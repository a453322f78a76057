"""Your own pictures or vectors with labels: ``.npy``, ``.npz``, ``.parquet``, ``.csv``, ``.jsonl``, checked first.

==========================  ==========================================================================
``.npz``                    arrays ``images``, ``embeddings`` or ``x``; ``labels`` or ``y``; ``classes`` (names) if any
``.npy``                    the rows; labels in ``NAME.labels.npy`` beside it
``.parquet .csv .jsonl``    a column ``label`` (or ``labels``, ``y``); the rows as lists in a column ``embedding``
                            (or ``x``), else one column a dim: every other column that holds numbers
==========================  ==========================================================================

Vectors are (N, f); pictures (N, H, W), (N, C, H, W) or (N, H, W, C) of bytes 0..255 or numbers 0..1. A fixed draw,
every class in its proportion, makes 70 % training, 10 % validation and 20 % test rows.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrl_lab.data.rows import Parts, spread, tensors
from mrl_lab.errors import RequestError

ROWS = ("images", "embeddings", "embedding", "x")
LABELS = ("labels", "label", "y")
LEAST = 10  # rows; fewer leave a split empty
TABLES = (".parquet", ".csv", ".jsonl")


def parts(file: str) -> Parts:
    """Return the rows of a file by split.

    Raises:
        RequestError: names the file, and what is wrong with its shape, type, values or labels.
    """
    path = Path(file)
    rows, labels, names = _read(path)
    numbers, classes = _numbered(path, labels, names)
    x = _checked(path, rows)
    if len(x) != len(numbers):
        raise RequestError(f"{path}: {len(numbers)} labels for {len(x)} rows; there must be one label a row.")
    _check_counts(path, numbers, classes)
    everything = tensors(x, numbers)
    order = spread(numbers, seed=0)
    test = round(0.2 * len(order))
    held = test + round(0.1 * len(order))
    train, validation, test = (everything[i] for i in (order[held:], order[test:held], order[:test]))
    return Parts(path.name, train, test, validation, classes)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return (rows, labels, names of the classes or None), not checked yet."""
    try:
        if path.suffix in TABLES:
            return _table(path)
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False), _beside(path), None
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                names = arrays.get("classes")
                return arrays[_one(path, arrays, ROWS)], arrays[_one(path, arrays, LABELS)], names
    except RequestError:
        raise
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise RequestError(
            f"{path} cannot be read as {path.suffix} ({error}): save it again, without objects."
        ) from error
    raise RequestError(f"{path}: files of your own end in .npy, .npz, {', '.join(TABLES)}.")


def _beside(path: Path) -> np.ndarray:
    labels = path.with_suffix(".labels.npy")
    if not labels.is_file():
        raise RequestError(f"{path} has no labels: save them beside it as {labels.name}, or both in one .npz.")
    return np.load(labels, allow_pickle=False)


def _one(path: Path, have: Iterable[str], allowed: tuple[str, ...]) -> str:
    """Return the first allowed name that is there."""
    name = next((name for name in allowed if name in have), None)
    if name is None:
        raise RequestError(f"{path} has no {' or '.join(allowed)}; it has {', '.join(map(str, have))}.")
    return name


def _table(path: Path) -> tuple[np.ndarray, np.ndarray, None]:
    import pandas as pd

    read = {".parquet": pd.read_parquet, ".csv": pd.read_csv, ".jsonl": lambda p: pd.read_json(p, lines=True)}
    table = read[path.suffix](path)
    labels = table.pop(_one(path, table.columns, LABELS)).to_numpy()
    name = next((name for name in ROWS if name in table), None)
    if name is None:
        return table.select_dtypes("number").to_numpy(), labels, None
    lengths = {len(row) if hasattr(row, "__len__") else 0 for row in table[name]}
    if len(lengths) != 1:
        raise RequestError(f"{path}: the lists in column {name!r} have several lengths ({sorted(lengths)[:4]}).")
    return np.array(table[name].tolist()), labels, None


def _numbered(path: Path, labels: np.ndarray, names: np.ndarray | None) -> tuple[Tensor, tuple[str, ...]]:
    """Return (labels as numbers (N,), names of the classes)."""
    import pandas as pd

    if labels.ndim != 1:
        raise RequestError(f"{path}: labels have the shape {labels.shape}; there must be one a row, (N,).")
    missing = pd.isna(labels)
    if missing.any():
        raise RequestError(f"{path}: {missing.sum()} labels are missing, the first in row {missing.argmax()}.")
    if names is None:
        found, numbers = np.unique(labels, return_inverse=True)
        return torch.from_numpy(numbers.astype(np.int64)), tuple(map(_name, found.tolist()))
    if labels.dtype.kind not in "iu" or labels.min(initial=0) < 0 or labels.max(initial=0) >= len(names):
        raise RequestError(f"{path}: with {len(names)} classes, labels are whole numbers from 0 to {len(names) - 1}.")
    return torch.from_numpy(labels.astype(np.int64)), tuple(map(str, names.tolist()))


def _name(label: object) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _checked(path: Path, x: np.ndarray) -> Tensor:
    """Return vectors (N, f) float32 or pictures (N, C, H, W) uint8."""
    if x.dtype.kind not in "uifb" or x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise RequestError(
            f"{path}: rows are numbers, vectors (N, f) or pictures (N, C, H, W); got {x.dtype} {x.shape}."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row = np.argwhere(~np.isfinite(x))[0, 0]
        what = "NaN" if np.isnan(x).any() else "infinite values"
        raise RequestError(f"{path} holds {what}, the first in row {row}: mend or leave out those rows.")
    if x.ndim == 2:
        return torch.from_numpy(x.astype(np.float32))
    if x.dtype != np.uint8:
        if x.min() < 0 or x.max() > 1:
            raise RequestError(
                f"{path}: pictures are bytes 0..255 or numbers 0..1; got {x.dtype} {x.min()} to {x.max()}."
            )
        x = (x * 255).round().astype(np.uint8)
    pictures = torch.from_numpy(np.ascontiguousarray(x))
    if pictures.ndim == 3:
        return pictures[:, None]  # (N, H, W) -> (N, 1, H, W)
    if pictures.shape[3] in (1, 3) and pictures.shape[1] not in (1, 3):
        return pictures.permute(0, 3, 1, 2).contiguous()  # (N, H, W, C) -> (N, C, H, W)
    return pictures


def _check_counts(path: Path, labels: Tensor, classes: tuple[str, ...]) -> None:
    if len(labels) < LEAST:
        raise RequestError(f"{path} has {len(labels)} rows: at least {LEAST} are needed to train, choose and test.")
    if len(classes) < 2:
        raise RequestError(f"{path} has one class ({classes[0]}): at least 2 are needed.")
    for name, count in zip(classes, labels.bincount(minlength=len(classes)).tolist(), strict=True):
        if count < 2:
            raise RequestError(
                f"{path}: class {name!r} has {count or 'no'} row{'s' * (not count)}; 2 are needed, one to learn from "
                "and one to test. Add rows, or leave the class out."
            )
