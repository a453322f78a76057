"""MRL's heads and losses against slow, obvious references (the numbers are those of the method's checklist)."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.methods import mrl

SIZES, C, B = (2, 3, 8, 16), 5, 12


class Flat(nn.Module):
    """An encoder of one linear layer, small enough to reason about."""

    d = 16

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(7, self.d)

    def forward(self, x):
        return self.body(x)


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(1)
    return torch.randn(B, 7, generator=draw), torch.randint(C, (B,), generator=draw)


def build(sizes=SIZES, **how):
    return mrl.classifier(Flat, sizes, C, **how)


def slow_loss(model, x, y, weights):
    """Equation 1 as it is written: loops over rows and sizes, logits by hand."""
    total = 0.0
    for i in range(len(x)):
        z = model.encoder(x[i])
        for m, c in zip(model.head.sizes, weights, strict=True):
            head = model.head.linear(m)
            logits = head.weight @ z[:m] + head.bias
            total = total + c * (torch.logsumexp(logits, 0) - logits[y[i]])
    return total / len(x)


def test_1_one_full_size_is_plain_cross_entropy(batch):
    x, y = batch
    for efficient in (False, True):
        model = build((16,), efficient=efficient)
        plain, head = Flat(), model.head.linear(16)
        plain.load_state_dict(model.encoder.state_dict())
        head = nn.Linear(16, C)
        head.load_state_dict(model.head.linear(16).state_dict())
        total, _ = model(x, y)
        expected = cross_entropy(head(plain(x)), y)
        total.backward()
        expected.backward()
        assert torch.allclose(total, expected)
        assert torch.allclose(model.encoder.body.weight.grad, plain.body.weight.grad, atol=1e-7)


@pytest.mark.parametrize("efficient", [False, True])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 2.0, 0.0]])
def test_2_loss_is_the_weighted_sum_of_sizes(batch, efficient, weights):
    x, y = batch
    model = build(efficient=efficient, weights=weights)
    total, parts = model(x, y)
    assert torch.allclose(total, slow_loss(model, x, y, weights or [1.0] * 4), atol=1e-6)
    assert list(parts) == list(SIZES)


def test_2_zero_weight_gives_zero_gradient_and_scaling_is_linear(batch):
    x, y = batch
    once, twice = build(weights=[1, 0, 1, 1]), build(weights=[2, 0, 2, 2])
    once(x, y)[0].backward()
    twice(x, y)[0].backward()
    assert once.head.heads[1].weight.grad.abs().max() == 0
    assert torch.allclose(2 * once.encoder.body.weight.grad, twice.encoder.body.weight.grad, atol=1e-6)


def test_3_loss_starts_at_sizes_times_log_classes(batch):
    x, y = batch
    model = build()
    for parameter in model.head.parameters():
        nn.init.zeros_(parameter)
    assert math.isclose(model(x, y)[0].item(), len(SIZES) * math.log(C), rel_tol=1e-6)


def test_4_and_5_accumulated_logits_equal_slices_and_so_do_gradients():
    z = torch.randn(B, 16, dtype=torch.float64, requires_grad=True)
    w = torch.randn(C, 16, dtype=torch.float64, requires_grad=True)
    products = mrl.accumulated_products(z, w, SIZES)
    slices = {m: z[:, :m] @ w[:, :m].T for m in SIZES}
    for m in SIZES:
        assert torch.allclose(products[m], slices[m], rtol=0, atol=1e-12)
    fast = torch.autograd.grad(sum(p.logsumexp(1).sum() for p in products.values()), (z, w))
    slow = torch.autograd.grad(sum(p.logsumexp(1).sum() for p in slices.values()), (z, w))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(fast, slow, strict=True))


@pytest.mark.parametrize("per_size", ["none", "bias", "scale"])
def test_4_efficient_head_is_one_sliced_layer(per_size):
    head = mrl.SlicedHead(SIZES, C, per_size)
    z = torch.randn(B, 16)
    if per_size == "scale":
        assert torch.allclose(head.factor, torch.tensor([(16 / m) ** 0.5 for m in SIZES]))
    for m, logits in head(z).items():
        assert torch.allclose(logits, head.linear(m)(z[:, :m]), atol=1e-5)
    if per_size == "none":
        assert torch.allclose(head(z)[16], head.full(z), atol=1e-5)


def test_6_parameter_counts():
    def count(head):
        return sum(p.numel() for p in head.parameters())

    assert count(mrl.SeparateHeads(SIZES, C)) == C * (sum(SIZES) + len(SIZES))
    assert count(mrl.SlicedHead(SIZES, C)) == C * (16 + 1)


@pytest.mark.parametrize("head", [mrl.SeparateHeads(SIZES, C), mrl.SlicedHead(SIZES, C)])
def test_7_and_8_only_the_prefix_matters(head):
    z = torch.randn(B, 16, requires_grad=True)
    for m in SIZES:
        changed = z.detach().clone()
        changed[:, m:] += 5
        assert torch.equal(head(z)[m], head(changed)[m])
        (gradient,) = torch.autograd.grad(head(z)[m].logsumexp(1).sum(), z)
        assert gradient[:, m:].abs().sum() == 0
        assert (gradient[:, :m].abs().sum(0) > 0).all()


def test_9_sliced_weight_learns_from_the_sizes_beyond_it(batch):
    x, y = batch
    for j, reached in ((0, SIZES), (2, (3, 8, 16)), (7, (8, 16)), (15, (16,))):
        for i, m in enumerate(SIZES):
            model = build(efficient=True, weights=[float(k == i) for k in range(4)])
            model(x, y)[0].backward()
            assert (model.head.full.weight.grad[:, j].abs().sum() > 0) == (m in reached)
            assert model.head.full.bias.grad.abs().sum() > 0


def test_10_fixed_features_train_only_their_prefix(batch):
    x, y = batch
    model = build((3,))
    z = model.encoder(x)
    z.retain_grad()
    cross_entropy(model.head(z)[3], y).backward()
    assert z.grad[:, 3:].abs().sum() == 0
    assert model.encoder.body.weight.grad[3:].abs().sum() == 0
    assert model.encoder.body.weight.grad[:3].abs().sum() > 0


@pytest.mark.parametrize(("sizes", "words"), [((4, 2), "rise"), ((2, 2), "repeat"), ((2, 32), "larger"), ((), "empty")])
def test_11_wrong_sizes_are_refused(sizes, words):
    with pytest.raises(RequestError, match=words):
        build(sizes)


@pytest.mark.parametrize("efficient", [False, True])
def test_12_autocast_and_weights_as_tensor(batch, efficient):
    x, y = batch
    model = build(efficient=efficient, weights=torch.tensor([1.0, 1.0, 2.0, 1.0]))
    with torch.autocast("cpu", torch.bfloat16):
        total, parts = model(x, y)
    total.backward()
    assert torch.isfinite(total)
    assert torch.allclose(total, sum(parts.values()) + parts[8], atol=1e-2)


@pytest.mark.parametrize("weights", [[1, 1], [1, 1, 1, -1], [0, 0, 0, 0], [1, 1, 1, math.inf]])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(RequestError, match="weights"):
        build(weights=weights)


@pytest.mark.parametrize("efficient", [False, True])
def test_13_state_dict_round_trip_is_bit_equal(batch, tmp_path, efficient):
    from safetensors.torch import load_file, save_file

    x, _ = batch
    model, other = build(efficient=efficient), build(efficient=efficient, seed=9)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for m, logits in model.head(model.encoder(x)).items():
        assert torch.equal(logits, other.head(other.encoder(x))[m])
        assert torch.allclose(logits, model.head.linear(m)(model.encoder(x)[:, :m]), atol=1e-6)


def slow_info_nce(a, b, m, temperature):
    """Row by row: the log-probability of the match among all candidates, cosine of each prefix."""
    total = 0.0
    for i in range(len(a)):
        cosines = [torch.dot(a[i, :m], b[j, :m]) / a[i, :m].norm() / b[j, :m].norm() for j in range(len(b))]
        total = total - torch.log_softmax(torch.stack(cosines) / temperature, 0)[i]
    return total / len(a)


def test_14_normalising_each_prefix_is_not_slicing_the_normalised():
    a, b = torch.randn(B, 16), torch.randn(B, 16)
    right = mrl.nested_info_nce(a, b, SIZES)
    wrong = mrl.nested_info_nce(a, b, SIZES, normalise="the whole")
    for m in SIZES:
        assert torch.allclose(right[m], slow_info_nce(a, b, m, 0.05), atol=1e-5)
        assert torch.allclose(right[m], wrong[m], atol=1e-5) == (m == 16)
        cosines = unit_prefix(a, m) @ unit_prefix(b, m).T
        dots = normalize(normalize(a, dim=1)[:, :m], dim=1) @ normalize(normalize(b, dim=1)[:, :m], dim=1).T
        assert torch.equal(cosines.argsort(1), dots.argsort(1))


def test_15_contrastive_full_size_is_plain_and_symmetric():
    a, b = torch.randn(B, 16), torch.randn(B, 16)
    (plain,) = mrl.nested_info_nce(a, b, (16,), temperature=0.1).values()
    scores = normalize(a, dim=1) @ normalize(b, dim=1).T / 0.1
    assert torch.allclose(plain, cross_entropy(scores, torch.arange(B)))
    forth = mrl.nested_info_nce(a, b, SIZES, symmetric=True)
    back = mrl.nested_info_nce(b, a, SIZES, symmetric=True)
    assert all(torch.allclose(forth[m], back[m], atol=1e-6) for m in SIZES)
    one_sided = mrl.nested_info_nce(a, b, SIZES, towers="first")
    assert not torch.allclose(one_sided[2], forth[2])


def test_16_prefix_similarities_accumulate():
    a, b = torch.randn(B, 16), torch.randn(9, 16)
    for m, product in mrl.accumulated_products(a, b, SIZES).items():
        cosines = product / a[:, :m].norm(dim=1)[:, None] / b[:, :m].norm(dim=1)
        assert torch.allclose(cosines, unit_prefix(a, m) @ unit_prefix(b, m).T, atol=1e-6)


def test_sentence_transformers_agrees_on_the_contrastive_form():
    """Its MatryoshkaLoss around MultipleNegativesRankingLoss (scale 20) is the sum of ours at temperature 1/20."""
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

    class Stub(nn.Module):
        """Looks like a SentenceTransformer whose features already are the embeddings."""

        def get_embedding_dimension(self):
            return 16

        def forward(self, features):
            return features

    a, b = torch.randn(B, 16), torch.randn(B, 16)
    model = Stub()
    peer = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model, scale=20.0), list(SIZES[::-1]))
    theirs = peer([{"sentence_embedding": a}, {"sentence_embedding": b}], torch.zeros(B))
    ours = mrl.weighted_sum(mrl.nested_info_nce(a, b, SIZES, temperature=1 / 20), mrl.weights_for(SIZES))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_contrastive_module_sums_its_sizes():
    model = mrl.Contrastive(Flat(), SIZES, weights=[1, 2, 1, 1])
    a, b = torch.randn(B, 7), torch.randn(B, 7)
    total, parts = model(a, b)
    assert torch.allclose(total, sum(parts.values()) + parts[3])


@pytest.mark.parametrize("wrong", [{"normalise": "none"}, {"towers": "second"}])
def test_unknown_forms_are_refused(wrong):
    with pytest.raises(RequestError, match="Allowed"):
        mrl.nested_info_nce(torch.zeros(2, 4), torch.zeros(2, 4), (2,), **wrong)


def test_37_every_method_starts_from_the_same_encoder_and_leaves_the_stream_alone():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    models = [build(), build(efficient=True), build((16,)), build(per_size="scale", efficient=True)]
    assert torch.equal(before, torch.get_rng_state())
    for other in models[1:]:
        assert torch.equal(models[0].encoder.body.weight, other.encoder.body.weight)
    assert not torch.equal(build(seed=1).encoder.body.weight, models[0].encoder.body.weight)


def test_38_a_size_without_a_trained_head_is_refused():
    for efficient in (False, True):
        with pytest.raises(RequestError, match="size 5 has no trained head"):
            build(efficient=efficient).head.linear(5)
