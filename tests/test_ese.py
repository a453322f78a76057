"""ESE against its equations by hand, layer by layer and row by row."""

import math

import pytest
import torch
from small_texts import Fixed
from torch.nn.functional import softmax

from mrl_lab import losses
from mrl_lab.errors import RequestError
from mrl_lab.methods import ese

N, D, K = 3, 16, 4


def slow_target(z, k):
    """Dependencies entry by entry, then the k leading axes by power of a full decomposition of S S^T."""
    d = z.shape[1]
    s = torch.tensor([[float(z[:, i] @ z[:, j]) / math.sqrt(d) for j in range(d)] for i in range(d)]).double()
    s = torch.stack([softmax(row, 0) for row in s])
    energies, axes = torch.linalg.eigh(s @ s.T)
    columns = []
    for i in range(1, k + 1):
        u = axes[:, -i]
        u = u if u[u.abs().argmax()] > 0 else -u
        columns.append(z.double() @ u * energies[-i].sqrt())
    return torch.stack(columns, 1)


def slow_compress(z, k):
    t, own = slow_target(z.detach(), k), z[:, :k].double()
    squares = sum(((own[i] - t[i]) ** 2).sum() for i in range(len(z))) / own.numel()
    p, q = softmax(t, -1), softmax(own, -1)
    return squares + (p * (p.log() - q.log())).sum() / len(z)


def test_the_target_is_the_states_on_the_axes_of_their_dependencies():
    z = torch.randn(12, D, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ese.target(z, K).double(), slow_target(z, K), rtol=1e-4, atol=1e-4)
    assert not ese.target(z.requires_grad_(), K).requires_grad


def test_the_loss_is_the_sum_of_its_terms_by_hand():
    fixed = Fixed()
    model = ese.ESE(fixed, K)
    total, parts = model(None, None)
    z = fixed.states.detach()
    at = [z[:, :, n] for n in range(N + 1)]
    weight = {n: 1 / (1 + math.log(n)) for n in (1, 2)}
    by_hand = {
        "last": losses.info_nce(at[3], None),
        "last nested": losses.info_nce(at[3][..., :K], None),
        "shallow nested": sum(weight[n] * losses.info_nce(at[n][..., :K], None) for n in (1, 2)) / 2,
        "compress": slow_compress(at[3].flatten(0, 1), K)
        + sum(weight[n] * slow_compress(at[n].flatten(0, 1), K) for n in (1, 2)) / 2,
    }
    for name, value in by_hand.items():
        torch.testing.assert_close(parts[name].double(), value.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(total, sum(parts.values()))


def test_every_layer_but_the_embedding_output_learns_and_shallow_ones_at_k_dims_alone():
    fixed = Fixed()
    ese.ESE(fixed, K)(None, None)[0].backward()
    grad = fixed.states.grad
    assert not grad[:, :, 0].any()
    assert not grad[:, :, 1:N, K:].any()
    assert all(grad[:, :, n, :K].any() for n in range(1, N + 1))
    assert grad[:, :, N, K:].any()


def test_the_width_is_the_paper_s_and_what_cannot_be_is_refused():
    assert {d: ese.width_for(d) for d in (768, 384, 1024, 64, 32)} == {768: 128, 384: 64, 1024: 128, 64: 8, 32: 4}
    with pytest.raises(RequestError, match="from 1 to 15, got 16"):
        ese.ESE(Fixed(), D)
    with pytest.raises(RequestError, match="2 layers or more"):
        ese.ESE(Fixed(layers=1))
