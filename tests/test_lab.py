"""The lab: one dialect for any method, ours or typed a minute ago; nothing twice, no old result for new code."""

import os
import textwrap

import pandas as pd
import pytest
import torch
from torch import nn

from mrl_lab import data, lab, runs, workers
from mrl_lab.errors import RequestError
from mrl_lab.lab import Recipe
from mrl_lab.study import models
from mrl_lab.study.pictures import Pictures

pytestmark = pytest.mark.usefixtures("own_cache")
SIZES = (2, 8, 16)
RECIPE = Recipe(epochs=1, lr=0.01)

TYPED = """
    from dataclasses import dataclass
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    class Nested(nn.Module):
        def __init__(self, encoder, sizes, classes):
            super().__init__()
            self.encoder, self.sizes = encoder, sizes
            self.heads = nn.ModuleList(nn.Linear(m, classes) for m in sizes)

        def forward(self, x, y):
            z = self.encoder(x)
            losses = {m: cross_entropy(head(z[:, :m]), y) for m, head in zip(self.sizes, self.heads)}
            return sum(losses.values()) * 1.0, losses

    @dataclass(frozen=True)
    class Mine:
        sizes: tuple = (2, 8, 16)
        def build(self, task, seed):
            return Nested(task.encoder(16), self.sizes, 10)
"""


def typed(edit: tuple[str, str] = ("", "")) -> type:
    made = {"__name__": "__main__"}
    exec(textwrap.dedent(TYPED.replace(*edit)), made)
    return made["Mine"]


@pytest.fixture(scope="module")
def digits():
    return Pictures(data.load("digits", train=300, validation=100, test=200))


@pytest.fixture
def trainings(monkeypatch):
    """How often anything was trained."""
    calls, fit = [], lab.fit
    monkeypatch.setattr(lab, "fit", lambda *args, **how: calls.append(how) or fit(*args, **how))
    return calls


def test_a_method_typed_in_a_notebook_is_trained_as_ours_is(digits):
    mine = lab.trained(typed()(), digits, RECIPE, 0)
    ours = models.Model(SIZES, 16).build(digits, 0)
    assert len(mine.history) == round(300 / 64)
    assert list(mine.history.columns) == ["step", "lr", "total", "2", "8", "16"], "sizes in their order"
    begun = typed()().build
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert torch.equal(begun(digits, 0).encoder.last[1][0].weight, ours.encoder.last[1][0].weight)
    found = lab.sweep({"mine": typed()()}, digits, RECIPE, [0])
    assert set(found.metric) == {"1nn", "map@10"}
    assert set(found.dim) == set(SIZES)
    assert set(found.method) == {"mine"}


def test_an_edited_loss_is_never_given_the_old_result(digits, trainings):
    one = lab.trained(typed()(), digits, RECIPE, 0)
    again = lab.trained(typed()(), digits, RECIPE, 0)
    assert len(trainings) <= 1
    edited = lab.trained(typed(("* 1.0", "* 100.0"))(), digits, RECIPE, 0)
    assert trainings
    assert edited.history.total[0] == pytest.approx(100 * one.history.total[0], rel=1e-4)
    pd.testing.assert_frame_equal(one.history, again.history)


def test_nothing_is_trained_twice_and_scoring_otherwise_trains_nothing(digits, trainings):
    three = models.three(SIZES)
    first = lab.sweep(three, digits, RECIPE, [0, 1])
    count = len(trainings)
    pd.testing.assert_frame_equal(lab.sweep(three, digits, RECIPE, [0, 1]), first)
    at = lab.sweep({"MRL": three["MRL"]}, Pictures(digits.data, sizes=(4,)), RECIPE, [0])
    assert set(at[at.metric == "1nn"].dim) == {4}
    assert len(trainings) == count


@pytest.mark.parametrize(
    "other", [(RECIPE, 1), (Recipe(epochs=1, lr=0.02), 0), (Recipe(epochs=2, lr=0.01), 0)], ids=["seed", "lr", "epochs"]
)
def test_another_seed_or_recipe_is_another_model(digits, other):
    one, two = (lab.trained(models.Model(SIZES, 16), digits, *how) for how in ((RECIPE, 0), other))
    assert not torch.equal(one.encoder.last[1][0].weight, two.encoder.last[1][0].weight)


