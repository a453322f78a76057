"""Figures: the same method looks the same everywhere, colours can be told apart, and what is drawn is the table."""

import io
import itertools
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from eyes import contrast, distance

from mrl_lab import plots, stats
from mrl_lab.errors import RequestError

SIZES = [2, 4, 8]
DARK = "#14181d"  # a dark page


def table(methods=("MRL", "FF"), metric="top1", seeds=3) -> pd.DataFrame:
    rows = [
        {"method": method, "metric": metric, "dim": m, "seed": seed, "value": 50 + m + 5 * i + seed}
        for i, method in enumerate(methods)
        for m in SIZES
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows).assign(layer=None, tokens=None)


def drawn(figure) -> str:
    """Return the figure as SVG in the package's style."""
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg")
    return file.getvalue()


@pytest.mark.parametrize("look", plots.LOOKS, ids=lambda look: look.colour)
def test_lines_stand_out_from_white_and_dark_pages(look):
    assert contrast(look.colour, "#ffffff") >= 3
    assert contrast(look.colour, DARK) >= 3


def test_a_method_keeps_its_look_and_no_two_share_one():
    assert plots.looks(["MRL", "x"])["MRL"] == plots.looks(["y", "FF", "MRL"])["MRL"]
    nine = plots.looks([f"method {i}" for i in range(len(plots.LOOKS))])
    assert len(set(nine.values())) == len(plots.LOOKS)


@pytest.mark.parametrize(
    "two",
    [
        *(("plain", "MRL"), ("FF", "MRL"), ("FF cascade", "MRL cascade"), ("FF, single-shot", "MRL, single-shot")),
        *(("plain", "2DMSE"), ("plain", "Starbucks"), ("2DMSE", "Starbucks"), ("untouched", "plain")),
        *(("M3", "all tokens"), ("M3", "all tokens, pooled"), ("slice", "none"), ("slice, d = 128", "none, d = 128")),
    ],
    ids=" and ".join,
)
def test_every_eye_tells_apart_what_a_page_compares(two):
    first, second = plots.looks(two).values()
    assert distance(first.colour, second.colour) >= 35
    assert first.marker != second.marker


@pytest.mark.parametrize("there", [["one"], ["MRL", "FF"], ["plain", "2DMSE", "one"]], ids=", ".join)
def test_a_method_of_one_s_own_takes_a_hue_that_is_free(there):
    for name in (f"mine {i}" for i in range(20)):
        found = plots.looks([*there, name])
        mine = found.pop(name)
        assert min(distance(mine.colour, other.colour) for other in found.values()) >= 9


def test_a_variant_looks_as_its_method_where_that_is_not_there():
    mrl = plots.looks(["MRL"])["MRL"]
    assert plots.looks(["MRL, cut", "FF"])["MRL, cut"] == plots.looks(["MRL cascade"])["MRL cascade"] == mrl
    assert plots.looks(["MRL, cut", "MRL"])["MRL, cut"] != mrl
    assert plots.looks(["MRL-E"])["MRL-E"] != mrl


@pytest.mark.parametrize(("draw", "parts"), [(plots.curve, 1), (plots.ratio, 1), (plots.curve_and_ratio, 2)])
def test_more_than_six_lines_get_a_panel_each_with_the_others_in_grey(draw, parts):
    names = [f"way {i}" for i in range(7)]
    assert len(draw(table(names[:6]), "top1").axes) == parts
    axes = draw(table(names), "top1").axes
    assert [ax.get_title(loc="left") for ax in axes] == names * parts
    for ax in axes:
        (own,) = (line for line in ax.lines if line.get_label() in names)
        assert own.get_label() == ax.get_title(loc="left")
        assert len([line for line in ax.lines if len(line.get_xdata()) == len(SIZES)]) == len(names)


def test_curve_draws_means_and_bands_at_the_real_sizes():
    fig = plots.curve(table(), "top1")
    ax = fig.axes[0]
    line = next(one for one in ax.lines if one.get_label() == "FF")
    assert line.get_ydata().tolist() == [58, 60, 64]  # 50 + m + 5 + mean of the seeds 0, 1, 2
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "4", "8"]
    assert ax.get_xlabel() == "dims kept, m"
    assert ax.get_title(loc="left") == "top-1 accuracy (%)"
    interval = stats.t_interval([58 - 1, 58, 58 + 1])
    vertices = ax.collections[-2].get_paths()[0].vertices[:, 1]
    assert vertices.min() == pytest.approx(interval.low)


