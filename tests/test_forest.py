"""The forest of claims: each is where its numbers say, under its own unit, and its verdict is more than a colour."""

import itertools

import numpy as np
import pandas as pd
import pytest
from eyes import contrast, distance
from matplotlib.text import Text

from mrl_lab import plots, schema
from mrl_lab.errors import RequestError
from mrl_lab.plots.forest import VERDICTS

COLUMNS = ["id", "claim", "what", "unit", "ours", "low", "high", "above", "below", "paper_value", "delta", "verdict"]
COLUMNS += ["headline"]
NAN = float("nan")
CLAIMS = pd.DataFrame(
    [
        [
            "1",
            "text",
            "nested less separate, accuracy, " * 3,
            "points",
            -0.3,
            -0.8,
            0.2,
            -1.0,
            NAN,
            NAN,
            0.5,
            "shown",
            True,
        ],
        ["2", "text", "its cost", "points", -2.8, -3.9, -1.7, -1.0, NAN, -0.1, NAN, "contradicted", False],
        ["3", "text", "speed-up", "times", 20.0, NAN, NAN, 10.0, 25.0, 14.0, 2.0, "undecided", False],
        ["4", "text", "order", "points", 0.1, -0.2, 0.4, 0.0, NAN, NAN, 0.5, "at the bound", False],
    ],
    columns=COLUMNS,
)


def labels(fig, axes=0) -> list[Text]:
    return fig.axes[axes].get_yticklabels()


def lines(ax, y: float, colour: str) -> list[list[float]]:
    return [line.get_xdata().tolist() for line in ax.lines if line.get_color() == colour and line.get_ydata()[0] == y]


def test_a_panel_a_unit_in_their_order_and_headlines_in_bold():
    fig = plots.forest(CLAIMS)
    assert [ax.get_xlabel() for ax in fig.axes] == ["points", "times"]
    assert [label.get_text().split()[0] for label in labels(fig)] == ["1", "2", "4"]
    assert [label.get_fontweight() for label in labels(fig)] == ["bold", "normal", "normal"]


def test_estimate_interval_bound_delta_and_the_paper_s_figure_stand_where_they_are():
    points, times = plots.forest(CLAIMS).axes
    first, second, _ = points.get_yticks()
    assert lines(points, first, VERDICTS["shown"].colour) == [[-0.8, 0.2], [-0.3]]
    band = points.patches[0]
    assert (band.get_x(), band.get_width()) == (-1.5, 1.0)
    assert len(points.patches) == 2
    assert lines(points, second, VERDICTS["contradicted"].colour) == [[-3.9, -1.7], [-2.8]]
    papers = [line.get_xdata().item() for ax in (points, times) for line in ax.lines if line.get_marker() == "v"]
    assert papers == [-0.1, 14.0]
    bounds = [list(line.get_xdata()) for line in times.lines]
    assert [10.0, 10.0] in bounds
    assert [25.0, 25.0] in bounds
    assert [times.get_xscale(), points.get_xscale()] == ["log", "linear"]
    assert [(b.get_x(), b.get_x() + b.get_width()) for b in times.patches] == [(5.0, 20.0), (12.5, 50.0)]


def test_verdict_and_numbers_are_written_and_no_interval_is_made_up():
    told = [text.get_text() for ax in plots.forest(CLAIMS).axes for text in ax.texts]
    assert told[:2] == ["✓ shown\n−0.3 [−0.8, 0.2]", "✗ contradicted\n−2.8 [−3.9, −1.7]"]
    assert told[-1] == "? undecided\n20"


def test_verdicts_are_told_apart_by_marker_and_by_every_eye_on_every_page():
    marks = VERDICTS.values()
    assert len({mark.marker for mark in marks}) == len({*schema.VERDICTS.values()}) == len(VERDICTS)
    assert list(VERDICTS) == list(schema.VERDICTS)
    assert distance(VERDICTS["shown"].colour, VERDICTS["contradicted"].colour) >= 80
    for mark, paper in itertools.product(marks, ("#ffffff", "#14181d")):
        assert contrast(mark.colour, paper) >= 3


def test_no_text_lies_on_another():
    plots.use_style()  # its letters are those of the pages
    fig = plots.forest(CLAIMS)
    fig.draw_without_rendering()
    texts = [text for ax in fig.axes for text in [*ax.get_yticklabels(), *ax.get_xticklabels(which="both"), *ax.texts]]
    texts = [text for text in texts if text.get_text()]
    texts += fig.legends[0].texts
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= fig.bbox.x1
    panels = [ax.get_window_extent() for ax in fig.axes]
    assert np.ptp([panel.x0 for panel in panels]) < 1, "the panels stand below one another"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (CLAIMS.drop(columns=["above", "unit"]), "no column unit, above"),
        (CLAIMS.head(0), "no row"),
        (CLAIMS.assign(verdict="show"), "Did you mean 'shown'"),
    ],
)
def test_what_is_no_table_of_claims_is_refused(table, says):
    with pytest.raises(RequestError, match=says):
        plots.forest(table)


def test_figures_and_deltas_may_be_absent():
    fig = plots.forest(CLAIMS.drop(columns=["paper_value", "delta"]))
    assert [text.get_text() for text in fig.legends[0].texts] == ["bound"]
