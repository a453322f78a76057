"""Baselines against their optimality, peers, and models trained in a second (numbers are those of the checklist)."""

import pytest
import torch
from torch import nn
from torch.nn.functional import linear
from torch.utils.data import TensorDataset

from mrl_lab import score
from mrl_lab.encoders import MLP, ConvNet, Scale
from mrl_lab.errors import RequestError
from mrl_lab.methods import baselines, mrl
from mrl_lab.train import fit

SEEDS = (0, 1, 2)


class Dense(nn.Module):
    """Two linear layers without a last ReLU, so that no dim of the embedding can die."""

    d = 64

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x):
        return self.body((x - 4.9) / 6)


@pytest.fixture(scope="module")
def digits():
    """Written digits 0..9, 8 x 8 as 64 numbers: training rows and labels, test rows and labels."""
    from sklearn.datasets import load_digits

    x, y = map(torch.from_numpy, load_digits(return_X_y=True))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x.float()[order], y[order]
    return x[:1200], y[:1200], x[1200:], y[1200:]


@pytest.fixture(scope="module")
def trained(digits):
    """{method: one classifier a seed} for MRL and FF-64."""
    rows = TensorDataset(*digits[:2])

    def one(sizes, seed):
        model = mrl.classifier(Dense, sizes, 10, seed=seed)
        fit(model, rows, steps=200, batch=100, lr=1e-2, seed=seed)
        return model

    sizes = {"MRL": (2, 4, 8, 16, 32, 64), "FF": (64,)}
    return {method: [one(sizes[method], seed) for seed in SEEDS] for method in sizes}


def one_nn(model, digits, cut, m):
    """1-NN accuracy in per cent with cut(z, m) in the place of z, by cosine, training set as database."""
    x, y, test_x, test_y = digits
    z, database = score.embed(model.encoder, test_x), score.embed(model.encoder, x)
    ids = score.neighbours(cut(z, m), cut(database, m), [m], k=1)[m]
    return score.one_nn(ids, y, test_y)


# ----------------------------------------------------------------------------------- linear algebra


def test_31_svd_of_the_classifier_is_exact_from_its_rank_on_and_the_optimum_below():
    weight = torch.randn(10, 32, dtype=torch.float64)
    values = torch.linalg.svdvals(weight)
    for rank in (1, 4, 9):
        low = baselines.svd_of_classifier(weight, rank)
        assert torch.linalg.matrix_rank(low) == rank
        assert (weight - low).norm().item() == pytest.approx(values[rank:].norm().item())
    for rank in (10, 32):
        assert torch.allclose(baselines.svd_of_classifier(weight, rank), weight)


def test_31_full_rank_reproduces_the_trained_model(trained, digits):
    model, z = trained["FF"][0], torch.randn(50, 64)
    head = model.head.linear(64)
    weight = baselines.svd_of_classifier(head.weight.detach(), 10)
    assert torch.allclose(linear(z, weight, head.bias), head(z), atol=1e-4)


@pytest.mark.parametrize("centre", [True, False])
def test_32_svd_of_features_keeps_all_distances_at_full_size(centre):
    z = torch.randn(40, 12).double() + 3
    svd = baselines.FeatureSVD.fit(torch.randn(200, 12).double() + 3, centre)
    assert torch.allclose(torch.cdist(svd.project(z, 12), svd.project(z, 12)), torch.cdist(z, z), atol=1e-6)
    first = svd.project(z, 12)[:, :5]  # one decomposition for all sizes; products of other widths round differently
    assert torch.allclose(svd.project(z, 5), first, rtol=0, atol=1e-12)


@pytest.mark.parametrize("centre", [True, False])
def test_32_svd_of_features_equals_scikit_learn(centre):
    from sklearn.decomposition import PCA, TruncatedSVD

    z = torch.randn(100, 12, dtype=torch.float64) * torch.arange(1, 13) + 5
    peer = PCA(4) if centre else TruncatedSVD(4, algorithm="arpack", random_state=0)
    theirs = torch.from_numpy(peer.fit_transform(z.numpy()))
    assert torch.allclose(baselines.FeatureSVD.fit(z, centre).project(z, 4).abs(), theirs.abs())  # signs are free


@pytest.mark.parametrize("centre", [True, False])
def test_32_svd_of_features_is_the_same_in_blocks(centre, monkeypatch):
    z = torch.randn(103, 12, dtype=torch.float64) * torch.arange(1, 13) + 5
    whole = baselines.FeatureSVD.fit(z, centre)
    monkeypatch.setattr(baselines, "BLOCK", 20)
    parts = baselines.FeatureSVD.fit(z, centre)
    assert torch.allclose(parts.mean, whole.mean)
    assert torch.allclose(parts.project(z, 12).abs(), whole.project(z, 12).abs())
    assert torch.allclose(whole.mean, z.mean(0) if centre else torch.zeros(12).double())