def test_a_method_without_a_score_at_any_size_has_no_line():
    rows = pd.concat([table(["MRL"]), table(["no size"]).assign(dim=None, seed=range(9))])
    ax = plots.curve(rows, "top1").axes[0]
    assert ax.get_legend_handles_labels()[1] == ["MRL"]


def test_one_seed_has_no_band_and_says_so():
    fig = plots.curve(table(seeds=1), "top1")
    assert not fig.axes[0].collections
    assert "no interval" in fig.legends[0].get_title().get_text()


def test_sizes_that_were_not_trained_are_hollow():
    fig = plots.curve(table(("MRL",)), "top1", trained=[2, 8])
    hollow = [line for line in fig.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [line.get_xdata().tolist() for line in hollow] == [[4]]


def test_ratio_is_paired_by_seed_and_ends_at_100():
    fig = plots.ratio(table(), "top1")
    for line in fig.axes[0].lines[:2]:
        assert line.get_ydata()[-1] == pytest.approx(100)
    with pytest.raises(RequestError, match="base"):
        plots.ratio(table()[lambda t: (t.method == "MRL") | (t.dim < 8)], "top1")


def test_unknown_names_are_refused():
    with pytest.raises(RequestError, match="top1"):
        plots.curve(table(), "top2")
    with pytest.raises(RequestError, match="MRL"):
        plots.curve(table(), "top1", ["MRL-X"])


def test_heatmap_holds_the_numbers_and_differences():
    rows = pd.concat([table().assign(layer=n, value=lambda t, n=n: t.value + n) for n in (1, 2)])
    texts = [t.get_text() for t in plots.heatmap(rows, "top1", "MRL").axes[0].texts]
    assert texts == ["54.0", "56.0", "60.0", "55.0", "57.0", "61.0"]
    less = [t.get_text() for t in plots.heatmap(rows, "top1", "MRL", minus="FF").axes[0].texts]
    assert set(less) == {"−5.0"}


@pytest.mark.parametrize("signed", [True, False], ids=["differences", "scores"])
def test_each_number_stands_out_from_its_cell_and_is_not_the_ink_that_a_page_swaps(signed):
    svg = drawn(plots.cells(pd.DataFrame(np.linspace(-50, 49, 100).reshape(5, 20)), "points", signed=signed))
    cells = re.search(r'<g id="QuadMesh_1">(.*?)</g>', svg, re.DOTALL)[1]
    fills = re.findall(r"<path [^>]*fill: (#\w+)", cells)
    numbers = [t for t in re.findall("<text [^>]*>[^<]+", svg) if re.search(r">−?\d+\.\d$", t)][:100]
    colours = [(re.findall(r"fill: (#\w+)", number) or ["#000000"])[0] for number in numbers]  # SVG's default is black
    assert len(fills) == len(colours) == 100
    assert min(contrast(cell, colour) for cell, colour in zip(fills, colours, strict=True)) >= 4.5
    assert plots.INK not in colours


def test_heatmap_frames_the_cells_that_are_named():
    rows = pd.concat([table().assign(layer=n) for n in (1, 2)])
    sizes = sorted(rows.dim.unique())
    ax = plots.heatmap(rows, "top1", "MRL", outlined=[(2, sizes[0]), (1, sizes[2])]).axes[0]
    assert {patch.get_xy() for patch in ax.patches} == {(0, 1), (2, 0)}
    assert not plots.heatmap(rows, "top1", "MRL").axes[0].patches


def test_frontier_fills_what_nothing_cheaper_beats():
    rows = table().assign(flops=lambda t: t.dim * 10)
    ax = plots.frontier(rows, "top1").axes[0]
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "none" and len(line.get_xdata())]
    assert {round(float(y)) for line in hollow for y in line.get_ydata()} == {53, 55, 59}  # MRL lies below FF here


