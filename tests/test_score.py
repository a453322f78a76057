"""Scores against references counted by hand, scikit-learn and each other."""

import math

import pytest
import torch
from torch import nn

from mrl_lab import score
from mrl_lab.methods import mrl
from mrl_lab.schema import SCORES


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [([1, 0, 0, 0], 0.25), ([0, 0, 0, 1], 0.0625), ([1, 1, 1, 1], 1.0), ([0, 0, 0, 0], 0.0), ([0, 1, 0, 1], 0.25)],
)
def test_23_average_precision_divides_by_k(relevant, expected):
    assert score.average_precision(torch.tensor([relevant])).item() == pytest.approx(expected)


def test_23_average_precision_never_exceeds_precision():
    relevant = torch.rand(500, 10, generator=torch.Generator().manual_seed(0)) < 0.4
    assert (score.average_precision(relevant) <= relevant.double().mean(1) + 1e-12).all()


@pytest.fixture
def classes():
    """Five noisy clusters in 6 dims, as database and queries."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 6, generator=draw)
    y, database_y = torch.randint(5, (80,), generator=draw), torch.randint(5, (400,), generator=draw)
    noise = torch.randn(480, 6, generator=draw) * 0.7
    return centres[y] + noise[:80], y, centres[database_y] + noise[80:], database_y


def test_24_one_nn_equals_scikit_learn_at_every_size(classes):
    from sklearn.neighbors import KNeighborsClassifier

    z, y, database, database_y = classes
    for m, ids in score.neighbours(z, database, (2, 3, 6)).items():
        peer = KNeighborsClassifier(1, metric="cosine").fit(database[:, :m], database_y)
        assert score.one_nn(ids, database_y, y) == pytest.approx(100 * peer.score(z[:, :m], y))


def test_24_a_set_that_searches_itself(classes):
    _, _, database, database_y = classes
    itself = score.neighbours(database, database, (6,), k=1)
    assert score.one_nn(itself[6], database_y, database_y) == 100
    others = score.neighbours(database, database, (6,), k=1, exclude=torch.arange(len(database)))
    assert score.one_nn(others[6], database_y, database_y) < 100


def test_map_counts_labels_in_the_ten_nearest(classes):
    z, y, database, database_y = classes
    ids = score.neighbours(z, database, (6,))[6]
    by_hand = []
    for row, label in zip(ids.tolist(), y.tolist(), strict=True):
        hits = [int(database_y[i]) == label for i in row]
        by_hand.append(sum(sum(hits[: i + 1]) / (i + 1) * hit for i, hit in enumerate(hits)) / 10)
    assert score.mean_average_precision(ids, database_y, y) == pytest.approx(100 * sum(by_hand) / len(by_hand))


def test_25_thousands_of_neighbouring_labels_stay_apart():
    labels = torch.arange(5000)
    assert score.accuracy(labels, labels) == 100
    assert score.accuracy(labels + 1, labels) == 0
    assert score.mean_average_precision(labels[:, None].repeat(1, 10), labels + 1, labels) == 0


def test_coarse_accuracy_is_never_below_fine():
    draw = torch.Generator().manual_seed(0)
    predicted, y = torch.randint(10, (300,), generator=draw), torch.randint(10, (300,), generator=draw)
    coarse = torch.arange(10) // 5
    assert score.coarse_accuracy(predicted, y, coarse) > score.accuracy(predicted, y)
    assert score.coarse_accuracy(predicted, y, torch.arange(10)) == score.accuracy(predicted, y)


def slow_class_means(support_z, support_y, z, m):
    """Running sums: prefix norms from one cumulative sum of squares, class sums weighted by them, L2 to each mean."""
    norms = support_z.square().cumsum(1)[:, m - 1].sqrt()
    found = []
    for query in z[:, :m] / z.square().cumsum(1)[:, m - 1, None].sqrt():
        distances = {}
        for c in support_y.unique().tolist():
            own = support_y == c
            mean = (support_z[own, :m] / norms[own, None]).sum(0) / own.sum()
            distances[c] = (query - mean).norm().item()
        found.append(min(distances, key=distances.get))
    return torch.tensor(found)


def test_34_nearest_class_mean_equals_prefix_sums(classes):
    z, _, database, database_y = classes
    names = 3 * database_y + 1  # classes need not be 0, 1, 2, ...
    for m, predicted in score.nearest_class_mean(database, names, z, (1, 2, 5, 6)).items():
        assert torch.equal(predicted, slow_class_means(database, names, z, m))


def test_34_one_shot_is_one_nn_to_that_shot(classes):
    z, _, database, database_y = classes
    shots = torch.stack([(database_y == c).nonzero()[0, 0] for c in range(5)])
    predicted = score.nearest_class_mean(database[shots], database_y[shots], z, (2, 6))
    for m, ids in score.neighbours(z, database[shots], (2, 6), k=1).items():
        assert torch.equal(predicted[m], database_y[shots][ids[:, 0]])


def test_34_the_mean_of_a_class_does_not_grow_with_its_number_of_rows(classes):
    z, _, database, database_y = classes
    twice = torch.cat([database, database[database_y == 0]]), torch.cat([database_y, database_y[database_y == 0]])
    ours = score.nearest_class_mean(*twice, z, (6,))
    assert torch.equal(ours[6], score.nearest_class_mean(database, database_y, z, (6,))[6])


def test_26_embedding_twice_is_identical_and_leaves_the_mode():
    encoder = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5))
    x = torch.randn(30, 4)
    first = score.embed(encoder, x, batch=7)
    assert torch.equal(first, score.embed(encoder, x, batch=7))
    assert first.shape == (30, 6)
    assert encoder.training


def test_rows_hold_one_value_a_size(classes):
    z, y, database, database_y = classes
    model = mrl.Classifier(nn.Identity(), mrl.SeparateHeads((2, 6), 5))
    rows = score.classification(model, z, y, method="MRL", seed=3, coarse=torch.arange(5) // 2)
    rows += score.retrieval(z, y, database, database_y, (2, 6), method="MRL", seed=3)
    table = score.table(rows)
    assert list(table.columns) == list(SCORES)
    assert set(table.metric) == {"top1", "coarse_top1", "1nn", "map@10"}
    assert (table.groupby("metric").dim.apply(list).map(tuple) == (2, 6)).all()
    by_hand = 100 * (model.head(z)[2].argmax(1) == y).float().mean().item()
    assert table.query("metric == 'top1' and dim == 2").value.item() == pytest.approx(by_hand)
    assert table.query("metric == '1nn' and dim == 6").flops.item() == 6 * 400
    assert table.query("metric == 'top1' and dim == 6").bytes.item() == 24
    assert math.isnan(table.layer.astype(float).iloc[0])
