"""Sparse codes against their equations by hand, and against sentence-transformers where it means the same."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mrl_lab.errors import RequestError
from mrl_lab.methods import sparse
from mrl_lab.methods.sparse import Sparse
from mrl_lab.train import fit

N, D, H, K = 8, 6, 24, 3


def rows(n=N, d=D, seed=0):
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def model(**settings):
    torch.manual_seed(1)
    made = Sparse(D, K, H, **settings)
    with torch.no_grad():
        made.before.normal_(0, 0.1)
        made.threshold.normal_(0, 0.1)
    return made


def coded_by_hand(one, x, k):
    codes, (matrix, before, threshold) = [], (p.detach() for p in (one.matrix, one.before, one.threshold))
    for row in x:
        every = [float(w @ (row - before) + c) for w, c in zip(matrix, threshold, strict=True)]
        best = sorted(range(H), key=lambda i: -every[i])[:k]
        codes.append([max(every[i], 0.0) if i in best else 0.0 for i in range(H)])
    return torch.tensor(codes)


def test_a_code_is_the_k_largest_above_zero():
    one, x = model(), rows()
    assert torch.allclose(one.code(x), coded_by_hand(one, x, K), atol=1e-5)
    assert (one.code(x) > 0).sum(1).max() <= K
    assert (one.code(x) >= 0).all()


@pytest.mark.parametrize("contrast", sparse.CONTRASTS)
def test_the_loss_is_the_equation(contrast):
    one, x = model(contrast=contrast, weight=0.5, spare=4, revive=0.25, patience=2).eval(), rows()
    one.silent[:10] = 3
    code, wide = coded_by_hand(one, x, K), coded_by_hand(one, x, 4 * K)
    back = lambda c: torch.stack([sum(v * w for v, w in zip(r, one.matrix, strict=True)) + one.before for r in c])  # noqa: E731
    left = (x - back(code)).detach()
    every = torch.stack([one.matrix @ (r - one.before) + one.threshold for r in x])
    quiet = torch.where(one.silent > 2, every, torch.zeros(()))
    said = torch.zeros(N, D)
    for i, r in enumerate(quiet):
        for j in sorted(range(H), key=lambda j: -float(r[j]))[:4]:
            said[i] += max(float(r[j]), 0.0) * one.matrix[j].detach()
    expected = {
        "k": float((left**2).sum()) / N,
        "4k": float(((x - back(wide)) ** 2).sum()) / N / 8,
        "silent": 0.25 * float(((said - left) ** 2).sum() / ((left - left.mean(0)) ** 2).sum()),
    }
    parts = one(x)[1]
    assert {name: parts[name].item() for name in expected} == pytest.approx(expected, rel=1e-4)
    assert set(parts) == {"k", "4k", "silent", contrast} - {"none"}


def test_the_paper_s_contrast_has_each_code_find_itself():
    one, x = model(contrast="itself").eval(), rows()
    unit = normalize(one.code(x), dim=1)
    expected = 0.0
    for i in range(N):
        each = [math.exp(float(unit[i] @ unit[j]) / 0.2) for j in range(N)]
        expected -= math.log(each[i] / sum(each)) / N
    assert one(x)[1]["itself"].item() == pytest.approx(expected, rel=1e-4)


def test_codes_and_reconstructions_are_those_of_sentence_transformers():
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

    one, x = model(spare=4).eval(), rows()
    peer = SparseAutoEncoder(D, H, k=K, k_aux=4).eval()
    with torch.no_grad():
        peer.encoder.weight.copy_(one.matrix)
        peer.pre_bias.copy_(one.before)
        peer.latent_bias.copy_(one.threshold)
        theirs = peer({"sentence_embedding": x})
    assert torch.allclose(theirs["sentence_embedding"], one.code(x), atol=1e-6)
    assert torch.allclose(theirs["decoded_embedding_k"], one.decode(one.code(x)), atol=1e-6)
    mean = ((x - theirs["decoded_embedding_4k"]) ** 2).mean().item() / 8
    assert one(x)[1]["4k"].item() == pytest.approx(D * mean, rel=1e-4)


def test_silent_latents_are_counted_while_training_alone():
    one, x = model(), rows()
    one.train()(x)
    one(x)
    spoke = (one.code(x) > 0).any(0)
    assert (one.silent[spoke] == 0).all()
    assert (one.silent[~spoke] == 2).all()
    one.eval()(x)
    assert one.silent.max() == 2


def test_training_lowers_every_part_that_counts():
    torch.manual_seed(0)
    one, z = Sparse(16, 4, 64), rows(200, 16)
    before = one(z)[1]
    fit(one, torch.utils.data.TensorDataset(z), steps=60, batch=64, lr=5e-3, weight_decay=0.0)
    after = one(z)[1]
    assert all(after[part] < before[part] for part in ("k", "4k", "neighbours"))


@pytest.mark.parametrize(
    ("active", "latents", "value", "bytes_"),
    [(8, 1536, 4, 48), (16, 1536, 1, 48), (8, 2**16, 4, 48), (8, 2**17, 4, 64)],
)
def test_an_index_costs_bytes(active, latents, value, bytes_):
    assert sparse.stored_bytes(active, latents, value) == bytes_


@pytest.mark.parametrize(
    ("settings", "says"), [({"active": 7}, "a quarter"), ({"active": 0}, "1 to 6"), ({"contrast": "self"}, "itself")]
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(RequestError, match=says):
        Sparse(**{"d": D, "active": K, "latents": H} | settings)
