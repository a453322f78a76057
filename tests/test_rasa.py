"""Removal of position: planted and gone, exact algebra, folding (numbered as the method's checklist)."""

import math

import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge
from torch import nn

from mrl_lab.errors import RequestError
from mrl_lab.methods import rasa

GRID, D, N = (4, 6), 24, 160
T = GRID[0] * GRID[1]


def features(n=N, d=D, seed=0, curve=0.3):
    """Content that knows no place, plus (row, column) along two directions, plus a curve; one direction is dead."""
    draw = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(99)  # the world is the same for training and held-out pictures
    mix, plant = torch.randn(d, d, generator=fixed), torch.randn(3, d, generator=fixed).double()
    content = torch.randn(n, T, d, generator=draw).double() @ mix.double() / d**0.5
    y = rasa.positions(GRID) - 0.5
    z = content + 3 * y @ plant[:2] + curve * (4 * y[:, :1] ** 2) @ plant[2:]
    return z - z.mean(-1, keepdim=True)  # as after a LayerNorm: the sum over dims is a dead direction


@pytest.fixture(scope="module")
def z():
    return features()


@pytest.fixture(scope="module")
def held_out():
    return features(seed=1)


@pytest.fixture(scope="module")
def trained(z):
    """Ten SGD planes, as released and orthogonalised, from the same first weights."""
    how = {"lr": 2e-2, "epochs": 5, "batch": 32}
    return {o: rasa.rasa(rasa.SigmoidHead(z, GRID, **how), D, steps=5, orthogonal=o) for o in (True, False)}


def rank(linear_map):
    return torch.linalg.matrix_rank(linear_map.matrix, atol=1e-9).item()


def is_projection(linear_map):
    m = linear_map.matrix
    return torch.allclose(m, m.T, atol=1e-9), torch.allclose(m @ m, m, atol=1e-9)


# -------------------------------------------------------------------------------------------- places


def test_50_positions_are_rows_first_and_scaled_by_axis():
    y = rasa.positions((3, 5)).unflatten(0, (3, 5))
    for corner, expected in (((0, 0), (0, 0)), ((0, -1), (0, 1)), ((-1, 0), (1, 0)), ((-1, -1), (1, 1))):
        assert y[corner].tolist() == list(expected)
    assert y[1, 1].tolist() == [1 / 2, 1 / 4]


@pytest.mark.parametrize("grid", [(8, 8), (12, 12), (37, 37), (4, 6)])
def test_44_a_blind_head_has_exactly_the_chance_error(grid):
    y = rasa.positions(grid)
    w = torch.zeros(2, 7).double()
    assert rasa.head_error(torch.randn(3, len(y), 7).double(), y, w).item() == pytest.approx(rasa.chance_error(grid))
    if grid[0] == grid[1]:
        assert rasa.chance_error(grid) == pytest.approx((grid[0] + 1) / (12 * (grid[0] - 1)))


def test_chance_errors_of_the_notes():
    assert [round(rasa.chance_error((n, n)), 4) for n in (8, 12, 16, 37)] == [0.1071, 0.0985, 0.0944, 0.088]


def test_44_a_head_is_blind_on_what_was_removed(z):
    w = torch.randn(2, D, generator=torch.Generator().manual_seed(4)).double()
    error = rasa.head_error(rasa.without(w)(z), rasa.positions(GRID), w).item()
    assert error == pytest.approx(rasa.chance_error(GRID), abs=1e-6)


# ----------------------------------------------------------------------------------------- one plane


def test_42_one_step_is_the_projection_without_two_directions():
    w = torch.randn(2, D, generator=torch.Generator().manual_seed(4)).double()
    u = w[0] / w[0].norm()  # Gram-Schmidt by hand, equation 3
    v = w[1] - (w[1] @ u) * u
    v = v / v.norm()
    removal = rasa.without(w)
    assert torch.allclose(removal.matrix, torch.eye(D).double() - torch.outer(u, u) - torch.outer(v, v), atol=1e-12)
    assert is_projection(removal) == (True, True)
    assert rank(removal) == D - 2
    assert torch.linalg.eigvalsh(removal.matrix).round(decimals=6).unique().tolist() == [0, 1]
    assert (removal.matrix @ w.T).abs().max() < 1e-12
    basis = rasa.orthonormal(w)
    assert torch.allclose(basis @ basis.T, torch.eye(2).double(), atol=1e-12)


