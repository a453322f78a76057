"""Readers of picture sources: verified files -> rows by split, and what the classes are called."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrl_lab.data.places import Found
from mrl_lab.data.rows import Parts, Rows, spread, tensors

CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
KINDS_OF_CLOTHES = ("tops", "trousers", "dresses", "footwear", "bags")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WRITERS = {"train": range(1, 13), "validation": range(13, 16), "test": range(16, 21)}  # drawers of each alphabet


def fashion_mnist(found: Found) -> Parts:
    """Fashion-MNIST (Xiao et al., 2017): (1, 28, 28); the coarse classes are ours."""
    if "train-images-idx3-ubyte.gz" in found:
        parts = ("train", "t10k")
        train, test = (tensors(_idx(found, part, "images")[:, None], _idx(found, part, "labels")) for part in parts)
    else:
        train, test = (_table(_file(found, part), "image", "label") for part in ("train", "test"))
    return Parts("Fashion-MNIST", train, test, None, CLOTHES, (0, 1, 0, 2, 0, 3, 0, 3, 4, 3), KINDS_OF_CLOTHES)


def _idx(found: Found, part: str, kind: str) -> Tensor:
    """Read an idx file: two zero bytes, a byte for uint8, the number of axes, each axis as four bytes, the values."""
    axes = {"images": 3, "labels": 1}[kind]
    content = gzip.decompress(found[f"{part}-{kind}-idx{axes}-ubyte.gz"].read_bytes())
    shape = np.frombuffer(content, ">i4", axes, offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy())


def cifar10(found: Found) -> Parts:
    """CIFAR-10 (Krizhevsky, 2009): (3, 32, 32); under MRL_LAB_DATA a JPEG copy, which its title says."""
    title = "CIFAR-10 (JPEG)" if "train.parquet" in found else "CIFAR-10"
    train, test = (_table(_file(found, part), "img", "label") for part in ("train", "test"))
    coarse = tuple(int(name not in ("airplane", "automobile", "ship", "truck")) for name in THINGS)
    return Parts(title, train, test, None, THINGS, coarse, ("vehicles", "animals"))


def _file(found: Found, part: str) -> Path:
    """Return the one parquet file of a split, whatever folder and number the hub gives it."""
    return found[next(f for f in found.sha256 if Path(f).name.startswith(part))]


def _table(file: Path, image: str, label: str) -> Rows:
    """Rows of a parquet file in the hub's layout: image {bytes, path}, label; decoded when asked for."""
    import pyarrow.parquet as pq

    table = pq.read_table(file, columns=[image, label])
    encoded = [row["bytes"] for row in table[image].to_pylist()]
    return _encoded(encoded, torch.from_numpy(table[label].to_numpy().copy()))


def _encoded(files: Sequence[bytes], labels: Tensor, size: int | None = None) -> Rows:
    return Rows(labels.long(), lambda index: torch.stack([decode(files[i], size) for i in index.tolist()]))


def decode(content: bytes, size: int | None = None, mode: str | None = None) -> Tensor:
    """Return a picture file as uint8 (C, H, W), shrunk with antialiasing to ``size`` x ``size`` where given."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        picture = picture.convert(mode or picture.mode)
        if size is not None and picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        values = torch.from_numpy(np.array(picture))
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1).contiguous()  # (H, W, C) -> (C, H, W)


def omniglot(found: Found, size: int = 28) -> Parts:
    """Omniglot (Lake et al., 2015): (1, size, size), bright ink; the test drawings are by other people.

    The two sets overlap in two alphabets: a character that is in both is counted once. Coarse class: the alphabet.
    """
    drawings = {}  # (alphabet, character, drawer) -> content
    for archive in found.files.values():
        with zipfile.ZipFile(archive) as files:
            drawings |= {_drawing(name): files.read(name) for name in files.namelist() if name.endswith(".png")}
    characters = sorted({key[:2] for key in drawings})
    alphabets = sorted({alphabet for alphabet, _ in characters})
    number = {character: i for i, character in enumerate(characters)}

    def written_by(drawers: range) -> Rows:
        keys = sorted(key for key in drawings if key[2] in drawers)
        ink = torch.stack([255 - decode(drawings[key], size, "L") for key in keys])
        return tensors(ink, torch.tensor([number[key[:2]] for key in keys]))

    classes = tuple(f"{alphabet} {character.removeprefix('character')}" for alphabet, character in characters)
    coarse = tuple(alphabets.index(alphabet) for alphabet, _ in characters)
    rows = {part: written_by(drawers) for part, drawers in WRITERS.items()}
    return Parts("Omniglot, 242 characters", **rows, classes=classes, coarse=coarse, coarse_classes=tuple(alphabets))


def _drawing(name: str) -> tuple[str, str, int]:
    """set/Greek/character01/0394_07.png -> (Greek, character01, 7)."""
    _, alphabet, character, file = name.split("/")
    return alphabet, character, int(file.removesuffix(".png").partition("_")[2])


def groceries(found: Found, size: int = 64) -> Parts:
    """Photos of groceries (Klasson et al., 2019), its own splits: (3, size, size), 14 classes in 5 coarse ones."""
    import pyarrow.parquet as pq

    given = "groceries_128.parquet" in found
    names = ("split", "coarse", "fine", "jpeg") if given else ("dataset", "coarse_cat", "finegrained_cat", "image_data")
    table = pq.read_table(next(iter(found.files.values())), columns=list(names))
    split, coarse, fine, files = (table[name].to_pylist() for name in names)
    classes = tuple(sorted(set(fine)))
    coarse_classes = tuple(sorted(set(coarse)))
    above = dict(zip(fine, coarse, strict=True))
    everything = _encoded(files, torch.tensor([classes.index(name) for name in fine]), size)
    rows = [everything[torch.tensor([i for i, s in enumerate(split) if s == p])] for p in ("train", "test", "val")]
    level = tuple(coarse_classes.index(above[name]) for name in classes)
    return Parts("Groceries", *rows, classes, level, coarse_classes)


def digits(found: Found) -> Parts:
    """Handwritten digits (Alpaydin and Kaynak, 1998): (1, 8, 8); a fixed fifth, drawn by class, is the test part."""
    table = np.loadtxt(found["digits.csv.gz"], delimiter=",")
    images = torch.from_numpy((table[:, :-1] * (255 / 16)).round().astype(np.uint8)).view(
        -1, 1, 8, 8
    )  # 0..16 -> 0..255
    everything = tensors(images, torch.from_numpy(table[:, -1]))
    order, test = spread(everything.labels, seed=0), len(images) // 5
    return Parts("Digits", everything[order[test:]], everything[order[:test]], None, tuple("0123456789"))


READERS: dict[str, Callable[..., Parts]] = {
    read.__name__: read for read in (fashion_mnist, cifar10, omniglot, groceries, digits)
}
RESIZED = (omniglot, groceries)
