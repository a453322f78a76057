"""Your own files: every format read the same, and what is wrong with one said before any work."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mrl_lab import data
from mrl_lab.data import own
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


def table(**columns) -> str:
    pd.DataFrame(VECTORS, columns=[f"d{i}" for i in range(6)]).assign(label=LABELS, **columns).to_csv("mine.csv")
    return "mine.csv"


def lines(rows: list[dict]) -> str:
    Path("mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "mine.jsonl"


def labelled(labels: list) -> str:
    return lines([{"embedding": row, "label": label} for row, label in zip(VECTORS.tolist(), labels, strict=True)])


def edited(row: int, column: int, cell: str, **how) -> str:
    """A CSV with one cell written over."""
    frame = pd.DataFrame(VECTORS, columns=[f"d{i}" for i in range(6)]).astype(object).assign(label=LABELS)
    frame.iloc[row, column] = cell
    frame.to_csv("mine.csv", index=False, **how)
    return "mine.csv"


@pytest.mark.parametrize(
    "labels", [["007", "07", "7"], ["01", "1"], ["NA", "None", "nan", "null"], ["1.0", "1"], ["True"]]
)
@pytest.mark.parametrize("kind", ["csv", "parquet", "lists jsonl", "lists parquet", "npz", "npy"])
def test_labels_are_as_they_are_written(kind, labels):
    mine = own.vectors(write(kind, y=np.array((labels * N)[:N])))
    assert set(mine.classes) == set(labels)
    assert [mine.classes[label] for label in mine.labels] == (labels * N)[:N]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 2], ("2", "10")),
        (["10", "2", "-3"], ("-3", "2", "10")),
        (["10", "02"], ("02", "10")),
        (["b", "a"], ("a", "b")),
        ([True, False], ("False", "True")),
        ([0.5, 1.5], ("0.5", "1.5")),
    ],
)
def test_classes_are_in_the_order_of_their_values(labels, classes):
    assert own.vectors(labelled((labels * N)[:N])).classes == classes


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([3, "a"], r"row 0 has 3 and row 1 'a'"),
        ([1, 1.5], r"row 1 1\.5"),
        ([1, True], "row 1 True"),
        ([{"a": 1}, "b"], r"row 0 has \{'a': 1\}"),
        ([["a"], ["b"]], r"row 0 has \['a'\]"),
        (["a", None], "20 labels are missing, the first in row 1"),
        (["a", ""], "20 labels are missing, the first in row 1"),
    ],
)
def test_labels_of_several_kinds_or_none_are_refused(labels, words):
    with pytest.raises(RequestError, match=words):
        data.load(labelled(labels * (N // 2)))


@pytest.mark.parametrize("cell", ["#DIV/0!", "", "nan", "inf", "-inf", "1,5", "True", "1e400"])
def test_a_cell_that_is_no_number_is_named_by_column_and_row(cell):
    with pytest.raises(RequestError, match=r"mine\.csv: column 'd3', row 12: .* is no number: mend") as refused:
        data.load(edited(12, 3, cell))
    assert repr(cell) in str(refused.value) or cell in ("inf", "-inf", "1e400")


LEFT_OUT = {
    "the index": ({}, "Unnamed: 0 (row numbers)"),
    "a column that counts": ({"n": np.arange(1, N + 1)}, "n (row numbers)"),
    "text": ({"title": "a title"}, "title (no numbers)"),
    "truth": ({"seen": [True, False] * (N // 2)}, "seen (no numbers)"),
    "a number of another kind": ({"year": 1999}, "year (not numbered as d0)"),
    "a second name": ({"id": 1, "doc_id": range(7, 7 + N)}, "doc_id (names of rows, as is id)"),
}


@pytest.mark.parametrize(("columns", "told"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_columns_that_are_no_dims_are_left_out_and_that_is_said(columns, told):
    with pytest.warns(UserWarning, match="left out of the vectors") as warned:
        mine = data.load(table(**columns))
    assert mine.train.images.shape == (28, 6)
    assert told in str(warned[0].message)
    assert told in mine.provenance[0]["left out"]


@pytest.mark.parametrize("name", ["id", "ID", "ids", "doc_id", "index", "key"])
@pytest.mark.parametrize("values", [range(N), [f"{7 * i:03}" for i in range(N)]], ids=["numbers", "text"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.filterwarnings("error")
def test_names_of_rows_are_no_dims(kind, values, name):
    frame = pd.DataFrame(VECTORS).rename(columns=str).assign(**{name: values})
    frame.to_csv("mine.csv", index=False) if kind == "csv" else frame.to_parquet("mine.parquet")
    mine = own.vectors(f"mine.{kind}")
    assert torch.equal(mine.z, torch.from_numpy(VECTORS))
    assert mine.ids == tuple(map(str, values))


def test_the_index_of_a_parquet_file_names_its_rows():
    pd.DataFrame(VECTORS, index=[f"r{i}" for i in range(N)]).rename(columns=str).to_parquet("mine.parquet")
    mine = own.vectors("mine.parquet")
    assert mine.ids[:2] == ("r0", "r1")
    assert mine.z.shape == (N, 6)


WRITTEN = {
    "a list": lambda row: str(row.tolist()),
    "an array": lambda row: str(row.astype(float)),
    "over several lines": lambda row: np.array2string(row.astype(float), max_line_width=20),
    "without brackets": lambda row: ", ".join(map(str, row.tolist())),
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_lists_written_as_text_are_read(text):
    pd.DataFrame({"embedding": map(text, VECTORS), "title": "?"}).to_csv("mine.csv", index=False)
    assert torch.allclose(own.vectors("mine.csv").z, torch.from_numpy(VECTORS), atol=1e-6)


def beside_lists(**columns) -> pd.DataFrame:
    """As public sets of passages have them: vectors under a name of their own, and counts beside them."""
    return pd.DataFrame({"id": range(7, 7 + N), "text": "a text", "views": 2.5, "emb": list(VECTORS)} | columns)


@pytest.mark.parametrize("name", ["emb", "vector", "Vectors", "sentence_embedding"])
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_the_only_column_of_lists_is_the_vectors_whatever_it_is_called(kind, name):
    frame = beside_lists().rename(columns={"emb": name})
    match kind:
        case "parquet":
            frame.to_parquet("mine.parquet")
        case "jsonl":
            frame.to_json("mine.jsonl", orient="records", lines=True, double_precision=15)
        case "csv":
            frame.assign(**{name: [str(row) for row in VECTORS.tolist()]}).to_csv("mine.csv", index=False)
    with pytest.warns(UserWarning, match=rf"vectors: views \(beside the lists of {name}\)\."):
        mine = own.vectors(f"mine.{kind}")
    assert torch.allclose(mine.z, torch.from_numpy(VECTORS).float(), atol=1e-6)
    assert mine.ids[:2] == ("7", "8")


@pytest.mark.parametrize("second", ["title_emb", "d0"])
def test_which_of_several_columns_is_meant_is_not_guessed(second):
    columns = {"title_emb": list(VECTORS)} if second == "title_emb" else {"d0": 1.0, "d1": 2.0}
    beside_lists(**columns).to_parquet("mine.parquet")
    with pytest.raises(RequestError, match=f"'emb' and '{second}': keep the one that is meant"):
        own.vectors("mine.parquet")


def test_the_only_array_of_rows_is_taken_whatever_it_is_called():
    np.savez("mine.npz", VECTORS)  # arr_0
    assert torch.equal(own.vectors("mine.npz").z, torch.from_numpy(VECTORS))
    np.savez("mine.npz", VECTORS, VECTORS)
    with pytest.raises(RequestError, match="it has arr_0, arr_1"):
        own.vectors("mine.npz")


@pytest.mark.parametrize(
    "broken", ["[0.1, 0.2]", "[0.1 ... 0.2]", "nothing", "", [0.1], [0.1] * 5 + [None], None, 3.0, {}]
)
def test_a_list_that_is_not_like_the_first_is_named_by_row(broken):
    rows = [{"embedding": row} for row in VECTORS.tolist()]
    rows[9]["embedding"] = broken
    with pytest.raises(RequestError, match=r"mine\.jsonl: column 'embedding', row 9: each row is a list"):
        own.vectors(lines(rows))


def text(content: str, name: str = "mine.csv") -> str:
    Path(name).write_text(content)
    return name


BROKEN = [
    (lambda: text("0.5,1.5\n1,2\n3,4\n"), "the first line holds numbers"),
    (lambda: text("5,3,1\n1,2,3\n3,4,5\n"), "the first line holds numbers"),
    (lambda: text("a,b\n1,2,9\n3,4,9\n"), "cannot be read"),
    (lambda: text("a,b\n"), "has no rows"),
    (lambda: text("title\nx\n"), "nor columns of numbers; it has title"),
    (lambda: text("d0,d1,d2\n1,2,a\n3,4,b\n"), "column 'd2' holds no numbers, though 'd0' does"),
    (lambda: text("d0,label,y\n1,2,a\n3,4,b\n"), "'label' and 'y'"),
    (lambda: text('{"x": [1.0]}\n{"x": [1.0}', "mine.jsonl"), "line 2, is no JSON"),
    (lambda: text("[1.0]", "mine.jsonl"), "line 1: each line is an object"),
    (lambda: bad(embeddings=VECTORS), "embeddings and x"),
    (lambda: bad(ids=np.arange(3)), "3 ids for 40 rows"),
    (lambda: bad(x=np.zeros((N, 4, 4))), "pictures need an encoder"),
    (lambda: bad(x=np.where(np.arange(N)[:, None] == 7, np.nan, VECTORS)), "NaN, the first in row 7"),
    (
        lambda: bad(x=np.where(np.arange(N)[:, None] == 7, 1e300, VECTORS.astype(float))),
        "infinite values, the first in row 7",
    ),
    (lambda: bad(x=np.where(np.arange(N)[:, None] == 7, 0, VECTORS)), "zeros alone, .* the first in row 7"),
]


@pytest.mark.parametrize(("write_bad", "words"), BROKEN)
def test_vectors_that_cannot_be_used_are_refused(write_bad, words):
    with pytest.raises(RequestError, match=words) as refused:
        own.vectors(write_bad())
    assert "mine." in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_every_format_with_labels_and_without(kind):
    with_labels = own.vectors(write(kind))
    assert [with_labels.classes[label] for label in with_labels.labels] == LABELS.tolist()
    assert with_labels.name == write(kind)
    assert torch.allclose(with_labels.z, torch.from_numpy(VECTORS), atol=1e-6)
    assert len(with_labels.provenance[0]["sha256"]) == 64


def unlabelled(kind: str) -> str:
    name, frame = f"mine.{kind}", pd.DataFrame(VECTORS).rename(columns=str)
    match kind:
        case "npy":
            np.save(name, VECTORS)
        case "npz":
            np.savez(name, x=VECTORS)
        case "csv":
            frame.to_csv(name, index=False)
        case "parquet":
            frame.to_parquet(name)
        case "jsonl":
            lines([{"embedding": row} for row in VECTORS.tolist()])
    return name


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "parquet", "jsonl"])
def test_vectors_need_no_labels_and_labelled_data_says_where_they_go(kind):
    mine = own.vectors(unlabelled(kind))
    assert torch.allclose(mine.z, torch.from_numpy(VECTORS), atol=1e-6)
    assert (mine.labels, mine.classes, mine.ids, len(mine)) == (None, (), None, N)
    where = {"npy": r"mine\.labels\.npy", "npz": "an array labels"}.get(kind, "a column labels or label or y")
    with pytest.raises(RequestError, match=f"no labels, which are needed here: .*{where}"):
        data.load(f"mine.{kind}")


def test_half_precision_vectors_stay_on_disk_and_as_they_are(monkeypatch):
    np.save("mine.npy", VECTORS.astype(np.float16))
    load, mapped = np.load, []
    with monkeypatch.context() as patch:
        patch.setattr(np, "load", lambda *a, **how: mapped.append(load(*a, **how)) or mapped[-1])
        mine = own.vectors("mine.npy")
    assert mine.z.dtype == torch.float16
    assert isinstance(mapped[0], np.memmap)
    assert np.shares_memory(mapped[0], mine.z.numpy())
    mine.z[0] = 7  # in memory alone
    assert np.load("mine.npy")[0, 0] == VECTORS.astype(np.float16)[0, 0]


@pytest.mark.parametrize("dtype", [np.int8, np.float64, ">f4", np.longdouble, bool])
def test_other_numbers_become_float32(dtype):
    rows = (VECTORS * 3 + 9).astype(dtype)
    np.save("mine.npy", rows)
    assert torch.equal(own.vectors("mine.npy").z, torch.from_numpy(rows.astype(np.float32)))


def test_a_size_asked_of_a_file_of_vectors_is_refused():
    with pytest.raises(RequestError, match="leave size out"):
        data.load(write("npz"), size=28)
