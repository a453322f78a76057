"""2DMSE against its five terms by hand, and sentence-transformers where it means the same (numbers: the checklist)."""

import math
import random
from collections import Counter
from functools import partial

import pytest
import torch
from small_texts import ROWS, Fixed, encoder
from torch.nn.functional import softmax

from mrl_lab import losses
from mrl_lab.encoders.cutting import cut
from mrl_lab.encoders.tokens import TextRows
from mrl_lab.errors import RequestError
from mrl_lab.methods import mse2d
from mrl_lab.methods.mse2d import MSE2D, Settings

N, D, M = 3, 16, 8
PAPER, RELEASED = mse2d.PRESETS["2dmse-paper"], mse2d.PRESETS["2dmse-v038"]
NOTHING = torch.zeros(1, 1, 1)


@pytest.fixture
def states():
    return Fixed().states


@pytest.fixture
def batch():
    return TextRows(encoder().tokenizer, ROWS)[torch.arange(4)]


def kl(teacher, student, temperature):
    """Of (rows, k), summed by hand."""
    p, q = softmax(teacher / temperature, -1), softmax(student / temperature, -1)
    return (p * (p.log() - q.log())).sum() / len(p)


def slow_terms(states, n, m, delta, temperature, alignments):
    """A, B, C, E and K of one layer and one width, as they are written."""
    large, small = states[:, :, N], states[:, :, n]
    rows = [z.reshape(-1, D) for z in (large, small)]
    k = kl(*rows, temperature)
    if alignments == 2:
        k = k + kl(rows[0][:, :m], rows[1][:, :m], temperature)
    return [
        losses.info_nce(large),
        delta * losses.info_nce(small),
        losses.info_nce(large[..., :m]),
        delta * losses.info_nce(small[..., :m]),
        temperature * k,
    ]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    ("settings", "delta"),
    [
        (PAPER, lambda n: 1.0),
        (RELEASED, lambda n: 1 / n),
        (Settings("1/(1+ln n)", temperature=0.3, weights=(1, 2, 3, 4, 5)), lambda n: 1 / (1 + math.log(n))),
    ],
)
def test_10_and_13_the_loss_is_the_sum_of_its_terms_and_so_is_the_gradient(states, n, settings, delta):
    parts = mse2d.terms(states, (n,), M, None, losses.info_nce, settings)
    slow = slow_terms(states, n, M, delta(n), settings.temperature, settings.alignments)
    assert list(parts) == ["last", "shallow", "last nested", "shallow nested", "alignment"]
    gradients = []
    for ours, theirs, weight in zip(parts.values(), slow, settings.weights, strict=True):
        torch.testing.assert_close(ours, weight * theirs, rtol=0, atol=1e-10)
        gradients.append(weight * torch.autograd.grad(theirs, states, retain_graph=True)[0])
    (gradient,) = torch.autograd.grad(torch.stack(list(parts.values())).sum(), states)
    torch.testing.assert_close(gradient, sum(gradients), rtol=0, atol=1e-10)
    assert gradient[:, :, 0].abs().max() == 0, "the embedding output is no layer to train"


def test_presets_are_those_of_the_paper_and_of_the_released_code():
    assert Settings("none", 2, False, "one", 1, "one", (1, 1, 1, 1, 1), 1.0) == PAPER
    assert Settings("1/n", 1) == RELEASED
    theirs = {"alignments": 1, "widths": "two", "weights": (0, 0, 1, 1, 1), "temperature": 0.3}
    assert Settings("1/n", **theirs) == mse2d.PRESETS["2dmse-st51"]
    assert Settings("none", detach=True, lowest=0, **theirs) == mse2d.PRESETS["2dmse-st6"]


