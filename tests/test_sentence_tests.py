"""Which tests are here, which one judges, and what is said of those that are not; nothing needs one that is absent."""

import re

import pandas as pd
import pytest
from small_texts import PAIRS as SPLIT
from small_texts import ROWS, stand_in

from mrl_lab import lab, verdicts
from mrl_lab.claims import sentences, starbucks
from mrl_lab.data import places, texts
from mrl_lab.errors import RequestError
from mrl_lab.lab import Recipe
from mrl_lab.study.sentences import adapting, costs, pretraining, tests
from mrl_lab.study.sentences import task as tasks
from mrl_lab.study.sentences.adapting import Adapted
from mrl_lab.study.sentences.objectives import Objective, named
from mrl_lab.study.sentences.pretraining import Pretraining
from mrl_lab.study.sentences.task import Sentences
from mrl_lab.study.sentences.tests import SICK, SNLI, STSB

EVERY = tests.PAIRS + tests.FURTHER
PAIRS = [(1, 8), (2, 16), (3, 32), (4, 64)]
RECIPE = Recipe(steps=2, batch=4, lr=1e-3, clip=1.0)


@pytest.mark.parametrize(
    ("there", "among", "expected", "beside", "left_out", "command"),
    [
        ({"stsb", "sick"}, tests.PAIRS, (STSB, SNLI, SICK), "graded SNLI, SICK-R", "", ""),
        ({"stsb"}, tests.PAIRS, (STSB, SNLI), "graded SNLI", "SICK-R", "sick"),
        (set(), tests.PAIRS, (SNLI,), "", "STS-B, SICK-R", "stsb sick"),
        ({"sick"}, tests.PAIRS, (SNLI, SICK), "SICK-R", "STS-B", "stsb"),
        ({"stsb", "sick"}, tests.PAIRS + tests.YEARS, (STSB, SNLI, SICK), "graded SNLI, SICK-R",
         "STS12, STS13, STS14, STS15, STS16", "sts12-16"),
        ({"sick", "sts12-16"}, tests.PAIRS + tests.YEARS, (SNLI, SICK, *tests.YEARS),
         "SICK-R, STS12, STS13, STS14, STS15, STS16", "STS-B", "stsb"),
        ({"stsb", "sick", "sts12-16", "cranfield"}, EVERY, (*tests.PAIRS, "STS12-16", "Cranfield"),
         "graded SNLI, SICK-R, STS12-16, Cranfield", "SciFact", "scifact"),
    ],
)  # fmt: skip
def test_the_first_that_is_here_judges_and_the_rest_is_said(
    monkeypatch, there, among, expected, beside, left_out, command
):
    monkeypatch.setattr(places, "here", lambda name: name in there)
    assert tests.here(among) == expected
    told = tests.said(among)
    assert told.startswith(f"Judged on {expected[0]}")
    assert re.findall(r"Beside it: (.*)\.", told) == ([beside] if beside else [])
    assert re.findall(r"\*\*Left out\*\*, since not on this machine: (.*?)\.", told) == ([left_out] if left_out else [])
    assert re.findall(r"`mrl-lab data get (.*)`", told) == ([command] if command else [])


def test_other_sets_that_are_left_out_are_said_beside_the_tests(monkeypatch):
    monkeypatch.setattr(places, "here", lambda name: True)
    assert "machine: multi30k. To have it here: `mrl-lab data get multi30k`" in tests.said(lacking=["multi30k"])


def test_graded_snli_is_said_to_be_what_it_is(monkeypatch):
    monkeypatch.setattr(places, "here", lambda name: False)
    assert all(part in tests.said() for part in ("entailment 1, neutral 1/2, contradiction 0", "trained in its domain"))


@pytest.mark.parametrize("given", [(), ("STSB",)])
def test_a_task_needs_a_test_that_is_known(given):
    with pytest.raises(RequestError, match="STS-B"):
        Sentences(tests=given)


# --------------------------------------------------------------------------------------- SNLI and nothing else