def test_a_recipe_has_its_own_schedule(digits):
    history = lab.learn(models.Model(SIZES, 16), digits, Recipe(steps=4, lr=0.5, schedule="constant"), 0).history
    assert history.lr.tolist() == [0.5] * 4


def test_steps_are_counted_or_follow_from_passes(digits):
    rows = digits.rows()
    model = models.Model(SIZES, 16)
    for recipe, steps in ((Recipe(steps=3), 3), (Recipe(epochs=2, batch=100), 6), (Recipe(epochs=1, batch=9999), 1)):
        assert len(recipe.fit(model.build(digits, 0), rows, 0)) == steps


def test_tune_asks_the_validation_split_alone_and_best_keeps_the_highest(digits, monkeypatch):
    asks = Pictures.ask
    seen = []
    monkeypatch.setattr(Pictures, "ask", lambda self, m, split, seed: seen.append(split) or asks(self, m, split, seed))
    task = Pictures(digits.data, sizes=(3,))
    grid = lab.tune({"FF": models.three(SIZES)["FF"]}, task, RECIPE, lr=[1e-5, 0.01], seeds=[7, 8])
    assert set(seen) == {"validation"}
    assert list(grid.columns) == ["method", "lr", "validation"]
    assert lab.best(grid, RECIPE) == {"FF": RECIPE}
    scores = [
        lab.asked(one, task, RECIPE, seed, "validation").value.mean()
        for one in models.three(SIZES)["FF"]
        for seed in (7, 8)
    ]
    assert grid.validation[1] == pytest.approx(sum(scores) / len(scores))
    with pytest.raises(RequestError, match="fields of a recipe"):
        lab.tune({"FF": models.Model(SIZES, 16)}, task, RECIPE, rate=[1.0])


def test_a_typed_method_goes_to_other_processes_and_has_the_same_key_there(digits, monkeypatch, trainings):
    monkeypatch.setattr(workers, "_pays", lambda seconds: True)
    monkeypatch.setenv("MRL_LAB_WORKERS", "2")
    mine = typed(("sizes: tuple = (2, 8, 16)", "sizes: tuple = (4, 16)"))
    found = lab.sweep({"mine": mine()}, digits, RECIPE, [0, 1])
    assert sorted(set(found.seed)) == [0, 1]
    assert not trainings, "trained elsewhere"
    again = lab.trained(mine(), digits, RECIPE, 0)
    assert not trainings, "trained in a worker, and found here by the same key"
    assert len(again.history) == 5


def test_what_is_kept_is_made_once_for_its_code_and_what_it_is_given(digits, monkeypatch):
    monkeypatch.setenv("MADE", "")

    def answers(times: int):
        @lab.kept
        def answer(x: int, task: object, more: int = 0) -> pd.DataFrame:
            os.environ["MADE"] += f"{times * x + more} "
            return pd.DataFrame({"value": [times * x + more]})

        return answer

    for _ in range(2):
        assert answers(2)(1, digits).value.tolist() == [2]
        assert answers(2)(x=1, task=digits, more=0).value.tolist() == [2]
    assert answers(2)(3, digits).value.tolist() == [6]
    assert answers(2)(1, digits, 5).value.tolist() == [7]
    assert answers(3)(1, digits).value.tolist() == [3]
    assert os.environ["MADE"].split() == ["2", "6", "7", "3"]


def test_a_module_s_own_after_step_is_told_of_each_step(digits):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.steps = nn.Linear(1, 1), []

        def forward(self, x, y):
            return self.layer(x.float().mean((1, 2, 3))[:, None]).square().mean(), {}

        def after_step(self, step):
            self.steps.append(step)

    class Method:
        def build(self, task, seed):
            return Counting()

    assert lab.learn(Method(), digits, Recipe(steps=4), 0).steps == [0, 1, 2, 3]


def test_fresh_computes_anew_once(digits, monkeypatch, trainings):
    one = models.Model((3, 16), 16)
    lab.trained(one, digits, RECIPE, 0)
    monkeypatch.setenv("MRL_LAB_FRESH", "1")
    monkeypatch.setattr(runs, "MADE", set())
    lab.trained(one, digits, RECIPE, 0)
    lab.trained(one, digits, RECIPE, 0)
    assert len(trainings) == 2