def test_9_the_first_term_alone_is_plain_training():
    model = MSE2D(Fixed(), Settings(weights=(1, 0, 0, 0, 0)), base=losses.angle)
    total, parts = model(NOTHING, NOTHING)
    plain = losses.angle(model.encoder.states[:, :, -1])
    assert list(parts) == ["last"]
    torch.testing.assert_close(total, plain)
    ours, slow = (torch.autograd.grad(loss, model.encoder.states)[0] for loss in (total, plain))
    torch.testing.assert_close(ours, slow)


def test_all_layers_are_the_mean_of_every_single_one(states):
    every = partial(mse2d.terms, states, m=M, labels=None, base=losses.info_nce, settings=RELEASED)
    ones = [every(layers=(n,)) for n in range(1, N)]
    for name, part in every(layers=range(1, N)).items():
        torch.testing.assert_close(part, sum(one[name] for one in ones) / (N - 1))
    assert MSE2D(Fixed(), Settings(layers="all")).draw()[0] == (1, 2)


def test_11_layers_and_widths_are_drawn_evenly_and_never_the_full_ones():
    model = MSE2D(Fixed(layers=5, d=80), generator=torch.Generator().manual_seed(0))
    draws = [model.draw() for _ in range(10_000)]
    layers, widths = Counter(n for (n,), _, _ in draws), Counter(m for _, m, _ in draws)
    assert all(m == own for _, m, own in draws), "one width a step"
    for counts, allowed in ((layers, [1, 2, 3, 4]), (widths, [8, 16, 32, 64])):
        assert sorted(counts) == allowed
        assert sum((c - 2500) ** 2 / 2500 for c in counts.values()) < 16.3, "chi-square, 3 degrees, p = 0.001"


def test_nested_sizes_double_strictly_below_the_full_width():
    assert mse2d.nested_sizes(768) == (8, 16, 32, 64, 128, 256, 512)
    assert mse2d.nested_sizes(384) == (8, 16, 32, 64, 128, 256)
    assert mse2d.nested_sizes(16) == (8,)


def test_12_one_width_a_step_for_both_nested_terms_and_equal_seeds_draw_alike():
    seen = []

    def base(z, labels):
        seen.append(z.shape[-1])
        return z.sum()

    model = MSE2D(Fixed(d=40), base=base)
    for _ in range(20):
        seen.clear()
        model(NOTHING, NOTHING)
        full, shallow, last_nested, nested = seen
        assert (full, shallow) == (40, 40)
        assert last_nested == nested < 40
    first, second = (
        [MSE2D(Fixed(layers=9, d=80), generator=torch.Generator().manual_seed(3)).draw() for _ in range(9)]
        for _ in "12"
    )
    assert first == second


def test_12_draws_come_from_torchs_own_stream_so_that_a_checkpoint_continues_them():
    model = MSE2D(Fixed(layers=9, d=80))
    state = torch.get_rng_state()
    draws = [model.draw() for _ in range(9)]
    torch.set_rng_state(state)
    assert draws == [model.draw() for _ in range(9)]


@pytest.mark.parametrize("detach", [True, False])
def test_16_alignment_reaches_the_teacher_only_if_it_is_not_detached(batch, detach):
    model = MSE2D(encoder(), Settings(detach=detach, weights=(0, 0, 0, 0, 1)), generator=torch.Generator())
    (n,), *_ = draw = model.draw()
    model.draw = lambda: draw
    model(*batch)[0].backward()
    for number, block in enumerate(model.encoder.body.encoder.layer, 1):
        moved = sum(p.grad.abs().sum() for p in block.parameters() if p.grad is not None)
        assert (moved > 0) == (number <= n or not detach)


def test_17_one_encoding_a_step():
    for settings in (PAPER, Settings(layers="all")):
        model = MSE2D(Fixed(layers=6), settings)
        model(NOTHING, NOTHING)
        assert model.encoder.calls == 1


def test_18_blocks_above_the_deepest_layer_in_use_stay_still(batch):
    model = encoder()
    parts = mse2d.terms(model(*batch), (2,), M, None, losses.info_nce, Settings(weights=(0, 1, 0, 1, 0)))
    sum(parts.values()).backward()
    moved = [
        sum(p.grad.abs().sum() for p in b.parameters() if p.grad is not None) > 0 for b in model.body.encoder.layer
    ]
    assert moved == [True, True, False]


