"""Franca's nested heads and its training against slow, obvious references (numbered as the method's checklist)."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import normalize

from mrl_lab.cuts import halvings
from mrl_lab.data.crops import MultiCrop
from mrl_lab.device import choose
from mrl_lab.encoders.patches import PatchViT
from mrl_lab.errors import RequestError
from mrl_lab.methods import franca
from mrl_lab.methods.masks import CyclicMask
from mrl_lab.train import fit

D, SIZES, B = 32, (8, 16, 32), 12
COUNTS = {8: 16, 16: 32, 32: 64}


def encoder(layers=2):
    return PatchViT((1, 8, 8), D, layers=layers, patch=2, heads=2)


def head(kind, seed=0):
    torch.manual_seed(seed)
    return franca.nested_head(kind, D, COUNTS, hidden=24, bottleneck=12)


def build(kind="slice", sizes=SIZES, steps=10, **how):
    how = {"prototypes": 64, "hidden": 32, "bottleneck": 16} | how
    return franca.franca(encoder, sizes, steps=steps, head=kind, **how)


def digits(n=512):
    """Real pictures that come with scikit-learn: (n, 1, 8, 8) uint8."""
    return torch.tensor(load_digits().images[:n] * 15, dtype=torch.uint8)[:, None]


def rows(**how):
    return MultiCrop(digits(), **({"small": 2, "side": 4, "masks": CyclicMask((4, 4)), "flip": False} | how))


@pytest.fixture
def z():
    return torch.randn(B, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def batch():
    torch.manual_seed(2)
    return rows()[torch.arange(16)]


# --------------------------------------------------------------------------------------------- heads


def slow_scores(level, x):
    """One sample through one level, by hand: three layers, then the cosine to each prototype."""
    _, project, prototypes = level
    x = project[4](nn.GELU()(project[2](nn.GELU()(project[0](x)))))
    return torch.stack([torch.dot(x, w) / x.norm() / w.norm() for w in prototypes.weight])


@pytest.mark.parametrize("kind", ["slice", "proj", "many"])
def test_levels_are_what_they_say(z, kind):
    nested = head(kind)
    reads = {"slice": lambda i, m: z[i, :m], "proj": lambda i, m: nested.levels[j][0](z[i]), "many": lambda i, m: z[i]}
    for j, (m, scores) in enumerate(nested(z).items()):
        slow = torch.stack([slow_scores(nested.levels[j], reads[kind](i, m)) for i in range(B)])
        assert scores.shape == (B, COUNTS[m])
        assert torch.allclose(scores, slow, atol=1e-5)


def test_shared_projector_is_one_that_sees_zeros_beyond_the_prefix(z):
    nested = head("shared")
    project = nn.Sequential(nested.first, *nested.rest)
    for (m, scores), book in zip(nested(z).items(), nested.codebooks, strict=True):
        padded = torch.cat([z[:, :m], torch.zeros(B, D - m)], 1)
        assert torch.allclose(scores, normalize(project(padded), dim=1) @ normalize(book.weight, dim=1).T, atol=1e-5)


def test_41_tied_scores_are_cosines_of_prefixes_to_the_first_prototypes(z):
    nested = head("tied")
    for m, scores in nested(z).items():
        for i in range(B):
            for k in range(COUNTS[m]):
                w = nested.weight[k, :m]
                assert abs(scores[i, k] - torch.dot(z[i, :m], w) / z[i, :m].norm() / w.norm()) < 1e-5
        assert scores.shape == (B, COUNTS[m])


@pytest.mark.parametrize("kind", ["slice", "shared", "tied"])
def test_24_and_25_sliced_levels_know_their_prefix_alone(z, kind):
    nested, z = head(kind), z.requires_grad_()
    for m in SIZES:
        changed = z.detach().clone()
        changed[:, m:] += 5
        assert torch.equal(nested(z)[m], nested(changed)[m])
        (gradient,) = torch.autograd.grad(nested(z)[m].logsumexp(1).sum(), z)
        assert gradient[:, m:].abs().sum() == 0
        assert (gradient[:, :m].abs().sum(0) > 0).all()


@pytest.mark.parametrize("kind", ["proj", "many"])
def test_24_levels_of_the_released_code_know_the_whole_feature(z, kind):
    nested, z = head(kind), z.requires_grad_()
    for m in SIZES:
        (gradient,) = torch.autograd.grad(nested(z)[m].logsumexp(1).sum(), z)
        assert (gradient.abs().sum(0) > 0).all()


@pytest.mark.parametrize("kind", ["slice", "proj", "many", "none", "wide", "shared"])
@pytest.mark.parametrize(("hidden", "std"), [(2048, 0.02), (128, 0.08)])
def test_first_weights_are_the_released_ones(kind, hidden, std):
    """Normal with no bias; 0.02 at the released width, as much gain at another. Prototypes are torch's own."""
    torch.manual_seed(0)
    nested = franca.nested_head(kind, 96, {48: 100, 96: 200}, hidden=hidden, bottleneck=64)
    for name, layer in nested.named_modules():
        if isinstance(layer, franca.Prototypes):
            assert layer.weight.abs().max() <= 1 / 64**0.5, name
            assert layer.weight.std().item() == pytest.approx(1 / (3 * 64) ** 0.5, rel=0.05), name
            assert layer.bias is None
        elif isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(std, rel=0.05), name
            assert layer.weight.abs().max() > 3 * std, "normal, not uniform"
            assert not layer.bias.any(), name


