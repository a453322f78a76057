"""The oracle over sizes, votes and class trends on tables small enough to count by hand."""

import pytest
import torch

from mrl_lab import oracle, score
from mrl_lab.errors import RequestError

SIZES = (8, 16, 32)
RIGHT = torch.tensor([[1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [1, 1, 1, 0, 0]]).bool()


def random_right(seed, sizes=4, n=200):
    return torch.rand(sizes, n, generator=torch.Generator().manual_seed(seed)) < 0.6


def test_30_counted_by_hand():
    assert oracle.accuracy(RIGHT) == pytest.approx(80)
    assert oracle.gain(RIGHT) == oracle.gain(RIGHT.flip(0)) == pytest.approx(80 - 60)  # wherever the best size is
    assert oracle.first_correct(RIGHT).tolist() == pytest.approx([40, 20, 20, 20])
    assert oracle.expected_dim(RIGHT, SIZES) == pytest.approx((8 + 16 + 32 + 32 + 8) / 5)


@pytest.mark.parametrize("seed", range(5))
def test_30_oracle_is_never_below_a_size_and_shares_sum_to_hundred(seed):
    right = random_right(seed)
    shares = oracle.first_correct(right)
    assert shares.sum().item() == pytest.approx(100)
    assert oracle.accuracy(right) == pytest.approx(100 - shares[-1].item())
    assert all(oracle.accuracy(right) >= row.double().mean().item() * 100 for row in right)
    seen = torch.zeros(200, dtype=torch.bool)
    for row, share in zip(right, shares, strict=False):
        assert (row & ~seen).double().mean().item() * 100 == pytest.approx(share.item())
        seen |= row


def test_30_with_one_size_the_oracle_is_its_accuracy():
    right = random_right(0)[:1]
    assert oracle.accuracy(right) == pytest.approx(right.double().mean().item() * 100)
    assert oracle.gain(right) == 0
    assert oracle.first_correct(right)[0].item() == pytest.approx(oracle.accuracy(right))


def test_30_the_control_models_that_differ_by_luck_alone_have_a_gain_too():
    assert oracle.gain(random_right(0)[:1].expand(4, -1)) == 0  # the same model four times
    assert oracle.gain(random_right(0)) > 20  # four that err independently


def test_disagreement_of_sizes():
    table = oracle.disagreements(RIGHT)
    assert torch.allclose(table, torch.tensor([[0.0, 40, 60], [40, 0, 60], [60, 60, 0]]).double())
    assert oracle.disagreement(RIGHT) == pytest.approx((40 + 60 + 60) / 3)
    assert oracle.disagreement(torch.tensor([[3, 1], [3, 2]])) == pytest.approx(50)  # of predictions too


def test_majority_takes_most_votes_and_among_equals_the_largest_size():
    predicted = torch.tensor([[1, 1, 7, 4, 3], [1, 2, 8, 4, 5], [2, 2, 9, 6, 3], [3, 1, 9, 6, 5]])
    #             two ones, one-two-two-one, two nines, four-four-six-six, three-five-three-five
    assert oracle.majority(predicted).tolist() == [1, 1, 9, 6, 5]
    assert torch.equal(oracle.majority(predicted[:1]), predicted[0])


def test_35_accuracy_by_class_averages_to_accuracy_and_leaves_an_empty_class_open():
    y = torch.tensor([0, 0, 1, 1, 1])
    table = oracle.by_class(RIGHT, y, 3)
    assert torch.allclose(table[:, :2], torch.tensor([[50, 100 / 3], [50, 100 / 3], [100, 100 / 3]]).double())
    assert table[:, 2].isnan().all()
    for row, right in zip(table, RIGHT, strict=True):
        assert (row[0] * 2 + row[1] * 3).item() / 5 == pytest.approx(score.accuracy(right, torch.ones(5)))


TREND = torch.tensor([[10.0, 30, 50, 90, 20, 40, torch.nan], [20, 90, 49, 80, 90, 40, 5], [30, 89, 60, 70, 50, 40, 5]])


def test_trends_of_classes():
    assert oracle.trends(TREND, slack=1) == ["up", "dip", "dip", "down", "mixed", "up", "mixed"]
    assert oracle.trends(TREND, slack=0) == ["up", "mixed", "mixed", "down", "mixed", "up", "mixed"]


def test_who_leaves_first():
    found = oracle.leaves_at(TREND, SIZES, share=0.9)
    #  10/20/30 is below 27 at 16; 30 below 80 at 8; 50 and 49 below 54 at 16; never below; 20 below 45 at 8; never
    assert found.tolist()[:6] == [16, 8, 16, 0, 8, 0]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: oracle.accuracy(RIGHT[0]), r"got shape \(5,\)"),
        (lambda: oracle.gain(RIGHT[:, :0]), "1 item"),
        (lambda: oracle.first_correct(RIGHT[:0]), "at least 1 row"),
        (lambda: oracle.disagreement(RIGHT[:1]), "at least 2 row"),
        (lambda: oracle.trends(TREND[:1]), "at least 2 row"),
        (lambda: oracle.by_class(RIGHT, torch.zeros(4).long(), 3), "4 labels for 5 items"),
    ],
)
def test_wrong_requests(ask, words):
    with pytest.raises(RequestError, match=words):
        ask()
