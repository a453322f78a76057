"""Texts with judgements, searched with prefixes: against scikit-learn's nDCG and a search by hand."""

import pytest
import torch
from sklearn.metrics import ndcg_score
from torch.nn.functional import normalize

from mrl_lab import score, search
from mrl_lab.study import judged

SIZES = (4, 16)


@pytest.fixture
def made():
    draw = torch.Generator().manual_seed(0)
    corpus = normalize(torch.randn(150, 16, generator=draw), dim=1)
    queries = normalize(corpus[:20] + 0.3 * torch.randn(20, 16, generator=draw), dim=1)
    relevant = (torch.rand(20, 150, generator=draw) < 0.03).float()
    relevant[torch.arange(20), torch.arange(20)] = 1
    return {"corpus": corpus, "queries": queries}, relevant


def test_ndcg_is_scikit_learns(made):
    z, relevant = made
    scores, ids = search.exact(z["queries"], z["corpus"], 150)
    everything = torch.empty_like(scores).scatter(1, ids, scores)
    ours = score.relevance_ndcg(ids[:, :10], relevant)
    for i in range(20):
        assert ours[i].item() == pytest.approx(ndcg_score(relevant[i : i + 1], everything[i : i + 1], k=10))


def test_ndcg_takes_grades_and_a_query_without_answers():
    gains, ideal = torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert score.ndcg(gains, ideal).tolist() == pytest.approx([1 / torch.tensor(3.0).log2().item(), 0.0])


def test_every_form_and_size_is_scored_and_a_long_shortlist_loses_nothing(made):
    z, relevant = made
    found = judged.by_query(z, relevant, SIZES, "it")
    assert set(found) == {(f"it, {form}", m) for form in (*search.FORMS, "reranked") for m in SIZES}
    by_hand = score.relevance_ndcg(
        (z["queries"][:, :4] @ normalize(z["corpus"][:, :4], dim=1).T).topk(10).indices, relevant
    )
    assert torch.allclose(found["it, float32", 4], by_hand)
    assert found["it, reranked", 4].mean() > found["it, float32", 4].mean()
    assert torch.allclose(found["it, reranked", 16], found["it, float32", 16])


def test_rows_say_what_an_embedding_takes_and_a_search_costs(made):
    z, relevant = made
    rows = judged.scored(judged.by_query(z, relevant, SIZES, "it"), 150).set_index(["method", "dim"])
    assert rows.bytes["it, int8", 4] == 4
    assert rows.bytes["it, binary", 16] == 2
    assert rows.flops["it, float32", 4] == 600
    assert rows.flops["it, reranked", 4] == 600 + 100 * 16
    assert (rows.metric == "ndcg@10").all()


def test_losses_are_paired_by_query(made):
    z, relevant = made
    found = judged.by_query(z, relevant, SIZES, "it")
    lost = judged.losses(found, ("it, float32", 16)).set_index(["method", "dim"])
    assert (lost.loc[("it, float32", 16), ["loses", "low", "high"]].fillna(0) == 0).all()
    row = lost.loc[("it, float32", 4)]
    expected = 100 * (found["it, float32", 16] - found["it, float32", 4]).mean().item()
    assert row.loses == pytest.approx(expected)
    assert row.low < row.loses < row.high


def test_relevance_is_read_from_the_judgements(monkeypatch):
    collection = judged.texts.Retrieval(
        {"a": "x", "b": "y"}, {"1": "q", "2": "r"}, {"test": {"2": {"b": 1, "a": 0, "gone": 1}}, "train": {}}
    )
    monkeypatch.setattr(judged.texts, "retrieval", lambda name: collection)
    assert judged.gains("any").tolist() == [[0.0, 1.0]]