def test_24_controls_have_one_level(z):
    assert {m: s.shape[1] for m, s in head("none")(z).items()} == {32: 64}
    assert {m: s.shape[1] for m, s in head("wide")(z).items()} == {32: 16 + 32 + 64}
    assert head("wide").counts == {32: 112}


def test_26_prototypes_of_the_paper():
    counts = franca.prototype_counts(131072, halvings(768, 48), 768)
    assert counts == {48: 8192, 96: 16384, 192: 32768, 384: 65536, 768: 131072}
    assert sum(counts.values()) == 253_952
    assert franca.prototype_counts(64, (2, 6, 32), 32) == {2: 16, 6: 16, 32: 64}
    assert franca.prototype_counts(100, (6, 31, 32), 32, least=1) == {6: 18, 31: 96, 32: 100}
    assert franca.prototype_counts(64, SIZES, D, shrink=False) == {8: 64, 16: 64, 32: 64}


@pytest.mark.parametrize(("kind", "millions"), [("none", 183.6), ("proj", 306.6)])
def test_26_parameter_counts_of_the_paper_and_of_the_released_code(kind, millions):
    """ViT-B (86.6 M), a class head (bottleneck 384), a patch head (256), and the prototypes' gains, which we fix."""
    counts = franca.prototype_counts(131072, halvings(768, 48), 768)
    with torch.device("meta"):
        heads = [franca.nested_head(kind, 768, counts, 2048, bottleneck) for bottleneck in (384, 256)]
    parameters = sum(p.numel() for h in heads for p in h.parameters())
    gains = sum(sum(h.counts.values()) for h in heads)
    assert (86.6e6 + parameters + gains) / 1e6 == pytest.approx(millions, abs=0.05)


# --------------------------------------------------------------------------------------------- model


def test_27_loss_is_the_plain_sum_of_levels(batch):
    total, parts = build(koleo_weight=0.0)(*batch)
    terms = [f"{m} {name}" for name in ("class", "patch") for m in SIZES]
    assert torch.allclose(total, sum(parts[name] for name in terms), rtol=1e-6)
    assert parts["koleo"] == 0


def test_27_the_last_level_alone_is_the_plain_loss_bit_for_bit(batch):
    nested, plain = build(), build("none")
    for branch in ("student", "teacher"):
        for name in ("class_head", "patch_head"):
            theirs = getattr(getattr(nested, branch), name).levels[-1].state_dict()
            getattr(getattr(plain, branch), name).levels[0].load_state_dict(theirs)
    ours, (total, parts) = nested(*batch)[1], plain(*batch)
    assert torch.equal(parts["32 class"], ours["32 class"])
    assert torch.equal(parts["32 patch"], ours["32 patch"])
    assert torch.equal(total, torch.stack([parts[name] for name in ("32 class", "32 patch", "koleo")]).sum())


def test_koleo_is_not_repeated_by_level(batch):
    assert torch.equal(build()(*batch)[1]["koleo"], build("none")(*batch)[1]["koleo"])


@pytest.mark.parametrize("kind", franca.HEADS)
def test_every_head_trains_all_of_its_student(batch, kind):
    model = build(kind)
    model(*batch)[0].backward()
    still = [name for name, p in model.student.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in still if "key.bias" not in name] == [], "attention ignores a shift of all keys"


def test_24_a_level_of_the_model_moves_its_prefix_only(batch):
    """The last norm's gain stands for the feature: gradients of one level's loss end where its prefix does."""
    for kind, reached in (("slice", 8), ("proj", D)):
        model = build(kind)
        _, parts = model(*batch)
        gain = model.student.encoder.body.layernorm.weight
        (gradient,) = torch.autograd.grad(parts["8 class"] + parts["8 patch"], gain)
        assert gradient[reached:].abs().sum() == 0
        assert (gradient[:reached] != 0).all()


