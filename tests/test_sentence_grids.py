"""Grids of layers and widths against one cut at a time: scipy's Spearman, hand-worked ranks, scikit-learn's nDCG."""

from types import SimpleNamespace

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score
from torch.nn.functional import cosine_similarity

from mrl_lab import score
from mrl_lab.data import texts
from mrl_lab.errors import RequestError
from mrl_lab.study.sentences import adapting, task

SIZES = (2, 5, 8)


@pytest.fixture
def pairs():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(90, 3, 8, generator=draw)
    gold = torch.randint(6, (90,), generator=draw).tolist()
    y = x + (0.1 + 0.3 * torch.tensor(gold)[:, None, None]) * torch.randn(90, 3, 8, generator=draw)
    return x, y, gold


def test_43_all_widths_from_running_sums_are_each_widths_cosine(pairs):
    x, y, _ = pairs
    found = score.cosine_grid(x, y, SIZES)
    for i, m in enumerate(SIZES):
        assert torch.allclose(found[..., i].float(), cosine_similarity(x[..., :m], y[..., :m], dim=-1), atol=1e-6)


def test_41_spearman_is_scipys_with_ties_and_in_any_unit(pairs):
    x, y, gold = pairs
    found = score.spearman_grid(x, y, gold, SIZES, chunk=7)
    assert found.shape == (3, 3)
    cosine = cosine_similarity(x[:, 2, :5].double(), y[:, 2, :5].double(), dim=-1)
    assert found[2, 1].item() == pytest.approx(100 * spearmanr(cosine, gold).statistic, abs=1e-6)
    assert torch.allclose(found, score.spearman_grid(x, y, [g / 5 for g in gold], SIZES))


def test_42_all_pairs_together_are_not_the_mean_of_subsets(monkeypatch):
    """Each subset is ordered perfectly; put together, the order between them is wrong."""
    angle = torch.tensor([0.1, 0.2, 0.3, 1.0, 1.1, 1.2])
    x = torch.tensor([[1.0, 0.0]]).expand(6, 1, 2)
    y = torch.stack([angle.cos(), angle.sin()], 1)[:, None]
    gold = [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]
    halves = {name: (x[i], y[i], gold[i]) for name, i in (("a", slice(0, 3)), ("b", slice(3, 6)))}
    own = [score.spearman_grid(*half, [2]).item() for half in halves.values()]
    assert own == pytest.approx([100, 100])
    subsets = {
        f"20{year} {name}": texts.Pairs([name], [name], half[2])
        for year in range(12, 17)
        for name, half in halves.items()
    }
    monkeypatch.setattr(texts, "pairs", lambda name: subsets)
    together = lambda _, said, __: [torch.cat([halves[name][side] for name in said]) for side in (0, 1)]  # noqa: E731
    monkeypatch.setattr(adapting, "encode_each", together)
    found = adapting.SETS["STS12-16"](None, SimpleNamespace(sizes=[2]))["STS12 spearman"].item()
    assert found == pytest.approx(100 * spearmanr(-angle, gold).statistic)
    assert found < 0


def test_what_does_not_fit_is_refused(pairs):
    x, y, gold = pairs
    with pytest.raises(RequestError, match="89 judgements"):
        score.spearman_grid(x, y, gold[1:], SIZES)
    with pytest.raises(RequestError, match="at most 8"):
        score.spearman_grid(x, y, gold, (4, 9))


def test_48_ranks_are_those_worked_by_hand():
    gains = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 0]])
    assert score.reciprocal_rank(gains).tolist() == [0.5, 1.0, 0.0]


def test_48_retrieval_at_a_cut_is_scikit_learns(pairs):
    x, y, _ = pairs
    queries, corpus = x[:10], y
    relevant = torch.zeros(10, 90)
    relevant[torch.arange(10), torch.arange(10)] = 1
    found = score.searched(queries[:, 1], corpus[:, 1], relevant, 5)
    scores = cosine_similarity(queries[:, None, 1, :5], corpus[None, :, 1, :5], dim=-1)
    assert found["ndcg@10"].mean().item() == pytest.approx(ndcg_score(relevant, scores, k=10), abs=1e-6)
    places = [(row > row[i]).sum().item() + 1 for i, row in enumerate(scores)]
    by_hand = sum(1 / p if p <= 10 else 0 for p in places) / 10
    assert found["mrr@10"].mean().item() == pytest.approx(by_hand)


def test_a_grid_is_rows_without_the_embedding_output(pairs):
    x, y, gold = pairs
    grid = score.spearman_grid(x, y, gold, SIZES)
    table = task.Sentences.table(SimpleNamespace(sizes=SIZES), {"spearman": (grid, 90)})
    assert list(zip(table.layer, table.dim, strict=True)) == [(n, m) for n in (1, 2) for m in SIZES]
    assert table.value.tolist() == grid[1:].flatten().tolist()