def test_32_more_dims_than_rows_still_give_all_axes():
    z = torch.randn(5, 12, dtype=torch.float64)
    assert torch.allclose(
        torch.cdist(baselines.FeatureSVD.fit(z).project(z, 12), torch.zeros(1, 12).double())[:, 0],
        (z - z.mean(0)).norm(dim=1),
    )


def test_32_uncentred_svd_at_full_size_and_projection_at_half_stay_close_to_ff(trained, digits):
    for seed, model in zip(SEEDS, trained["FF"], strict=True):
        svd = baselines.FeatureSVD.fit(score.embed(model.encoder, digits[0]), centre=False)
        full = one_nn(model, digits, baselines.first_dims, 64)
        assert one_nn(model, digits, svd.project, 64) == pytest.approx(full, abs=0.2)
        half = one_nn(model, digits, lambda z, m, s=seed: z @ baselines.random_projection(64, m, s), 32)
        assert half > full - 3


def test_32_two_projections_in_the_place_of_one_fall_to_chance(trained, digits):
    x, y, test_x, test_y = digits
    encoder = trained["FF"][0].encoder
    z = score.embed(encoder, test_x) @ baselines.random_projection(64, 32, 0)
    database = score.embed(encoder, x) @ baselines.random_projection(64, 32, 1)
    assert score.one_nn(score.neighbours(z, database, [32], k=1)[32], y, test_y) < 40


def test_32_projection_keeps_lengths_on_average():
    z = torch.nn.functional.normalize(torch.randn(500, 64), dim=1)
    lengths = (z @ baselines.random_projection(64, 16, 0)).square().sum(1)
    assert lengths.mean().item() == pytest.approx(1, abs=0.15)
    assert torch.equal(baselines.random_projection(64, 16, 5), baselines.random_projection(64, 16, 5))


# ------------------------------------------------------------------------------------ some of the dims


def test_dims_are_those_asked_for():
    z = torch.arange(12.0).view(2, 6)
    assert baselines.first_dims(z, 2).tolist() == [[0, 1], [6, 7]]
    assert baselines.last_dims(z, 2).tolist() == [[4, 5], [10, 11]]
    drawn = baselines.random_dims(z, 4, seed=3)
    assert torch.equal(drawn[1] - 6, drawn[0])  # the same dims for every row
    assert len(set(drawn[0].tolist())) == 4
    assert torch.equal(baselines.random_dims(z, 2, seed=3), drawn[:, :2])
    assert sorted(baselines.random_columns(6, 6, seed=1).tolist()) == list(range(6))


def test_33_dims_of_ff_are_exchangeable_and_those_of_mrl_are_not(trained, digits):
    def mean(method, *cuts):
        found = [one_nn(model, digits, cut, 2) for model in trained[method] for cut in cuts]
        return sum(found) / len(found)

    random = [lambda z, m, s=s: baselines.random_dims(z, m, s) for s in range(5)]
    assert abs(mean("FF", baselines.first_dims) - mean("FF", *random)) < 8
    assert abs(mean("FF", baselines.first_dims) - mean("FF", baselines.last_dims)) < 10
    assert mean("MRL", baselines.first_dims) > mean("MRL", *random) + 15
    assert mean("MRL", baselines.first_dims) > mean("MRL", baselines.last_dims) + 10


def test_probe_on_random_features_learns_and_repeats_itself(digits):
    x, y, test_x, test_y = digits
    few, all_of_them = (
        score.accuracy(baselines.linear_probe(x[:, c], y, test_x[:, c]), test_y)
        for c in (baselines.random_columns(64, 8, seed=0), slice(None))
    )
    assert 30 < few < all_of_them - 10
    assert all_of_them > 94
    again = baselines.linear_probe(x, y, test_x)
    assert torch.equal(again, baselines.linear_probe(x, y, test_x))


def test_probe_is_scikit_learns_logistic_regression(digits):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, test_x, _ = digits
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x.double().numpy(), y.numpy())
    theirs = torch.from_numpy(peer.predict(test_x.double().numpy()))
    assert (baselines.linear_probe(x, y, test_x) == theirs).float().mean() > 0.99


