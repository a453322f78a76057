"""What was chosen leaves as a model where there was one, as a matrix where there were only vectors."""

import runpy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from small_texts import TEXTS, stand_in
from test_encoders_elsewhere import saved
from torch.nn.functional import normalize

from mrl_lab import lab, stats
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.lab import Recipe
from mrl_lab.study import leaving
from mrl_lab.study.sentences import smallest
from mrl_lab.study.sentences import task as tasks
from mrl_lab.study.sentences.objectives import Objective
from mrl_lab.study.sentences.task import Sentences
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


# ------------------------------------------------------------------------------------------------ of a study


@pytest.fixture
def small(monkeypatch, tmp_path):
    """SNLI is 36 rows, each test 12 pairs."""
    stand_in(monkeypatch, tmp_path / "cache")
    tasks.whole.cache_clear()
    return {"triplets": 36, "words": 60}


def trained(task):
    return lab.trained(Objective("Starbucks"), task, Recipe(steps=2, batch=4, lr=1e-3), 0).encoder


@pytest.mark.parametrize("pair", [(1, 8), (2, 16), (3, 32)])
def test_an_encoder_of_a_study_leaves_cut_to_its_pair(tmp_path, small, pair, capsys):
    task = Sentences(layers=3, d=32, **small)
    encoder = trained(task)
    rows = [task.scored(encoder, ["STS-B", "graded SNLI"])]
    left = smallest.leave(encoder, task, pair, pd.concat(rows), tmp_path / "model", "Starbucks, 2 steps")
    (n, m), card = pair, (left / "README.md").read_text()
    expected = normalize(encoder.encode(TEXTS)[:, n, :m], dim=1)
    theirs = torch.from_numpy(SentenceTransformer(str(left), device="cpu").encode(TEXTS))
    torch.testing.assert_close(theirs, expected, rtol=0, atol=1e-6)
    value = rows[0].query("metric == 'graded SNLI spearman' and layer == @n and dim == @m").value.item()
    assert f"| {m} | {value:.1f} |" in card
    assert f"| {2 * m} |" not in card, "no width that it does not have"
    assert "| dims | graded SNLI spearman |" in card
    assert "Trained for this cut: Starbucks, 2 steps." in card
    said = capsys.readouterr().out
    assert said.startswith(f"model: {n} of 3 blocks, {m} of 32 numbers")
    assert str(tmp_path) not in said + card, "pages and cards show no path of the machine"


def test_a_model_made_elsewhere_reads_as_much_of_a_text_again_as_it_did(tmp_path, small, monkeypatch):
    place = saved(tmp_path, length=100)
    monkeypatch.setattr(tasks, "READ", 30)
    task = Sentences.of(str(place), **small)
    encoder = trained(task)
    assert encoder.length == 30
    left = smallest.leave(encoder, task, (2, 16), task.scored(encoder, task.tests), tmp_path / "model", "")
    assert SentenceTransformer(str(left), device="cpu").max_seq_length == 100


def test_pairs_lose_what_spearman_says_on_dev_pairs(small):
    task = Sentences(layers=3, d=32, **small)
    encoder = trained(task)
    table = smallest.losses(encoder, task)
    grid = task.on_list(task.grid(encoder, "graded SNLI", "dev")[0]).flip(0)
    assert list(zip(table.layer, table.dim, strict=True)) == [(3, 32), (2, 16), (1, 8)]
    assert table.spearman.tolist() == pytest.approx(grid.tolist())
    assert table.loses.tolist() == pytest.approx((grid[0] - grid).tolist(), abs=1e-9)
    assert table.loc[0, ["loses", "low", "high"]].tolist() == [0, 0, 0]
    draw = np.random.default_rng(0)
    whole, cut = (np.column_stack([draw.normal(size=40), np.arange(40.0)]) for _ in range(2))
    by_hand = stats.bootstrap(whole, cut, lambda items: 100 * spearmanr(*items.T).statistic, resamples=200)
    ours = stats.bootstrap(whole, cut, smallest.score.mean_spearman, resamples=200)
    assert (ours.low, ours.high) == pytest.approx((by_hand.low, by_hand.high))


@pytest.mark.parametrize(
    ("highs", "pair"), [((0, 1, 1.9), (1, 8)), ((0, 2.1, 1), (3, 32)), ((0, 1, 5), (2, 16)), ((0, 9, 9), (3, 32))]
)
def test_the_walk_down_the_list_ends_at_the_first_pair_that_does_not_hold(highs, pair):
    table = pd.DataFrame({"layer": [3, 2, 1], "dim": [32, 16, 8], "high": highs})
    assert smallest.chosen(table, tolerance=2.0) == pair
