"""Base losses and the alignment against loops and sentence-transformers (numbers are those of the checklist)."""

import math

import pytest
import torch
from small_texts import Embedded
from torch.nn.functional import normalize

from mrl_lab import losses
from mrl_lab.errors import RequestError

B, D = 6, 16
TIES = torch.tensor([0.2, 1.0, 0.2, 0.6, 1.0, 0.0])


@pytest.fixture
def z():
    return torch.randn(B, 3, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)


def equal(ours, slow, *inputs):
    """Values and gradients are one."""
    torch.testing.assert_close(ours, slow, rtol=0, atol=1e-12)
    for a, b in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(slow, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def cosine(x, y):
    return torch.dot(x, y) / x.norm() / y.norm()


def slow_info_nce(z, scale, similarity):
    total = 0.0
    for i in range(len(z)):
        candidates = [z[j, c] for c in range(1, z.shape[1]) for j in range(len(z))]  # matches first, as elsewhere
        scores = torch.stack([scale * similarity(z[i, 0], candidate) for candidate in candidates])
        total = total - torch.log_softmax(scores, 0)[i]
    return total / len(z)


def slow_ranking(scores, labels):
    total = 1.0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if labels[i] < labels[j]:
                total = total + torch.exp(scores[i] - scores[j])
    return torch.log(torch.as_tensor(total))


@pytest.mark.parametrize("columns", [2, 3])
def test_22_info_nce_equals_the_loops(z, columns):
    z = z[:, :columns]
    equal(losses.info_nce(z), slow_info_nce(z, 20.0, cosine), z)
    equal(losses.info_nce(z, scale=0.5, similarity="dot"), slow_info_nce(z, 0.5, torch.dot), z)
    assert losses.candidate_scores(z).shape == (B, B * (columns - 1))


def test_22_info_nce_is_sentence_transformers_and_does_not_know_the_order_of_rows(z):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    theirs = MultipleNegativesRankingLoss(Embedded())(Embedded.features(z), None)
    equal(losses.info_nce(z), theirs, z)
    torch.testing.assert_close(losses.info_nce(z[torch.randperm(B)]), theirs)


def test_23_excluded_candidates_are_not_negatives(z):
    excluded = torch.zeros(B, 2 * B, dtype=torch.bool)
    excluded[0, 3] = excluded[2, 1] = True
    scores = losses.candidate_scores(z)
    rows = [[s for s, out in zip(scores[i], excluded[i], strict=True) if not out] for i in range(B)]
    slow = torch.stack([torch.stack(row).logsumexp(0) - scores[i, 2 * i] for i, row in enumerate(rows)]).mean()
    equal(losses.info_nce(z, excluded), slow, z)


def test_31_only_the_dot_form_sees_lengths(z):
    longer = z * torch.rand(B, 3, 1, dtype=torch.float64).add(0.5)
    torch.testing.assert_close(losses.info_nce(longer), losses.info_nce(z))
    assert not torch.allclose(losses.info_nce(2 * z, similarity="dot"), losses.info_nce(z, similarity="dot"))


def test_8_lengths_change_the_alignment_but_not_cosines(z):
    assert torch.allclose(losses.cosent(3 * z[:, :2], TIES), losses.cosent(z[:, :2], TIES))
    assert not torch.allclose(losses.alignment(3 * z[:, 0], 3 * z[:, 1]), losses.alignment(z[:, 0], z[:, 1]))


@pytest.mark.parametrize("labels", [TIES, torch.arange(6), torch.tensor([1, 1, 0, 0, 1, 0])])
def test_19_and_20_ranking_equals_the_double_loop(labels):
    scores = torch.randn(B, dtype=torch.float64, requires_grad=True)
    equal(losses.ranking(scores, labels), slow_ranking(scores, labels), scores)


def test_19_equal_labels_and_a_batch_of_one_teach_nothing():
    for scores in (torch.randn(5, requires_grad=True), torch.randn(1, requires_grad=True)):
        loss = losses.ranking(scores, torch.full_like(scores, 0.4))
        loss.backward()
        assert loss == 0
        assert scores.grad.abs().max() == 0
    assert losses.info_nce(torch.randn(1, 2, 8)) == 0


def test_ranking_does_not_overflow_and_takes_half_precision():
    scores = torch.tensor([500.0, -500.0, 300.0], requires_grad=True)
    loss = losses.ranking(scores, torch.tensor([0.0, 1.0, 0.5]))
    assert torch.isclose(loss, torch.tensor(1000.0))
    assert torch.isfinite(torch.autograd.grad(loss, scores)[0]).all()
    assert losses.ranking(scores.bfloat16(), torch.tensor([0.0, 1.0, 0.5])).dtype == torch.float32


def test_20_cosent_is_sentence_transformers_and_sees_only_the_order_of_labels(z):
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    pairs = z[:, :2]
    equal(losses.cosent(pairs, TIES), CoSENTLoss(Embedded())(Embedded.features(pairs), TIES), z)
    assert torch.allclose(losses.cosent(pairs, 5 * TIES), losses.cosent(pairs, TIES))


def slow_angle(x, y):
    """Coordinate by coordinate, as complex numbers divided by both lengths (the released code)."""
    half, total = len(x) // 2, 0.0
    for k in range(half):
        a, b, c, e = x[k], x[k + half], y[k], y[k + half]
        total = total + (a * c + b * e) + (b * c - a * e)
    return (total / x.norm() / y.norm()).abs()


def test_21_angle_similarity(z):
    x, y = z[:, 0], z[:, 1]
    equal(losses.angle_similarity(x, y).sum(), sum(slow_angle(x[i], y[i]) for i in range(B)), z)
    assert torch.allclose(losses.angle_similarity(x, x), torch.ones(B, dtype=torch.float64))
    assert not torch.allclose(losses.angle_similarity(x, y), losses.angle_similarity(y, x))
    turned = (y + torch.cat([-y[:, D // 2 :], y[:, : D // 2]], 1)) / math.sqrt(2)
    cosines = (normalize(x, dim=1) * normalize(turned, dim=1)).sum(1)
    assert torch.allclose(losses.angle_similarity(x, y), math.sqrt(2) * cosines.abs())


def test_21_angle_term_is_sentence_transformers_for_pairs_and_triplets(z):
    from sentence_transformers.sentence_transformer.losses import AnglELoss

    peer, only = AnglELoss(Embedded()), (0.0, 0.0, 1.0)
    torch.testing.assert_close(
        losses.angle(z[:, :2], TIES, weights=only), peer(Embedded.features(z[:, :2]), TIES).double(), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        losses.angle(z, weights=only), peer(Embedded.features(z), None).double(), rtol=0, atol=1e-5
    )
    assert losses.angle(z) > losses.angle(z, weights=only), "the method has two terms more than theirs"


def test_21_odd_widths_are_refused_where_sentence_transformers_pads(z):
    from sentence_transformers.util import pairwise_angle_sim

    odd = z[:, :2, :7]
    assert pairwise_angle_sim(odd[:, 0], odd[:, 1]).shape == (B,)
    with pytest.raises(RequestError, match="even width"):
        losses.angle(odd, TIES)


def slow_in_batch(z, labels, scale):
    """Each text against all others; the target is all zeros for pairs that do not match."""
    texts = [z[i, c] for i in range(len(z)) for c in range(2)]
    total = 0.0
    for k, text in enumerate(texts):
        others = [j for j in range(len(texts)) if j != k]
        scores = torch.log_softmax(torch.stack([scale * cosine(text, texts[j]) for j in others]), 0)
        if int(labels[k // 2]) == 1:
            total = total - scores[others.index(k + 1 if k % 2 == 0 else k - 1)]
    return total / len(texts)


def test_angle_of_pairs_is_the_sum_of_its_three_terms(z):
    pairs, x, y = z[:, :2], z[:, 0], z[:, 1]
    slow = (
        2 * slow_ranking(torch.stack([10 * cosine(x[i], y[i]) for i in range(B)]), TIES)
        + 3 * slow_in_batch(pairs, TIES, 5.0)
        + 4 * slow_ranking(torch.stack([2 * slow_angle(x[i], y[i]) for i in range(B)]), TIES)
    )
    equal(losses.angle(pairs, TIES, weights=(2, 3, 4), scales=(10, 5, 2)), slow, z)


def test_angle_of_triplets_ranks_matches_above_negatives(z):
    x, y, n = z.unbind(1)
    labels = [1] * B + [0] * B
    cosines = torch.stack([20 * cosine(x[i], other[i]) for other in (y, n) for i in range(B)])
    angles = torch.stack([20 * slow_angle(x[i], other[i]) for other in (y, n) for i in range(B)])
    slow = slow_ranking(cosines, labels) + slow_info_nce(z, 20.0, cosine) + slow_ranking(angles, labels)
    equal(losses.angle(z), slow, z)


def slow_alignment(teacher, student, temperature):
    total = 0.0
    for t, s in zip(teacher, student, strict=True):
        p, q = torch.softmax(t / temperature, 0), torch.softmax(s / temperature, 0)
        total = total + sum(p[j] * (torch.log(p[j]) - torch.log(q[j])) for j in range(len(p)))
    return total / len(teacher)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_14_alignment_is_kl_from_teacher_to_student(z, temperature):
    t, s = z[:, 0], z[:, 1]
    equal(losses.alignment(t, s, temperature=temperature), slow_alignment(t, s, temperature), z)
    assert losses.alignment(t, s) > 0
    assert losses.alignment(t, t + 3).abs() < 1e-12, "blind to a constant added to all coordinates"


def test_14_alignment_is_nearly_nothing_on_vectors_of_length_1(z):
    raw, unit = losses.alignment(z[:, 0], z[:, 1]), losses.alignment(*(normalize(z[:, c], dim=1) for c in (0, 1)))
    assert unit < raw / 10


def test_15_and_16_alignment_is_a_mean_over_rows_and_its_teacher_can_be_detached(z):
    t, s = z[:, 0], z[:, 1]
    torch.testing.assert_close(losses.alignment(t.repeat(2, 1), s.repeat(2, 1)), losses.alignment(t, s))
    for detach in (True, False):
        (gradient,) = torch.autograd.grad(losses.alignment(t, s, detach=detach), z)
        assert (gradient[:, 0].abs().sum() == 0) == detach
        assert gradient[:, 1].abs().sum() > 0


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda z: losses.info_nce(z, similarity="euclid"), "unknown similarity"),
        (lambda z: losses.info_nce(z[:, :1]), "one text a row"),
        (lambda z: losses.cosent(z, TIES), "3 texts a row"),
        (lambda z: losses.cosent(z[:, :2], None), "no labels"),
        (lambda z: losses.cosent(z[:, :2], TIES[:2]), r"labels of shape \(2,\)"),
        (lambda z: losses.angle(z[:, :2]), "no labels"),
    ],
)
def test_wrong_requests_say_what_is_needed(z, loss, words):
    with pytest.raises(RequestError, match=words):
        loss(z)
