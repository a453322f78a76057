"""Sentence models: what each method trains, at which cuts, and what the claims ask of the table."""

import pandas as pd
import pytest
import torch
from small_texts import TEXTS, stand_in

from mrl_lab import explore, lab, score, verdicts
from mrl_lab.claims.sentences import METRIC, claims, variants
from mrl_lab.errors import RequestError
from mrl_lab.lab import Recipe
from mrl_lab.study.sentences.objectives import ALONE, METHODS, OF_2DMSE, Objective
from mrl_lab.study.sentences.task import Sentences

TASK = Sentences(layers=2, d=32, triplets=36, words=60)
RECIPE = Recipe(steps=2, batch=4, lr=1e-3, clip=1.0)


@pytest.fixture(autouse=True)
def small_texts(monkeypatch, tmp_path):
    """SNLI is 36 rows."""
    stand_in(monkeypatch, tmp_path)


@pytest.mark.parametrize("method", METHODS + ALONE)
def test_methods_share_first_weights_and_their_loss_is_the_sum_of_its_parts(method):
    cut = (1, 8) if method in ALONE else None
    model, plain = (lab.built(one, TASK, 0) for one in (Objective(method, cut), Objective("plain")))
    first = plain.encoder.state_dict()
    assert all(torch.equal(weight, first[name]) for name, weight in model.encoder.state_dict().items())
    total, parts = model(*TASK.rows()[torch.arange(8)])
    torch.testing.assert_close(total, sum(parts.values()))
    assert model.encoder.layers == (1 if cut else 2)


def test_a_separate_model_is_trained_at_its_own_width_and_nothing_else():
    model = lab.built(Objective("separate", (1, 8)), TASK, 0)
    states = []

    def watch(_, __, out):
        out.retain_grad()
        states.append(out)

    model.encoder.register_forward_hook(watch)
    model(*TASK.rows()[torch.arange(8)])[0].backward()
    assert states[0].grad[:, :, 1, :8].abs().max() > 0
    assert states[0].grad[:, :, 1, 8:].abs().max() == 0


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "a"))
    first, other = (lab.trained(Objective("2DMSE"), TASK, RECIPE, s).encoder.encode(TEXTS[:3]) for s in (0, 1))
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "b"))
    assert torch.equal(lab.trained(Objective("2DMSE"), TASK, RECIPE, 0).encoder.encode(TEXTS[:3]), first)
    assert not torch.equal(first, other)


def test_an_unknown_method_is_named():
    with pytest.raises(RequestError, match="Starbuks"):
        Objective("Starbuks")


def test_a_list_of_what_was_found_escapes_what_texts_say():
    assert explore.listed("a & b", [("<two>", 1), ("three", 0.5)]) == (
        "<p><b>a &amp; b</b></p><ol><li>&lt;two&gt; <small>(1.00)</small></li><li>three <small>(0.50)</small></li></ol>"
    )


def table(value):
    """All cells the claims ask for, three seeds, each ``value(method, n, m)``."""
    rows = []
    for seed in range(3):
        for place, method in enumerate(METHODS + ALONE):
            for n in range(1, 5):
                values = {m: value(method, n, m) + 0.01 * seed * (place + n) for m in (4, 8, 16, 32)}
                how = {"method": method, "metric": METRIC, "seed": seed, "n": 9}
                rows += [row | {"layer": n} for row in score.tidy(values, **how)]
        for n in range(1, 5):
            value_here = {"metric": "speed-up over N / n", "value": 0.9 + 0.01 * seed + 0.001 * n}
            rows.append({"method": "2DMSE", "seed": seed, "layer": n, "n": 9} | value_here)
    return pd.DataFrame(rows)


def test_verdicts_follow_the_table():
    asked = claims(4, (4, 8, 16, 32), [(1, 4), (2, 8), (3, 16), (4, 32)])
    better = {"2DMSE": 5.0, "Starbucks": 9.0, "separate": 9.5}
    good, bad = (table(lambda method, n, m, sign=sign: 50 + sign * better.get(method, 0.0)) for sign in (1, -1))
    found = verdicts.judge(asked, good, "hour").set_index("id").verdict
    assert found["C1"] == found["C2"] == found["C5"] == found["C6"] == found["C8"] == "shown"
    assert found["C9"] == found["C3"] == "contradicted"
    worse = verdicts.judge(asked, bad, "hour").set_index("id").verdict
    assert worse["C1"] == worse["C2"] == worse["C6"] == worse["C5"] == "contradicted"


def test_variants_of_2dmse_are_one_change_each_but_for_those_that_were_released():
    changed = {name: vars(settings) for name, settings in OF_2DMSE.items()}
    paper = changed.pop("2DMSE")
    assert {name: [key for key in paper if paper[key] != other[key]] for name, other in changed.items()} == {
        "2DMSE, v0.3.8": ["depth_weight", "alignments"],
        "2DMSE, no KL": ["weights"],
        "2DMSE, detached": ["detach"],
        "2DMSE, one width": ["weights"],
        "2DMSE, ST 5.1": ["depth_weight", "alignments", "widths", "weights", "temperature"],
        "2DMSE, ST 6": ["alignments", "detach", "lowest", "widths", "weights", "temperature"],
        "2DMSE, all layers, uniform": ["layers"],
        "2DMSE, all layers, log": ["depth_weight", "layers"],
        "2DMSE, all layers, linear": ["depth_weight", "layers"],
    }


def test_verdicts_on_variants_follow_the_table():
    asked = variants(4, (4, 8, 16, 32), [(1, 4), (2, 8), (3, 16), (4, 32)])
    better = {"2DMSE, all layers, uniform": 9.0, "2DMSE, all layers, log": 6.0, "2DMSE, all layers, linear": 3.0}
    better |= {"2DMSE": 5.0, "2DMSE, detached": 7.0, "2DMSE, ST 6": 2.0, "Starbucks": 4.0}
    shown = verdicts.judge(asked, table(lambda method, n, m: 50 + better.get(method, 0.0)), "hour")
    assert set(shown.verdict) == {"shown"}
    worse = verdicts.judge(asked, table(lambda method, n, m: 50 - better.get(method, 0.0)), "hour")
    assert set(worse.verdict) == {"contradicted"}
