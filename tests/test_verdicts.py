"""Verdicts on tables made to order, and how often the rule errs where the truth lies on the bound."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from small_scores import about, table

from mrl_lab.contrasts import Contrast, cell, difference
from mrl_lab.errors import RequestError
from mrl_lab.schema import CLAIMS
from mrl_lab.stats import MOST, PILOT, seeds_needed
from mrl_lab.verdicts import RULE, TIMES, Claim, Condition, detail, judge, seeds_wanted

NESTED = difference("MRL", "FF", "top1", dim=8)


def above(of=NESTED, bound: float = 0.0, **how) -> Condition:
    return Condition(of, "MRL − FF", above=bound, **{"delta": 0.3} | how)


def one(condition: Condition, scores: pd.DataFrame, budget="minutes", sides=(), **how) -> pd.Series:
    return judge([Claim(1, "text", "76.8", condition, sides, **how)], scores, budget).iloc[0]


def sizes(**gains: float) -> tuple[Condition, pd.DataFrame]:
    """MRL - FF of ``d8=..., d16=...`` and the condition that it is above 0 at each, all together."""
    gains = {int(name[1:]): gain for name, gain in gains.items()}
    scores = {("FF", m): [80.0] * 5 for m in gains} | {("MRL", m): about(80 + gain) for m, gain in gains.items()}
    return above({f"{m} dims": difference("MRL", "FF", "top1", dim=m) for m in gains}), table(scores)


@pytest.mark.parametrize(
    ("mean", "bound", "verdict"),
    [
        (1.0, {"above": 0}, "shown"),
        (-1.0, {"above": 0}, "contradicted"),
        (0.05, {"above": 0}, "at the bound"),
        (-0.05, {"above": 0}, "at the bound"),
        (0.05, {"above": 0, "delta": 0.1}, "undecided"),
        (-0.5, {"above": -1}, "shown"),
        (-1.5, {"above": -1}, "contradicted"),
        (1.0, {"below": 1.5}, "shown"),
        (2.0, {"below": 1.5}, "contradicted"),
        (0.2, {"above": -1, "below": 1}, "shown"),
        (1.5, {"above": -1, "below": 1}, "contradicted"),
        (-1.5, {"above": -1, "below": 1}, "contradicted"),
        (0.95, {"above": -1, "below": 1}, "at the bound"),
        (0.95, {"above": -1, "below": 1, "delta": 0.1}, "undecided"),
    ],
)
def test_an_interval_lies_on_a_side_or_holds_the_bound_narrowly_or_widely(mean, bound, verdict):
    scores = table({("MRL", 8): about(80 + mean), ("FF", 8): [80.0] * 5})
    row = one(Condition(NESTED, "MRL − FF", **{"delta": 0.3} | bound), scores)
    assert row["verdict"] == verdict
    assert row["ours"] == pytest.approx(mean)
    assert row["low"] < mean < row["high"]


def test_a_turned_sign_turns_the_verdict():
    scores = table({("MRL", 8): about(81), ("FF", 8): [80.0] * 5})
    turned = difference("FF", "MRL", "top1", dim=8)
    found = [one(above(of), scores)["verdict"] for of in (NESTED, turned, -1 * turned)]
    assert found == ["shown", "contradicted", "shown"]


def test_pairing_by_seed_finds_what_the_spread_of_seeds_hides():
    seeds = np.array([70.0, 75.0, 80.0, 85.0, 90.0])  # good and bad starts, shared by both methods
    scores = table({("MRL", 8): seeds + about(1.0), ("FF", 8): seeds})
    assert one(above(), scores)["verdict"] == "shown"


def test_the_worst_size_speaks_for_a_claim_on_all_and_is_named():
    row = one(*sizes(d8=3, d16=0.6, d32=1))
    assert (row["verdict"], row["ours"], row["what"]) == ("shown", pytest.approx(0.6), "MRL − FF, 16 dims")


def test_one_size_that_fails_is_enough_against_a_claim_on_all():
    row = one(*sizes(d8=3, d16=0.01, d32=-0.9, d64=1))
    assert (row["verdict"], row["ours"], row["what"]) == ("contradicted", pytest.approx(-0.9), "MRL − FF, 32 dims")


def test_a_size_that_is_open_leaves_the_claim_open_and_the_note_says_what_it_takes():
    condition, scores = sizes(d8=3, d16=0.1, d32=1)
    row = one(Condition(condition.of, "MRL − FF", above=0.0, delta=0.05), scores)
    assert (row["verdict"], row["what"]) == ("undecided", "MRL − FF, 16 dims")
    needed = seeds_needed(0.05, np.std(about(0), ddof=1), pilot=5, confidence=1 - 0.05 / 3)
    assert f"about {needed} seeds would bring the interval within delta" in row["note"]


def test_intervals_for_all_sizes_are_those_of_bonferroni():
    row = one(*sizes(d8=1, d16=3, d32=3, d64=3))
    theirs = scipy_stats.t.interval(1 - 0.05 / 4, 4, loc=1.0, scale=scipy_stats.sem(about(1.0)))
    assert (row["low"], row["high"]) == pytest.approx(theirs)


def test_sides_are_told_and_decide_nothing():
    condition, scores = sizes(d8=1)
    failing = Condition(-1 * NESTED, "turned", above=0.0)
    assert one(condition, scores, sides=[failing])["verdict"] == "shown"
    found = detail([Claim(7, "x", "", condition, [failing])], scores, "hour")
    assert found["part"].tolist() == ["claim", "side"]
    assert found["verdict"].tolist() == ["shown", "contradicted"]


@pytest.mark.parametrize("stop", [False, True], ids=["seeds as planned", "seeds until narrow"])
def test_at_the_bound_the_rule_errs_in_five_per_cent_at_most(stop):
    """The truth lies on the bound: whatever calls it shown or contradicted is wrong, however seeds were added."""
    draw, found = np.random.default_rng(7), []
    condition = above(cell("MRL", "top1", dim=8), 80.0, delta=1.0)
    for _ in range(400):
        values = draw.normal(80, 2 if stop else 1, MOST)
        first = table({("MRL", 8): values[:PILOT]})
        n = seeds_wanted([Claim(1, "", "", condition)], first) if stop else 5
        found.append(one(condition, table({("MRL", 8): values[:n]}), "night" if stop else "hour")["verdict"])
    assert (found.count("shown") + found.count("contradicted")) / 400 <= 0.07
    assert found.count("at the bound") / 400 >= (0.85 if stop else 0.1)


def test_times_are_ratios_with_a_geometric_mean_and_a_factor_for_delta():
    scores = table({("MRL", 8): [8.0, 32.0, 16.0, 16.0], ("FF", 8): [1.0] * 4})
    found = one(Condition(NESTED, "ratio", above=4.0, unit=TIMES, delta=1.5), scores)
    inner = scipy_stats.t.interval(0.95, 3, loc=4.0, scale=scipy_stats.sem([3.0, 5.0, 4.0, 4.0]))
    assert found["ours"] == pytest.approx(16.0)
    assert [found["low"], found["high"]] == pytest.approx([2**log for log in inner])
    assert found["verdict"] == "shown"
    for bound, delta, verdict in ((16.0, 8.0, "at the bound"), (16.0, 1.5, "undecided"), (200.0, 2.0, "contradicted")):
        assert one(Condition(NESTED, "ratio", above=bound, unit=TIMES, delta=delta), scores)["verdict"] == verdict


def test_at_night_the_pilot_s_spread_makes_the_interval():
    pilot = about(81, seeds=PILOT)
    scores = table({("MRL", 8): [*pilot, *[81.0] * 6], ("FF", 8): [80.0] * (PILOT + 6)})
    row = one(above(), scores, "night")
    t = scipy_stats.t(PILOT - 1)
    half = t.ppf(0.975) * np.std(pilot, ddof=1) / 4
    assert (row["seeds"], row["high"] - row["ours"]) == (16, pytest.approx(half))
    assert row["p"] == pytest.approx(2 * t.sf(t.ppf(0.975) / half))


def test_seeds_wanted_are_those_of_the_widest_claim_that_can_be_had():
    values = about(1, seeds=PILOT)
    scores = table({("MRL", 8): values, ("FF", 8): [0.0] * PILOT})
    claims = [Claim(d, "", "", Condition(NESTED, "x", above=0.0, delta=d)) for d in (1.0, 0.15, 0.01)]
    assert PILOT < seeds_wanted(claims, scores) == seeds_needed(0.15, np.std(values, ddof=1)) <= MOST
    assert seeds_wanted(claims[:1], scores) == PILOT


@pytest.mark.parametrize(
    ("cells", "says", "seeds"),
    [
        ({("MRL", 8): [81.0], ("FF", 8): [80.0]}, "seeds: 1, at least 3", 1),
        ({("MRL", 8): about(90, seeds=2), ("FF", 8): [80.0, 80.0]}, "seeds: 2, at least 3", 2),
        ({("MRL", 8): about(90)}, "no score for FF top1 dim 8", 0),
        ({("MRL", 8): about(90), ("FF", 8): [math.nan] * 5}, "no score for FF top1 dim 8", 0),
        ({("MRL", 8): about(90), ("FF", 8): about(80)}, "all seeds gave the same value", 5),
        ({("MRL", 8): about(90), ("FF", 8): [80, 80, *[math.nan] * 3]}, "seeds in every cell, of 5: 2, at least 3", 2),
    ],
    ids=["one seed", "two seeds", "no cell", "all NaN", "no spread", "few pairs"],
)
def test_what_cannot_be_judged_is_undecided_and_says_why(cells, says, seeds):
    for budget in ("hour", "night"):
        row = one(above(), table(cells), budget)
        assert (row["verdict"], row["seeds"]) == ("undecided", seeds)
        assert says in row["note"]


def test_seeds_that_one_method_lacks_are_left_out_and_counted():
    scores = table({("MRL", 8): about(81), ("FF", 8): [80, 80, math.nan, 80, 80]})
    row = one(above(), scores)
    assert (row["verdict"], row["seeds"]) == ("shown", 4)
    assert "seeds in every cell, of 5: 4" in row["note"]


def test_a_missing_cell_does_not_save_a_claim_that_fails_elsewhere():
    condition, scores = sizes(d8=-2)
    missing = difference("MRL", "FF", "top1", dim=99)
    assert one(above({**condition.parts, "99 dims": missing}), scores)["verdict"] == "contradicted"


def test_a_first_look_judges_nothing():
    row = one(*sizes(d8=5), budget="seconds", note="Ten classes.")
    assert row["verdict"] == "undecided"
    assert row["note"] == "Ten classes. a first look judges no claim"
    assert row["ours"] == pytest.approx(5)


@pytest.mark.parametrize(("value", "verdict"), [(8.0, "shown"), (9.0, "shown"), (7.9, "contradicted")])
def test_a_cost_needs_no_seeds_and_may_lie_on_its_bound(value, verdict):
    condition = Condition(cell("AR", "fewer_macs"), "fewer", above=8, exact=True)
    assert one(condition, table({("AR", None): [value]}, "fewer_macs"))["verdict"] == verdict


def test_the_table_has_the_contracts_columns_and_the_rule_is_told():
    found = judge([Claim("a", "x", "", above(), figure=0.4, headline=True)], sizes(d8=1)[1], "hour")
    contract = "id claim paper what unit ours low high delta seeds headline verdict note"
    assert list(found.columns)[:13] == contract.split()
    assert list(found.columns) == list(CLAIMS)
    row = found.iloc[0]
    assert (row["unit"], row["delta"], row["above"], row["paper_value"]) == ("points", 0.3, 0.0, 0.4)
    assert row["headline"]
    for word in ("shown", "contradicted", "at the bound", "undecided", "Bonferroni", "three seeds"):
        assert word in RULE


def test_p_is_that_of_a_test_of_the_bound_for_all_sizes_together():
    condition, scores = sizes(d8=0.3, d16=-0.3)
    found = detail([Claim(7, "x", "", condition)], scores, "hour")
    theirs = [2 * scipy_stats.ttest_1samp(about(gain), 0).pvalue for gain in (0.3, -0.3)]
    assert found["p"].tolist() == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Condition(NESTED, "x"), "needs a contrast and a bound"),
        (lambda: Condition(NESTED, "x", above=1, below=-1), "a lower and a higher"),
        (lambda: Condition({}, "x", above=0), "0 contrasts"),
        (lambda: Condition(NESTED, "x", above=0, delta=0), "more than 0"),
        (lambda: Condition(NESTED, "x", above=2, unit=TIMES, delta=1), "more than 1"),
        (lambda: one(above(cell("MRL", "top1", size=8)), sizes(d8=1)[1]), "unknown column 'size'"),
        (lambda: one(above(Contrast(())), sizes(d8=1)[1]), "0 contrasts"),
        (lambda: judge([Claim(1, "x", "", above())] * 2, sizes(d8=1)[1], "hour"), "id of its own"),
    ],
)
def test_a_claim_that_says_nothing_or_too_much_is_refused(make, says):
    with pytest.raises(RequestError, match=says):
        make()