@pytest.fixture
def snli_alone(monkeypatch, tmp_path):
    """SNLI is 36 rows and 12 graded pairs; whatever else is asked for is not here."""

    def pairs(name: str) -> dict[str, texts.Pairs]:
        assert name == "snli", f"{name} was asked for"
        return dict.fromkeys(("dev", "test"), SPLIT)

    stand_in(monkeypatch, tmp_path, pairs)
    monkeypatch.setattr(adapting, "SHOWN", 10)
    return {"layers": 2, "d": 32, "triplets": 36, "words": 60}


def test_everything_works_from_snli_alone(snli_alone):
    task, start = Sentences(**snli_alone), Pretraining("MLM", RECIPE)
    after = {"plain": Objective("plain", start=start)}
    assert set(lab.sweep(after, task, RECIPE, [0]).metric) == {"graded SNLI spearman"}
    heavy = Adapted(**snli_alone, sets=("graded SNLI", "said"))
    for one in (task, heavy):
        assert lab.tune(named("plain"), one, RECIPE, lr=[1e-3])[["validation", "whole"]].notna().all(axis=None)
    found = lab.outcome(Objective("plain"), heavy, RECIPE, 0)
    assert adapting.over_pairs(found, found, [0], SNLI).mean == 0
    assert found["said"].shape == (10, 3, 32)
    assert len(costs.speed(task.encoder(0), 0, 8, repeats=1)) == 4
    assert not {*pretraining.sentences(36, (), task.tests)[0]} & {*SPLIT.sentence1, *SPLIT.sentence2}


def test_what_is_read_before_depends_on_the_tests_so_they_are_in_its_key(snli_alone, monkeypatch):
    seen = []
    monkeypatch.setattr(lab.runs, "remember", lambda key, make: seen.append(key["trained"]["task"]) or make())
    Pretraining("MLM", RECIPE).read(Sentences(**snli_alone), 0)
    assert [(key["tests"], list(key["files"])) for key in seen] == [([SNLI], ["snli"])]


def test_the_papers_triplets_are_learnt_from_where_they_are_asked_for(monkeypatch, tmp_path):
    stand_in(monkeypatch, tmp_path)
    theirs = [("they sleep", "they rest", "they run")] * 4
    monkeypatch.setattr(texts, "triplets", {"snli": ROWS, "all-nli": theirs}.get)
    task = Sentences(layers=2, d=32, triplets=4, words=60, learns="all-nli")
    assert list(task.key["files"]) == ["all-nli", "snli"]
    assert task.rows().ids[0].tolist() == task.encoder(0).tokenizer("they sleep")["input_ids"]
    assert {"they sleep", "they run"} <= {*pretraining.sentences(4, (), (SNLI,), "all-nli")[0]}
    with pytest.raises(RequestError, match="all-nli"):
        Sentences(learns="all_nli")


@pytest.mark.parametrize("ask", [
    tasks.triplets,
    lambda n: tasks.tokenizer(n, 60),
    lambda n: Sentences(triplets=n).rows(),
    lambda n: pretraining.sentences(n, (), (SNLI,)),
    lambda n: Pretraining("MLM", RECIPE).rows(Sentences(triplets=n)),
])  # fmt: skip
def test_more_triplets_than_there_are_is_an_error_that_says_how_many_there_are(monkeypatch, ask):
    monkeypatch.setattr(texts, "triplets", lambda learns: ROWS)
    monkeypatch.setattr(texts, "pairs", lambda name: {"dev": SPLIT, "test": SPLIT})
    with pytest.raises(RequestError, match=r"triplets of snli to train on.*from 1 to 36.*got 600000"):
        ask(600_000)


def test_more_sentences_than_a_test_has_is_an_error(monkeypatch):
    monkeypatch.setattr(texts, "pairs", lambda name: {"test": SPLIT})
    assert tests.sentences(SNLI, 12) == SPLIT.sentence1
    with pytest.raises(RequestError, match="sentences of graded SNLI: a whole number from 1 to 12"):
        tests.sentences(SNLI, 13)