def test_planted_position_is_found_and_gone(z, held_out):
    """Without a curve, position is linear in two directions: one plane takes it all and nothing else."""
    train, test = features(curve=0.0), features(seed=1, curve=0.0)
    assert rasa.affine_r2(train, test, GRID) > 0.8
    one = rasa.remove_cross_covariance(train, GRID)
    assert abs(rasa.affine_r2(one(train), one(test), GRID)) < 0.02
    means = train.mean(0)
    planted = torch.linalg.svd(means - means.mean(0), full_matrices=False)[2][:2]
    assert (one.matrix @ planted.T).norm(dim=0).max() < 0.15


# ---------------------------------------------------------------------------------------- iterations


def test_43_orthogonalised_planes_make_one_projection(trained):
    for t, removal in enumerate(trained[True], start=1):
        assert is_projection(removal) == (True, True)
        assert rank(removal) == D - 2 * t
    first, last = trained[True][0].matrix, trained[True][-1].matrix
    for product in (first @ last, last @ first):  # what is gone stays gone, in whatever order
        assert torch.allclose(product, last, atol=1e-9)


def test_43_the_released_product_is_no_projection(trained):
    for removal in trained[False][1:]:
        assert is_projection(removal) == (False, False)
        assert rank(removal) == D - 2
    assert torch.allclose(trained[False][0].matrix, trained[True][0].matrix, atol=1e-9), "the first step is the same"


def test_43_released_maps_are_steps_one_after_the_other(z):
    heads = torch.randn(3, 2, D, generator=torch.Generator().manual_seed(4)).double()
    given = iter(heads)
    maps = rasa.rasa(lambda so_far: next(given), D, steps=3, orthogonal=False)
    x = z
    for w, removal in zip(heads, maps, strict=True):
        for u in rasa.orthonormal(w):
            x = x - (x @ u)[..., None] * u
        assert torch.allclose(removal(z), x, atol=1e-9)


def test_45_nothing_grows_and_the_rest_stays(z, trained):
    removal = trained[True][-1]
    assert (removal(z).norm(dim=-1) <= z.norm(dim=-1) + 1e-9).all()
    kept = removal(z)
    assert torch.allclose(removal(kept), kept, atol=1e-9)


def test_45_released_steps_grow_nothing_either(z, trained):
    assert (trained[False][-1](z).norm(dim=-1) <= z.norm(dim=-1) + 1e-9).all()


def test_47_held_out_position_falls_with_each_orthogonal_step(z, held_out, trained):
    """And a planted plane is out of the features' reach sooner than the released product gets there."""
    scores = {
        o: [rasa.affine_r2(z, held_out, GRID)] + [rasa.affine_r2(m(z), m(held_out), GRID) for m in maps]
        for o, maps in trained.items()
    }
    assert scores[True][0] > 0.8
    assert all(after < before + 0.01 for before, after in zip(scores[True], scores[True][1:], strict=False))
    assert scores[True][-1] < scores[True][0] - 0.5
    assert scores[True][-1] < scores[False][-1]


def test_ridge_head_is_ridge_regression_of_scikit_learn(z):
    ridge = 1e-3
    variance = (z - z.mean((0, 1))).square().mean()
    peer = Ridge(alpha=(ridge * variance * N * T).item()).fit(z.flatten(0, 1), rasa.positions(GRID).repeat(N, 1))
    w = rasa.RidgeHead(z, GRID, ridge)(rasa.without(torch.zeros(0, D)))
    assert torch.allclose(w, torch.tensor(peer.coef_), atol=1e-6)


def test_ridge_iterations_work_on_statistics_as_on_features(z, held_out):
    learner = rasa.RidgeHead(z, GRID)
    maps = rasa.rasa(learner, D, steps=4)
    afresh = rasa.RidgeHead(maps[1](z), GRID)
    afresh.ridge = learner.ridge
    assert torch.allclose(afresh(rasa.without(torch.zeros(0, D))), learner(maps[1]), atol=1e-6)
    assert rasa.affine_r2(maps[-1](z), maps[-1](held_out), GRID) < 0.02
    plain = rasa.rasa(rasa.RidgeHead(z, GRID, ridge=1e-6), D, steps=4)[-1]
    assert rasa.affine_r2(plain(z), plain(held_out), GRID) > 0.5, "plain regression removes the wrong planes first"


# --------------------------------------------------------------------------------------- closed form


def slow_cross_covariance(z):
    x, y = z.flatten(0, 1), rasa.positions(GRID).repeat(len(z), 1)
    return (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)


