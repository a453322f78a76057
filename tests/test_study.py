"""Studies, on scikit-learn's digits: each answer is that of the plain way, and nothing is trained twice."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from mrl_lab import data, score, study
from mrl_lab.data import Split
from mrl_lab.methods import baselines
from mrl_lab.study import ablations, controls, models, pictures, pretrained, tuning
from mrl_lab.study.models import Model, Recipe, Slim, embed, trained

SIZES = (2, 8, 16)
RECIPE = Recipe(epochs=2, lr=0.01)
NESTED, FULL = Model(SIZES, 16), Model((16,), 16)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def swept(digits):
    plan = pictures.methods(SIZES, 16)
    return pictures.sweep(plan, digits, dict.fromkeys(plan, RECIPE), [0])


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
        z = model.encoder(digits.test.images)
        logits = model.head.linear(8)(z[:, :8])
        unit = [torch.nn.functional.normalize(x[:, :8]) for x in (z, model.encoder(digits.train.images))]
    right = (logits.argmax(1) == digits.test.labels).float().mean() * 100
    nearest = digits.train.labels[(unit[0] @ unit[1].T).argmax(1)]
    assert value(swept, method="MRL", metric="top1", dim=8) == pytest.approx(right.item(), abs=1e-4)
    one_nn = (nearest == digits.test.labels).float().mean().item() * 100
    assert value(swept, method="MRL", metric="1nn", dim=8) == pytest.approx(one_nn, abs=0.3)


def test_nothing_is_trained_twice(digits, swept, monkeypatch, capsys):
    monkeypatch.setattr(models, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = pictures.sweep({"MRL": [NESTED]}, digits, {"MRL": RECIPE}, [0])
    pd.testing.assert_frame_equal(again, swept[swept.method == "MRL"].reset_index(drop=True))


def test_another_seed_recipe_or_model_is_another_result(digits):
    one = trained(NESTED, digits, RECIPE, 0).encoder.state_dict()
    for other in (
        trained(NESTED, digits, RECIPE, 1),
        trained(NESTED, digits, replace(RECIPE, lr=0.003), 0),
        trained(replace(NESTED, weights=(2.0, 1.0, 1.0)), digits, RECIPE, 0),
    ):
        assert not torch.equal(other.encoder.state_dict()["last.1.0.weight"], one["last.1.0.weight"])


def test_all_methods_start_from_one_encoder(digits):
    specs = [NESTED, FULL, replace(NESTED, efficient=True)]
    first, *others = [spec.build(digits, 3).encoder.state_dict() for spec in specs]
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    contrast = models.Contrast(SIZES, 16).build(digits, 3).encoder.state_dict()
    assert torch.equal(first["last.1.0.weight"], contrast["last.1.0.weight"])


# ------------------------------------------------------------------------------------------- tuning


def test_tuning_reads_validation_pictures_alone_and_keeps_the_best(digits):
    blind = replace(digits, test=Split(digits.test.images[:0], digits.test.labels[:0]))  # no test split to look at
    grid = tuning.tune({"MRL": [NESTED], "FF": [FULL]}, blind, RECIPE, [1e-5, 0.01], [2], 0)
    assert len(grid) == 4
    assert {name: recipe.lr for name, recipe in tuning.best(grid, RECIPE).items()} == {"MRL": 0.01, "FF": 0.01}
    model = trained(FULL, digits, RECIPE, 0)
    with torch.no_grad():
        logits = model.head(model.encoder(digits.validation.images))[16]
    right = (logits.argmax(1) == digits.validation.labels).float().mean().item() * 100
    assert value(grid[(grid.method == "FF") & (grid.lr == 0.01)].rename(columns={"validation": "value"})) == (
        pytest.approx(right, abs=1e-3)
    )


def test_every_kind_of_model_can_be_validated(digits):
    later = models.NestedLater(FULL, RECIPE, SIZES, "head")
    for spec in (Slim(16), later, models.Contrast(SIZES, 16)):
        found = tuning.validated(spec, digits, RECIPE, 0)
        assert len(found) >= 3
        assert found.max() > 20  # chance is 10


def test_spread_keeps_the_first_and_the_last():
    assert tuning.spread([1, 2, 3, 4, 5, 6, 7]) == [1, 4, 7]
    assert tuning.spread([1, 2]) == [1, 2]
    assert tuning.spread([1]) == [1]


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
    s = pictures.states(trained(NESTED, digits, RECIPE, 0).encoder, digits)
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
    found = controls.robustness({"MRL": [NESTED]}, digits, {"MRL": RECIPE}, 0)
    assert len(found) == 4 * 3 * len(SIZES)
    clean = pd.DataFrame([{"method": m, "metric": "top1", "value": 90.0} for m in ("MRL", "FF")])
    again = found.assign(method="FF", value=found.value + 1)
    spared = controls.spared(pd.concat([clean, found, again]), "MRL", "FF")
    assert spared.shape == (4, 3)
    assert spared.to_numpy() == pytest.approx(-1)  # FF is a point better on every picture that is worse


# ---------------------------------------------------------------------------------------- ablations


def test_uniform_sizes_keep_number_and_ends():
    assert ablations.uniform_sizes((2, 4, 8, 16)) == (2, 7, 11, 16)
    assert [len(specs) for specs in ablations.variants(NESTED).values()] == [1] * 4


def test_nesting_later_with_the_head_alone_leaves_the_encoder_as_it_was(digits):
    specs = ablations.later(FULL, RECIPE, SIZES)
    full = trained(FULL, digits, RECIPE, 0).encoder
    frozen, free = (
        trained(specs[f"nested later: {part}"][0], digits, RECIPE, 0).model.encoder for part in ("head", "all")
    )
    x = digits.test.images
    assert torch.equal(embed(frozen, x), embed(full, x))
    assert not torch.equal(embed(free, x), embed(full, x))
    found = ablations.nested_later("nested later: head", specs["nested later: head"][0], digits, RECIPE, 0)
    assert set(found[found.metric == "top1"].dim) == set(SIZES)
    assert len(specs) == len(baselines.PARTS)


def test_contrastive_forms_see_the_same_views_and_learn(digits):
    forms = ablations.forms(SIZES, 16)
    found = ablations.contrastive("InfoNCE, nested", forms["InfoNCE, nested"][0], digits, SIZES, RECIPE, 0)
    assert value(found, metric="1nn", dim=16) > 40
    assert forms["InfoNCE, full size only"][0].sizes == (16,)


# --------------------------------------------------------------------------------------- pretrained


def test_features_of_a_frozen_backbone_take_the_place_of_pictures(digits):
    backbone = trained(FULL, digits, RECIPE, 0).encoder
    seen = pretrained.features(backbone, "net", digits)
    assert torch.equal(seen.test.images, embed(backbone, digits.test.images))
    assert torch.equal(seen.test.labels, digits.test.labels)
    assert seen.key != digits.key
    cut = pretrained.cut_as_it_is(seen, (4, 16), [0])
    whole = value(cut, method="backbone, SVD", metric="1nn", dim=16)
    assert value(cut, method="backbone, random dims", metric="1nn", dim=16) == pytest.approx(whole, abs=0.3)


def test_a_small_network_learns_to_nest_on_features(digits):
    seen = pretrained.features(trained(FULL, digits, RECIPE, 0).encoder, "net", digits)
    model = trained(Model((2, 8), 8, encoder="mlp"), seen, RECIPE, 0)
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