def test_names_of_points_lie_on_nothing_and_those_of_the_frontier_come_first():
    rows = pd.concat([table([f"way {i}"]).assign(value=lambda t, i=i: t.value + i / 50) for i in range(6)])
    rows = rows.assign(flops=lambda t: t.dim * 10 - t.value / 50)  # way 5: the cheapest and the best
    ax = plots.frontier(rows, "top1").axes[0]
    boxes = [label.get_window_extent() for label in ax.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    points = np.concatenate(
        [ax.transData.transform(line.get_xydata()) for line in ax.lines if line.get_marker() in "o^s"]
    )
    assert not any(box.contains(*point) for box in boxes for point in points)
    named = {label.xy for label in ax.texts}
    best = [
        line for line in ax.lines if line.get_markerfacecolor() not in ("none", None) and line.get_marker() != "None"
    ]
    assert {tuple(xy) for line in best for xy in line.get_xydata()} <= named
    assert len(named) < len(rows.groupby(["method", "dim"])), "this many cannot all have room"


def test_a_size_has_no_number_where_the_next_larger_one_s_would_lie_on_it():
    ax = plots.curve(table(["MRL"]), "top1", trained=[2, 4, 8, 16, 720, 740, 768]).axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "4", "8", "16", "", "", "768"]


def test_metric_names_are_words():
    assert plots.metric_name("pairs map@10") == "mAP@10 (%), pairs"
    assert plots.metric_name("noise 2 top1") == "top-1 accuracy (%), noise 2"


def test_the_style_leaves_text_as_text_and_figures_the_same_each_time(tmp_path):
    with mpl.rc_context():
        plots.use_style()
        first, second = tmp_path / "1.svg", tmp_path / "2.svg"
        for file in (first, second):
            plots.curve(table(), "top1").savefig(file, metadata={"Date": None})
    assert first.read_bytes() == second.read_bytes()
    assert "top-1 accuracy" in first.read_text()


def test_one_metric_against_another_has_a_point_a_size_and_a_cross():
    rows = pd.concat([table(), table().assign(metric="expected_dim", value=lambda t: t.dim / 2)])
    ax = plots.against(rows, "expected_dim", "top1", ["MRL", "FF"]).axes[0]
    (line,) = (c.lines[0] for c in ax.containers if c.get_label() == "MRL")
    mine = table().query("method == 'MRL'").groupby("dim").value.mean()
    assert line.get_xdata().tolist() == [m / 2 for m in mine.index]
    assert line.get_ydata().tolist() == pytest.approx(mine.tolist())
    with pytest.raises(RequestError, match="metric"):
        plots.against(rows, "expected_dims", "top1", ["MRL"])


def test_reranking_is_drawn_with_the_place_that_each_picture_had():
    pictures = np.zeros((3, 4, 4), np.uint8)
    costs = pd.DataFrame({"flops": [10.0, 100.0], "value": [50.0, 60.0]})
    fig = plots.reranked(
        pictures[0], 1, (pictures, [1, 0, 1]), (pictures, [1, 1, 0]), [1, 7, 2], ["cat", "dog"], costs, 1
    )
    told = [ax.get_xlabel() for ax in fig.axes[:-1]]
    assert [t for t in told if t] == ["was no. 7", "was no. 2"]
    titles = [ax.get_title() for ax in fig.axes]
    assert titles.count("✓ dog") == 4
    assert titles.count("✗ cat") == 2
    (here,) = (line for line in fig.axes[-1].lines if line.get_marker() == "D")
    assert (here.get_xdata().item(), here.get_ydata().item()) == (100, 60)


@pytest.mark.parametrize(
    ("losses", "title"), [({"2": 4.6, "8": 3.1}, "size"), ({"2x32": 8.0, "align": 0.01}, "term"), ({"1": 9.0}, "size")]
)
def test_a_learning_curve_has_numbers_on_its_axis_whatever_the_losses_span(losses, title):
    history = pd.DataFrame({"step": range(9), "lr": 0.1, "total": 1.0})
    history = history.assign(**{name: np.linspace(top, 0.8 * top, 9) for name, top in losses.items()})
    (ax,) = plots.learning_curve(history).axes
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    named = [label for label in ax.get_yticklabels() if label.get_text() and low <= label.get_position()[1] <= high]
    assert len(named) >= 2
    assert title in drawn(ax.figure)