def test_statistics_are_those_of_all_patches(z, monkeypatch):
    assert torch.allclose(rasa.cross_covariance(z, GRID), slow_cross_covariance(z), atol=1e-10)
    expected = torch.cov(z.flatten(0, 1).T, correction=0)
    assert torch.allclose(rasa.covariance(z), expected, atol=1e-10)
    monkeypatch.setattr(rasa, "CHUNK", 7)
    assert torch.allclose(rasa.covariance(z), expected, atol=1e-10)


@pytest.mark.parametrize("remove", [rasa.remove_cross_covariance, rasa.leace])
def test_46_no_affine_predictor_finds_position_on_the_fitted_pictures(z, held_out, remove):
    removal = remove(z, GRID)
    assert slow_cross_covariance(removal(z)).abs().max() < 1e-8
    assert abs(rasa.affine_r2(removal(z), removal(z), GRID)) < 1e-8
    assert rasa.affine_r2(removal(z), removal(held_out), GRID) < 0.02
    assert torch.allclose(removal(removal(z)), removal(z), atol=1e-8), "idempotent"
    assert rank(removal) == D - 2


def test_46_leace_changes_least_of_all_that_blind(z):
    def change(removal):
        return (removal(z) - z).square().sum(-1).mean().item()

    assert change(rasa.leace(z, GRID)) < change(rasa.remove_cross_covariance(z, GRID))
    assert is_projection(rasa.leace(z, GRID))[0] is False, "oblique"
    assert torch.allclose(rasa.leace(z, GRID)(z).mean((0, 1)), z.mean((0, 1)), atol=1e-9), "the mean stays"


def test_48_loss_of_random_dims_is_not_what_does_it(z, held_out):
    removal = rasa.random_removal(D, 4, seed=0)
    assert rank(removal) == D - 4
    assert rasa.affine_r2(removal(z), removal(held_out), GRID) > rasa.affine_r2(z, held_out, GRID) - 0.15


def test_places_are_still_told_by_their_means_until_these_are_subtracted():
    """Affine R^2 = 0 is not position-free: what is curved in (row, column) remains in the mean of each place."""
    train, test = features(curve=1.0), features(seed=1, curve=1.0)
    offsets = rasa.position_offsets(train)
    assert rasa.position_offsets(train - offsets).abs().max() < 1e-9
    assert offsets.mean(0).abs().max() < 1e-9, "the mean of all stays"
    removal, directions = rasa.leace(train, GRID), rasa.remove_offset_directions(train, 3)
    left = rasa.position_offsets(removal(test)).norm()
    assert left > 3 * rasa.position_offsets(test - offsets).norm()
    assert rank(directions) == D - 3
    assert rasa.position_offsets(directions(test)).norm() < left / 3


# ------------------------------------------------------------------------------------------- folding


@pytest.mark.parametrize("bias", [True, False])
def test_49_folding_into_the_next_layer_gives_the_same(z, trained, bias):
    torch.manual_seed(0)
    layer = nn.Linear(D, 5, bias=bias, dtype=torch.float64)
    for removal in (trained[True][-1], trained[False][-1], rasa.leace(z, GRID)):
        assert torch.allclose(removal.fold(layer)(z), layer(removal(z)), atol=1e-9)


