"""``load``: labelled data by name, or from the user's own file, as tensors in memory."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from mrl_lab.data import catalogue, places
from mrl_lab.data.labelled import Labelled, Split, statistics
from mrl_lab.errors import RequestError, unknown

if TYPE_CHECKING:
    from mrl_lab.data.rows import Parts, Rows

DEFAULT = "fashion_mnist"
HELD_OUT = 0.1  # share of the training rows that becomes the validation split, where the source has none
NAMES = ("fashion_mnist", "fashion_pairs", "cifar10", "cifar10_pairs", "omniglot", "groceries", "digits")


def load(
    name_or_path: str | os.PathLike[str] = DEFAULT,
    *,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    seed: int = 0,
    size: int | None = None,
) -> Labelled:
    """Return labelled pictures or vectors.

    Validation rows are held out of the training part, never of the test part. The draws are fixed by ``seed``
    alone: a smaller request gives a part of what a larger one would, and no request changes another split.

    Args:
        name_or_path: one of :data:`NAMES`, or your own: a file (:mod:`mrl_lab.data.own`), or a folder with a folder of
            pictures a class (:mod:`mrl_lab.data.folders`).
        train, validation, test: numbers of rows, classes in proportion; None takes all there are.
        size: height and width of the pictures, for ``omniglot`` (28), ``groceries`` (64) and folders (224) alone.

    Raises:
        RequestError: an unknown name, a source that cannot be had, a damaged file, or more rows than there are.
    """
    name = os.fspath(name_or_path)
    parts, provenance = (_named if name in NAMES or not os.path.exists(name) else _own)(name, size)
    if parts.validation is None:
        parts = _with_validation(parts, seed)
    if name in catalogue.DERIVED:
        from mrl_lab.data.pairs import paired

        parts = paired(parts, seed)
    counts = {"train": train, "validation": validation, "test": test}
    splits = {part: _split(getattr(parts, part), n, seed, f"{part} rows of {name}") for part, n in counts.items()}
    key = {"files": {item["file"]: item["sha256"] for item in provenance}, "seed": seed, "size": size}
    key |= {"name": os.path.basename(name)} | {part: len(split) for part, split in splits.items()}
    return _labelled(parts, splits, key, provenance)


def _named(name: str, size: int | None) -> tuple[Parts, list[dict[str, str]]]:
    if name not in NAMES:
        catalogue.find(name)  # says it, where there is nothing of this name at all
        raise unknown("data set with labels", name, [*NAMES, "or a path to your own file"])
    from mrl_lab.data import pictures

    found = places.ensure(name)
    reader = pictures.READERS[catalogue.DERIVED.get(name, name)]
    if size is not None and reader not in pictures.RESIZED:
        raise RequestError(f"{name} has pictures of one size: leave size out (it is for omniglot and groceries).")
    return reader(found, size) if size is not None else reader(found), found.provenance()


def _own(file: str, size: int | None) -> tuple[Parts, list[dict[str, str]]]:
    from mrl_lab.data import folders, own

    if os.path.isdir(file):
        return folders.parts(file, size or folders.SIZE)
    if size is not None:
        raise RequestError(f"{file} has rows of its own size: leave size out (it is for omniglot and groceries).")
    return own.parts(file)


def _with_validation(parts: Parts, seed: int) -> Parts:
    from mrl_lab.data.rows import hold_out

    stays, held = hold_out(parts.train, HELD_OUT, seed)
    return replace(parts, train=stays, validation=held)


def _split(rows: Rows, count: int | None, seed: int, what: str) -> Split:
    import torch

    from mrl_lab.data.rows import take

    kept = take(rows, count, seed, what)
    return Split(kept.images(torch.arange(len(kept))), kept.labels)


def _labelled(parts: Parts, splits: dict[str, Split], key: dict, provenance: list[dict[str, str]]) -> Labelled:
    import torch

    mean, std = statistics(splits["train"].images)
    return Labelled(
        name=parts.title,
        key=key,
        **splits,
        classes=parts.classes,
        mean=mean,
        std=std,
        provenance=provenance,
        coarse=None if parts.coarse is None else torch.tensor(parts.coarse),
        coarse_classes=parts.coarse_classes,
    )
