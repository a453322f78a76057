"""Assignments, losses and the moving teacher against slow, obvious references (numbered as the method's checklist)."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from mrl_lab.distil.assign import Centring, sinkhorn
from mrl_lab.distil.losses import class_loss, koleo, patch_loss
from mrl_lab.distil.teacher import Branch, SelfDistillation, used
from mrl_lab.errors import RequestError

N, K = 512, 64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_sinkhorn(scores, temperature, iterations):
    """As the papers write it: prototypes by rows, plain exponentials, float64, all factors."""
    q = (scores.double() / temperature).exp().T  # (K, n)
    prototypes, n = q.shape
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / prototypes
        q = q / q.sum(0, keepdim=True) / n
    return (q * n).T


# --------------------------------------------------------------------------------------- assignments


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_28_sinkhorn_equals_the_plain_one_and_each_sample_has_mass_1(iterations):
    scores = normalize(draw(N, 16), dim=1) @ normalize(draw(K, 16, seed=1), dim=1).T
    q = sinkhorn(scores, 0.05, iterations)
    assert torch.allclose(q.double(), slow_sinkhorn(scores, 0.05, iterations), atol=1e-5)
    assert q.min() >= 0
    assert torch.allclose(q.sum(1), torch.ones(N), atol=1e-5)


def test_28_prototypes_approach_equal_mass():
    scores = normalize(draw(N, 16), dim=1) @ normalize(draw(K, 16, seed=1), dim=1).T
    errors = [(sinkhorn(scores, 0.05, i).sum(0) * K / N - 1).abs().max().item() for i in (1, 3, 50)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


def test_29_sinkhorn_ignores_constants_order_and_size_of_scores():
    scores = draw(N, K)
    q = sinkhorn(scores, 0.5)
    rows, columns = torch.randperm(N), torch.randperm(K)
    assert torch.allclose(sinkhorn(scores + 3, 0.5), q, atol=1e-5)
    assert torch.allclose(sinkhorn(scores[rows][:, columns], 0.5), q[rows][:, columns], atol=1e-5)
    assert torch.isfinite(sinkhorn(100 * scores.sign(), 0.04)).all()
    assert not torch.isfinite(slow_sinkhorn(100 * scores.sign(), 0.04, 3)).all()
    assert torch.equal(sinkhorn(scores.bfloat16(), 0.5), sinkhorn(scores.bfloat16().float(), 0.5)), "float32 inside"


def test_30_sinkhorn_of_uniform_and_of_separated_scores():
    assert torch.allclose(sinkhorn(torch.ones(N, K), 0.05), torch.full((N, K), 1 / K))
    wanted = torch.arange(N) % K  # balanced clusters
    q = sinkhorn(nn.functional.one_hot(wanted, K).float(), 0.05)
    assert torch.equal(q.argmax(1), wanted)
    assert q.max(1).values.min() > 0.99


def test_sinkhorn_spreads_what_softmax_would_pile_up():
    scores = draw(N, K)
    scores[:, 0] += 3  # one prototype is everybody's nearest
    mass = sinkhorn(scores, 0.5, 10).sum(0)
    assert (scores / 0.5).softmax(1).sum(0)[0] > 20 * N / K
    assert mass[0] < 1.1 * N / K


def test_sinkhorn_takes_no_samples_and_refuses_no_iterations():
    assert sinkhorn(torch.zeros(0, K), 0.05).shape == (0, K)
    with pytest.raises(RequestError, match="at least 1 iteration"):
        sinkhorn(torch.zeros(2, K), 0.05, 0)


def test_centring_is_a_softmax_around_a_running_mean():
    centring, centre = Centring(K, momentum=0.9), torch.zeros(K)
    for seed in range(3):
        scores = draw(N, K, seed=seed) + torch.arange(K)
        q = centring(scores, 0.5)
        assert torch.allclose(q, ((scores - centre) / 0.5).softmax(1), atol=1e-5)
        centre = 0.9 * centre + 0.1 * scores.mean(0)
    before = centring.centre.clone()
    centring.eval()(scores, 0.5)
    centring.train()(scores[:0], 0.5)
    assert torch.equal(centring.centre, before), "moves in training, when there is something to move to"


# -------------------------------------------------------------------------------------------- losses


def cross_entropy(q, s, temperature=0.1):
    """One sample: - sum q log p."""
    return -(q * (s / temperature - torch.logsumexp(s / temperature, 0))).sum()


@pytest.mark.parametrize("small", [0, 1, 4])
def test_32_class_loss_is_the_mean_over_pairs_of_different_crops(small):
    """Divided as released: by 2 + max(2 small, 1), which is one more than the pairs where no crop is small."""
    b, prototypes = 5, 7
    scores, targets = draw(2 + small, b, prototypes), draw(2, b, prototypes, seed=1).softmax(-1)
    pairs = [(v, g) for v in range(2 + small) for g in range(2) if v != g]
    each = [cross_entropy(targets[g, i], scores[v, i]) for v, g in pairs for i in range(b)]
    assert len(pairs) == 2 + 2 * small
    expected = torch.stack(each).sum() / b / (2 + max(2 * small, 1))
    assert torch.allclose(class_loss(scores, targets), expected, atol=1e-5)
    assert small == 0 or torch.allclose(expected, torch.stack(each).mean())


def test_32_a_crop_never_learns_its_own_target():
    scores, targets = draw(2, 5, 7).requires_grad_(), draw(2, 5, 7, seed=1).softmax(-1)
    changed = torch.stack([targets[0], targets[1].flip(-1)])
    own, other = (torch.autograd.grad(class_loss(scores, t), scores)[0] for t in (targets, changed))
    assert torch.equal(own[1], other[1])
    assert not torch.equal(own[0], other[0])


def test_33_patch_loss_is_a_mean_over_hidden_patches_then_over_crops():
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    scores, targets = draw(3, 4, 7), draw(3, 4, 7, seed=1).softmax(-1)
    total = 0.0
    for crop in range(3):
        hidden = [cross_entropy(targets[crop, t], scores[crop, t]) for t in range(4) if mask[crop, t]]
        total = total + (torch.stack(hidden).mean() if hidden else 0.0)
    assert torch.allclose(patch_loss(scores[mask], targets[mask], mask), total / 3, atol=1e-5)


def test_33_no_hidden_patch_costs_nothing():
    scores = torch.zeros(0, 7, requires_grad=True)
    loss = patch_loss(scores, torch.zeros(0, 7), torch.zeros(3, 4).bool())
    loss.backward()
    assert loss.item() == 0


def test_34_koleo_is_the_log_distance_to_the_nearest_other():
    z = draw(9, 5)
    unit, logs = z / z.norm(dim=1, keepdim=True), []
    for i in range(9):
        logs.append(min((unit[i] - unit[j]).norm() for j in range(9) if j != i).log())
    assert torch.allclose(koleo(z), -torch.stack(logs).mean(), atol=1e-5)
    assert torch.allclose(koleo(7 * z), koleo(z), atol=1e-5)


def test_34_koleo_punishes_collapse_and_survives_copies():
    spread = torch.eye(6)
    collapsed = (torch.ones(6, 6) + 0.01 * draw(6, 6)).requires_grad_()
    assert koleo(collapsed) > koleo(spread) + 3
    copies = torch.ones(6, 6, requires_grad=True)
    koleo(copies).backward()
    assert torch.isfinite(koleo(copies))
    assert torch.isfinite(copies.grad).all()
    with pytest.raises(RequestError, match="at least 2"):
        koleo(torch.ones(1, 6))


# ------------------------------------------------------------------------------------------- teacher


class Flat(nn.Module):
    """An encoder that sees a picture as four pixels; its tokens are pixels, and their mean, times a matrix."""

    d = 6

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, self.d)
        self.register_buffer("counter", torch.zeros(()))

    def forward(self, x):
        return self.body(x.float().flatten(1))

    def tokens(self, x, mask=None):
        pixels = x.float().flatten(2).transpose(1, 2)  # (n, 1, 2, 2) -> (n, 4, 1)
        pixels = pixels if mask is None else pixels * ~mask[:, :, None]
        patches = (pixels + pixels.mean(1, keepdim=True)) * self.body.weight.T  # (n, 4, d)
        return torch.cat([patches.mean(1, keepdim=True), patches], 1)


class Head(nn.Module):
    """Two levels, of the first 3 and of all 6 dims."""

    counts = {3: 4, 6: 8}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList(nn.Linear(m, k) for m, k in self.counts.items())

    def forward(self, z):
        return {m: level(z[:, :m]) for m, level in zip(self.counts, self.levels, strict=True)}


def build(patches=True, steps=10, **form):
    torch.manual_seed(0)
    return SelfDistillation(Branch(Flat(), Head(), Head() if patches else None), steps, **form)


@pytest.fixture
def batch():
    mask = torch.rand(5, 2, 4, generator=torch.Generator().manual_seed(3)) < 0.4
    mask[0] = False
    return draw(5, 2, 1, 2, 2), draw(5, 3, 1, 2, 2, seed=1), mask


def slow_total(model, large, small, masks):
    """The objective view by view and picture by picture."""
    total, (tau, b) = 0.0, (model.temperature().item(), len(large))
    student, teacher = model.student, model.teacher
    views = [student.encoder.tokens(large[:, v], masks[:, v])[:, 0] for v in range(2)]
    for z in views:
        total = total + 0.1 * koleo(z)
    views += [student.encoder.tokens(small[:, v])[:, 0] for v in range(small.shape[1])]
    whole = [teacher.encoder.tokens(large[:, v]) for v in range(2)]
    for m in (3, 6):
        wanted = torch.cat([teacher.class_head(z[:, 0])[m] for z in whole])
        targets = slow_sinkhorn(wanted, tau, 3).float().unflatten(0, (2, b))
        pairs = [(v, g) for v in range(len(views)) for g in range(2) if v != g]
        ce = [cross_entropy(targets[g, i], student.class_head(views[v])[m][i]) for v, g in pairs for i in range(b)]
        total = total + torch.stack(ce).mean()
        where = [(v, i, t) for v in range(2) for i in range(b) for t in range(4) if masks[i, v, t]]
        wanted = torch.stack([teacher.patch_head(whole[v][i, 1 + t][None])[m][0] for v, i, t in where])
        targets = slow_sinkhorn(wanted, tau, 3).float()
        for (v, i, t), target in zip(where, targets, strict=True):
            token = student.encoder.tokens(large[i : i + 1, v], masks[i : i + 1, v])[:, 1 + t]
            total = total + cross_entropy(target, student.patch_head(token)[m][0]) / masks[i, v].sum() / (2 * b)
    return total


def test_total_equals_the_slow_objective(batch):
    model = build()
    for p in model.student.parameters():  # student and teacher apart, so that a mix-up shows
        p.data += 0.1 * draw(*p.shape, seed=5)
    total, parts = model(*batch)
    assert torch.allclose(total, slow_total(model, *batch), atol=1e-4)
    losses, watched = ["3 class", "6 class", "3 patch", "6 patch"], ["3 used", "3 entropy", "6 used", "6 entropy"]
    assert list(parts) == [*losses, "koleo", "spread", *watched]
    assert torch.allclose(total, sum(parts[name] for name in list(parts)[:5]))


def test_31_no_gradient_reaches_the_teacher(batch):
    model = build()
    model(*batch)[0].backward()
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.student.parameters() if p.ndim > 1)


@pytest.mark.parametrize(("momentum", "share"), [(0.0, 1.0), (0.9, 0.1), (1.0, 0.0)])
def test_31_teacher_is_a_moving_average(momentum, share):
    model = build(momentum=momentum)
    with torch.no_grad():
        for p in model.student.parameters():
            p += 1
        model.student.encoder.counter += 7
    before = [p.clone() for p in model.teacher.parameters()]
    model.after_step(0)
    for old, new in zip(before, model.teacher.parameters(), strict=True):
        assert torch.allclose(new, old + share, atol=1e-6)
        assert share not in (0.0, 1.0) or torch.equal(new, old + share)
    assert model.teacher.encoder.counter == 7
    assert model.step == 1


def test_schedules_run_over_the_steps():
    model = build(steps=100, momentum=0.9, warm_up=0.5)
    momenta = [model.momentum_at(step) for step in range(101)]
    assert momenta == sorted(momenta)
    assert momenta[0] == pytest.approx(0.9)
    assert momenta[50] == pytest.approx(0.95)
    assert momenta[100] == 1
    heat = {}
    for step in range(100):
        heat[step] = model.temperature().item()
        model.after_step(step)
    assert [heat[0], heat[25], heat[50], heat[99]] == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_teacher_stays_in_evaluation_mode():
    model = build()
    assert model.train().student.training
    assert not model.teacher.training


def test_patches_and_masks_go_together(batch):
    large, small, masks = batch
    with pytest.raises(RequestError, match="needs masks"):
        build()(large, small)
    with pytest.raises(RequestError, match="takes no masks"):
        build(patches=False)(large, small, masks)
    with pytest.raises(RequestError, match="no patch tokens"):
        Branch(nn.Linear(4, 6), Head(), Head())
    total, parts = build(patches=False)(large, small[:, :0])
    assert torch.isfinite(total)
    assert "3 patch" not in parts


def test_no_masked_picture_in_a_batch_is_no_trouble(batch):
    large, small, masks = batch
    total, parts = build()(large, small, torch.zeros_like(masks))
    total.backward()
    assert parts["3 patch"] == 0
    assert torch.isfinite(total)


def test_centring_learns_too_and_keeps_its_state(batch):
    model = build(targets="centring")
    model(*batch)
    centres = {name: value for name, value in model.state_dict().items() if "centre" in name}
    assert len(centres) == 4
    assert all(value.abs().sum() > 0 for value in centres.values())


def test_autocast_keeps_targets_and_losses_in_float32(batch):
    model = build()
    with torch.autocast("cpu", torch.bfloat16):
        total, parts = model(*batch)
    total.backward()
    assert {p.dtype for p in parts.values()} == {torch.float32}
    assert torch.allclose(total, build()(*batch)[0], rtol=0.02)


def test_used_counts_nearest_prototypes():
    assert used(torch.eye(4)) == 1
    assert used(torch.eye(4)[:2]) == 1, "two samples can use no more than two"
    assert used(torch.ones(8, 4)) == 0.25


@pytest.mark.parametrize("wrong", [{"momentum": 1.5}, {"steps": 0}, {"temperatures": (0.0, 0.07)}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(RequestError, match="at least 1 step"):
        build(**wrong)


def test_unknown_targets_are_refused():
    with pytest.raises(RequestError, match=r"Did you mean 'sinkhorn'\?"):
        build(targets="sinkhron")


def test_loss_of_uniform_scores_is_log_k(batch):
    model = build(patches=False, koleo_weight=0.0)
    for p in model.parameters():
        p.data.zero_()
    _, parts = model(*batch[:2])
    assert parts["3 class"].item() == pytest.approx(math.log(4), abs=1e-5)
    assert parts["6 class"].item() == pytest.approx(math.log(8), abs=1e-5)
