"""Contrasts are what they read like, computed inside a seed; a cell that is not one is refused."""

import math

import numpy as np
import pandas as pd
import pytest
from small_scores import about, table

from mrl_lab.contrasts import average, by_seed, cell, difference, off_the_line, summed
from mrl_lab.errors import RequestError


@pytest.mark.parametrize(
    ("contrast", "expected"),
    [
        (cell("MRL", "top1", dim=8), 70),
        (difference("MRL", "FF", "top1", dim=8), 10),
        (difference("MRL", "FF", "top1", dim=8) - difference("MRL", "FF", "top1", dim=32), 7),
        (cell("MRL", "top1", dim=8) - 0.5 * cell("MRL", "top1", dim=32), 25),
        (average(difference("MRL", "FF", "top1", dim=m) for m in (8, 16, 32)), 6),
        (off_the_line("MRL", "top1", 16, 8, 32), 5),
        (cell("MRL", "top1", dim=8).renamed("method", {"MRL": "FF"}), 60),
    ],
)
def test_contrasts_are_what_they_read_like(contrast, expected):
    means = {("MRL", 8): 70, ("MRL", 16): 85, ("MRL", 32): 90, ("FF", 8): 60, ("FF", 16): 80, ("FF", 32): 87}
    scores = table({where: about(mean, 0.1 * i) for i, (where, mean) in enumerate(means.items(), 1)})
    assert summed(by_seed(scores, contrast)).mean() == pytest.approx(expected)


def test_the_line_between_sizes_is_straight_in_log2():
    scores = table({("MRL", m): about(10 * math.log2(m), 0.1 * m) for m in (8, 12, 16)})
    assert summed(by_seed(scores, off_the_line("MRL", "top1", 12, 8, 16))).mean() == pytest.approx(0, abs=1e-9)


def test_a_difference_of_logarithms_is_a_ratio():
    scores = table({("MRL", 8): [8.0, 32.0], ("FF", 8): [2.0, 4.0]})
    ratios = np.exp(summed(by_seed(scores, difference("MRL", "FF", "top1", dim=8), log=True)))
    assert ratios.tolist() == pytest.approx([4.0, 8.0])


def test_none_asks_for_an_empty_field():
    scores = table({("MRL", 8): about(80)})
    deep = scores.assign(layer=6, value=lambda rows: rows["value"] - 30)
    both = pd.concat([scores.astype({"layer": float}), deep])
    assert summed(by_seed(both, cell("MRL", "top1", dim=8, layer=None))).mean() == pytest.approx(80)


def test_seeds_that_a_cell_lacks_are_left_out_and_the_rest_stand_in_their_order():
    scores = table({("MRL", 8): [1.0, 2.0, 3.0], ("FF", 8): [0.0, math.nan, 0.0]}).iloc[::-1]
    assert summed(by_seed(scores, difference("MRL", "FF", "top1", dim=8))).tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("contrast", "says"),
    [
        (cell("MRL", "top1", size=8), "unknown column 'size'"),
        (cell("MRL", "top1"), "say which dim"),
        (cell("FF", "top1", dim=8), "there twice"),
    ],
)
def test_a_cell_that_is_not_one_is_refused(contrast, says):
    scores = table({("MRL", 8): about(80), ("MRL", 16): about(90), ("FF", 8): about(70)})
    with pytest.raises(RequestError, match=says):
        by_seed(pd.concat([scores, scores[scores.method == "FF"]]), contrast)