# ------------------------------------------------------------------------------------------------------ claims


def metrics(claim) -> set[str]:
    conditions = (claim.what, *claim.sides)
    return {where["metric"] for c in conditions for part in c.parts.values() for _, where in part.terms}


@pytest.mark.parametrize("claims", [
    sentences.claims(4, (4, 8, 16, 32, 64), PAIRS),
    sentences.variants(4, (4, 8, 16, 32, 64), PAIRS),
    starbucks.claims(4, (4, 8, 16, 32, 64), PAIRS, PAIRS, {"plain": 1e-3, "Starbucks": 3e-4}),
])  # fmt: skip
def test_claims_asked_of_another_test_say_so_and_ask_nothing_of_sts_b(claims):
    moved = sentences.on(SNLI, claims)
    for claim, other in zip(claims, moved, strict=True):
        assert sentences.METRIC not in metrics(other)
        of_scores = sentences.METRIC in metrics(claim)
        assert ("asked of graded SNLI, not of the paper's STS-B" in other.text) == of_scores
        assert (claim == other) == (not of_scores)
        assert [(c.name, c.limits) for c in (claim.what, *claim.sides)] == [
            (c.name, c.limits) for c in (other.what, *other.sides)
        ]
    assert sentences.on(STSB, claims) == claims


def test_a_moved_claim_is_judged_by_the_other_tests_rows():
    (c2,) = (claim for claim in sentences.claims(2, (4, 8), [(1, 4), (2, 8)]) if claim.id == "C2")
    rows = [
        {
            "method": method,
            "layer": 2,
            "dim": 8,
            "metric": tests.metric(test),
            "seed": seed,
            "value": value + 0.01 * seed,
        }
        for seed in range(3)
        for test, gap in ((STSB, -9.0), (SNLI, 5.0))
        for method, value in (("plain", 50 + 0.02 * seed), ("2DMSE", 50 + gap))
    ]
    table = pd.DataFrame(rows).assign(tokens=None)
    found = [verdicts.judge(sentences.on(test, [c2]), table, "hour").verdict.item() for test in (STSB, SNLI)]
    assert found == ["contradicted", "shown"]


def test_names_of_parts_and_metrics():
    assert (tests.metric(STSB), tests.metric(SNLI, "dev")) == ("STS-B spearman", "graded SNLI dev spearman")
    assert {"STS-B dev", "graded SNLI dev", "graded SNLI", "SICK-R", "STS12-16", "said"} <= adapting.SETS.keys()


def test_a_year_of_semeval_is_its_subsets_put_together(monkeypatch):
    a, b, other = (texts.Pairs([x], [x + "'"], [float(i)]) for i, x in enumerate("abc"))
    monkeypatch.setattr(texts, "pairs", lambda name: {"2012 MSRpar": a, "2013 FNWN": other, "2012 OnWN": b})
    assert tests.pairs("STS12") == texts.Pairs(["a", "b"], ["a'", "b'"], [0.0, 1.0])
    assert tests.pairs("STS13") == other
    monkeypatch.setattr(texts, "pairs", lambda name: {"2012": a, "2013": b})  # as the hub has them
    assert tests.pairs("STS13") == b


def test_the_years_are_those_that_were_published(shared):
    assert [len(tests.pairs(year)) for year in tests.YEARS] == [3108, 1500, 3750, 3000, 1186]


def test_an_encoder_can_be_asked_other_tests_than_its_task_s(snli_alone, monkeypatch):
    task = Sentences(**snli_alone, most=7)
    monkeypatch.setattr(texts, "pairs", lambda name: {f"20{year} a": SPLIT for year in range(12, 17)})
    found = task.scored(task.encoder(0), ("STS12", "STS16"))
    assert set(found.metric) == {"STS12 spearman", "STS16 spearman"}
    assert set(found.n) == {7}
    assert set(found.layer) == {1, 2}