def test_labels_go_to_the_base_loss():
    model = MSE2D(Fixed(columns=2), "2dmse-v038", base=losses.cosent)
    labels = torch.tensor([0.0, 0.5, 1.0, 0.2])
    torch.testing.assert_close(
        model(NOTHING, NOTHING, labels)[1]["last"], losses.cosent(model.encoder.states[:, :, -1], labels)
    )


def test_45_two_runs_of_one_seed_are_equal():
    from mrl_lab.train import fit

    def run():
        torch.manual_seed(7)
        model = MSE2D(encoder(dropout=0.1))
        rows = TextRows(model.encoder.tokenizer, ROWS)
        return fit(model, rows, steps=20, batch=8, lr=1e-3)

    assert run().equals(run())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Settings("2/n"), "unknown depth_weight"),
        (lambda: Settings(alignments=3), "Allowed: 1, 2"),
        (lambda: Settings(layers="two"), "Allowed: one, all"),
        (lambda: Settings(weights=(1, 1)), "five numbers"),
        (lambda: Settings(weights=(0, 0, 0, 0, 0)), "not all 0"),
        (lambda: Settings(temperature=0), "set w_K = 0"),
        (lambda: MSE2D(Fixed(), "2dmse"), "Did you mean '2dmse-"),
        (lambda: MSE2D(Fixed(layers=1)), "2 layers or more"),
        (lambda: MSE2D(Fixed(), sizes=(8, 16)), "always trained"),
        (lambda: MSE2D(Fixed(), sizes=(8, 4)), "rise"),
    ],
)
def test_wrong_requests(wrong, words):
    with pytest.raises(RequestError, match=words):
        wrong()


# --------------------------------------------------------------------------------- sentence-transformers


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """One encoder as ours and as a SentenceTransformer, and one batch for each."""
    from sentence_transformers import SentenceTransformer

    ours = encoder().eval()
    theirs = SentenceTransformer(str(cut(ours, N, 32, tmp_path_factory.mktemp("peer") / "model")), device="cpu")
    theirs.truncate_dim = None
    columns = list(zip(*ROWS[:4], strict=True))
    features = [ours.tokenizer(list(c), padding=True, return_tensors="pt") for c in columns]
    return ours, theirs.eval(), TextRows(ours.tokenizer, ROWS)[torch.arange(4)], [dict(f) for f in features]


DIMS = [32, 16, 8]


def draws_of_theirs(seed):
    """The width of the last layer, the layer, and its own width, in the order in which they draw."""
    draw = random.Random(seed)
    last = DIMS[draw.sample(range(3), 1)[0]]
    layer = draw.sample(range(N), 1)[0]
    return last, layer, DIMS[draw.sample(range(3), 1)[0]]


