"""Pictures of one's own, a folder a class: ``FOLDER/cat/1.jpg``, or ``FOLDER/train/cat/1.jpg`` beside ``FOLDER/val``.

The layout is torchvision's ImageFolder. Without ``train`` the same draw as for a file of one's own makes 70 % training,
10 % validation and 20 % test pictures, every class in its proportion; with it, ``val``, ``validation`` or ``test`` are
the test pictures. Pictures are squeezed to a square, so that nothing of them is cut off. Hidden files are passed over;
anything else that is no picture is an error.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mrl_lab.data.pictures import decode
from mrl_lab.data.rows import Parts, Rows, spread
from mrl_lab.errors import RequestError
from mrl_lab.files import digest

if TYPE_CHECKING:
    from torch import Tensor

SIZE = 224  # pixels a side
TESTS = ("val", "validation", "test")
MOST = 8  # GB of memory for all pictures
LEAST = 4  # pictures of a class: to learn from, to choose by and to test on
LAYOUT = "Give a folder with a folder of pictures for each class, or train and val with such folders."


def parts(folder: str | Path, size: int = SIZE) -> tuple[Parts, list[dict[str, str]]]:
    """Return the pictures of a folder by split, and its provenance: one record, with a checksum over all of them.

    Raises:
        RequestError: names the folder, and what is wrong with it: classes, their number, a file that is no picture.
    """
    place = Path(folder)
    files, labels, classes, tested = _listed(place)
    every = [*files, *(tested[0] if tested else [])]
    _check(every)
    _check_memory(place, len(every), size)
    y = torch.tensor(labels)
    if tested:
        train, test, held = _rows(files, y, size), _rows(tested[0], torch.tensor(tested[1]), size), None
    else:
        order, n = spread(y, seed=0), len(files)
        cut, begin = round(0.2 * n), round(0.2 * n) + round(0.1 * n)
        whole = _rows(files, y, size)
        test, held, train = whole[order[:cut]], whole[order[cut:begin]], whole[order[begin:]]
    record = {"name": place.resolve().name, "place": "a folder of one's own", "licence": "yours"}
    record |= {"file": f"{len(every)} pictures", "sha256": _checksum(place, every)}
    return Parts(place.resolve().name, train, test, held, classes), [record]


def _listed(place: Path) -> tuple[list[Path], list[int], tuple[str, ...], tuple[list[Path], list[int]] | None]:
    """Return files, their labels and the classes; and files and labels of the test pictures, where they stand apart."""
    tests = [place / name for name in TESTS if (place / name).is_dir()]
    apart = (place / "train").is_dir() and len(tests) == 1
    root = place / "train" if apart else place
    classes = tuple(sorted(one.name for one in root.iterdir() if one.is_dir() and not one.name.startswith(".")))
    if len(classes) < 2:
        raise RequestError(f"{root} has {len(classes)} folders: at least 2 classes are needed. {LAYOUT}")
    files, labels = _of(root, classes)
    if not apart:
        return files, labels, classes, None
    others = sorted(one.name for one in tests[0].iterdir() if one.is_dir() and not one.name.startswith("."))
    if others != list(classes):
        odd = sorted({*others} ^ {*classes})
        raise RequestError(f"{root} and {tests[0]} have other classes, such as {odd[0]!r}: both need all of them.")
    return files, labels, classes, _of(tests[0], classes)


def _of(root: Path, classes: tuple[str, ...]) -> tuple[list[Path], list[int]]:
    found = [sorted(one for one in (root / name).iterdir() if not one.name.startswith(".")) for name in classes]
    for name, some in zip(classes, found, strict=True):
        if len(some) < LEAST:
            raise RequestError(f"{root / name} has {len(some)} pictures: {LEAST} or more of each class are needed.")
    return [file for some in found for file in some], [i for i, some in enumerate(found) for _ in some]


def _check(files: list[Path]) -> None:
    from PIL import Image

    for file in files:
        try:
            with Image.open(file):  # reads the head alone
                pass
        except OSError as error:
            raise RequestError(f"{file} is no picture that can be read ({error}): mend it or take it away.") from None


def _check_memory(place: Path, count: int, size: int) -> None:
    taken = count * 3 * size * size / 1e9
    if taken > MOST:
        raise RequestError(
            f"{place} has {count} pictures, which take {taken:.0f} GB at {size} x {size} pixels; at most {MOST} GB are "
            "read. Give a folder with a part of them, or a smaller size."
        )


def _rows(files: list[Path], labels: Tensor, size: int) -> Rows:
    def read(index: Tensor) -> Tensor:
        return torch.stack([decode(files[i].read_bytes(), size, "RGB") for i in index.tolist()])

    return Rows(labels, read)


def _checksum(place: Path, files: list[Path]) -> str:
    """Return one SHA-256 over the names and contents of all files."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.relative_to(place).as_posix()} {digest(file)}\n".encode())
    return whole.hexdigest()