def test_heads_start_from_the_same_encoder_and_leave_the_stream_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    models = [build(kind) for kind in franca.HEADS]
    assert torch.equal(torch.get_rng_state(), before)
    first, *others = [m.student.encoder.state_dict() for m in models]
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    shallow = franca.franca(lambda: encoder(1), SIZES, steps=1, prototypes=64, hidden=32, bottleneck=16)
    mine, same = (m.student.class_head.levels[0][2].weight for m in (models[0], shallow))
    assert torch.equal(mine, same), "heads do not depend on what the encoder drew"
    other = build(seed=1).student.encoder.state_dict()
    assert not torch.equal(first["body.embeddings.position_embeddings"], other["body.embeddings.position_embeddings"])


def test_class_and_patch_heads_differ_and_teacher_starts_as_the_student():
    model = build()
    own, patch = (getattr(model.student, name).state_dict() for name in ("class_head", "patch_head"))
    assert not torch.equal(own["levels.0.1.0.weight"], patch["levels.0.1.0.weight"])
    for mine, theirs in zip(model.student.parameters(), model.teacher.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "slize"}, r"Did you mean 'slice'\?"),
        ({"sizes": (16, 8)}, "rise"),
        ({"sizes": (16, 64)}, "larger"),
        ({"sizes": (1, 32)}, "1 dim"),
        ({"prototypes": 8}, "at least 16"),
        ({"batch": 48}, "96 large crops for the 64 prototypes of level 32: use a batch of 64"),
        ({"kind": "wide", "batch": 64}, "112 prototypes"),
    ],
)
def test_wrong_requests_are_refused(wrong, words):
    with pytest.raises(RequestError, match=words):
        build(**wrong)


def test_a_batch_of_two_crops_a_prototype_will_do():
    assert build(batch=64).student.class_head.counts == COUNTS


# ------------------------------------------------------------------------------------------ training


def train(model, steps, **how):
    torch.manual_seed(7)
    how = {"batch": 64, "lr": 2e-3, "clip": 3.0, "after_step": model.after_step} | how
    return fit(model, rows(), steps=steps, compute=choose("cpu"), **how)


def test_37_it_learns_without_collapse():
    model = build(steps=90, momentum=0.9)
    history = train(model, 90, lr=5e-3)
    terms = [f"{m} {name}" for name in ("class", "patch") for m in SIZES]
    first, last = history[terms].iloc[:5].mean(), history[terms].iloc[-5:].mean()
    assert (last < first).all(), (first, last)
    assert franca.collapse(history) == ""
    assert "used is" in franca.collapse(history.iloc[:10]), "at the start all pictures look alike to it"
    assert not any(
        torch.equal(p, q) for p, q in zip(model.student.parameters(), model.teacher.parameters(), strict=True)
    )


def test_collapse_is_told_with_what_to_change():
    history = {
        "step": range(20),
        "8 used": [1.0] * 18 + [0.1] * 2,
        "16 used": [0.1] * 18 + [0.9] * 2,
        "spread": [0.01] * 20,
    }
    told = franca.collapse(history)
    assert "8 used is 0.100 (least 0.25)" in told
    assert "spread is 0.010" in told
    assert "16 used" not in told
    assert "koleo_weight" in told


def test_resuming_is_bit_equal(tmp_path):
    """The teacher, the step of the schedules and the draws of the views all continue."""
    whole, torn, again = build(), build(), build()

    def tear(step):
        torn.after_step(step)
        if step == 4:
            raise KeyboardInterrupt

    train(whole, 6)
    with pytest.raises(KeyboardInterrupt):
        train(torn, 6, checkpoint=tmp_path / "c.pt", save_every=2, after_step=tear)
    history = train(again, 6, checkpoint=tmp_path / "c.pt", save_every=2)
    assert len(history) == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_an_encoder_without_tokens_learns_by_its_class_token():
    from mrl_lab.encoders import ConvNet

    model = franca.franca(
        lambda: ConvNet((1, 8, 8), D, norm="batch"), SIZES, steps=3, prototypes=32, patches=False, momentum=0.5
    )
    history = fit(
        model, rows(masks=None, side=None), steps=3, batch=32, after_step=model.after_step, compute=choose("cpu")
    )
    assert not [name for name in history if "patch" in name]
    norms = [branch.encoder.first[1] for branch in (model.student, model.teacher)]
    assert torch.equal(norms[0].running_mean, norms[1].running_mean)
