"""Intervals against scipy and simulation, Holm against numbers worked by hand, verdicts on tables made to order."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mrl_lab.errors import RequestError
from mrl_lab.stats import (
    RULE,
    Claim,
    Condition,
    average,
    bootstrap,
    cell,
    detail,
    difference,
    holm,
    intervals,
    judge,
    off_the_line,
    paired,
    seeds_needed,
    t_interval,
)

COLUMNS = ("method", "seed", "layer", "dim", "tokens", "metric", "value", "n", "bytes", "flops", "seconds")


def table(cells: dict[tuple, list[float]], metric: str = "top1") -> pd.DataFrame:
    """A tidy table from {(method, dim): [value of seed 0, of seed 1, ...]}."""
    rows = [
        dict.fromkeys(COLUMNS) | {"method": method, "dim": dim, "seed": seed, "metric": metric, "value": value}
        for (method, dim), values in cells.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def about(mean: float, spread: float = 0.1, seeds: int = 5) -> list[float]:
    """``seeds`` values with exactly this mean, ``spread`` apart."""
    return [mean + spread * (i - (seeds - 1) / 2) for i in range(seeds)]


def one(conditions, scores, budget="minutes", **how) -> pd.Series:
    return judge([Claim(1, "text", "76.8", conditions, **how)], scores, budget).iloc[0]


# ----------------------------------------------------------------------------------------- intervals


def test_t_interval_equals_scipys_paired_test():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=7), draw.normal(size=7)
    theirs = scipy_stats.ttest_rel(a, b).confidence_interval(0.9)
    ours = t_interval(a - b, 0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert (ours.mean, ours.n) == (pytest.approx((a - b).mean()), 7)


def test_t_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(3.0, 2.0, size=(2000, 4))
    held = [i.low <= 3.0 <= i.high for i in map(t_interval, draws)]
    assert 0.935 < np.mean(held) < 0.965


@pytest.mark.parametrize("values", [[], [5.0], [5.0, 5.0, 5.0], [0.1 + 0.2, 0.3, 0.3], [5.0, math.nan]])
def test_no_interval_is_invented_where_values_tell_nothing_of_their_noise(values):
    found = t_interval(values)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.n == sum(not math.isnan(v) for v in values)


def test_intervals_leave_one_seed_without_an_interval():
    found = intervals(table({("MRL", 8): [1.0, 2.0, 3.0], ("FF", 8): [4.0]})).set_index("method")
    assert found.loc["MRL", ["mean", "seeds"]].tolist() == [2.0, 3]
    assert found.loc["MRL", "high"] == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-5)
    assert found.loc["FF", ["low", "high"]].isna().all()


def test_intervals_refuse_to_count_two_sizes_of_one_seed_as_two_seeds():
    scores = table({("MRL", 8): about(80), ("MRL", 16): about(90)})
    with pytest.raises(RequestError, match="say which dim"):
        intervals(scores, by=["method", "metric"])


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # the example of most textbooks
        ([0.2, 0.001, 0.6], [0.4, 0.003, 0.6]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.02, math.nan, 0.01], [0.02, math.nan, 0.02]),
        ([], []),
    ],
)
def test_holm_equals_what_is_worked_by_hand(p, adjusted):
    assert holm(p) == pytest.approx(adjusted, nan_ok=True)


def test_holm_keeps_the_chance_of_any_false_finding():
    p = np.random.default_rng(2).uniform(size=(4000, 6))
    assert np.mean([holm(row).min() < 0.05 for row in p]) == pytest.approx(0.05, abs=0.01)


def test_paired_gives_a_difference_a_size_with_the_sign_as_read():
    scores = table({("MRL", 8): about(81, 1), ("FF", 8): about(80, 2), ("MRL", 16): about(85), ("SVD", 4): about(9)})
    found = paired(pd.concat([scores, table({("FF", 16): about(87, 0.3)})]), "MRL", "FF", "top1")
    assert found["dim"].tolist() == [8, 16]
    assert found["difference"].tolist() == pytest.approx([1.0, -2.0])
    theirs = scipy_stats.ttest_rel(about(81, 1), about(80, 2))
    assert found["p"][0] == pytest.approx(theirs.pvalue)
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p"]))


def test_pairing_by_seed_finds_what_the_spread_of_seeds_hides():
    seeds = np.array([70.0, 75.0, 80.0, 85.0, 90.0])  # good and bad starts, shared by both methods
    scores = table({("MRL", 8): seeds + about(1.0), ("FF", 8): seeds})
    assert paired(scores, "MRL", "FF", "top1")["low"][0] > 0.5
    assert scipy_stats.ttest_ind(seeds + about(1.0), seeds).pvalue > 0.5
    assert one([difference("MRL", "FF", "top1", dim=8).must(above=0)], scores)["verdict"] == "shown"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (("MRL", "FF", "top2"), "Did you mean 'top1'"),
        (("MRL", "FFF", "top1"), "Did you mean 'FF'"),
        (("MRL", "FF", "top1", "size"), "unknown column"),
        (("MRL", "SVD", "top1"), "share no seed"),
    ],
)
def test_paired_refuses_what_is_not_in_the_table(request_, says):
    scores = table({("MRL", 8): about(81), ("FF", 8): about(80), ("SVD", 4): about(10)})
    with pytest.raises(RequestError, match=says):
        paired(scores, *request_)


def test_bootstrap_of_a_mean_agrees_with_theory_and_repeats():
    values = np.random.default_rng(3).normal(10, 2, size=400)
    found = bootstrap(values)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert found == bootstrap(values)
    assert found != bootstrap(values, seed=1)


def test_a_paired_bootstrap_draws_the_same_items_on_both_sides():
    hard = np.random.default_rng(4).normal(0, 5, size=200)  # some questions are hard for every model
    gain = np.random.default_rng(5).normal(0.5, 0.5, size=200)
    found = bootstrap(hard + gain, minus=hard)
    assert 0.3 < found.low < found.mean < found.high < 0.7
    assert bootstrap(hard + gain).high - bootstrap(hard + gain).low > 1


def test_bootstrap_takes_any_statistic_of_rows():
    pairs = np.random.default_rng(6).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=150)
    found = bootstrap(pairs, statistic=lambda rows: scipy_stats.spearmanr(*rows.T).statistic, resamples=300)
    assert 0.6 < found.low < scipy_stats.spearmanr(*pairs.T).statistic == found.mean < found.high < 0.9


def test_bootstrap_refuses_other_items_and_invents_no_interval():
    with pytest.raises(RequestError, match="got 3 and 2"):
        bootstrap([1.0, 2.0, 3.0], minus=[1.0, 2.0])
    for found in (bootstrap([1.0]), bootstrap([1.0, 1.0, 1.0]), bootstrap([1.0, 2.0, 3.0], minus=[1.0, 2.0, 3.0])):
        assert math.isnan(found.low)
        assert math.isnan(found.high)


def test_seeds_needed_is_the_first_number_whose_interval_is_narrow_enough():
    n = seeds_needed(distance=0.5, sd=1.0)
    half = [scipy_stats.t.ppf(0.975, k - 1) / math.sqrt(k) for k in (n - 1, n)]
    assert half[0] >= 0.5 > half[1]
    assert n == 18
    assert seeds_needed(1e-6, 1.0) is None


# ------------------------------------------------------------------------------------------ verdicts

NESTED = difference("MRL", "FF", "top1", dim=8)


@pytest.mark.parametrize(
    ("mean", "bound", "verdict"),
    [
        (1.0, {"above": 0}, "shown"),
        (-1.0, {"above": 0}, "not shown"),
        (0.05, {"above": 0}, "inconclusive"),
        (-0.05, {"above": 0}, "inconclusive"),
        (-0.5, {"above": -1}, "shown"),
        (-1.5, {"above": -1}, "not shown"),
        (1.0, {"below": 1.5}, "shown"),
        (2.0, {"below": 1.5}, "not shown"),
        (0.2, {"above": -1, "below": 1}, "shown"),
        (1.5, {"above": -1, "below": 1}, "not shown"),
        (-1.5, {"above": -1, "below": 1}, "not shown"),
        (0.95, {"above": -1, "below": 1}, "inconclusive"),
    ],
)
def test_one_condition(mean, bound, verdict):
    scores = table({("MRL", 8): about(80 + mean), ("FF", 8): [80.0] * 5})
    row = one([NESTED.must(**bound)], scores)
    assert row["verdict"] == verdict
    assert row["ours"] == pytest.approx(mean)
    assert row["low"] < mean < row["high"]


def test_a_turned_sign_turns_the_verdict():
    scores = table({("MRL", 8): about(81), ("FF", 8): [80.0] * 5})
    turned = difference("FF", "MRL", "top1", dim=8)
    assert one([NESTED.must(above=0)], scores)["verdict"] == "shown"
    assert one([turned.must(above=0)], scores)["verdict"] == "not shown"
    assert one([(-1 * turned).must(above=0)], scores)["verdict"] == "shown"


def sweep(**gains: float) -> tuple[list[Condition], pd.DataFrame]:
    """MRL - FF of ``d8=..., d16=...`` and the claim that it is above 0 at each."""
    sizes = {int(name[1:]): gain for name, gain in gains.items()}
    scores = {("FF", m): [80.0] * 5 for m in sizes} | {("MRL", m): about(80 + gain) for m, gain in sizes.items()}
    return [difference("MRL", "FF", "top1", dim=m).must(above=0) for m in sizes], table(scores)


def test_one_size_that_fails_is_enough_against_a_claim_and_is_named():
    row = one(*sweep(d8=3, d16=2, d32=-0.5, d64=1))
    assert row["verdict"] == "not shown"
    assert row["ours"] == pytest.approx(-0.5)
    assert "fails: MRL − FF (top1 dim 32)" in row["note"]


def test_an_open_size_leaves_the_claim_open_and_the_note_says_what_it_takes():
    row = one(*sweep(d8=3, d16=0.1, d32=1, d64=0.15))
    assert row["verdict"] == "inconclusive"
    assert row["ours"] == pytest.approx(0.1)
    assert "open: MRL − FF (top1 dim 16)" in row["note"]
    assert "also MRL − FF (top1 dim 64)" in row["note"]
    needed = seeds_needed(0.1, np.std(about(0), ddof=1))
    assert needed > 5
    assert f"about {needed} seeds" in row["note"]


def test_the_size_nearest_to_its_bound_speaks_for_a_claim_that_holds():
    row = one(*sweep(d8=3, d16=0.5, d32=1))
    assert (row["verdict"], row["ours"]) == ("shown", pytest.approx(0.5))
    assert "nearest: MRL − FF (top1 dim 16), bound ≥ 0" in row["note"]


def test_one_failing_size_must_fail_by_more_when_there_are_many():
    alone, many = sweep(d8=-0.25), sweep(d8=-0.25, d16=3, d32=3, d64=3, d128=3)
    assert one(*alone)["verdict"] == "not shown"
    assert one(*many)["verdict"] == "inconclusive"


def test_false_verdicts_are_as_rare_as_the_rule_says():
    draw, verdicts = np.random.default_rng(7), []
    conditions = [difference("MRL", "FF", "top1", dim=m).must(above=0) for m in (8, 16, 32)]
    for _ in range(150):  # the truth lies on the bound at every size: neither verdict is deserved
        cells = {("MRL", m): draw.normal(80, 1, 4) for m in (8, 16, 32)} | {("FF", m): [80.0] * 4 for m in (8, 16, 32)}
        verdicts.append(one(conditions, table(cells))["verdict"])
    assert verdicts.count("shown") / 150 <= 0.025
    assert verdicts.count("not shown") / 150 <= 0.05


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
def test_what_cannot_be_judged_is_inconclusive_and_says_why(cells, says, seeds):
    row = one([NESTED.must(above=0)], table(cells))
    assert (row["verdict"], row["seeds"]) == ("inconclusive", seeds)
    assert says in row["note"]


def test_seeds_that_one_method_lacks_are_left_out_and_counted():
    scores = table({("MRL", 8): about(81), ("FF", 8): [80, 80, math.nan, 80, 80]})
    row = one([NESTED.must(above=0)], scores)
    assert (row["verdict"], row["seeds"]) == ("shown", 4)
    assert "seeds in every cell, of 5: 4" in row["note"]


def test_a_missing_cell_does_not_save_a_claim_that_fails_elsewhere():
    conditions, scores = sweep(d8=-2)
    missing = difference("MRL", "FF", "top1", dim=99).must(above=0)
    assert one([*conditions, missing], scores)["verdict"] == "not shown"


def test_a_first_look_judges_nothing():
    row = one(*sweep(d8=5), budget="seconds", note="Ten classes.")
    assert row["verdict"] == "inconclusive"
    assert row["note"] == "Ten classes. a first look judges no claim"
    assert row["ours"] == pytest.approx(5)


@pytest.mark.parametrize(("value", "verdict"), [(8.0, "shown"), (9.0, "shown"), (7.9, "not shown")])
def test_a_cost_needs_no_seeds_and_may_lie_on_its_bound(value, verdict):
    condition = cell("AR", "fewer_macs").must(above=8, exact=True)
    assert one([condition], table({("AR", None): [value]}, "fewer_macs"))["verdict"] == verdict


def test_costs_do_not_widen_the_intervals_of_what_is_measured():
    (condition,), scores = sweep(d8=-0.25)
    cost = [cell("FF", "top1", dim=8).must(above=i, exact=True) for i in range(9)]
    assert one([condition, *cost], scores)["verdict"] == "not shown"


def test_the_table_has_the_contracts_columns_and_the_rule_is_told():
    found = judge([Claim("a", "x", "", [NESTED.must(above=0)])], sweep(d8=1)[1], "hour")
    assert ",".join(found.columns) == "id,claim,paper,ours,low,high,seeds,verdict,note"
    for word in ("shown", "not shown", "inconclusive", "Bonferroni", "three seeds"):
        assert word in RULE


def test_detail_has_a_row_a_condition_and_one_sided_p():
    conditions, scores = sweep(d8=0.3, d16=-0.3)
    found = detail([Claim(7, "x", "", conditions)], scores)
    assert found["claim"].tolist() == [7, 7]
    theirs = [scipy_stats.ttest_1samp(about(gain), 0, alternative="greater").pvalue for gain in (0.3, -0.3)]
    assert found["p"].tolist() == pytest.approx(theirs)
    assert found["verdict"].tolist() == ["shown", "not shown"]


# ------------------------------------------------------------------------------------------ language


@pytest.mark.parametrize(
    ("contrast", "expected", "title"),
    [
        (cell("MRL", "top1", dim=8), 70, "MRL top1 dim 8"),
        (difference("MRL", "FF", "top1", dim=8), 10, "MRL − FF (top1 dim 8)"),
        (
            difference("MRL", "FF", "top1", dim=8) - difference("MRL", "FF", "top1", dim=32),
            7,
            "MRL dim 8 − FF dim 8 − MRL dim 32 + FF dim 32 (top1)",
        ),
        (cell("MRL", "top1", dim=8) - 0.5 * cell("MRL", "top1", dim=32), 25, "dim 8 − 0.5 × dim 32 (MRL top1)"),
        (average(difference("MRL", "FF", "top1", dim=m) for m in (8, 16, 32)), 6, "6 cells (top1)"),
        (off_the_line("MRL", "top1", 16, 8, 32), 5, "dim 16 − 0.5 × dim 8 − 0.5 × dim 32 (MRL top1)"),
    ],
)
def test_contrasts_are_what_they_read_like(contrast, expected, title):
    means = {("MRL", 8): 70, ("MRL", 16): 85, ("MRL", 32): 90, ("FF", 8): 60, ("FF", 16): 80, ("FF", 32): 87}
    scores = table({where: about(mean, 0.1 * i) for i, (where, mean) in enumerate(means.items(), 1)})
    condition = contrast.must(above=0)
    assert condition.title == title
    assert detail([Claim(1, "", "", [condition])], scores)["mean"][0] == pytest.approx(expected)


def test_the_line_between_sizes_is_straight_in_log2():
    scores = table({("MRL", m): about(10 * math.log2(m), 0.1 * m) for m in (8, 12, 16)})
    found = detail([Claim(1, "", "", [off_the_line("MRL", "top1", 12, 8, 16).must(above=-1, below=1)])], scores)
    assert found["mean"][0] == pytest.approx(0, abs=1e-9)


def test_none_asks_for_an_empty_field():
    scores = table({("MRL", 8): about(80)})
    deep = scores.assign(layer=6, value=lambda rows: rows["value"] - 30)
    both = pd.concat([scores.astype({"layer": float}), deep])
    found = detail([Claim(1, "", "", [cell("MRL", "top1", dim=8, layer=None).must(above=0)])], both)
    assert found["mean"][0] == pytest.approx(80)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NESTED.must(), "needs terms and a bound"),
        (lambda: NESTED.must(above=1, below=-1), "a lower and a higher"),
        (lambda: Condition((), above=0), "0 terms"),
        (lambda: Claim(1, "x", "", []), "no condition"),
        (lambda: one([cell("MRL", "top1", size=8).must(above=0)], sweep(d8=1)[1]), "unknown column 'size'"),
        (lambda: one([cell("MRL", "top1").must(above=0)], sweep(d8=1, d16=1)[1]), "say which dim"),
        (lambda: one([NESTED.must(above=0)], pd.concat([sweep(d8=1)[1]] * 2)), "there twice"),
        (lambda: judge([Claim(1, "x", "", [NESTED.must(above=0)])] * 2, sweep(d8=1)[1], "hour"), "id of its own"),
    ],
)
def test_a_claim_that_says_nothing_or_too_much_is_refused(make, says):
    with pytest.raises(RequestError, match=says):
        make()
