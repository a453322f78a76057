"""M3's tokens, loss, controls and oracle against slow, obvious references (numbers are those of its checklist)."""

import pytest
import torch
from torch import nn

from mrl_lab import cascade, oracle, train
from mrl_lab.data.questions import Questions
from mrl_lab.data.turns import Turns, Words
from mrl_lab.device import choose
from mrl_lab.encoders import llava_weights
from mrl_lab.encoders.llava import Llava
from mrl_lab.errors import RequestError
from mrl_lab.methods import m3

SCALES, N, B = (1, 4, 16), 16, 8
COLOURS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], dtype=torch.uint8)
NAMES = ("red", "green", "blue", "yellow")


@pytest.fixture
def asked():
    """Pictures of one colour: what colour it is, and a question with a longer answer."""
    classes = torch.arange(B) % 4
    images = COLOURS[classes][:, :, None, None].repeat(1, 1, 32, 32)
    images[:, :, :8] = 40  # a band without colour, so that not all tokens are alike
    both = [
        q for c in classes.tolist() for q in (("what colour?", NAMES[c]), ("say it twice", f"{NAMES[c]} {NAMES[c]}"))
    ]
    return Questions(images, torch.arange(B).repeat_interleave(2), *map(list, zip(*both, strict=True)))


@pytest.fixture
def batch(asked):
    return Turns(asked, vocabulary(asked).encode)[torch.arange(B)]


def vocabulary(asked):
    return Words([*asked.questions, *asked.answers])


def build(scales=SCALES, train_tower=True, train_language=True, feature_layer=-1, **how):
    body = llava_weights.build(13, d=32, tower_layers=2, feature_layer=feature_layer)
    return m3.M3(Llava(body, train_tower=train_tower, train_language=train_language), scales, **how)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# -------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize(("tokens", "allowed"), [(576, (1, 4, 9, 16, 36, 64, 144, 576)), (16, (1, 4, 16)), (1, (1,))])
def test_1_every_square_divisor_is_a_scale(tokens, allowed):
    assert m3.scales_of(tokens) == allowed
    assert m3.check_scales((0, *allowed), tokens) == (0, *allowed)


@pytest.mark.parametrize(
    ("scales", "tokens", "words"),
    [
        ((100,), 576, r"100 tokens cannot be pooled from 576.*1, 4, 9, 16, 36, 64, 144, 576"),
        ((25,), 576, "25 tokens"),
        ((8,), 16, "8 tokens"),
        ((True,), 16, "True tokens"),
        ((4.0,), 16, "4.0 tokens"),
        ((-1,), 16, "-1 tokens"),
        ((4, 1), 16, "rise"),
        ((4, 4), 16, "rise"),
        ((), 16, "rise"),
        ((1,), 17, "not a square grid"),
        ((1,), 0, "not a square grid"),
    ],
)
def test_1_other_scales_and_grids_are_refused(scales, tokens, words):
    with pytest.raises(RequestError, match=words):
        m3.check_scales(scales, tokens)


def slow_pool(v, t):
    """Window by window, as one would do it with pencil and paper."""
    fine, side = int(v.shape[1] ** 0.5), int(t**0.5)
    k, out = fine // side, []
    for i in range(side):
        for j in range(side):
            window = [v[:, (i * k + a) * fine + j * k + b] for a in range(k) for b in range(k)]
            out.append(sum(window) / k**2)
    return torch.stack(out, 1)


@pytest.mark.parametrize("t", [1, 4, 9, 16, 36, 144])
def test_2_and_4_pooling_is_the_mean_of_each_window(t):
    v = torch.randn(2, 144, 5)
    pooled = m3.pool(v, t)
    assert pooled.shape == (2, t, 5)
    assert torch.allclose(pooled, slow_pool(v, t), atol=1e-6)
    assert torch.allclose(pooled.mean(1), v.mean(1), atol=1e-6)


def test_2_all_tokens_stay_as_they_are():
    v = torch.randn(2, 144, 5)
    assert all(torch.equal(select(v, 144), v) for select in m3.SELECT.values())


@pytest.mark.parametrize("select", m3.SELECT)
def test_3_chained_equals_one_shot(select):
    scales = (1, 4, 9, 16, 36, 64, 144, 576)  # 4 cannot be made of 9, nor 16 of 36
    whole = torch.randint(-99, 99, (2, 576, 3)).double() * 24**2  # whole numbers divide exactly
    for v, close in ((torch.randn(2, 576, 3), 1e-6), (whole, 0)):
        chained, at_once = (m3.coarser(v, scales, select, chained=how) for how in (True, False))
        assert list(chained) == list(scales)
        for t in scales:
            assert torch.allclose(chained[t], at_once[t], rtol=0, atol=close)
            assert torch.equal(at_once[t], m3.SELECT[select](v, t))