def test_49_folding_into_a_norm_needs_a_full_matrix(z, trained):
    torch.manual_seed(0)
    norm = nn.LayerNorm(D, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    for removal in (trained[True][-1], rasa.leace(z, GRID)):
        assert torch.allclose(removal.fold_norm(norm)(z), removal(norm(z)), atol=1e-9)
        assert not torch.allclose(norm(removal(z)), removal(norm(z)), atol=0.05), "L before the norm is another map"


def test_46_closed_forms_work_on_float32_features_too(z, held_out):
    x, y = z.float(), held_out.float()
    for removal in (rasa.remove_cross_covariance(x, GRID), rasa.leace(x, GRID)):
        assert abs(rasa.affine_r2(removal(x), removal(x), GRID)) < 1e-4
        assert rasa.affine_r2(removal(x), removal(y), GRID) < 0.02
        assert (removal(x) - x).norm() < x.norm()


def narrow(spread, dtype, seed, turned):
    """Content of spread 1; in two directions of ``spread``, position with a little noise and nothing else."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(N, T, D, generator=draw, dtype=torch.float64)
    z[..., :2] = spread * (0.2 * z[..., :2] + rasa.positions(GRID) - 0.5)
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(9)).double())[0]
    return (z @ turn if turned else z).to(dtype)


def whitened_r2(train_z, z):
    """R^2 of least squares on features scaled to unit variance along every axis of theirs, by scikit-learn."""
    white = PCA(whiten=True).fit(train_z.double().flatten(0, 1))
    x, asked = (white.transform(a.double().flatten(0, 1)) for a in (train_z, z))
    found = LinearRegression().fit(x, rasa.positions(GRID).repeat(N, 1))
    return found.score(asked, rasa.positions(GRID).repeat(N, 1))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1, 3e-3, 1e-4])
def test_position_in_directions_of_little_variance_is_seen_and_removed(spread, dtype, turned):
    train, test = (narrow(spread, dtype, seed, turned) for seed in (0, 1))
    assert rasa.affine_r2(train, test, GRID) == pytest.approx(whitened_r2(train, test), abs=0.02)
    assert rasa.affine_r2(train, test, GRID) > 0.7
    for remove in (rasa.remove_cross_covariance, rasa.leace):
        removal = remove(train, GRID)
        assert abs(rasa.affine_r2(removal(train), removal(test), GRID)) < 0.005


def test_maps_keep_the_type_of_the_features(z, trained):
    assert trained[True][0](z.float()).dtype == torch.float32
    assert trained[True][0].fold(nn.Linear(D, 3)).weight.dtype == torch.float32


# ------------------------------------------------------------------------------------------- learning


def test_sigmoid_head_lowers_its_error_and_is_fixed_by_its_seed(z):
    def learned(seed):
        return rasa.SigmoidHead(z, GRID, lr=2e-2, batch=32, seed=seed)(rasa.without(torch.zeros(0, D)))

    assert rasa.head_error(z, rasa.positions(GRID), learned(0)) < 0.5 * rasa.chance_error(GRID)
    assert torch.equal(learned(0), learned(0))
    assert not torch.equal(learned(0), learned(1))


@pytest.mark.parametrize(("pictures", "batch", "epochs"), [(N, 32, 3), (50, 32, 4)])
def test_sigmoid_head_is_adamw_with_a_rate_that_falls_by_half_a_cosine(z, pictures, batch, epochs):
    """Adam by hand (betas 0.9, 0.999, eps 1e-8), step by step, with the gradient of the mean squared error by hand."""
    z, y, lr = z[:pictures], rasa.positions(GRID), 2e-2
    draw = torch.Generator().manual_seed(3)
    w = ((2 * torch.rand(2, D, generator=draw) - 1) / D**0.5).double()
    orders = [torch.randperm(pictures, generator=draw) for _ in range(epochs)]
    batches = [order[start : start + batch] for order in orders for start in range(0, pictures, batch)]
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    for step, index in enumerate(batches):
        p = 1 / (1 + (-z[index] @ w.T).exp())  # (B, t, 2)
        slope = 2 * (p - y) * p * (1 - p) / p.numel()
        gradient = torch.einsum("btk,btd->kd", slope, z[index])
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        up, down = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        w = w - lr * (1 + math.cos(math.pi * step / len(batches))) / 2 * up / (down.sqrt() + 1e-8)
    head = rasa.SigmoidHead(z, GRID, lr=lr, epochs=epochs, batch=batch, seed=3)
    assert torch.allclose(head(rasa.without(torch.zeros(0, D))), w, atol=1e-6)


def test_the_released_configuration_is_the_default(z):
    head = rasa.SigmoidHead(z, GRID)
    assert (head.lr, head.epochs, head.batch) == (2e-4, 5, 128)


def test_affine_r2_is_that_of_scikit_learn(z, held_out):
    y = rasa.positions(GRID)
    peer = Ridge(alpha=1e-6).fit(z.flatten(0, 1), y.repeat(N, 1))
    error = (torch.tensor(peer.predict(held_out.flatten(0, 1))) - y.repeat(N, 1)).square().mean()
    assert rasa.affine_r2(z, held_out, GRID) == pytest.approx(1 - (error / (y - 0.5).square().mean()).item(), abs=1e-4)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda z: rasa.positions((1, 4)), "at least 2 x 2"),
        (lambda z: rasa.SigmoidHead(z, (5, 5)), "without class token"),
        (lambda z: rasa.cross_covariance(z[0], GRID), "pictures"),
        (lambda z: rasa.rasa(lambda m: None, D, steps=D // 2), "steps from 1 to 11"),
        (lambda z: rasa.rasa(lambda m: None, D, steps=0), "steps from 1"),
    ],
)
def test_wrong_requests_are_refused(z, ask, words):
    with pytest.raises(RequestError, match=words):
        ask(z)
