"""Labelled data: fixed draws, classes in proportion, splits that share nothing, pairs, and selections."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from mrl_lab import data
from mrl_lab.data import catalogue, contents, named, pairs, pictures, places, rows
from mrl_lab.data.labelled import statistics
from mrl_lab.data.places import Found
from mrl_lab.errors import RequestError


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def content(split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def toy(n: int = 40, classes: int = 4) -> rows.Parts:
    """Parts whose pictures (1, 1, 2) tell where they come from: train 0.., test 100.., validation 200.."""
    train, test, validation = (
        rows.tensors(torch.arange(n).view(-1, 1, 1, 1).expand(-1, 1, 1, 2) + first, torch.arange(n) % classes)
        for first in (0, 100, 200)
    )
    return rows.Parts("Toy", train, test, validation, tuple("abcd"[:classes]), (0, 0, 1, 1), ("ab", "cd"))


# ------------------------------------------------------------------------------------------------------ draws


def test_every_beginning_of_a_spread_holds_the_classes_in_proportion():
    labels = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)[torch.randperm(1000)]
    order = rows.spread(labels, seed=3)
    assert sorted(order.tolist()) == list(range(1000))
    for count in (10, 50, 200, 777):
        share = labels[order[:count]].bincount(minlength=3) / count
        assert (share - torch.tensor([0.6, 0.3, 0.1])).abs().max() <= 1.5 / count + 1e-6, count
    assert torch.equal(order, rows.spread(labels, seed=3))
    assert not torch.equal(order, rows.spread(labels, seed=4))


def test_a_smaller_request_is_part_of_a_larger_one_and_leaves_other_splits_alone(digits):
    small = data.load("digits", train=100)
    assert content(small.train) <= content(digits.train)
    assert torch.equal(small.validation.images, digits.validation.images)
    assert torch.equal(small.test.images, digits.test.images)
    assert small.train.labels.bincount(minlength=10).tolist() == pytest.approx([10] * 10, abs=1)
    assert small.key != digits.key
    assert small.key == data.load("digits", train=100).key


def test_splits_share_nothing_and_validation_comes_from_training(digits):
    other = data.load("digits", seed=1)
    assert not content(digits.train) & content(digits.test)
    assert not content(digits.train) & content(digits.validation)
    assert content(other.test) == content(digits.test), "the seed touched the test part"
    assert content(other.validation) != content(digits.validation)
    assert len(digits.validation) == round(0.1 * (len(digits.train) + len(digits.validation)))
    assert (len(digits.train) + len(digits.validation), len(digits.test)) == (1438, 359)


def test_what_the_fields_promise(digits):
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.shape[1:] == (1, 8, 8)
    assert digits.train.labels.dtype == torch.int64
    assert digits.train.images.max() == 255
    assert digits.mean[0] == pytest.approx((digits.train.images.double() / 255).mean().item())
    assert digits.std[0] == pytest.approx((digits.train.images.double() / 255).std(correction=0).item())
    assert json.loads(json.dumps(digits.key)) == digits.key
    assert all(len(record["sha256"]) == 64 for record in digits.provenance)
    assert digits.coarse is None


def test_statistics_of_vectors_and_of_a_constant():
    x = torch.randn(9000, 5) * 3 + 1
    mean, std = statistics(x)
    assert (mean, std) == (
        pytest.approx([x.double().mean().item()]),
        pytest.approx([x.double().std(correction=0).item()]),
    )
    assert statistics(torch.full((4, 2, 3, 3), 51, dtype=torch.uint8)) == (pytest.approx((0.2, 0.2)), (1.0, 1.0))


@pytest.mark.parametrize("count", [0, -1, 1295, 2.5, True])
def test_more_rows_than_there_are(count):
    with pytest.raises(RequestError, match=r"train rows of digits: a whole number from 1 to 1294"):
        data.load("digits", train=count)


@pytest.mark.parametrize(
    ("name", "words"),
    [("digts", "Did you mean 'digits'"), ("stsb", "data set with labels"), ("no/such.npz", "no file")],
)
def test_names_that_cannot_be_loaded(name, words):
    with pytest.raises(RequestError, match=words):
        data.load(name)


def test_a_size_where_there_is_none():
    with pytest.raises(RequestError, match=r"digits has pictures of one size"):
        data.load("digits", size=16)


# ------------------------------------------------------------------------------------------------------ pairs


def test_pairs_are_of_one_split_and_labelled_left_then_right():
    made = pairs.paired(toy(), seed=0)
    assert made.classes[4 * 1 + 2] == "b | c"
    for split, first in ((made.train, 0), (made.test, 100), (made.validation, 200)):
        images = split.images(torch.arange(len(split)))[:, 0, 0].long() - first  # (40, 2): which picture on each side
        assert images.shape == (40, 2)
        assert images.min() >= 0
        assert images.max() < 40
        assert torch.equal(4 * (images[:, 0] % 4) + images[:, 1] % 4, split.labels)
        assert all(len(column.unique()) == 40 for column in images.T), "a picture is used once a side"
    assert made.coarse[4 * 1 + 2] == 1
    assert made.coarse_classes == ("ab | ab", "ab | cd", "cd | ab", "cd | cd")


def test_pairs_follow_their_seed():
    first, again, other = (pairs.paired(toy(), seed=s).train.labels for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# -------------------------------------------------------------------------------------------------- selection


def test_select_keeps_some_classes_under_new_numbers(digits):
    some = digits.select([7, "3"])
    assert some.classes == ("7", "3")
    assert set(some.test.labels.tolist()) == {0, 1}
    sevens = digits.test.images[digits.test.labels == 7]
    assert torch.equal(some.test.images[some.test.labels == 0], sevens)
    assert some.key["classes"] == [7, 3]
    assert some.select([1]).key["classes"] == [3]
    assert some.mean == statistics(some.train.images)[0]
    assert len(digits.classes) == 10


def test_select_takes_the_coarse_level_along(monkeypatch):
    monkeypatch.setitem(pictures.READERS, "digits", lambda found: toy())
    some = data.load("digits").select(["d", "c"])
    assert some.coarse.tolist() == [0, 0]
    assert some.coarse_classes == ("cd",)
    both = data.load("digits").select(["d", "a"])
    assert [both.coarse_classes[c] for c in both.coarse] == ["cd", "ab"]


@pytest.mark.parametrize(
    ("classes", "words"),
    [([], "from 0 to 9"), ("3", "list of names"), (["10"], "unknown class '10'"), ([3, "3"], "once each")],
)
def test_select_refuses(digits, classes, words):
    with pytest.raises(RequestError, match=words):
        digits.select(classes)


def test_select_refuses_a_class_without_rows(digits):
    few = data.load("digits", test=1)
    absent = next(c for c in range(10) if c != few.test.labels.item())
    with pytest.raises(RequestError, match=rf"no row of {absent} in the test rows of Digits"):
        few.select([absent])


# ---------------------------------------------------------------------------------------------------- readers


def test_idx_files_are_read_in_their_order(tmp_path):
    def write(name: str, axes: tuple[int, ...], values: np.ndarray) -> None:
        head = struct.pack(f">HBB{len(axes)}i", 0, 8, len(axes), *axes)
        (tmp_path / name).write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))

    for part, n in (("train", 3), ("t10k", 2)):
        write(f"{part}-images-idx3-ubyte.gz", (n, 2, 4), np.arange(8 * n))
        write(f"{part}-labels-idx1-ubyte.gz", (n,), np.arange(n) + 7)
    sums = dict.fromkeys(catalogue.SOURCES["fashion_mnist"].files, "")
    parts = pictures.fashion_mnist(Found("fashion_mnist", "", tmp_path, sums, ""))
    assert parts.train.images(torch.tensor([2])).flatten().tolist() == list(range(16, 24))
    assert parts.train.images(torch.tensor([0])).shape == (1, 1, 2, 4)
    assert parts.test.labels.tolist() == [7, 8]


def table(file: Path, image: str, colour: int) -> None:
    """Write a table in the hub's layout: one plain picture a row, and its label."""
    import io

    import pandas as pd
    from PIL import Image

    png = io.BytesIO()
    Image.new("RGB" if image == "img" else "L", (4, 4), (colour, 0, 0) if image == "img" else colour).save(png, "png")
    pd.DataFrame({image: [{"bytes": png.getvalue(), "path": None}], "label": [3]}).to_parquet(file)


