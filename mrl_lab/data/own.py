"""Your own pictures or vectors: ``.npy``, ``.npz``, ``.parquet``, ``.csv``, ``.jsonl``, checked first.

==========================  ==========================================================================
``.npz``                    arrays ``images``, ``embeddings`` or ``x``, or the only one with more than one axis; if any,
                            ``labels`` or ``y``, ``ids``, and ``classes`` (names)
``.npy``                    the rows; labels, if any, in ``NAME.labels.npy`` beside it
``.parquet .csv .jsonl``    the rows as lists in a column ``embedding`` (or ``x``), or in the only one that holds lists
                            of numbers; else one column a dim: d0, d1, ...; if any, a column ``label`` (or ``labels``,
                            ``y``) and ``id`` (:mod:`mrl_lab.data.tables`)
==========================  ==========================================================================

Vectors are (N, f); pictures (N, H, W), (N, C, H, W) or (N, H, W, C) of bytes 0..255 or numbers 0..1. :func:`vectors`
gives all rows, with labels or without. :func:`parts` needs labels: a fixed draw, every class in its proportion, makes
70 % training, 10 % validation and 20 % test rows. Rows are counted from 0.
"""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrl_lab.data import tables
from mrl_lab.data.rows import Parts, spread, tensors
from mrl_lab.data.tables import IDS, LABELS, ROWS, Read
from mrl_lab.errors import RequestError

LEAST = 10  # rows; fewer leave a split empty
BLOCK = 2**12  # rows looked at at once, so that a file larger than memory can be checked


@dataclass(frozen=True, eq=False)
class Vectors:
    """All rows of a file of vectors.

    Attributes:
        z: (N, f), float32, or float16 where the file has it; those of an ``.npy`` stay on disk until they are read.
        labels: (N,) int64, numbers of the ``classes``; None, and no classes, if the file has none.
        ids: N texts, or None.
        name: of the file. provenance: as in :class:`mrl_lab.data.Labelled`, with what was left out.
    """

    z: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    ids: tuple[str, ...] | None
    name: str
    provenance: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.z)


def vectors(file: str | os.PathLike[str]) -> Vectors:
    """Return the vectors of a file, with labels or without.

    Raises:
        RequestError: names the file, and what is wrong with its shape, type, values or labels, by row: NaN, infinite
            values and zeros alone are refused, since they have no direction.
    """
    path = Path(file)
    found = _read(path)
    if found.rows.ndim != 2:
        raise RequestError(f"{path}: vectors are (N, f), got {found.rows.shape}: pictures need an encoder first.")
    z = _numeric(path, found.rows, zeros=False)
    labels, classes = (None, ()) if found.labels is None else _numbered(path, found, len(z))
    ids = None if found.ids is None else tuple(map(str, _one_a_row(path, "ids", found.ids, len(z))))
    z = z if z.dtype in (np.float16, np.float32) and z.dtype.isnative else z.astype(np.float32)
    return Vectors(torch.from_numpy(z), labels, classes, ids, path.name, provenance(path, found.left_out))


def parts(file: str) -> tuple[Parts, list[dict[str, str]]]:
    """Return the rows of a file by split, and its provenance.

    Raises:
        RequestError: names the file, and what is wrong with its shape, type, values or labels.
    """
    path = Path(file)
    found = _read(path)
    if found.labels is None:
        raise RequestError(f"{path} has no labels, which are needed here: {_where_labels_go(path)}.")
    x = _pictures_or_vectors(path, found.rows)
    numbers, classes = _numbered(path, found, len(x))
    _check_counts(path, numbers, classes)
    everything = tensors(x, numbers)
    order = spread(numbers, seed=0)
    test = round(0.2 * len(order))
    held = test + round(0.1 * len(order))
    train, validation, test = (everything[i] for i in (order[held:], order[test:held], order[:test]))
    return Parts(path.name, train, test, validation, classes), provenance(path, found.left_out)