@pytest.mark.parametrize("t", [1, 4, 9, 36, 144])
def test_5_tokens_are_in_raster_order_at_the_centres_of_their_windows(t):
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    pooled = m3.pool(torch.stack([rows, columns], 2).view(1, 144, 2), t)[0]
    side = int(t**0.5)
    k = 12 // side
    centres = [((i + 0.5) * k - 0.5, (j + 0.5) * k - 0.5) for i in range(side) for j in range(side)]
    assert torch.allclose(pooled, torch.tensor(centres))


def test_6_gradient_is_one_over_window_inside_and_zero_outside():
    v = torch.randn(1, 144, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(m3.pool(v, 9)[0, 5, 0], v)  # row 1, column 2 of 3 x 3
    expected = torch.zeros(12, 12)
    expected[4:8, 8:12] = 1 / 16
    assert torch.allclose(gradient.view(12, 12), expected)


def test_22_samples_are_tokens_of_the_grid():
    v = torch.arange(144.0).view(1, 144, 1)
    assert m3.spatial(v, 9).flatten().tolist() == [i * 12 + j for i in (0, 4, 8) for j in (0, 4, 8)]
    assert m3.first(v, 9).flatten().tolist() == list(range(9))
    assert m3.every(v, 9).flatten().tolist() == list(range(0, 144, 16))


@pytest.mark.parametrize("t", [1, 4, 9, 36, 144])
def test_averages_in_place_stand_on_every_token_of_their_window(t):
    v = torch.randn(2, 144, 5)
    side, placed, pooled = int(t**0.5), m3.in_place(v, t), slow_pool(v, t)
    for i in range(12):
        for j in range(12):
            window = i * side // 12 * side + j * side // 12
            assert torch.allclose(placed[:, i * 12 + j], pooled[:, window], atol=1e-6)


def test_unknown_forms_are_refused(batch):
    with pytest.raises(RequestError, match="Did you mean 'spatial'"):
        m3.coarser(torch.zeros(1, 16, 1), (1,), "spacial")
    with pytest.raises(RequestError, match="way to select"):
        build(select="median")
    with pytest.raises(RequestError, match="place to pool"):
        build(pooled="before")
    with pytest.raises(RequestError, match="9 tokens cannot be pooled from 16"):
        build().answers(*batch, (9,))


def test_7_where_pooling_stands_matters_unless_the_projector_is_linear(batch):
    after, before = build(), build(pooled="before projector")
    assert build().pooled == "after projector"
    v, w = after.visual(batch[0], SCALES), before.visual(batch[0], SCALES)
    assert torch.allclose(v[16], w[16])
    assert not torch.allclose(v[4], w[4], rtol=1e-3)
    for model in (after, before):
        model.llava.body.model.multi_modal_projector.act = nn.Identity()
    v, w = after.visual(batch[0], SCALES), before.visual(batch[0], SCALES)
    assert all(torch.allclose(v[t], w[t], atol=1e-6) for t in SCALES)


# ---------------------------------------------------------------------------------------------- loss


def slow_loss(model, images, ids, labels, t):
    """One row at a time through transformers' own forward, tokens pooled by hand."""
    total, count = 0.0, 0
    fine = model.llava.project(model.llava.patches(images))
    for i in range(len(ids)):
        real = int((labels[i] >= 0).nonzero().max()) + 1
        place = ids[i].tolist().index(1)
        embedded = model.llava.body.get_input_embeddings()(ids[i, :real])
        row = torch.cat([embedded[:place], slow_pool(fine[i : i + 1], t)[0], embedded[place + 1 :]])
        logits = model.llava.body(inputs_embeds=row[None]).logits[0]
        for column in range(real):
            if labels[i, column] >= 0:
                said = logits[column - 1 + t - 1].log_softmax(0)
                total, count = total - said[labels[i, column]], count + 1
    return total / count


@pytest.mark.parametrize("packed", [False, True])
def test_10_loss_is_the_mean_of_every_scale_on_its_own(batch, packed):
    model = build(packed=packed)
    total, parts = model(*batch)
    assert list(parts) == list(SCALES)
    for t in SCALES:
        assert torch.allclose(parts[t], slow_loss(model, *batch, t), atol=1e-5)
        assert torch.allclose(parts[t], build((t,))(*batch)[0], atol=1e-5)
    assert torch.allclose(total, sum(parts.values()) / 3, atol=1e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_12_packed_equals_one_pass_a_scale_in_loss_and_gradients(batch, attention):
    plain, packed = build((0, *SCALES)), build((0, *SCALES), packed=True)
    for model in (plain, packed):
        model.llava.body.set_attn_implementation(attention)
        model(*batch)[0].backward()
    for t, loss in plain(*batch)[1].items():
        assert torch.allclose(loss, packed(*batch)[1][t], atol=1e-6)
    theirs = gradients(packed)
    assert len(theirs) > 50
    for name, gradient in gradients(plain).items():
        assert torch.allclose(gradient, theirs[name], atol=1e-6), name


def test_10_gradient_is_the_mean_of_single_scales_and_so_is_a_random_scales_in_expectation(batch):
    model, mean = build(), {}
    model(*batch)[0].backward()
    for t in SCALES:
        single = build((t,))
        single(*batch)[0].backward()
        for name, gradient in gradients(single).items():
            mean[name] = mean.get(name, 0) + gradient / 3
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, mean[name], atol=1e-5), name


def test_10_a_random_scale_is_one_of_the_list_each_equally_often(batch):
    model, drawn = build(random_scale=True), []
    images, ids, labels = (x[:1] for x in batch)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(150):
            total, parts = model(images, ids, labels)
            (t,) = parts
            assert total == parts[t]
            drawn.append(t)
    assert all(30 < drawn.count(t) < 70 for t in SCALES)
    assert torch.allclose(total, build((t,))(images, ids, labels)[0], atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_11_the_tower_runs_once_a_step_and_a_sweep(batch, packed):
    model, calls, passes = build(packed=packed), [], []
    model.llava.body.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    model.llava.body.model.language_model.register_forward_hook(lambda *_: passes.append(1))
    model(*batch)
    assert len(calls) == 1
    assert len(passes) == (1 if packed else 3)
    model.answers(*batch, (0, 1, 4, 16))
    assert len(calls) == 2


def test_11_switches_reach_the_optimizer(batch):
    frozen = build(train_tower=False)
    frozen(*batch)[0].backward()
    assert not any("vision_tower" in name for name in gradients(frozen))
    learns = build()
    learns(*batch)[0].backward()
    assert learns.llava.body.model.vision_tower.embeddings.patch_embedding.weight.grad.abs().max() > 0


def test_logits_are_made_at_answers_only_and_as_many_at_every_scale(batch):
    """Check 9: the count of supervised tokens does not depend on the scale."""
    model, shapes = build(), []
    model.llava.body.lm_head.register_forward_hook(lambda _, given, __: shapes.append(given[0].shape))
    model(*batch)
    assert shapes == [(3, int((batch[2] >= 0).sum()), 32)]


# ------------------------------------------------------------------------------------------- blind


def test_20_a_blind_model_sees_nothing_and_runs_no_tower(batch):
    images, ids, labels = batch
    model, calls = build((0,)), []
    model.llava.body.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(model(images, ids, labels)[0], model(255 - images, ids, labels)[0])
    assert calls == []
    seeing = build()
    blind, one = (seeing.answers(images, ids, labels, (t,))[t].sure for t in (0, 1))
    assert torch.equal(blind, seeing.answers(255 - images, ids, labels, (0,))[0].sure)
    assert not torch.equal(one, seeing.answers(255 - images, ids, labels, (1,))[1].sure)
    assert torch.allclose(blind, seeing.answers(images, ids, labels, (0, 16))[0].sure)


# --------------------------------------------------------------------------------- learning, answers


def test_a_few_steps_teach_every_scale_and_right_means_what_generation_says(asked):
    words = vocabulary(asked)
    model = build(packed=True)
    how = {"steps": 40, "batch": B, "lr": 3e-3, "weight_decay": 0, "compute": choose("cpu")}
    history = train.fit(model, Turns(asked, words.encode), **how)
    assert (history[[str(t) for t in SCALES]].iloc[-1] < history[[str(t) for t in SCALES]].iloc[0] / 3).all()
    alone = Turns(asked, words.encode, alone=True)
    index = torch.arange(len(alone))
    images, ids, mask = alone.prompts(index)
    for select in ("average", "first"):
        found, outcomes = model.answers(*alone[index], (0, 1, 4, 16), select), set()
        for t, answers in found.items():
            said = model.generate(images, ids, t, select=select, mask=mask, max_new_tokens=4)
            exact = [words.decode(row) == a for row, a in zip(said.tolist(), asked.answers, strict=True)]
            assert answers.right.tolist() == exact
            outcomes |= set(exact)
        assert outcomes == {True, False}


@pytest.mark.parametrize("select", m3.SELECT)
def test_tokens_of_a_trained_model_can_be_chosen_otherwise_at_test(batch, select):
    """Table 4: only at scales below full does it make a difference, and the model's own way stays what it was."""
    model = build()
    fine = model.llava.project(model.llava.patches(batch[0]))
    for t, tokens in model.visual(batch[0], SCALES, select).items():
        assert torch.allclose(tokens, m3.SELECT[select](fine, t), atol=1e-6)
    assert torch.allclose(model.visual(batch[0], (4,))[4], m3.pool(fine, 4), atol=1e-6)
    assert torch.allclose(build(select=select).visual(batch[0], (4,))[4], m3.SELECT[select](fine, 4), atol=1e-6)


def test_share_and_certainty_by_hand(batch):
    model = build()
    images, ids, labels = batch
    found = model.answers(images, ids, labels, (4,))[4]
    for i in range(B):
        logits, targets, _ = model.llava.logits(
            [model.visual(images[i : i + 1], (4,))[4]], ids[i : i + 1], labels[i : i + 1]
        )
        hits = logits[0].argmax(-1) == targets
        assert found.share[i].item() == pytest.approx(hits.double().mean().item())
        assert found.right[i] == hits.all()
        assert found.sure[i].item() == pytest.approx(logits[0, 0].softmax(-1).max().item(), abs=1e-6)


# -------------------------------------------------------------------------------- oracle and cascade

WIDE = (1, 9, 36, 144, 576)


def luck(seed, scales=5, n=20000, classes=4):
    """Whether guesses at a question of four choices are right, no scale knowing anything."""
    return torch.randint(classes, (scales, n), generator=torch.Generator().manual_seed(seed)) == 0


def slow_tokens(right, charge):
    chosen = [next((t for t, r in zip(WIDE, column, strict=True) if r), charge) for column in right.T.tolist()]
    return [t for t in chosen if t is not None]


def test_17_and_18_three_conventions_for_what_no_scale_answers():
    right = luck(0, n=400)
    tokens = m3.oracle_tokens(oracle.first_correct(right), WIDE)
    for name, charge in (("wrong as 1", 1), ("wrong as 576", 576), ("right only", None)):
        expected = slow_tokens(right, charge)
        assert tokens[name] == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert 1 <= tokens["wrong as 1"] <= tokens["right only"] <= tokens["wrong as 576"] <= 576
    assert tokens["wrong as 576"] == pytest.approx(oracle.expected_dim(right, WIDE), rel=1e-5)
    none = m3.oracle_tokens(oracle.first_correct(torch.zeros(5, 9).bool()), WIDE)
    assert (none["wrong as 1"], none["wrong as 576"]) == (1, 576)
    assert none["right only"] != none["right only"]  # nothing to average


def test_17_an_added_scale_never_lowers_the_oracle():
    right = luck(1, n=300)
    rising = [oracle.accuracy(right[: k + 1]) for k in range(5)]
    assert rising == sorted(rising)
    assert right.double().mean(1).max() * 100 <= rising[-1] <= 100


def test_18_guessing_has_an_oracle_of_76_per_cent_and_re_runs_show_it_to_be_luck():
    scales, reruns = luck(2), luck(3)
    error = 100 * (0.763 * 0.237 / 20000) ** 0.5
    assert abs(oracle.accuracy(scales) - 100 * (1 - 0.75**5)) < 3 * error
    assert oracle.gain(scales) > 45
    assert abs(oracle.gain(scales) - oracle.gain(reruns)) < 6 * error


def test_19_a_cascade_of_scales_counts_all_that_it_visits():
    right = luck(4, n=500)
    sure = torch.rand(5, 500, generator=torch.Generator().manual_seed(5)) * 0.98 + 0.01
    said, stop = cascade.run(sure, right, torch.zeros(4))
    assert torch.equal(said, right[0])
    assert cascade.cumulative_dim(stop, WIDE) == 1
    said, stop = cascade.run(sure, right, torch.ones(4))
    assert torch.equal(said, right[-1])
    assert cascade.cumulative_dim(stop, WIDE) == sum(WIDE)