@pytest.mark.parametrize("weighting", ["uniform", "log", "linear"])
def test_47_their_2d_loss_is_two_of_our_terms_at_widths_of_their_own(peer, weighting):
    from sentence_transformers.sentence_transformer.losses import Matryoshka2dLoss, MultipleNegativesRankingLoss

    ours, model, batch, features = peer
    theirs = Matryoshka2dLoss(model, MultipleNegativesRankingLoss(model), DIMS, layer_weighting=weighting)
    delta = {"uniform": lambda i: 1.0, "log": lambda i: 1 / (1 + math.log(1 + i)), "linear": lambda i: 1 / (1 + i)}
    states = ours(*batch)
    for seed in range(6):
        random.seed(seed)
        last, layer, own = draws_of_theirs(seed)
        z, large = states[:, :, layer], states[:, :, N]
        expected = losses.info_nce(large[..., :last]) + delta[weighting](layer) * losses.info_nce(z[..., :own])
        rows = large.flatten(0, 1), z.flatten(0, 1)
        expected = expected + 0.3 * losses.alignment(*rows, temperature=0.3, detach=True)
        torch.testing.assert_close(theirs([dict(f) for f in features], None), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_47_our_presets_are_their_2d_loss_given_its_draws(peer, seed, monkeypatch):
    from sentence_transformers.sentence_transformer.losses import Matryoshka2dLoss, MultipleNegativesRankingLoss

    ours, model, batch, features = peer
    random.seed(seed)
    last, layer, own = draws_of_theirs(seed)
    theirs = Matryoshka2dLoss(model, MultipleNegativesRankingLoss(model), DIMS)([dict(f) for f in features], None)
    new = MSE2D(ours, "2dmse-st6", DIMS[:0:-1])
    monkeypatch.setattr(new, "draw", lambda: ((layer,), last, own))
    torch.testing.assert_close(new(*batch)[0], theirs, rtol=1e-5, atol=1e-5)
    old, states, n = MSE2D(ours, "2dmse-st51", DIMS[:0:-1]), ours(*batch), max(1, layer)
    monkeypatch.setattr(old, "draw", lambda: ((n,), last, own))
    rows = states[:, :, N].flatten(0, 1), states[:, :, n].flatten(0, 1)
    expected = losses.info_nce(states[:, :, N, :last]) + losses.info_nce(states[:, :, n, :own]) / n
    expected = expected + 0.3 * losses.alignment(*rows, temperature=0.3)
    torch.testing.assert_close(old(*batch)[0], expected, rtol=1e-5, atol=1e-5)


def test_47_they_draw_two_widths_the_full_one_among_them_and_since_5_2_the_embedding_output():
    for preset, lowest in (("2dmse-st51", 1), ("2dmse-st6", 0)):
        model = MSE2D(Fixed(), preset, generator=torch.Generator().manual_seed(0))
        draws = [model.draw() for _ in range(900)]
        layers, last, own = Counter(d[0] for d in draws), Counter(d[1] for d in draws), Counter(d[2] for d in draws)
        assert sorted(layers) == [(n,) for n in range(lowest, N)]
        assert sorted(last) == sorted(own) == [8, D]
        assert 0.4 < sum(a == b for _, a, b in draws) / 900 < 0.6, "drawn apart"


def test_settings_that_cannot_go_together_are_refused():
    with pytest.raises(RequestError, match="no depth to weigh"):
        Settings("1/n", lowest=0)
    with pytest.raises(RequestError, match="alignments = 1"):
        Settings(widths="two")


def test_47_how_their_2d_loss_differs_from_the_paper():
    draws = [draws_of_theirs(seed) for seed in range(300)]
    assert 0.2 < sum(last == 32 for last, _, _ in draws) / 300 < 0.47, (
        "the full last layer in 1 of 3 steps, here always"
    )
    assert 0.2 < sum(last == own for last, _, own in draws) / 300 < 0.47, "two widths a step, here one"
    assert {layer for _, layer, _ in draws} == {0, 1, 2}, "the embedding output is trained, here never"
    layers = {MSE2D(Fixed()).draw()[0] for _ in range(100)}
    assert layers == {(1,), (2,)}


def test_47_adaptive_layers_of_theirs_are_all_our_layers_and_the_embedding_output(peer):
    from sentence_transformers.sentence_transformer.losses import AdaptiveLayerLoss, MultipleNegativesRankingLoss

    ours, model, batch, features = peer
    theirs = AdaptiveLayerLoss(model, MultipleNegativesRankingLoss(model), n_layers_per_step=-1, kl_temperature=0)
    states = ours(*batch)
    without_alignment = Settings(layers="all", weights=(1, 1, 0, 0, 0))
    parts = mse2d.terms(states, range(N), 8, None, losses.info_nce, without_alignment)
    torch.testing.assert_close(theirs([dict(f) for f in features], None), sum(parts.values()), rtol=1e-5, atol=1e-5)
