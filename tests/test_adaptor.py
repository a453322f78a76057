"""The nested adaptor against its equations by hand, and what it must do for vectors that were never nested."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mrl_lab.errors import RequestError
from mrl_lab.methods.adaptor import Adaptor
from mrl_lab.methods.baselines import FeatureSVD
from mrl_lab.train import fit

N, D, SIZES = 7, 6, (2, 4, 6)


def rows(n=N, d=D, seed=0):
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def axes(d=D, seed=1):
    return torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed)))[0]


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def by_hand(z, adapted, m, tau):
    total = 0.0
    for i in range(len(z)):
        js = [j for j in range(len(z)) if j != i]
        p = [math.exp(cosine(z[i], z[j]) / tau) for j in js]
        q = [math.exp(cosine(adapted[i, :m], adapted[j, :m]) / tau) for j in js]
        total += sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    return total / len(z)


@pytest.mark.parametrize("hidden", [0, 5])
def test_the_loss_is_the_equation(hidden):
    torch.manual_seed(0)
    model, z = Adaptor(axes(), SIZES, hidden=hidden, keep=0.3), rows()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    total, parts = model(z)
    adapted = model.adapt(z).detach()
    for m in SIZES:
        assert parts[m].item() == pytest.approx(by_hand(z, adapted, m, 0.05), rel=1e-4)
    kept = sum(float((a - b) @ (a - b)) for a, b in zip(adapted, z @ axes(), strict=True)) / N
    assert parts["kept"].item() == pytest.approx(0.3 * kept, rel=1e-4)
    assert total.item() == pytest.approx(sum(p.item() for p in parts.values()), rel=1e-5)


def test_the_ranking_loss_is_the_equation_and_spares_what_is_its_own():
    x, y, grades = rows(4, seed=2), rows(4, seed=3), torch.tensor([1.0, 2.0, 1.0, 1.0])
    x[1], y[3] = x[0], y[2]  # one query with two documents, one document of two queries
    model = Adaptor(axes(), SIZES, rank=0.5)
    expected = 0.0
    for m in SIZES:
        a, b = (x @ axes())[:, :m], (y @ axes())[:, :m]
        for i in range(4):
            others = [j for j in range(4) if j != i and {i, j} not in ({0, 1}, {2, 3})]
            worse = [math.log(1 + math.exp((cosine(a[i], b[j]) - cosine(a[i], b[i])) / 0.05)) for j in others]
            expected += float(grades[i]) * sum(worse) / len(others) / 4
    assert model(rows(), x, y, grades)[1]["ranked"].item() == pytest.approx(0.5 * expected, rel=1e-4)


def test_it_begins_as_the_rotation_with_or_without_an_mlp():
    z = rows()
    for hidden in (0, 8):
        assert torch.allclose(Adaptor(axes(), SIZES, hidden=hidden).adapt(z), z @ axes(), atol=1e-6)


def test_the_whole_of_a_rotation_loses_nothing_and_its_prefixes_do():
    parts = Adaptor(axes(), SIZES)(rows())[1]
    assert parts[D].item() == pytest.approx(0, abs=1e-5)
    assert parts[2] > parts[4] > 0


def test_training_lowers_the_loss_of_every_size_below_the_rotation_s():
    z = normalize(rows(200, 16) * torch.linspace(1, 0.2, 16), dim=1)
    svd = FeatureSVD.fit(z, centre=False).axes
    model = Adaptor(svd, (2, 4, 8))
    before = model(z)[1]
    fit(model, torch.utils.data.TensorDataset(z), steps=60, batch=64, lr=5e-3, weight_decay=0.0)
    after = model(z)[1]
    assert all(after[m] < 0.95 * before[m] for m in (2, 4, 8))


def test_keep_holds_the_whole_vector_where_it_was():
    z, moved = rows(100), {}
    for keep in (0.0, 1000.0):
        model = Adaptor(axes(), (2,), keep=keep)
        fit(model, torch.utils.data.TensorDataset(z), steps=40, batch=50, lr=1e-2, weight_decay=0.0)
        moved[keep] = (model.adapt(z) - z @ axes()).square().sum(1).mean().item()
    assert moved[1000.0] < 0.2 * moved[0.0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"axes": torch.ones(D, D)}, "orthogonal"),
        ({"axes": torch.eye(D)[:4]}, "orthogonal"),
        ({"sizes": (4, 2)}, "rise"),
        ({"sizes": (D + 1,)}, "larger than the embedding"),
        ({"temperature": 0.0}, "above 0"),
        ({"hidden": -1}, "at least 0"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(RequestError, match=says):
        Adaptor(**{"axes": axes(), "sizes": SIZES} | settings)


def test_two_rows_have_no_neighbours_to_choose_from():
    with pytest.raises(RequestError, match="three"):
        Adaptor(axes(), SIZES)(rows(2))
