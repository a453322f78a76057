"""Cascades against brute force and plain heads (the numbers are those of the method's checklist)."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from mrl_lab import cascade, score
from mrl_lab.errors import RequestError

SIZES = (2, 4, 8, 16)


@pytest.fixture
def made():
    """Logits (S, n, C), over-confident, and labels."""
    return make()


def make(n=1500, classes=6, seed=0, heat=3.0):
    """Gaussian classes with less evidence in later dims: ``heat`` times the logits of Bayes' rule on each prefix."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=draw)
    means = 3 * 0.7 ** torch.arange(16) * torch.randn(classes, 16, generator=draw)
    z = means[y] + torch.randn(n, 16, generator=draw)
    return heat * torch.stack([z[:, :m] @ means[:, :m].T - means[:, :m].square().sum(1) / 2 for m in SIZES]), y


def slow_run(confidence, predicted, thresholds):
    """One item at a time, one size at a time."""
    answers, stops = [], []
    for i in range(confidence.shape[1]):
        stop = next((s for s, t in enumerate(thresholds) if confidence[s, i] > t), len(confidence) - 1)
        answers.append(predicted[stop, i].item())
        stops.append(stop)
    return answers, stops


def test_27_extreme_thresholds_are_the_smallest_and_the_largest_head(made):
    logits, y = made
    sure, predicted = cascade.confidence(logits), logits.argmax(-1)
    for value, place in ((0.0, 0), (1.0, 3)):
        found, stop = cascade.run(sure, predicted, torch.full((3,), value))
        assert (stop == place).all()
        assert score.accuracy(found, y) == score.accuracy(predicted[place], y)


