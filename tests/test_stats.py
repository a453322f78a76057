"""Intervals against scipy and simulation, Holm against numbers worked by hand, two-stage samples by simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from small_scores import about, table

from mrl_lab.errors import RequestError
from mrl_lab.stats import MOST, PILOT, bootstrap, holm, intervals, paired, seeds_needed, stein, t_interval

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


def test_seeds_needed_makes_the_two_stage_interval_narrow_enough():
    pilot = np.array(about(0.0, 1.0, seeds=PILOT))
    n = seeds_needed(delta=0.5, sd=pilot.std(ddof=1))
    for more, narrow in ((n, True), (n - 1, False)):
        found = stein([*pilot, *[0.0] * (more - PILOT)])
        assert ((found.high - found.low) / 2 <= 0.5) == narrow
    assert seeds_needed(delta=10, sd=1.0) == PILOT
    assert seeds_needed(delta=0, sd=1.0) == math.inf


def test_a_sample_of_no_more_than_the_pilot_is_an_ordinary_one():
    assert stein(about(3.0, seeds=4)) == t_interval(about(3.0, seeds=4))
    assert math.isnan(stein([5.0] * 2 * PILOT).low)
    assert math.isnan(stein([]).mean)


def test_stopping_on_the_width_errs_no_more_than_it_says_and_stopping_on_the_verdict_does():
    """At the truth's own value any interval that leaves it out is wrong: 5 % of them, however seeds were added."""
    draw, wrong, hasty = np.random.default_rng(8), 0, 0
    for _ in range(1000):
        values = draw.normal(0.0, 2.0, MOST)
        n = min(MOST, seeds_needed(1.0, values[:PILOT].std(ddof=1)))
        found = stein(values[:n])
        wrong += found.low > 0 or found.high < 0
        looks = [t_interval(values[:k]) for k in range(5, 41, 5)]
        hasty += any(look.low > 0 or look.high < 0 for look in looks)
    assert wrong / 1000 <= 0.06
    assert hasty / 1000 > 0.12
