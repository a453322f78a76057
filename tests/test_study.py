"""Studies, on scikit-learn's digits: each answer is that of the plain way, and nothing is trained twice."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from mrl_lab import data, lab, score, study
from mrl_lab.lab import Recipe, embed, trained
from mrl_lab.methods import baselines
from mrl_lab.study import controls, models, pictures
from mrl_lab.study.models import Model, Slim
from mrl_lab.study.pictures import Pictures

SIZES = (2, 8, 16)
RECIPE = Recipe(epochs=2, lr=0.01)
NESTED, FULL = Model(SIZES, 16), Model((16,), 16)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def digits():
    return Pictures(data.load("digits"))


@pytest.fixture(scope="module")
def swept(digits):
    return lab.sweep(models.three(SIZES), digits, RECIPE, [0])


def value(table: pd.DataFrame, **where: object) -> float:
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    assert len(table) == 1
    return table["value"].item()


def test_a_sweep_scores_every_method_size_and_question(swept):
    found = swept.groupby("method")["dim"].apply(lambda sizes: sorted(set(sizes)))
    assert found.to_dict() == {name: list(SIZES) for name in ("FF", "MRL", "MRL-E")}
    assert set(swept.metric) >= {"top1", "1nn", "map@10"}
    assert swept.value.between(0, 100).all()
    assert value(swept, method="MRL", metric="top1", dim=16) > 40  # chance is 10


def test_scores_are_those_of_the_plain_way(digits, swept):
    model = trained(NESTED, digits, RECIPE, 0)
    with torch.no_grad():
        z = model.encoder(digits.data.test.images)
        logits = model.head.linear(8)(z[:, :8])
        unit = [torch.nn.functional.normalize(x[:, :8]) for x in (z, model.encoder(digits.data.train.images))]
    right = (logits.argmax(1) == digits.data.test.labels).float().mean() * 100
    nearest = digits.data.train.labels[(unit[0] @ unit[1].T).argmax(1)]
    assert value(swept, method="MRL", metric="top1", dim=8) == pytest.approx(right.item(), abs=1e-4)
    one_nn = (nearest == digits.data.test.labels).float().mean().item() * 100
    assert value(swept, method="MRL", metric="1nn", dim=8) == pytest.approx(one_nn, abs=0.3)


def test_all_methods_start_from_one_encoder(digits):
    specs = [NESTED, FULL, replace(NESTED, efficient=True)]
    first, *others = [spec.build(digits, 3).encoder.state_dict() for spec in specs]
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    contrast = models.Contrast(SIZES, 16).build(digits, 3).encoder.state_dict()
    assert torch.equal(first["last.1.0.weight"], contrast["last.1.0.weight"])


def test_validation_is_top1_or_where_there_are_no_heads_1nn(digits):
    model = trained(FULL, digits, RECIPE, 0)
    with torch.no_grad():
        logits = model.head(model.encoder(digits.data.validation.images))[16]
    right = (logits.argmax(1) == digits.data.validation.labels).float().mean().item() * 100
    found = lab.asked(FULL, digits, RECIPE, 0, "validation")
    assert found.metric.tolist() == ["validation"]
    assert found.value.item() == pytest.approx(right, abs=1e-3)
    later = models.NestedLater(FULL, RECIPE, SIZES, "head")
    for spec in (Slim(16), later, models.Contrast(SIZES, 16)):
        found = lab.asked(spec, digits, RECIPE, 0, "validation").value
        assert len(found) >= 3
        assert found.max() > 20  # chance is 10


def test_spread_keeps_the_first_and_the_last():
    assert models.spread([1, 2, 3, 4, 5, 6, 7]) == [1, 4, 7]
    assert models.spread([1, 2]) == [1, 2]
    assert models.spread([1]) == [1]


# ----------------------------------------------------------------------------------------- controls


def test_at_full_size_nothing_is_lost_by_cutting(digits, swept):
    found = controls.shrunk(FULL, digits, SIZES, RECIPE, 0)
    whole = value(swept, method="FF", metric="1nn", dim=16)
    for method in ("FF, first dims", "FF, last dims", "FF, random dims", "FF, SVD of features"):
        assert value(found, method=method, metric="1nn", dim=16) == pytest.approx(whole, abs=0.3)
    top1 = value(swept, method="FF", metric="top1", dim=16)
    assert value(found, method="FF, SVD of the classifier", metric="top1", dim=16) == pytest.approx(top1, abs=1e-6)


def test_a_slimmable_network_meets_itself_at_full_width(digits):
    found = controls.slimmable(Slim(16), digits, SIZES, RECIPE, 0)
    cut, run = (value(found, method=f"slimmable, {how}", dim=16) for how in ("cut", "at its widths"))
    assert cut == pytest.approx(run)
    assert set(found[found.method == "slimmable, at its widths"].dim) == {4, 8, 12, 16}


def test_sizes_between_are_scored_from_the_same_states(digits):
    found = controls.between(NESTED, digits, RECIPE, 0)
    assert set(found.dim) == {3, 12}
    s = pictures.states(trained(NESTED, digits, RECIPE, 0).encoder, digits.data)
    ids = score.neighbours(s.z, s.database, [12])[12]
    assert value(found, metric="1nn", dim=12) == pytest.approx(score.one_nn(ids, s.database_y, s.y))


def test_coarse_drop_by_hand():
    rows = [
        {"method": "MRL", "seed": 0, "metric": metric, "dim": dim, "value": v}
        for metric, dim, v in (("top1", 2, 60), ("top1", 16, 90), ("coarse_top1", 2, 85), ("coarse_top1", 16, 95))
    ]
    found = controls.coarse_drop(pd.DataFrame(rows), (2, 16)).set_index("metric")["value"]
    assert found.to_dict() == {
        "fine drop": 30,
        "fine drop relative": 3,
        "coarse drop": 10,
        "coarse drop relative": 2,
    }


def test_headroom_compares_as_many_models_and_shares_add_up(digits):
    table, shares = controls.headroom(NESTED, FULL, digits, {"MRL": RECIPE, "FF": RECIPE}, 0)
    assert set(table.method) == {"MRL", "FF, other seeds"}
    assert (table[table.metric == "oracle gain"].value >= 0).all()
    assert shares.sum().item() == pytest.approx(100)
    assert len(shares) == len(SIZES) + 1


def test_corrupted_pictures_are_scored_by_the_same_models(digits):
    found = controls.corrupted(NESTED, digits, RECIPE, 0).assign(method="MRL")
    assert len(found) == 4 * 3 * len(SIZES)
    clean = pd.DataFrame([{"method": m, "metric": "top1", "value": 90.0} for m in ("MRL", "FF")])
    again = found.assign(method="FF", value=found.value + 1)
    spared = controls.spared(pd.concat([clean, found, again]), "MRL", "FF")
    assert spared.shape == (4, 3)
    assert spared.to_numpy() == pytest.approx(-1)  # FF is a point better on every picture that is worse


def test_classes_are_in_the_order_in_which_they_leave(digits):
    table = controls.by_class(NESTED, digits, RECIPE, 0)
    assert table.shape == (10, len(SIZES))
    assert sorted(table.index) == sorted(digits.data.classes)
    assert table.to_numpy().mean() > 20


# ---------------------------------------------------------------------------------------- ablations


def test_uniform_sizes_keep_number_and_ends():
    assert models.uniform_sizes((2, 4, 8, 16)) == (2, 7, 11, 16)
    assert [spec.sizes[0] for spec in models.variants(NESTED).values()] == [2] * 4


def test_nesting_later_with_the_head_alone_leaves_the_encoder_as_it_was(digits):
    specs = models.later(FULL, RECIPE, SIZES)
    full = trained(FULL, digits, RECIPE, 0).encoder
    frozen, free = (
        trained(specs[f"nested later: {part}"], digits, RECIPE, 0).model.encoder for part in ("head", "all")
    )
    x = digits.data.test.images
    assert torch.equal(embed(frozen, x), embed(full, x))
    assert not torch.equal(embed(free, x), embed(full, x))
    found = lab.sweep(specs, digits, RECIPE, [0])
    assert set(found[found.metric == "top1"].dim) == set(SIZES)
    assert len(specs) == len(baselines.PARTS)


def test_contrastive_forms_see_the_same_views_and_learn(digits):
    forms = models.forms(SIZES)
    found = lab.sweep(forms, Pictures(digits.data, SIZES), RECIPE, [0])
    assert value(found, method="InfoNCE, nested", metric="1nn", dim=16) > 40
    assert forms["InfoNCE, full size only"].sizes == (16,)
    assert set(found[found.method == "InfoNCE, full size only"].dim) == set(SIZES)


# ------------------------------------------------------------------------------------- made elsewhere


@pytest.fixture(scope="module")
def seen(digits):
    """The digits as features of a network, in the place of MobileNetV2's."""
    encoder, whole = trained(FULL, digits, RECIPE, 0).encoder, digits.data
    parts = {
        part: replace(getattr(whole, part), images=embed(encoder, getattr(whole, part).images))
        for part in ("train", "validation", "test")
    }
    return replace(whole, key=whole.key | {"seen by": "net"}, **parts)


def test_features_cut_as_they_are_lose_nothing_at_full_size(seen):
    cut = pictures.cut_as_it_is(seen, (4, 16), [0])
    whole = value(cut, method="backbone, SVD", metric="1nn", dim=16)
    assert value(cut, method="backbone, random dims", metric="1nn", dim=16) == pytest.approx(whole, abs=0.3)


def test_a_small_network_learns_to_nest_on_features(seen):
    model = trained(Model((2, 8), 8), Pictures(seen), RECIPE, 0)
    z = embed(model.encoder, seen.test.images)
    assert score.accuracy(score.predictions(model.head, z)[8], seen.test.labels) > 60
    loss, parts = model(seen.test.images, seen.test.labels)
    by_hand = sum(
        cross_entropy(model.head.linear(m)(model.encoder(seen.test.images)[:, :m]), seen.test.labels) for m in (2, 8)
    )
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert set(parts) == {2, 8}


# --------------------------------------------------------------------------------------------- join


def test_join_marks_what_it_adds():
    one = pd.DataFrame({"metric": ["top1"], "value": [1.0]})
    both = study.join([one, one], on="pairs ", to=study.join([one]))
    assert both.metric.tolist() == ["top1", "pairs top1", "pairs top1"]