def test_probe_does_not_depend_on_scale_and_keeps_the_names_of_classes(digits):
    x, y, test_x, _ = digits
    plain = baselines.linear_probe(x, y, test_x)
    assert torch.equal(baselines.linear_probe(x * 100 + 7, y + 5000, test_x * 100 + 7), plain + 5000)
    tiny = torch.full((x.shape[1],), 1e-9).index_fill_(0, torch.arange(32), 1.0)  # half of the features are minute
    assert torch.equal(baselines.linear_probe(x * tiny, y, test_x * tiny), plain)


# -------------------------------------------------------------------------------- slimmable network


def slim(widths=(0.25, 0.5, 1.0), seed=0):
    scale = Scale((4.9,), (6.0,))
    return baselines.slimmable(lambda: baselines.SlimConvNet((1, 8, 8), 32, widths, (16, 32), scale), 10, seed)


def pictures(x):
    return x.view(-1, 1, 8, 8)  # (N, 64) -> (N, 1, 8, 8)


@pytest.fixture(scope="module")
def slimmed(digits):
    model = slim()
    history = fit(model, TensorDataset(pictures(digits[0]), digits[1]), steps=200, batch=100, lr=3e-2)
    return model, history


def test_full_width_is_the_plain_convnet(digits):
    encoder = slim().encoder
    plain = ConvNet((1, 8, 8), 32, (16, 32), mean=(4.9,), std=(6.0,))
    plain.position = encoder.position
    for ours, theirs in (
        (encoder.first, plain.first),
        (encoder.second, plain.second[1]),
        (encoder.last, plain.last[1]),
    ):
        theirs[0].weight, theirs[1] = ours.convolve.weight, ours.norms[-1]
    x = pictures(digits[0][:20])
    assert torch.allclose(encoder(x), plain(x), atol=1e-6)


def test_a_width_reads_only_its_share_of_the_weights_and_its_own_norms(digits):
    model = slim()
    model.truncated(model.encoder(pictures(digits[0][:20]), 0.25), 8).sum().backward()
    gradient = model.encoder.second.convolve.weight.grad  # (32, 16, 3, 3), of which (8, 4) are used
    assert gradient[:8, :4].abs().sum() > 0
    assert gradient[8:].abs().sum() == gradient[:, 4:].abs().sum() == 0
    assert [norm.num_batches_tracked.item() for norm in model.encoder.last.norms] == [1, 0, 0]


def test_truncation_keeps_the_leading_columns_and_the_whole_bias():
    model, z = slim(), torch.randn(5, 32)
    assert torch.allclose(model.truncated(z, 3), z[:, :3] @ model.head.weight[:, :3].T + model.head.bias, atol=1e-6)


def test_slimmable_loss_is_the_sum_over_widths(digits):
    model = slim()
    total, parts = model(pictures(digits[0][:50]), digits[1][:50])
    assert list(parts) == [8, 16, 32]
    assert torch.allclose(total, sum(parts.values()))


def test_slimmable_works_at_the_widths_it_was_trained_for_and_not_below(slimmed, digits):
    model, history = slimmed
    x, y = pictures(digits[2]), digits[3]
    assert list(history.columns[3:]) == ["8", "16", "32"]
    full = score.embed(model.encoder, x)
    for width, m, least in ((0.25, 8, 85), (0.5, 16, 92), (1.0, 32, 95)):
        z = score.embed(model.encoder.at(width), x)
        assert z.shape == (len(x), m)
        assert score.accuracy(model.truncated(z, m).argmax(1), y) > least
    assert score.accuracy(model.truncated(full, 2).argmax(1), y) < 50  # the paper's way, below the smallest width


def test_slimmable_starts_from_its_seed_alone():
    before = torch.get_rng_state()
    one, same, other = slim(), slim(), slim(seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.head.weight, same.head.weight)
    assert not torch.equal(one.encoder.first.convolve.weight, other.encoder.first.convolve.weight)


# ----------------------------------------------------------------------------------- nesting later


def convnet():
    return mrl.classifier(lambda: ConvNet((1, 8, 8), 16, (8, 8)), (2, 4, 16), 10)


@pytest.mark.parametrize(
    ("part", "moves"),
    [
        ("head", {"head"}),
        ("last block", {"head", "encoder.last"}),
        ("last two blocks", {"head", "encoder.last", "encoder.second"}),
        ("all", {"head", "encoder.last", "encoder.second", "encoder.first", "encoder.position"}),
    ],
)
def test_training_moves_what_is_unfrozen_and_nothing_else(digits, part, moves):
    model = convnet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    partly = baselines.unfreeze(model, part)
    fit(partly, TensorDataset(pictures(digits[0]), digits[1]), steps=3, batch=50, lr=1e-2)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {".".join(name.split(".")[: 1 if name.startswith("head") else 2]) for name in changed} == moves
    expected = sum(p.numel() for name, p in model.named_parameters() if name.startswith(tuple(moves)))
    assert partly.trainable == expected


