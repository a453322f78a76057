"""The study of visual tokens: labels of patches by a slow reference, a whole round in small, claims that can fail."""

from dataclasses import replace
from zlib import crc32

import pandas as pd
import pytest
import torch

from mrl_lab import bench, lab, verdicts
from mrl_lab.claims.visual_tokens import claims
from mrl_lab.data.labelled import Labelled, Split
from mrl_lab.data.questions import questions
from mrl_lab.errors import RequestError
from mrl_lab.study.tokens import answering, costs, told, training
from mrl_lab.study.tokens.elsewhere import elsewhere, joined
from mrl_lab.study.tokens.world import GRIDS, PATCH, THING, answers, covered, world

BEGINS = training.Start(lab.Recipe(steps=3, batch=16), lab.Recipe(steps=3, batch=8))
RECIPE = lab.Recipe(steps=3, batch=8, lr=1e-3)
WAYS = training.ways(list(training.WAYS), BEGINS)


@pytest.fixture(scope="module")
def small():
    return scenes_of(4)


@pytest.fixture(scope="module")
def fine():
    return scenes_of(12)


def scenes_of(grid):
    """Scenes of noise on so many tokens a side."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 10
    split = Split(torch.randint(256, (60, 1, 28, 28), dtype=torch.uint8, generator=draw), labels)
    names = tuple("abcdefghij")
    data = Labelled("noise", {"noise": 0}, split, split, split, names, (0.5,), (0.5,), [])
    return world(data, train=40, test=30, validation=10, grid=grid)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path))


@pytest.mark.parametrize(("name", "side", "where"), [("small", 4, False), ("small", 4, True), ("fine", 12, True)])
def test_what_covers_a_patch_is_the_thing_on_its_middle(request, name, side, where):
    given = request.getfixturevalue(name)
    found = covered(given.train, given.classes, where, side).view(-1, side, side)
    scenes, thing = given.train, THING * side * PATCH
    assert scenes.images.shape[-1] == side * PATCH
    for n in range(len(scenes.grids)):
        for i in range(side):
            for j in range(side):
                y, x, right = i * PATCH + PATCH // 2, j * PATCH + PATCH // 2, 0
                for r in range(2):
                    for c in range(2):
                        top, left = scenes.corners[n, 0, r], scenes.corners[n, 1, c]
                        inside = top <= y < top + thing and left <= x < left + thing
                        if inside and scenes.grids[n, r, c] >= 0:
                            right = 1 + int(scenes.grids[n, r, c]) + 10 * (2 * r + c) * where
                assert found[n, i, j] == right


def test_ways_begin_alike_and_frozen_parts_stay(small):
    begun = BEGINS.weights(small, 0)
    for way in WAYS.values():
        found = way.build(small, 0).state_dict()
        assert all(torch.equal(found[name], begun[name]) for name in begun)
    tower = [name for name in begun if "vision_tower" in name]
    language = [name for name in begun if "language_model" in name]
    for still, moved, way in ((tower, language, "frozen tower"), (language, tower, "frozen language")):
        found = lab.trained(WAYS[way], small, RECIPE, 0).state_dict()
        assert all(torch.equal(found[name], begun[name]) for name in still)
        assert not all(torch.equal(found[name], begun[name]) for name in moved)


def test_a_finer_grid_and_a_larger_body_go_the_same_way(fine):
    begins = training.start(2, 2, batch=8, body=training.Body(96, 2, 1))
    some = training.ways(["M3", "all tokens", "separate, 4", "M3 without 4"], begins, 12)
    assert {name: way.scales for name, way in some.items()} == {
        "M3": (1, 4, 36, 144),
        "all tokens": (144,),
        "separate, 4": (4,),
        "M3 without 4": (1, 36, 144),
    }
    found = lab.sweep({"M3": some["M3"]}, fine, RECIPE, [0])
    assert set(found.tokens) == {1, 4, 36, 144}
    model = lab.trained(some["M3"], fine, RECIPE, 0)
    assert model.llava.tokens == 144
    assert model.llava.body.config.text_config.hidden_size == 96
    assert verdicts.judge(claims(144), found, "gpu").verdict.eq("undecided").all()


def test_a_start_is_what_its_number_and_its_tower_make_it(small):
    begun = BEGINS.weights(small, 0)
    for seed, start in (
        (1, BEGINS),
        (0, replace(BEGINS, knows="nothing")),
        (0, replace(BEGINS, knows="what and where")),
    ):
        same = (seed, start) == (1, BEGINS)  # one start alone serves every seed
        found = start.weights(small, seed)
        differ = [not torch.equal(found[name], begun[name]) for name in begun if "patch_embedding" in name]
        assert not any(differ) if same else all(differ)
    with pytest.raises(RequestError, match=r"what and where"):
        replace(BEGINS, knows="where")


def test_a_talk_has_all_questions_of_a_picture_and_alone_has_one(small):
    alone, talk = small.turns("train"), replace(small, talk=True).turns("train")
    assert len(alone) == len(small.train)
    assert len(talk) == len(small.train.images)
    assert sorted(i for row in talk.turns for i in row) == list(range(len(alone)))
    assert len(replace(small, talk=True).turns("test")) == len(small.test), "asked one by one in any case"


def test_seeds_take_the_starts_in_turn(small):
    three = [replace(BEGINS, count=2).weights(small, seed) for seed in range(3)]
    name = next(name for name in three[0] if "patch_embedding" in name)
    assert torch.equal(three[0][name], three[2][name])
    assert not torch.equal(three[0][name], three[1][name])


def test_rates_are_chosen_on_validation_questions_by_the_scales_a_way_learns(small):
    grid = lab.tune({name: WAYS[name] for name in training.TRIED}, small, RECIPE, lr=[1e-3, 1e-2])
    turns = small.turns("validation")
    model = lab.trained(WAYS["all tokens"], small, replace(RECIPE, lr=1e-2), 0)
    right = model.answers(*turns[torch.arange(len(turns))], [16])[16].right.double() * 100
    by_kind = [right[small.of_kind(kind, "validation")].mean().item() for kind in small.kinds]
    mine = grid[(grid.method == "all tokens") & (grid.lr == 1e-2)]
    assert mine["own scales"].item() == pytest.approx(sum(by_kind) / len(by_kind))
    right = answers(model, small, [4], part="validation")["right"][0].double() * 100
    assert mine["cell, 4 tokens"].item() == pytest.approx(right[small.of_kind("cell", "validation")].mean().item())


def test_ways_that_were_not_tried_take_the_rate_of_their_like():
    tried = {
        "M3": replace(RECIPE, lr=1.0),
        "all tokens": replace(RECIPE, lr=2.0),
        "random scale": replace(RECIPE, lr=3.0),
    }
    found = training.recipes(list(WAYS), tried, RECIPE)
    assert {name for name, how in found.items() if how.lr == 2.0} == {
        "all tokens",
        "separate, 1",
        "separate, 4",
        "blind",
    }
    assert {name for name, how in found.items() if how.lr == 3.0} == {"random scale", "random scale, equal tokens"}
    assert found["random scale, equal tokens"].steps == 3 * RECIPE.steps
    untried = training.recipes(list(WAYS), {"M3": tried["M3"]}, RECIPE)
    assert untried["random scale"].lr == RECIPE.lr


def test_scores_are_shares_of_right_answers_at_each_scale(small):
    own = lab.sweep({"all tokens": WAYS["all tokens"]}, small, RECIPE, [0])
    table = pd.concat([answering.pooled(WAYS["all tokens"], small, RECIPE, 0), own])
    right = answering.answered(WAYS["all tokens"], small, RECIPE, 0, "average")["right"]
    of = small.of_kind("cell")
    for t, row in zip(GRIDS[4], right, strict=True):
        mine = table[(table.method == "all tokens, pooled") & (table.metric == "cell") & (table.tokens == t)]
        assert mine.value.item() == pytest.approx(100 * row[of].double().mean().item())
    full = table[table.tokens == 16].groupby("metric").value.nunique()
    assert (full == 1).all(), "at all tokens nothing is dropped, so all ways to drop agree"
    blind = lab.sweep({"blind": WAYS["blind"]}, small, RECIPE, [0])
    assert set(blind.tokens) == {0}


def test_choosing_keeps_its_order_and_its_luck_can_be_left_out(small):
    table = answering.choosing(WAYS["M3"], small, RECIPE, 0, range(3)).set_index("metric").value
    assert table["oracle"] == pytest.approx(table["best scale"] + table["oracle gain"])
    assert table["oracle tokens, wrong as 1"] <= table["oracle tokens, wrong as 16"]
    assert 1 <= table["cascade tokens"] <= 21
    assert table["luck gain"] >= 0
    assert (
        "luck gain"
        not in answering.choosing(WAYS["M3"], small, RECIPE, 0, range(3), luck=False).set_index("metric").value
    )


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_no_two_seeds_share_a_re_run(seeds):
    judged = range(100, 100 + seeds)
    found = [answering.reruns(seed, judged, 3) for seed in judged]
    assert [models[0] for models in found] == list(judged)
    assert len({model for models in found for model in models}) == 3 * seeds
    assert all(len({model % 3 for model in models}) == 3 for models in found if seeds == 3), "each of its own start"


def test_what_is_told_is_what_generation_says_and_averages_windows(small):
    model = lab.trained(WAYS["M3"], small, RECIPE, 0)
    shown = told.asked(model, small)
    right = answering.answered(WAYS["M3"], small, RECIPE, 0)["right"]
    questions = list(zip(small.test.questions, small.test.answers, small.test.picture.tolist(), strict=True))
    for one in shown:
        alike = [
            q
            for q, (words, answer, i) in enumerate(questions)
            if (words, answer) == (one.question, one.answer) and torch.equal(small.test.images[i], one.image)
        ]
        said = [one.said[t] == one.answer for t in GRIDS[4]]
        assert said == right[:, alike[0]].bool().tolist()
    picture = shown[0].image
    assert torch.equal(told.averaged(picture, 1)[:, 5, 5], picture.float().mean((1, 2)).byte())
    assert replace(shown[0], answer="b", said={1: "a", 4: "b", 16: "b"}).smallest() == 4


def test_the_formula_stands_beside_the_paper_and_the_clock_runs(small):
    table = costs.of_llava()
    assert (table["prefill, ours (TFLOPs)"] - table["prefill, paper (TFLOPs)"]).abs().max() < 0.1
    timed = costs.measured(training.Way().build(small, 0), small, [2, 4], least=1)
    assert timed.shape == (3, 4)
    assert (timed > 0).all().all()
    peak = timed["peak, MB"]
    assert (peak[4] > peak[2]).all(), "more questions at a time hold more"
    assert peak.loc[16, 4] > peak.loc[1, 4], "and so do more tokens"


def test_elsewhere_asks_the_same_model_about_pictures_nobody_here_made(shared):
    drawn, split = elsewhere("easy_vqa", 20, 10), questions("easy_vqa")
    assert [len(asked.images) for asked in (drawn.train, drawn.validation, drawn.test)] == [18, 2, 10]
    for part, whole, begin in (("validation", split["train"], 18), ("test", split["test"], 0)):
        asked = getattr(drawn, part)
        rows = [i for i, n in enumerate(whole.picture.tolist()) if begin <= n < begin + len(asked.images)]
        assert asked.questions == [whole.questions[i] for i in rows]
        assert torch.equal(asked.images[asked.picture], whole.images[whole.picture[rows]])
    assert set(drawn.kinds) == {"easy-VQA, open", "easy-VQA, closed"}
    assert {drawn.test.answers[i] for i in drawn.of_kind("easy-VQA, closed").nonzero()[:, 0]} == {"yes", "no"}
    scenes = elsewhere("nlvr", 20, 10)
    assert scenes.test.images.shape == (10, 3, 64, 64), "three boxes side by side are squeezed"
    table = lab.sweep(
        {"all tokens": replace(WAYS["all tokens"], begins=replace(BEGINS, knows="nothing"))}, scenes, RECIPE, [0]
    )
    assert set(table.metric) == {"NLVR, closed"}
    with pytest.raises(RequestError, match="nlvr"):
        elsewhere("nlvr2", 20, 10)


def test_splits_joined_keep_each_question_with_its_picture(shared):
    parts = [questions("nlvr")[part] for part in ("dev", "test")]
    both = joined(parts)
    for i in (0, len(parts[0]) - 1, len(parts[0]), len(both) - 1):
        part, j = (parts[0], i) if i < len(parts[0]) else (parts[1], i - len(parts[0]))
        assert (both.questions[i], both.answers[i]) == (part.questions[j], part.answers[j])
        assert torch.equal(both.images[both.picture[i]], part.images[part.picture[j]])


def world_of_claims(**broken: float) -> pd.DataFrame:
    """Scores in which all claims hold, except where ``broken`` moves the scores of a method by so many points."""
    rows = []
    good = {"count": (98, 99, 99), "cell": (50, 80, 90), "list": (20, 60, 80)}
    lost = {"M3": 0, "all tokens, pooled": 45, "separate, 1": 0, "separate, 4": 0, "all tokens": 0, "random scale": 3}
    lost |= {"random scale, equal tokens": 0, "M3, spatial": 5, "M3, first": 5, "frozen tower": 9, "frozen language": 9}
    lost |= {"M3, told where": 0, "all tokens, pooled, told where": 5}
    lost |= {"M3, in talks": 0, "all tokens, pooled, in talks": 5}
    for method, points in (lost | {"M3 without 4": 0}).items():
        for kind, values in good.items():
            for i, (t, value) in enumerate(zip((1, 4, 16), values, strict=True)):
                less = (
                    points + (2 if method == "all tokens, pooled" and t == 1 else 0) + broken.get(method, 0) * (2 - i)
                )
                rows.append((method, kind, t, value - less))
    found = {"oracle gain": 9, "luck gain": 2, "best scale": 80, "cascade": 80, "cascade tokens": 9}
    found |= {"oracle tokens, wrong as 1": 2, "oracle tokens, wrong as 16": 5}
    rows += [("M3", metric, None, value + broken.get(metric, 0)) for metric, value in found.items()]
    shapes, true = "easy-VQA, open", "NLVR, closed"
    elsewhere = {("M3", shapes): 90, ("all tokens, pooled", shapes): 60, ("M3", true): 60}
    for (method, metric), value in elsewhere.items():
        rows += [(method, metric, t, value - (method == "M3") * broken.get(metric, 0)) for t in (1, 4, 16)]
    rows.append(("blind", true, 0, 55))
    table = [
        {"method": m, "metric": k, "tokens": t, "seed": s, "value": v + crc32(f"{m}{k}{t}{s}".encode()) / 2**36}
        for m, k, t, v in rows
        for s in range(3)
    ]
    return pd.DataFrame(table).assign(layer=None, dim=None).astype({"tokens": "Int64"})


def test_every_claim_can_be_shown():
    found = verdicts.judge(claims(), world_of_claims(), "hour")
    assert found.set_index("id").verdict.to_dict() == dict.fromkeys(found.id, "shown")


@pytest.mark.parametrize(
    ("broken", "fails"),
    [
        ({"all tokens, pooled": -30}, {"C1", "C1b"}),
        ({"separate, 1": -5}, {"C2"}),
        ({"random scale": -5}, {"C5"}),
        ({"random scale, equal tokens": -5}, {"C5b"}),
        ({"M3, first": -10}, {"C6"}),
        ({"frozen language": -15}, {"C7"}),
        ({"M3 without 4": -35}, {"C8"}),
        ({"all tokens, pooled, told where": -5}, {"C1c"}),
        ({"all tokens, pooled, in talks": -5}, {"C1d"}),
        ({"easy-VQA, open": 40}, {"E1"}),
        ({"NLVR, closed": 9}, {"E2"}),
        ({"luck gain": 9}, {"C4"}),
        ({"cascade": -9}, {"C4b"}),
    ],
)
def test_each_claim_fails_where_its_rule_is_broken(broken, fails):
    found = verdicts.judge(claims(), world_of_claims(**broken), "hour").set_index("id").verdict
    assert set(found.index[found == "contradicted"]) == fails


def test_one_step_with_all_scales_gives_the_gradients_of_five_passes_for_less():
    ways = bench.visual_tokens()
    model = ways["all scales"].__closure__
    llava = next(cell.cell_contents for cell in model if hasattr(cell.cell_contents, "patches"))
    gradients = []
    for run in ways.values():
        run()
        gradients.append({name: p.grad.clone() for name, p in llava.named_parameters() if p.grad is not None})
    for name, g in gradients[0].items():
        torch.testing.assert_close(g, gradients[1][name], atol=1e-5, rtol=1e-3)