@pytest.mark.parametrize(
    ("name", "image", "shape"), [("fashion_mnist", "image", (1, 4, 4)), ("cifar10", "img", (3, 4, 4))]
)
def test_tables_of_the_hub_are_read(tmp_path, name, image, shape):
    for part, colour in (("train", 10), ("test", 20)):
        table(tmp_path / f"{part}-00000-of-00001.parquet", image, colour)
    sums = {file.name: "" for file in tmp_path.iterdir()}
    parts = pictures.READERS[name](Found(name, "", tmp_path, sums, ""))
    assert parts.test.images(torch.tensor([0])).shape == (1, *shape)
    assert parts.test.images(torch.tensor([0]))[0, 0, 0, 0] == 20
    assert parts.train.labels.tolist() == [3]
    assert "JPEG" not in parts.title


def test_fashion_mnist_and_its_pairs(shared):
    clothes = data.load(train=1000)
    assert clothes.name == "Fashion-MNIST"
    assert [len(getattr(clothes, part)) for part in ("train", "validation", "test")] == [1000, 6000, 10000]
    assert clothes.train.labels.bincount().tolist() == [100] * 10
    groups = {name: clothes.coarse_classes[c] for name, c in zip(clothes.classes, clothes.coarse, strict=True)}
    assert [name for name, group in groups.items() if group == "footwear"] == ["Sandal", "Sneaker", "Ankle boot"]
    assert [name for name, group in groups.items() if group == "tops"] == ["T-shirt/top", "Pullover", "Coat", "Shirt"]
    both = data.load("fashion_pairs", train=200, validation=50, test=100)
    assert both.train.images.shape == (200, 1, 28, 28)
    assert (len(both.classes), len(both.coarse_classes)) == (100, 25)
    assert [record["file"] for record in both.provenance] == [record["file"] for record in clothes.provenance]
    for part in ("validation", "test"):
        squeezed = avg_pool2d(getattr(clothes, part).images.float(), (1, 2)).round().to(torch.uint8)
        allowed = {picture.numpy().tobytes() for picture in squeezed}
        for half in getattr(both, part).images.split(14, dim=3):
            assert {picture.numpy().tobytes() for picture in half.contiguous()} <= allowed, part