def test_27_a_confidence_of_one_is_not_above_one():
    sure, predicted = torch.ones(2, 3), torch.tensor([[0, 0, 0], [1, 1, 1]])
    assert cascade.run(sure, predicted, torch.ones(1))[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("thresholds", [[0.3, 0.5, 0.9], [0.99, 0.2, 0.95], [0.0, 1.0, 0.5]])
def test_27_run_equals_one_item_at_a_time(made, thresholds):
    logits, _ = made
    sure, predicted = cascade.confidence(logits), logits.argmax(-1)
    found, stop = cascade.run(sure, predicted, torch.tensor(thresholds))
    assert (found.tolist(), stop.tolist()) == slow_run(sure, predicted, thresholds)
    for last in (1, 2):  # a shorter cascade is the same run, stopped
        shorter, at = cascade.run(sure[: last + 1], predicted[: last + 1], torch.tensor(thresholds[:last]))
        assert torch.equal(at, stop.clamp(max=last))
        assert torch.equal(shorter, cascade.at_stop(predicted, stop.clamp(max=last)))


def test_28_costs_are_sums_over_stops(made):
    stop = torch.tensor([0, 0, 1, 3])
    assert cascade.expected_dim(stop, SIZES) == (2 + 2 + 4 + 16) / 4
    assert cascade.cumulative_dim(stop, SIZES) == (2 + 2 + 6 + 30) / 4
    logits, _ = made
    sure = cascade.confidence(logits)
    _, stop = cascade.run(sure, logits.argmax(-1), torch.full((3,), 0.9))
    shares = [(stop == s).double().mean().item() for s in range(4)]
    assert cascade.expected_dim(stop, SIZES) == pytest.approx(sum(m * p for m, p in zip(SIZES, shares, strict=True)))
    assert min(SIZES) < cascade.expected_dim(stop, SIZES) < cascade.cumulative_dim(stop, SIZES)


def test_28_thresholds_never_see_the_items_they_are_scored_on(made, monkeypatch):
    logits, y = made
    parts = []
    one_split = cascade._one_split
    monkeypatch.setattr(cascade, "_one_split", lambda *a: parts.append(a[2:4]) or one_split(*a))
    cascade.evaluate(dict(zip(SIZES, logits, strict=True)), y, method="MRL", seed=0, splits=3)
    assert len(parts) == 3
    for fit, scored in parts:
        assert len(fit) == 300
        assert sorted(fit.tolist() + scored.tolist()) == list(range(1500))
    assert not torch.equal(parts[0][0], parts[1][0])


def slow_thresholds(sure, right, grid):
    """Every value of the grid for every pair, by its definition."""
    found = []
    for s in range(len(sure) - 1):
        accuracies = [torch.where(sure[s] > t, right[s], right[s + 1]).double().mean().item() for t in grid]
        found.append(next(t for t, a in zip(grid.tolist(), accuracies, strict=True) if a == max(accuracies)))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n", [7, 400])
def test_29_thresholds_are_the_smallest_maximisers(seed, n):
    logits, y = make(n, seed=seed, heat=1.0)
    sure, right = cascade.confidence(logits), logits.argmax(-1) == y
    assert cascade.fit_thresholds(sure, right).tolist() == slow_thresholds(sure, right, cascade.GRID)


def test_29_equal_confidences_and_ties_with_the_grid():
    grid = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    sure = torch.tensor([[0.25, 0.5, 0.5, 0.5, 0.75, 1.0]] * 2)
    for bits in range(2**6):
        right = torch.tensor([[bool(bits >> i & 1) for i in range(6)], [True, False] * 3])
        assert cascade.fit_thresholds(sure, right, grid).tolist() == slow_thresholds(sure, right, grid.double())


def test_temperature_minimises_the_loss_and_finds_the_one_put_in():
    draw = torch.Generator().manual_seed(0)
    honest = 2 * torch.randn(20_000, 5, generator=draw)
    y = torch.multinomial(honest.softmax(1), 1, generator=draw)[:, 0]  # labels drawn from the model's own beliefs
    assert cascade.fit_temperature(honest, y) == pytest.approx(1, rel=0.05)
    assert cascade.fit_temperature(4 * honest, y) == pytest.approx(4, rel=0.05)
    best = cascade.fit_temperature(4 * honest, y)
    losses = [cross_entropy(4 * honest / t, y).item() for t in (0.95 * best, best, 1.05 * best)]
    assert losses[1] == min(losses)


def test_each_size_is_divided_by_its_own_temperature(made):
    logits, _ = made
    sure = cascade.confidence(logits, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    for row, one, t in zip(sure, logits, (1, 2, 3, 4), strict=True):
        assert torch.allclose(row, (one / t).double().softmax(-1).max(-1).values)
    assert torch.equal(sure[0], cascade.confidence(logits)[0])


@pytest.mark.parametrize("calibrate", [True, False])
def test_evaluation_traces_the_curve_from_the_smallest_head(made, calibrate):
    logits, y = made
    by_size = dict(zip(SIZES, logits, strict=True))
    rows = cascade.evaluate(by_size, y, method="MRL", seed=4, splits=10, calibrate=calibrate)
    table = score.table(rows).pivot(index="dim", columns="metric", values="value")
    plain = [score.accuracy(one.argmax(1), y) for one in logits]
    assert table.cascade_top1[2] == pytest.approx(plain[0], abs=1)
    assert table.cascade_top1[16] > plain[3] - 1  # as good as the largest
    assert table.expected_dim[16] < 14  # for less
    assert (table.expected_dim <= table.cumulative_dim).all()
    assert table.expected_dim.is_monotonic_increasing
    assert (table.loc[2, ["expected_dim", "cumulative_dim"]] == 2).all()
    assert {row["n"] for row in rows} == {1200}
    assert rows == cascade.evaluate(by_size, y, method="MRL", seed=4, splits=10, calibrate=calibrate)


def test_calibration_undoes_overconfidence():
    def cost(heat, calibrate):
        logits, y = make(heat=heat)
        by_size = dict(zip(SIZES, logits, strict=True))
        rows = cascade.evaluate(by_size, y, method="MRL", seed=0, splits=5, calibrate=calibrate)
        return score.table(rows).query("metric == 'expected_dim' and dim == 16").value.item()

    assert cost(heat=15.0, calibrate=True) == pytest.approx(cost(heat=1.0, calibrate=True), rel=0.1)
    assert cost(heat=15.0, calibrate=False) > 1.3 * cost(heat=15.0, calibrate=True)


HALF = torch.full((2, 5), 0.5)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: cascade.run(HALF, HALF.long(), torch.tensor([1.1])), "from 0 to 1"),
        (lambda: cascade.run(HALF, HALF.long(), torch.tensor([-0.1])), "from 0 to 1"),
        (lambda: cascade.run(HALF, HALF.long(), torch.tensor([torch.nan])), "from 0 to 1"),
        (lambda: cascade.run(HALF, HALF.long(), torch.tensor([0.5, 0.5])), "2 thresholds for 2 sizes"),
        (lambda: cascade.run(HALF, HALF[:, :4].long(), torch.tensor([0.5])), r"\(sizes, items\)"),
        (lambda: cascade.run(HALF[:1], HALF[:1].long(), torch.tensor([])), "at least two sizes"),
        (lambda: cascade.fit_thresholds(HALF[:1], HALF[:1] > 0), "at least two sizes"),
        (lambda: cascade.fit_thresholds(HALF, HALF > 0, torch.linspace(0, 2, 5)), "from 0 to 1"),
        (lambda: evaluate({4: 0, 2: 0}), "rise"),
        (lambda: evaluate({4: 0}), "at least two sizes"),
        (lambda: evaluate({}), "empty"),
        (lambda: evaluate({2: 0, 4: 0}, share=0.01), "nothing to fit on"),
        (lambda: evaluate({2: 0, 4: 0}, share=1.0), "nothing to fit on"),
        (lambda: evaluate({2: 0, 4: 0}, splits=0), "0 splits"),
    ],
)
def test_wrong_requests(ask, words):
    with pytest.raises(RequestError, match=words):
        ask()


def evaluate(sizes, **how):
    return cascade.evaluate({m: torch.randn(20, 3) for m in sizes}, torch.arange(20) % 3, method="", seed=0, **how)
