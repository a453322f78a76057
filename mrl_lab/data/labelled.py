"""Labelled data as the notebooks use it: three splits of tensors in memory, and the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mrl_lab.errors import RequestError, unknown

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Rows and their labels.

    Attributes:
        images: pictures (N, C, H, W) uint8 in 0..255, or vectors (N, f) float32.
        labels: (N,) int64, numbers of classes.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Training, validation and test rows of one data set.

    Attributes:
        name: for people; carries the caution that results must (such as "(JPEG)").
        key: what identifies exactly these rows, as JSON can hold it: source, checksums, sizes, draw.
        classes: names, by number.
        mean, std: of the training rows: by channel with pictures scaled to 0..1, one value for vectors.
        provenance: one record a file: name, place, file, sha256, licence.
        coarse: (classes,) the coarse class of each class, where there are two levels.
        coarse_classes: their names.
    """

    name: str
    key: dict
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: list[dict[str, str]]
    coarse: Tensor | None = None
    coarse_classes: tuple[str, ...] = ()

    def select(self, classes: Sequence[int | str]) -> Labelled:
        """Return the rows of some classes alone, which are renumbered in the order given.

        Coarse classes that no longer occur go; mean and std are those of the rows that stay.

        Raises:
            RequestError: no class, a class twice, one that does not exist, or one without training or test rows.
        """
        chosen = _numbers(classes, self.classes)
        parts = {
            part: _only(getattr(self, part), chosen, len(self.classes)) for part in ("train", "validation", "test")
        }
        for part in ("train", "test"):
            _check_each_occurs(parts[part].labels, [self.classes[c] for c in chosen], f"the {part} rows of {self.name}")
        mean, std = statistics(parts["train"].images)
        coarse, coarse_classes = _coarse_of(chosen, self)
        names = tuple(self.classes[c] for c in chosen)
        key = self.key | {"classes": chosen if "classes" not in self.key else [self.key["classes"][c] for c in chosen]}
        changed = {"classes": names, "coarse": coarse, "coarse_classes": coarse_classes, "mean": mean, "std": std}
        return replace(self, key=key, **parts, **changed)


def _numbers(given: Sequence[int | str], names: tuple[str, ...]) -> list[int]:
    if isinstance(given, str) or not len(given):
        raise RequestError(
            f"classes to keep are a list of names or of numbers from 0 to {len(names) - 1}, got {given!r}."
        )
    known = {name: number for number, name in enumerate(names)} | {number: number for number in range(len(names))}
    for name in given:
        if name not in known:
            raise unknown("class", name, [*names, f"or a number from 0 to {len(names) - 1}"])
    chosen = [known[name] for name in given]
    if len(set(chosen)) < len(chosen):
        raise RequestError(f"classes to keep are given once each, got {list(given)}.")
    return chosen


def _only(split: Split, chosen: list[int], count: int) -> Split:
    import torch

    number = torch.full((count,), -1)
    number[chosen] = torch.arange(len(chosen))
    labels = number[split.labels]  # old class -> new one, or -1
    return Split(split.images[labels >= 0], labels[labels >= 0])


def _check_each_occurs(labels: Tensor, names: Sequence[str], where: str) -> None:
    absent = [name for name, n in zip(names, labels.bincount(minlength=len(names)).tolist(), strict=True) if not n]
    if absent:
        raise RequestError(f"no row of {', '.join(absent[:5])} in {where}: ask for more rows, or leave the class out.")


def _coarse_of(chosen: list[int], data: Labelled) -> tuple[Tensor | None, tuple[str, ...]]:
    if data.coarse is None:
        return None, ()
    kept, numbers = data.coarse[chosen].unique(return_inverse=True)
    return numbers, tuple(data.coarse_classes[c] for c in kept.tolist())


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) of pictures (N, C, H, W) uint8 by channel, scaled to 0..1, or of all values of vectors (N, f).

    A std of zero is given as one, so that dividing by it is safe.
    """
    import torch

    axes = (0, 2, 3) if images.ndim == 4 else (0, 1)
    scale = 255 if images.dtype == torch.uint8 else 1
    total = square = 0
    for some in images.split(4096):  # as floats, all pictures at once would not fit into a laptop's memory
        x = some.double() / scale
        total, square = total + x.sum(axes), square + x.square().sum(axes)
    count = images.numel() / total.numel()
    mean = (total / count).reshape(-1)  # (C,) or (1,)
    std = (square.reshape(-1) / count - mean.square()).clamp_min(0).sqrt()
    constant = std <= 1e-6 * mean.abs()  # what rounding leaves
    return tuple(mean.tolist()), tuple(std.where(~constant, 1.0).tolist())
