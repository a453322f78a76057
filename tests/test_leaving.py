"""What was recommended leaves as a model where there was one, as a matrix where there were only vectors."""

import runpy

import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer
from small_texts import TEXTS
from test_encoders_elsewhere import saved
from torch.nn.functional import normalize

from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.study import leaving
from mrl_lab.study.vectors import Collection, Way

SCORES = pd.DataFrame(
    [(f"{way}, float32", 0, m, "ndcg@10", 40.0 + m) for way in ("rotation", "prefix") for m in (4, 8, 16)],
    columns=["method", "seed", "dim", "metric", "value"],
)


def turned(d):
    return torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0)))[0]


@pytest.mark.parametrize("name", ["rotation", "prefix"])
def test_vectors_alone_leave_as_a_matrix(tmp_path, name):
    z, matrix = torch.randn(30, 16), turned(16) if name == "rotation" else None
    mine = Collection("mine", z, "key")
    left = leaving.leave(mine, "none", Way(name, matrix), {"dim": 8}, (4, 8, 12), SCORES, tmp_path / "model")
    apply = runpy.run_path(str(left / "apply.py"))["cut"]
    whole = z if matrix is None else z @ matrix
    for m in (4, 8):
        theirs = torch.from_numpy(apply(z.numpy(), m, left / "matrix.safetensors"))
        torch.testing.assert_close(theirs, normalize(whole[:, :m], dim=1), rtol=0, atol=1e-6)
    card = (left / "README.md").read_text()
    assert "4, 8 dims" in card, "sizes up to the kept one"
    assert "48.0" in card
    assert "56.0" not in card, "no score of a size that it does not have"


def test_a_model_leaves_as_a_model(tmp_path):
    weights, texts = saved(tmp_path), list(TEXTS)[:5]
    encoder = pretrained(weights)
    matrix = turned(encoder.d)
    mine = Collection("mine", encoder.vectors(texts), "key", texts=texts, weights=[{"name": "small"}])
    left = leaving.leave(mine, str(weights), Way("rotation", matrix), {"dim": 8}, (4, 8), SCORES, tmp_path / "out")
    theirs = torch.from_numpy(SentenceTransformer(str(left), device="cpu").encode(texts))
    torch.testing.assert_close(theirs, normalize((mine.documents @ matrix)[:, :8], dim=1), rtol=0, atol=1e-6)