def test_frozen_norms_stay_in_evaluation_mode_and_others_do_not():
    model = convnet()
    partly = baselines.unfreeze(model, "last block").train()
    assert not any(m.training for m in model.encoder.second.modules())
    assert all(m.training for m in model.encoder.last.modules())
    assert not any(m.training for m in partly.eval().modules())
    x, y = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    assert torch.equal(partly(x, y)[0], model(x, y)[0])


def test_unfreezing_again_opens_what_was_frozen():
    model = convnet()
    few, many = (baselines.unfreeze(model, part).trainable for part in ("head", "all"))
    assert few == sum(p.numel() for p in model.head.parameters())
    assert many == sum(p.numel() for p in model.parameters())


# ------------------------------------------------------------------------------------------- sanity


class Linear(nn.Module):
    d = 8

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(12, self.d, bias=False)

    def forward(self, x):
        return self.body(x)


def gaussian_classes(seed):
    """16 classes, unit noise, separations that halve along 12 turned axes: rows, labels and the axes (columns)."""
    draw = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(12, 12, generator=draw)).Q
    balanced = torch.linalg.qr(torch.randn(16, 16, generator=draw)).Q[:, :12] * 4  # unit variance on each axis
    means = 4 * (balanced * 0.5 ** torch.arange(12)) @ axes.T
    y = torch.randint(16, (2000,), generator=draw)
    return means[y] + torch.randn(2000, 12, generator=draw), y, axes


def overlap(rows, axes):
    """Share of the span of rows (m, 12) that lies in the first m axes: mean squared cosine of principal angles."""
    m = len(rows)
    return ((torch.linalg.qr(rows.T).Q.T @ axes[:, :m]).square().sum() / m).item()


@pytest.mark.parametrize("seed", SEEDS)
def test_40_prefixes_of_a_linear_encoder_find_the_leading_discriminants(seed):
    x, y, axes = gaussian_classes(seed)
    model = mrl.classifier(Linear, (1, 2, 4, 8), 16, seed=seed)
    fit(model, TensorDataset(x, y), steps=300, batch=200, lr=3e-2, weight_decay=0.0, seed=seed)
    rows = model.encoder.body.weight.detach()  # (8, 12)
    for m in (2, 4):
        permuted = [overlap(rows[baselines.random_columns(8, m, s)], axes) for s in range(20)]
        assert overlap(rows[:m], axes) > 0.9
        assert overlap(rows[:m], axes) > sum(permuted) / 20 + 0.08


# ------------------------------------------------------------------------------------ wrong requests


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: baselines.svd_of_classifier(torch.zeros(3, 8), 0), "from 1, got 0"),
        (lambda: baselines.svd_of_classifier(torch.zeros(3, 8), 9), "larger than the embedding"),
        (lambda: baselines.FeatureSVD.fit(torch.randn(9, 8)).project(torch.zeros(2, 8), 9), "cannot keep 9 dims"),
        (lambda: baselines.random_projection(8, 9, 0), "larger than the embedding"),
        (lambda: baselines.random_dims(torch.zeros(2, 8), 0, 0), "from 1, got 0"),
        (lambda: baselines.first_dims(torch.zeros(2, 8), 9), "cannot keep 9 dims"),
        (lambda: baselines.last_dims(torch.zeros(2, 8), 9), "larger than the embedding"),
        (lambda: baselines.linear_probe(torch.zeros(4, 2), torch.ones(4).long(), torch.zeros(1, 2)), "two classes"),
        (lambda: baselines.linear_probe(torch.full((4, 2), torch.nan), torch.arange(4), torch.zeros(1, 2)), "NaN"),
        (lambda: slim(widths=(0.5, 0.25, 1.0)), "rise"),
        (lambda: slim(widths=(0.25, 0.5)), "end with 1.0"),
        (lambda: slim(widths=(0.01, 1.0)), "from 1, got 0"),
        (lambda: slim().encoder(torch.zeros(1, 1, 8, 8), 0.3), "unknown width 0.3"),
        (lambda: slim().truncated(torch.zeros(2, 4), 8), "cannot keep 8 dims"),
        (lambda: baselines.unfreeze(convnet(), "last"), "Did you mean 'last block'"),
        (lambda: baselines.unfreeze(mrl.classifier(lambda: MLP(6, 8), (2, 8), 3), "last block"), "no block last"),
    ],
)
def test_wrong_requests(ask, words):
    with pytest.raises(RequestError, match=words):
        ask()