def provenance(path: Path, left_out: str = "") -> list[dict[str, str]]:
    """Return the one record of a file of your own, with its checksum."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = {"name": path.name, "place": "your own file", "licence": "yours"}
    record |= {"left out": left_out} if left_out else {}
    return [{**record, "file": path.name, "sha256": digest}]


def _where_labels_go(path: Path) -> str:
    if path.suffix in tables.READERS:
        return f"add a column {' or '.join(LABELS)}"
    beside = f"save them beside it as {_beside(path, 'labels').name}, or both in one .npz"
    return "add an array labels" if path.suffix == ".npz" else beside


def _read(path: Path) -> Read:
    """Return what a file holds, not checked yet."""
    try:
        found = _reader(path)(path)
    except RequestError:
        raise
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, Warning) as error:
        raise RequestError(
            f"{path} cannot be read as {path.suffix} ({error}): save it again, without objects."
        ) from error
    if found.left_out:
        warnings.warn(f"{path.name}: left out of the vectors: {found.left_out}.", stacklevel=3)
    return found


def _reader(path: Path):
    readers = {".npy": _npy, ".npz": _npz} | dict.fromkeys(tables.READERS, tables.read)
    if path.suffix not in readers:
        raise RequestError(f"{path}: files of your own end in {', '.join(readers)}.")
    return readers[path.suffix]


def _npy(path: Path) -> Read:
    labels = _beside(path, "labels")
    have = np.load(labels, allow_pickle=False) if labels.is_file() else None
    return Read(np.load(path, allow_pickle=False, mmap_mode="c"), have)  # "c": what is changed stays in memory


def _beside(path: Path, what: str) -> Path:
    return path.with_suffix(f".{what}.npy")


def _npz(path: Path) -> Read:
    with np.load(path, allow_pickle=False) as arrays:
        known = _one(path, arrays, ROWS)
        able = [known] if known else [name for name in arrays if arrays[name].ndim > 1]
        if len(able) != 1:
            raise RequestError(f"{path} has no {' or '.join(ROWS)}; it has {', '.join(arrays)}.")
        others = (_one(path, arrays, names) for names in (LABELS, IDS, ("classes",)))
        return Read(arrays[able[0]], *(None if name is None else arrays[name] for name in others))


def _one(path: Path, have: Iterable[str], allowed: tuple[str, ...]) -> str | None:
    """Return the allowed name that is there, if any."""
    names = [name for name in allowed if name in have]
    if len(names) > 1:
        raise RequestError(f"{path} has {' and '.join(names)}: keep the one that is meant.")
    return names[0] if names else None


def _numbered(path: Path, found: Read, rows: int) -> tuple[Tensor, tuple[str, ...]]:
    """Return (labels as numbers (N,), names of the classes, in the order of their values)."""
    values = _one_a_row(path, "labels", found.labels, rows)
    _check_one_kind(path, values)
    if found.classes is not None:
        names = tuple(map(str, found.classes.tolist()))
        if type(values[0]) is not int or not 0 <= min(values) <= max(values) < len(names):
            raise RequestError(
                f"{path}: with {len(names)} classes, labels are whole numbers from 0 to {len(names) - 1}."
            )
        return torch.tensor(values), names
    different = set(values)
    counted = all(isinstance(value, str) and value == _canonical(value) for value in different)
    number = {value: i for i, value in enumerate(sorted(different, key=int if counted else None))}
    return torch.tensor([number[value] for value in values]), tuple(map(_name, number))


def _one_a_row(path: Path, what: str, given: np.ndarray, rows: int) -> list:
    """Return the labels or ids of a file, if there is one for each row."""
    if given.ndim != 1:
        raise RequestError(f"{path}: {what} have the shape {given.shape}; there must be one a row, (N,).")
    if len(given) != rows:
        raise RequestError(f"{path}: {len(given)} {what} for {rows} rows; there must be one a row.")
    values = (np.char.decode(given, "utf-8") if given.dtype.kind == "S" else given).tolist()
    missing = [i for i, value in enumerate(values) if value is None or value == "" or value != value]  # NaN is not NaN
    if missing:
        raise RequestError(f"{path}: {len(missing)} {what} are missing, the first in row {missing[0]}.")
    return values


def _check_one_kind(path: Path, values: list) -> None:
    """Refuse lists and the like for labels, and labels of which 1 and "1" might both be one."""
    for row, value in enumerate(values):
        if not isinstance(value, str | int | float):
            raise RequestError(f"{path}: labels are text or numbers; row {row} has {value!r:.40}.")
        if type(value) is not type(values[0]):
            raise RequestError(
                f"{path}: labels are all text or all numbers of one kind; row 0 has {values[0]!r:.40} and row {row} "
                f"{value!r:.40}. Write all of them as text."
            )


def _canonical(text: str) -> str | None:
    """A whole number as it is usually written, or None: "7" of "07"."""
    return str(int(text)) if text.isascii() and text.removeprefix("-").isdecimal() else None


def _name(label: object) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _numeric(path: Path, x: np.ndarray, *, zeros: bool) -> np.ndarray:
    """Return rows (N, ...) if all are finite as float32, and, unless ``zeros`` may be, none of zeros alone."""
    if x.dtype.kind not in "uifb" or x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise RequestError(
            f"{path}: rows are numbers, vectors (N, f) or pictures (N, C, H, W); got {x.dtype} {x.shape}."
        )
    for start in range(0, len(x), BLOCK) if x.dtype.kind == "f" or not zeros else ():
        with np.errstate(over="ignore"):
            block = x[start : start + BLOCK].astype(np.float32).reshape(len(x[start : start + BLOCK]), -1)
        _refuse_rows(path, start, np.isnan(block).any(1), "NaN")
        _refuse_rows(path, start, np.isinf(block).any(1), "infinite values")
        if not zeros:
            _refuse_rows(path, start, ~block.any(1), "zeros alone, which have no direction")
    return x


def _refuse_rows(path: Path, start: int, bad: np.ndarray, what: str) -> None:
    if bad.any():
        raise RequestError(
            f"{path} holds {what}, the first in row {start + bad.argmax()}: mend or leave out those rows."
        )


def _pictures_or_vectors(path: Path, x: np.ndarray) -> Tensor:
    """Return vectors (N, f) float32 or pictures (N, C, H, W) uint8."""
    x = _numeric(path, x, zeros=True)
    if x.ndim == 2:
        return torch.from_numpy(x.astype(np.float32))
    if x.dtype != np.uint8:
        if x.min() < 0 or x.max() > 1:
            raise RequestError(
                f"{path}: pictures are bytes 0..255 or numbers 0..1; got {x.dtype} {x.min()} to {x.max()}."
            )
        x = (x * 255).round().astype(np.uint8)
    pictures = torch.from_numpy(np.array(x))
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