def test_pictures_elsewhere_are_known_by_their_pixels(shared, tmp_path):
    """The authors' own files are compressed anew here, as Debian's are; a changed picture is another set."""
    sums = dict.fromkeys(catalogue.SOURCES["fashion_mnist"].files, "")
    for file in sums:
        content = gzip.decompress((shared / "fashion_mnist" / file).read_bytes())
        (tmp_path / file).write_bytes(gzip.compress(content, 1))
    found, rows = Found("fashion_mnist", "", tmp_path, sums, ""), catalogue.SOURCES["fashion_mnist"].rows
    contents.check(found, rows)
    changed = bytearray(gzip.decompress((tmp_path / "t10k-images-idx3-ubyte.gz").read_bytes()))
    changed[-400] ^= 1
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(changed, 1))
    with pytest.raises(RequestError, match=r"in test$"):
        contents.check(found, rows)


def test_cifar_is_known_by_its_labels_alone(shared, tmp_path):
    import pandas as pd

    for part in ("train", "test"):
        label = pd.read_parquet(shared / "cifar10" / f"{part}.parquet", columns=["label"]).label
        lossless = [{"bytes": b"not the JPEG's", "path": None}] * len(label)
        pd.DataFrame({"img": lossless, "label": label}).to_parquet(tmp_path / f"{part}-0.parquet")
    found = Found("cifar10", "", tmp_path, {"train-0.parquet": "", "test-0.parquet": ""}, "")
    contents.check(found, catalogue.SOURCES["cifar10"].rows)


def test_cifar_says_that_it_is_jpeg(shared):
    things = data.load("cifar10", train=100, validation=10, test=50)
    assert things.name == "CIFAR-10 (JPEG)"
    assert things.train.images.shape == (100, 3, 32, 32)
    assert things.train.labels.bincount().tolist() == [10] * 10


def test_omniglot_counts_each_character_once_and_tests_on_other_people(shared):
    characters = data.load("omniglot")
    assert len(characters.classes) == len(set(characters.classes)) == 242
    for part, drawings in (("train", 12), ("validation", 3), ("test", 5)):
        assert getattr(characters, part).labels.bincount().tolist() == [drawings] * 242, part
    assert characters.train.images.shape[1:] == (1, 28, 28)
    assert characters.train.images.float().mean() < 60, "ink is bright on black"
    assert not content(characters.train) & content(characters.test)
    assert all(
        name.startswith(characters.coarse_classes[c])
        for name, c in zip(characters.classes, characters.coarse, strict=True)
    )
    assert len(characters.coarse_classes) == 8


def test_groceries_keep_their_splits(shared):
    photos = data.load("groceries", size=32)
    assert [len(getattr(photos, part)) for part in ("train", "validation", "test")] == [675, 57, 1322]
    assert (len(photos.classes), len(photos.coarse_classes)) == (14, 5)
    assert photos.train.images.shape[1:] == (3, 32, 32)
    assert photos.coarse_classes[photos.coarse[photos.classes.index("Granny-Smith")]] == "Apple"


def test_every_name_has_a_reader():
    assert set(named.NAMES) == set(pictures.READERS) | set(catalogue.DERIVED)
    assert places.ensure("digits").place == "an installed package"
