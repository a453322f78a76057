"""Your own files: every format read the same, and what is wrong with one said before any work."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mrl_lab import data
from mrl_lab.errors import RequestError

N = 40
VECTORS = np.random.default_rng(0).normal(size=(N, 6)).astype(np.float32)
LABELS = np.array(["cat", "dog"] * (N // 2))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(kind: str, x: np.ndarray = VECTORS, y: np.ndarray = LABELS) -> str:
    """Write rows and labels as a file of that kind; return its name."""
    name = f"mine.{kind.split()[-1]}"
    columns = pd.DataFrame(x, columns=[f"d{i}" for i in range(x.shape[1])]).assign(label=y, id=["id"] * len(x))
    lists = pd.DataFrame({"embedding": list(x), "y": y})
    match kind:
        case "npz":
            np.savez(name, embeddings=x, labels=y)
        case "npy":
            np.save(name, x)
            np.save("mine.labels.npy", y)
        case "csv":
            columns.to_csv(name, index=False)
        case "parquet":
            columns.to_parquet(name)
        case "lists parquet":
            lists.to_parquet(name)
        case "lists jsonl":
            rows = [json.dumps({"embedding": row.tolist(), "y": str(label)}) for row, label in zip(x, y, strict=True)]
            Path(name).write_text("\n".join(rows))
    return name


KINDS = ("npz", "npy", "csv", "parquet", "lists parquet", "lists jsonl")


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_rows(kind):
    mine = data.load(write(kind))
    assert mine.classes == ("cat", "dog")
    assert [len(getattr(mine, part)) for part in ("train", "validation", "test")] == [28, 4, 8]
    whole = torch.cat([mine.train.images, mine.validation.images, mine.test.images])
    labels = torch.cat([mine.train.labels, mine.validation.labels, mine.test.labels])
    place = {tuple(row.round(decimals=4).tolist()): int(label) for row, label in zip(whole, labels, strict=True)}
    assert whole.dtype == torch.float32
    for row, label in zip(torch.from_numpy(VECTORS), LABELS, strict=True):
        assert place[tuple(row.round(decimals=4).tolist())] == ("cat", "dog").index(label)
    assert mine.test.labels.bincount().tolist() == [4, 4]
    assert len(mine.mean) == 1
    assert mine.provenance[0]["file"] == mine.name
    assert len(mine.provenance[0]["sha256"]) == 64


def test_the_split_is_fixed_and_the_key_follows_the_content():
    first = data.load(write("npz"))
    again = data.load("mine.npz")
    assert torch.equal(first.test.images, again.test.images)
    assert first.key == again.key
    assert data.load(write("npz", VECTORS + 1)).key != first.key


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (np.zeros((N, 8, 9), np.uint8), (1, 8, 9)),
        (np.zeros((N, 3, 8, 9), np.uint8), (3, 8, 9)),
        (np.zeros((N, 8, 9, 3), np.uint8), (3, 8, 9)),
        (np.full((N, 8, 9), 0.5), (1, 8, 9)),
    ],
)
def test_pictures_come_out_as_bytes_by_channel(images, shape):
    np.savez("mine.npz", images=images, y=np.arange(N) % 3, classes=np.array(["a", "b", "c"]))
    mine = data.load("mine.npz", train=10)
    assert mine.train.images.shape == (10, *shape)
    assert mine.train.images.dtype == torch.uint8
    assert mine.train.images.float().mean() == (128 if images.dtype == float else 0)
    assert mine.classes == ("a", "b", "c")


def test_numbers_as_labels_are_named_by_themselves():
    assert data.load(write("csv", y=np.array([10, 2] * (N // 2)))).classes == ("2", "10")


def test_every_class_is_among_the_training_rows():
    labels = np.repeat(np.arange(N // 2), 2)  # two rows each
    mine = data.load(write("npz", y=labels))
    assert mine.train.labels.bincount(minlength=N // 2).min() >= 1


def bad(**arrays: np.ndarray) -> str:
    np.savez("mine.npz", **{"x": VECTORS, "y": LABELS} | arrays)
    return "mine.npz"


WRONG = [
    ("text for rows", lambda: bad(x=LABELS), "numbers, vectors"),
    ("one axis", lambda: bad(x=VECTORS[:, 0]), r"\(40,\)"),
    ("no dims", lambda: bad(x=VECTORS[:, :0]), r"\(40, 0\)"),
    (
        "infinite",
        lambda: bad(x=np.where(np.arange(N)[:, None] == 7, np.inf, VECTORS)),
        "infinite values, the first in row 7",
    ),
    ("other length", lambda: bad(y=LABELS[:-1]), "39 labels for 40 rows"),
    ("two axes of labels", lambda: bad(y=np.zeros((N, 2))), r"one a row, \(N,\)"),
    ("NaN label", lambda: bad(y=np.where(np.arange(N) == 5, np.nan, 1.0)), "1 labels are missing, the first in row 5"),
    ("one class", lambda: bad(y=np.zeros(N, int)), "one class"),
    ("one row of a class", lambda: bad(y=np.array([1] + [0] * (N - 1))), "class '1' has 1 row"),
    ("an empty class", lambda: bad(y=np.arange(N) % 2, classes=np.array(list("abc"))), "class 'c' has no rows"),
    (
        "label beyond the classes",
        lambda: bad(y=np.arange(N) % 3, classes=np.array(list("ab"))),
        "whole numbers from 0 to 1",
    ),
    ("few rows", lambda: bad(x=VECTORS[:6], y=LABELS[:6]), "6 rows: at least 10"),
    ("pictures out of range", lambda: bad(x=np.full((N, 4, 4), 2.0)), "bytes 0..255 or numbers 0..1"),
    ("objects", lambda: bad(y=LABELS.astype(object)), "cannot be read"),
    ("no rows at all", lambda: np.savez("mine.npz", y=LABELS) or "mine.npz", "no images or embeddings"),
]


@pytest.mark.parametrize(("write_bad", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_refused(write_bad, words):
    with pytest.raises(RequestError, match=words) as refused:
        data.load(write_bad())
    assert "mine.npz" in str(refused.value)


def test_files_of_another_kind_or_damaged_are_refused(here):
    for name, content in (("mine.txt", "1"), ("mine.parquet", "no table"), ("mine.csv", ""), ("mine.jsonl", "{")):
        (here / name).write_text(content)
        with pytest.raises(RequestError, match=name):
            data.load(name)


def test_rows_without_labels_beside_them_are_refused():
    np.save("mine.npy", VECTORS)
    with pytest.raises(RequestError, match=r"mine\.labels\.npy"):
        data.load("mine.npy")


def test_lists_of_several_lengths_are_refused(here):
    (here / "mine.jsonl").write_text("\n".join(json.dumps({"x": [1.0] * (1 + i % 2), "y": i % 2}) for i in range(N)))
    with pytest.raises(RequestError, match=r"several lengths"):
        data.load("mine.jsonl")
