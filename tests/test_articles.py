"""Articles: every class in every split, no paragraph in two, vectors as sentence-transformers makes them."""

import gzip
import hashlib

import pytest
import torch
from sentence_transformers import SentenceTransformer
from small_texts import TEXTS
from test_encoders_elsewhere import saved

from mrl_lab.data.places import Found
from mrl_lab.study import articles

ROWS = [(f"article {i % 3}", f"{text} {text} {TEXTS[i % 5]}.") for i, text in enumerate(TEXTS * 3)]  # 36 of each
FEW = [("too short an article", f"{text} {text} {text}.") for text in TEXTS[:10]]


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "wiki100"
    folder.mkdir()
    lines = ["article\ttext", *("\t".join(row) for row in ROWS + FEW)]
    (folder / "paragraphs.tsv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    model = saved(tmp_path)
    return [Found(one.name, "", one, sums(one), "") for one in (folder, model)]


def sums(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_each_article_is_in_each_split_and_each_paragraph_in_one(found):
    data = articles.seen(*found)
    assert data.classes == ("article 0", "article 1", "article 2")
    sizes = {part: getattr(data, part).labels.bincount().tolist() for part in ("train", "validation", "test")}
    assert sizes == {"train": [26] * 3, "validation": [4] * 3, "test": [6] * 3}
    assert all(min(counts) > 0 and len(counts) == 3 for counts in sizes.values())
    assert articles.seen(*found).key == data.key


def test_vectors_are_those_of_sentence_transformers_beside_their_article(found):
    data, peer = articles.seen(*found), SentenceTransformer(str(found[1].folder), device="cpu")
    for c, name in enumerate(data.classes):
        theirs = torch.from_numpy(peer.encode([text for article, text in ROWS if article == name]))
        mine = torch.cat([s.images[s.labels == c] for s in (data.train, data.validation, data.test)])
        assert len(mine) == len(theirs) == 36
        assert torch.allclose(mine[mine.sum(1).argsort()], theirs[theirs.sum(1).argsort()], atol=1e-4)
