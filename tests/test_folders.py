"""Pictures of one's own, a folder a class: every picture once, splits in proportion, and what cannot be used named."""

import numpy as np
import pytest
import torch
from PIL import Image

from mrl_lab import data
from mrl_lab.errors import RequestError


def filled(root, counts, seed=0):
    """Write pictures of different shapes by class; the red of each is its number."""
    n = seed
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture = np.zeros((20 + i, 30, 3), dtype=np.uint8)
            picture[..., 0] = n
            Image.fromarray(picture).save(root / name / f"{i}.png")
            n += 1
    return root


def reds(split):
    return split.images[:, 0, 0, 0].tolist()


def test_a_folder_a_class_becomes_three_splits_with_every_picture_once(tmp_path):
    root = filled(tmp_path / "mine", {"dog": 20, "cat": 10})
    (root / "cat" / ".DS_Store").write_text("hidden")
    found = data.load(root, size=16)
    assert found.classes == ("cat", "dog")
    splits = (found.train, found.validation, found.test)
    assert [len(s) for s in splits] == [21, 3, 6]
    assert sorted(red for s in splits for red in reds(s)) == list(range(30))
    for s in splits:
        assert s.images.shape[1:] == (3, 16, 16)
        assert [0 if red >= 20 else 1 for red in reds(s)] == s.labels.tolist(), "dogs were written first"
        assert len(s.labels.unique()) == 2
    assert data.load(root).train.images.shape[1:] == (3, 224, 224)
    assert found.provenance[0]["file"] == "30 pictures"


def test_train_and_val_are_taken_as_they_are(tmp_path):
    filled(tmp_path / "train", {"a": 10, "b": 10})
    filled(tmp_path / "val", {"a": 4, "b": 4}, seed=100)
    found = data.load(tmp_path, size=8)
    assert sorted(reds(found.test)) == list(range(100, 108))
    assert sorted(reds(found.train) + reds(found.validation)) == list(range(20))


def test_other_pictures_are_other_data(tmp_path):
    root = filled(tmp_path / "mine", {"a": 5, "b": 5})
    first = data.load(root, size=8).key
    assert data.load(root, size=8).key == first
    Image.new("RGB", (9, 9)).save(root / "a" / "0.png")
    assert data.load(root, size=8).key != first
    assert torch.equal(data.load(root, size=8).train.labels, data.load(root, size=8).train.labels)


def test_what_cannot_be_used_is_named(tmp_path):
    root = filled(tmp_path / "mine", {"a": 5})
    with pytest.raises(RequestError, match="has 1 folders: at least 2 classes"):
        data.load(root)
    filled(root, {"b": 2})
    with pytest.raises(RequestError, match="b has 2 pictures: 4 or more"):
        data.load(root)
    filled(root, {"c": 4})
    for i in range(2, 6):
        Image.new("RGB", (9, 9)).save(root / "b" / f"{i}.png")
    (root / "b" / "notes.txt").write_text("no picture")
    with pytest.raises(RequestError, match=r"notes\.txt is no picture"):
        data.load(root)
    filled(tmp_path / "two" / "train", {"a": 4, "b": 4})
    filled(tmp_path / "two" / "test", {"a": 4, "z": 4})
    with pytest.raises(RequestError, match="have other classes, such as 'b'"):
        data.load(tmp_path / "two")
