"""Figures from tables, in one style: the same method looks the same on every page.

Every function returns a ``matplotlib.figure.Figure`` that pyplot does not know, so a notebook shows it once, as the
last value of a cell; those of one panel can draw into given axes (``ax``). Colour is never the only cue: a method also
has its marker and its dashes. The colours are seaborn's "colorblind" ones, five of them darkened or shifted until each
has a contrast of at least 3 : 1 on white and on the dark page (WCAG 2.2, 1.4.11). Text and axes are in one ink and one
grid grey, which the page swaps in dark mode; the background is transparent.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

from mrl_lab import stats
from mrl_lab.errors import RequestError, unknown

INK, GRID = "#1b1f24", "#d0d7de"  # the page recolours exactly these two in dark mode
BLUE, ORANGE, GREEN, RED, PINK = "#0173b2", "#c47d00", "#029e73", "#d55e00", "#c96fb8"
BROWN, GREY, SKY, PURPLE = "#b17f55", "#8a8f98", "#3d96cf", "#8c6bd1"


class Look(NamedTuple):
    """How a method is drawn."""

    colour: str
    marker: str
    dash: str | tuple


LOOKS = (
    Look(BLUE, "o", "-"),
    Look(ORANGE, "s", (0, (5, 1.5))),
    Look(GREEN, "^", (0, (1.5, 1.2))),
    Look(RED, "D", (0, (5, 1.2, 1.2, 1.2))),
    Look(PINK, "v", "-"),
    Look(BROWN, "P", (0, (5, 1.5))),
    Look(GREY, "X", (0, (1.5, 1.2))),
    Look(SKY, "p", (0, (5, 1.2, 1.2, 1.2))),
    Look(PURPLE, "h", (0, (3, 1, 1, 1, 1, 1))),
)
KNOWN = {"MRL": 0, "M3": 1, "MRL-E": 1, "FF": 2, "separate": 2, "Franca": 3, "2DMSE": 4, "Starbucks": 8, "plain": 7}
KNOWN |= {"FF, first dims": 6, "FF, SVD of features": 3, "FF, SVD of the classifier": 4, "FF, random projection": 5}
KNOWN |= {"FF, random dims": 7, "FF, probe on random dims": 8}
METRICS = {
    "top1": "top-1 accuracy (%)",
    "coarse_top1": "coarse top-1 accuracy (%)",
    "1nn": "1-NN accuracy (%)",
    "knn": "k-NN accuracy (%)",
    "map": "mAP{} (%)",
    "ndcg": "nDCG{} (%)",
    "mrr": "MRR{} (%)",
    "recall": "recall{} (%)",
    "spearman": "Spearman's ρ × 100",
}
AXES = {
    "dim": "dims kept, m",
    "layer": "layers kept, n",
    "tokens": "tokens kept, t",
    "flops": "multiply-adds",
    "bytes": "bytes an embedding",
    "seconds": "seconds",
}

# --------------------------------------------------------------------------------------------- style


def use_style() -> None:
    """Set the style for all figures and tables that follow; in a notebook, show figures as SVG. Call once."""
    pd.set_option("display.max_colwidth", None)  # claims and notes are sentences
    mpl.rcParams.update(
        {
            "figure.figsize": (7, 3.4),
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "font.size": 10.5,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
            "axes.titlesize": "medium",
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=[look.colour for look in LOOKS]),
            "grid.color": GRID,
            "grid.linewidth": 0.6,
            "xtick.color": INK,
            "ytick.color": INK,
            "lines.linewidth": 1.8,
            "lines.markersize": 6,
            "legend.frameon": False,
            "legend.fontsize": "small",
            "legend.title_fontsize": "small",
            "image.interpolation": "none",
            "image.cmap": "viridis",
            "svg.fonttype": "none",
            "svg.hashsalt": "mrl-lab",
        }
    )
    _show_as_svg()


def _show_as_svg() -> None:
    from IPython import get_ipython
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    if get_ipython() is not None:
        set_matplotlib_formats("svg", metadata={"Date": None})  # no date: the same figure is the same bytes


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Return each method's look: fixed for :data:`KNOWN` names, from the name's checksum for others.

    Two methods of one figure never share a look while there are enough: the second takes the next that is free.
    """
    methods = list(dict.fromkeys(methods))
    taken = {name: KNOWN[name] for name in methods if name in KNOWN}
    for name in (n for n in methods if n not in KNOWN):
        first = zlib.crc32(name.encode()) % len(LOOKS)
        order = [(first + i) % len(LOOKS) for i in range(len(LOOKS))]
        taken[name] = next((i for i in order if i not in taken.values()), first)
    return {name: LOOKS[taken[name]] for name in methods}


def metric_name(metric: str) -> str:
    """Return a metric as a reader says it: "pairs map@10" is "mAP@10 (%), pairs"."""
    where, _, last = metric.rpartition(" ")
    base, at, k = last.partition("@")
    known = METRICS.get(base, last.replace("_", " "))
    return known.format(at + k) + (f", {where}" if where else "")


# --------------------------------------------------------------------------------------- size curves


def curve(
    scores: pd.DataFrame,
    metric: str,
    methods: Sequence[str] | None = None,
    by: str = "dim",
    *,
    trained: Sequence[int] | None = None,
    chance: float | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw a score against the size kept: the mean over seeds with its 95 % t-interval as a band.

    Args:
        scores: the tidy table, one row a method, seed and ``by`` (filter other layers or tokens out first).
        methods: which, in this order; all by default.
        trained: sizes that were trained; markers at others are hollow, and the axis names these.
        chance: score of guessing, drawn as a line.

    Raises:
        RequestError: an unknown metric, method or column; several rows of one seed at one size.
    """
    ax = ax if ax is not None else _axes()
    rows = _pick(scores, metric, methods)
    _lines(ax, rows, by, trained)
    if chance is not None:
        ax.axhline(chance, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
        ax.annotate(
            "chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize="small"
        )
    ax.set_ylabel(metric_name(metric))
    if legend:
        _legend(ax, _seeds(rows))
    return ax.figure


def ratio(
    scores: pd.DataFrame,
    metric: str,
    methods: Sequence[str] | None = None,
    by: str = "dim",
    *,
    base: str | None = None,
    trained: Sequence[int] | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw the share of the full-size score that each size keeps, in per cent, paired by seed.

    ``base`` names the method whose full size counts as 100 %; by default each method's own.

    Raises:
        RequestError: as :func:`curve`, and a method without a score at the full size when no ``base`` is named.
    """
    ax = ax if ax is not None else _axes()
    rows = _pick(scores, metric, methods)
    _lines(ax, rows.assign(value=100 * rows["value"] / _full_size(scores, rows, metric, by, base)), by, trained)
    ax.axhline(100, color=INK, linewidth=0.9)
    ax.set_ylabel(f"share of {base + '’s' if base else 'the'} full-size score (%)")
    if legend:
        _legend(ax, _seeds(rows))
    return ax.figure


def curve_and_ratio(
    scores: pd.DataFrame,
    metric: str,
    methods: Sequence[str] | None = None,
    by: str = "dim",
    *,
    base: str | None = None,
    trained: Sequence[int] | None = None,
    chance: float | None = None,
) -> Figure:
    """Draw :func:`curve` and :func:`ratio` side by side under one legend."""
    fig = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = fig.subplots(1, 2)
    curve(scores, metric, methods, by, trained=trained, chance=chance, legend=False, ax=left)
    ratio(scores, metric, methods, by, base=base, trained=trained, legend=False, ax=right)
    _legend(left, _seeds(_pick(scores, metric, methods)), above=True)
    return fig


def _axes(size: tuple[float, float] | None = None) -> Axes:
    return Figure(figsize=size or mpl.rcParams["figure.figsize"], layout="constrained").subplots()


def _pick(scores: pd.DataFrame, metric: str, methods: Sequence[str] | None) -> pd.DataFrame:
    """Return the rows of one metric and of ``methods``, in their order."""
    rows = scores[scores["metric"] == metric]
    if rows.empty:
        raise unknown("metric", metric, sorted(set(scores["metric"])))
    there = list(dict.fromkeys(rows["method"]))
    for method in methods or ():
        if method not in there:
            raise unknown("method", method, there)
    return pd.concat([rows[rows["method"] == method] for method in methods or there], ignore_index=True)


def _full_size(scores: pd.DataFrame, rows: pd.DataFrame, metric: str, by: str, base: str | None) -> np.ndarray:
    """Return for each row the full-size score of its seed, by ``base`` or by its own method."""
    full = rows[by].max()
    whole = _pick(scores, metric, [base]) if base else rows
    whole = whole[whole[by] == full].groupby("seed" if base else ["method", "seed"])["value"].first()
    keys = rows["seed"] if base else pd.MultiIndex.from_frame(rows[["method", "seed"]])
    found = whole.reindex(keys).to_numpy(dtype=float)
    lacking = sorted(set(rows["method"][np.isnan(found)]))
    if lacking:
        raise RequestError(
            f"{', '.join(lacking)}: no {metric} score at the full size, {by} {full}, for every seed. "
            f"Name the method whose full size counts as 100 %: base='FF', or leave these out of methods."
        )
    return found


def _lines(ax: Axes, rows: pd.DataFrame, by: str, trained: Sequence[int] | None) -> None:
    """One line a method: mean over seeds, a marker a size, and a band where there are seeds enough for one."""
    table = stats.intervals(rows, ["method", by]).dropna(subset=[by]).astype({by: float})
    for method, look in looks(table["method"]).items():
        line = table[table["method"] == method].sort_values(by)
        hollow = ~line[by].isin(line[by] if trained is None else trained)
        x, mean, low, high = (line[column] for column in (by, "mean", "low", "high"))
        filled = np.flatnonzero(~hollow).tolist()
        ax.plot(x, mean, color=look.colour, linestyle=look.dash, marker=look.marker, markevery=filled, label=method)
        if hollow.any():
            ax.plot(x[hollow], mean[hollow], look.marker, color=look.colour, markerfacecolor="none")
        if low.notna().any():
            ax.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0)
            ax.vlines(x, low, high, color=look.colour, linewidth=1)
    _size_axis(ax, by, table[by] if trained is None else trained)


def _size_axis(ax: Axes, by: str, sizes: Iterable[float]) -> None:
    """Name the real sizes on the axis, in steps of doubling except for layers."""
    sizes = sorted(set(map(int, sizes)))
    if by != "layer":
        ax.set_xscale("log", base=2)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(sizes, list(map(str, sizes)))
    ax.grid(visible=False, axis="x")
    ax.set_xlabel(AXES.get(by, by))


def _seeds(rows: pd.DataFrame) -> str:
    """What the lines and bands are, in words."""
    counts = rows.groupby("method", sort=False)["seed"].nunique()
    least, most = counts.min(), counts.max()
    if most < 2:
        return "one seed, so no interval"
    return f"mean of {least if least == most else f'{least} to {most}'} seeds, band: 95 % interval"


def _legend(ax: Axes, title: str | None = None, above: bool = False) -> None:
    """Put the legend above the panels of a figure made here, or inside axes that were given."""
    handles, labels = ax.get_legend_handles_labels()
    how = {"title": title, "alignment": "left", "handlelength": 3.2}
    if not above and len(ax.figure.axes) > 1:
        ax.legend(handles, labels, loc="best", **how)
        return
    width = 6 + max(map(len, labels), default=0)  # in letters, with the line drawn before it
    columns = max(1, min(len(labels), int(12 * ax.figure.get_figwidth()) // width))
    ax.figure.legend(handles, labels, loc="outside upper left", ncols=columns, **how)


# -------------------------------------------------------------------------------------- other tables


def differences(
    paired: pd.DataFrame,
    margin: float | tuple[float, float] | None = None,
    *,
    what: str = "difference",
    ax: Axes | None = None,
) -> Figure:
    """Draw the differences of :func:`mrl_lab.stats.paired` with their intervals, around 0.

    Args:
        margin: a bound of the claim, drawn as a line, or both bounds, drawn as a band.
        what: the difference in words, such as "MRL − FF, top-1".
    """
    ax = ax if ax is not None else _axes((7, 3.4))
    by = paired.columns[0]
    if margin is not None:
        low, high = margin if isinstance(margin, tuple) else (margin, margin)
        ax.axhspan(low, high, color=GREY, alpha=0.2, linewidth=0)
        for bound in {low, high}:
            ax.axhline(bound, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)))
    ax.axhline(0, color=INK, linewidth=0.9)
    clear = paired["p_holm"] < 1 - stats.CONFIDENCE
    ax.vlines(paired[by], paired["low"], paired["high"], color=BLUE, linewidth=1.6)
    for rows, face, label in ((paired[clear], BLUE, "clear of 0"), (paired[~clear], "none", "not clear of 0")):
        if len(rows):
            ax.plot(rows[by], rows["difference"], "o", color=BLUE, markerfacecolor=face, label=label)
    _size_axis(ax, by, paired[by])
    ax.set_ylabel(f"{what} (points)")
    _legend(ax, "mean and 95 % interval, paired by seed; clear of 0 by Holm's test over all sizes")
    return ax.figure


def heatmap(
    scores: pd.DataFrame,
    metric: str,
    method: str,
    minus: str | None = None,
    rows: str = "layer",
    columns: str = "dim",
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw mean scores over two axes of the cut, with the number in each cell; the deepest layer on top.

    ``minus`` names a method to subtract; colours then say better (blue) or worse (red) than it.
    """

    def grid(name: str) -> pd.DataFrame:
        part = _pick(scores, metric, [name]).astype({rows: int, columns: int})
        return part.pivot_table(index=rows, columns=columns, values="value").sort_index()

    values = grid(method) - grid(minus) if minus else grid(method)
    label = f"{method} − {minus} (points)" if minus else metric_name(metric)
    fig = cells(values, label, signed=minus is not None, ax=ax)
    fig.axes[0].set(xlabel=AXES.get(columns, columns), ylabel=AXES.get(rows, rows))
    return fig


def cells(values: pd.DataFrame, label: str, *, signed: bool = False, ax: Axes | None = None) -> Figure:
    """Draw any table of numbers as coloured cells with the number in each, its first row at the bottom.

    Args:
        label: what the numbers are, with their unit.
        signed: they are differences: blue above 0, red below.
    """
    widest = max((len(str(name)) for name in values.index), default=0)
    size = (1.9 + 0.72 * values.shape[1] + 0.07 * widest, 1.2 + 0.42 * values.shape[0])
    ax = ax if ax is not None else _axes(size)
    reach = np.nanmax(np.abs(values)) if signed else None
    how = {"cmap": "RdBu", "vmin": -reach, "vmax": reach} if signed else {"cmap": "viridis"}
    mesh = ax.pcolormesh(values, **how)
    for (row, column), value in np.ndenumerate(values):
        light = np.dot(mesh.cmap(mesh.norm(value))[:3], (0.299, 0.587, 0.114)) > 0.5
        text = "" if math.isnan(value) else f"{value:.1f}".replace("-", "−")
        ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", color="#000000" if light else "#ffffff")
    ax.figure.colorbar(mesh, ax=ax, label=label)
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, list(map(str, values.columns)))
    ax.set_yticks(np.arange(values.shape[0]) + 0.5, list(map(str, values.index)))
    ax.grid(visible=False)
    return ax.figure


def frontier(
    scores: pd.DataFrame,
    metric: str,
    methods: Sequence[str] | None = None,
    x: str = "flops",
    by: str = "dim",
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw the score against a cost (flops, bytes or seconds), each point named by its size.

    A filled marker is on the frontier: nothing cheaper, or as cheap, scores more. A dotted step joins them.
    """
    ax = ax if ax is not None else _axes()
    rows = _pick(scores, metric, methods)
    if x not in ("flops", "bytes", "seconds"):
        raise unknown("cost", x, ("flops", "bytes", "seconds"))
    points = rows.astype({x: float}).groupby(["method", by], sort=False)[[x, "value"]].mean().dropna().reset_index()
    points = points.sort_values([x, "value"], ascending=[True, False])
    best = points["value"] > points["value"].cummax().shift(fill_value=-math.inf)
    ax.step(points[x][best], points["value"][best], where="post", color=INK, linewidth=0.9, linestyle=":")
    for method, look in looks(rows["method"]).items():
        mine = points["method"] == method
        for some, face in ((points[mine & best], look.colour), (points[mine & ~best], "none")):
            ax.plot(some[x], some["value"], look.marker, color=look.colour, markerfacecolor=face)
        ax.plot([], [], look.marker, color=look.colour, label=method)
    for point in points.itertuples():
        at = getattr(point, x), point.value
        ax.annotate(f"{int(getattr(point, by))}", at, (4, -4), textcoords="offset points", va="top", fontsize="x-small")
    ax.set_xscale("log")
    ax.set(xlabel=AXES[x], ylabel=metric_name(metric))
    _legend(ax, f"each point: one size ({AXES.get(by, by)}); filled: on the frontier")
    return ax.figure


def against(
    scores: pd.DataFrame,
    x: str,
    y: str,
    methods: Sequence[str],
    *,
    names: tuple[str, str] = ("", ""),
    log: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw one metric against another: a point for each size of each method, crosses of 95 % t-intervals over seeds.

    ``names`` are the axes' labels, by default the metrics' own.

    Raises:
        RequestError: an unknown metric or method.
    """
    ax = ax if ax is not None else _axes()
    both = [_pick(scores, metric, methods) for metric in (x, y)]
    title = _seeds(both[1]).replace("band", "crosses")
    for method, look in looks(methods).items():
        sides = [stats.intervals(rows[rows["method"] == method], ["dim"]).set_index("dim") for rows in both]
        at = sides[0].merge(sides[1], on="dim").sort_index()
        errors = {f"{side}err": (at[f"high_{side}"] - at[f"low_{side}"]).fillna(0) / 2 for side in "xy"}
        ax.errorbar(at["mean_x"], at["mean_y"], **errors, color=look.colour, marker=look.marker, label=method)
    if log:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set(xlabel=names[0] or metric_name(x), ylabel=names[1] or metric_name(y))
    _legend(ax, title)
    return ax.figure


def learning_curve(history: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Draw the loss of each size (each part of ``train.fit``'s history) by step, smoothed over 2 % of the steps."""
    ax = ax if ax is not None else _axes()
    parts = [name for name in history.columns if name not in ("step", "lr", "total")]
    window = max(1, len(history) // 50)
    for i, (name, colour) in enumerate(zip(parts, shades(len(parts)), strict=True)):
        smooth = history[name].rolling(window, min_periods=1).mean()
        ax.plot(history["step"], smooth, color=colour, linewidth=1 + 1.6 * i / max(1, len(parts) - 1), label=name)
    ax.set(xlabel="step", ylabel="loss", yscale="log")
    ax.yaxis.set_minor_formatter(NullFormatter())
    _legend(ax, "size")
    return ax.figure


def shades(n: int) -> list[tuple[float, float, float, float]]:
    """Return ``n`` colours of one scale, from small to large, legible on light and dark."""
    return [mpl.colormaps["viridis"](share) for share in np.linspace(0.68, 0.28, n)]


# ------------------------------------------------------------------------------------------ pictures


def picture_grid(images: Sequence, labels: Sequence[str] = (), columns: int = 5) -> Figure:
    """Draw pictures (N, H, W), (N, C, H, W) or (N, H, W, C), each with its label above, ``columns`` a row."""
    count = math.ceil(len(images) / columns)
    lines = max((1 + label.count(" | ") for label in labels), default=0)
    fig = Figure(figsize=(1.15 * columns, (1.15 + 0.25 * lines) * count), layout="constrained")
    axes = fig.subplots(count, columns, squeeze=False).ravel()
    for i, ax in enumerate(axes):
        ax.set_axis_off()
        if i < len(images):
            _picture(ax, images[i], labels[i] if len(labels) else "")
    return fig


def neighbours(
    query: np.ndarray,
    pictures: Sequence,
    labels: Sequence[int],
    label: int,
    classes: Sequence[str],
    caption: str = "",
) -> Figure:
    """Draw a query and its nearest pictures, best first, in two rows.

    A picture of the query's class has a solid frame and ✓, any other a dashed frame and ✗.

    Args:
        query: (C, H, W), (H, W, C) or (H, W).
        pictures: k of the same.
        labels: the class number of each of them.
        label: the query's class number.
        classes: the names of the classes.
        caption: above the neighbours; by default how many of them are right.
    """
    labels = [int(i) for i in labels]
    columns = max(1, math.ceil(len(labels) / 2))
    fig = Figure(figsize=(2.6 + 1.12 * columns, 3.1), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(2.4, 1.12 * columns))
    ax = left.subplots()
    _picture(ax, query, classes[label])
    _frame(ax, INK, "-")
    left.suptitle("query", fontsize="medium")
    right.suptitle(caption or f"nearest {len(labels)}: {labels.count(label)} of the same class", fontsize="medium")
    for i, ax in enumerate(right.subplots(2, columns, squeeze=False).ravel()):
        if i >= len(labels):
            ax.set_axis_off()
            continue
        is_right = labels[i] == label
        _picture(ax, pictures[i], f"{'✓' if is_right else '✗'} {classes[labels[i]]}")
        _frame(ax, GREEN if is_right else RED, "-" if is_right else (0, (2.5, 1.5)))
    return fig


def reranked(
    query: np.ndarray,
    label: int,
    before: tuple[Sequence, Sequence[int]],
    after: tuple[Sequence, Sequence[int]],
    places: Sequence[int],
    classes: Sequence[str],
    costs: pd.DataFrame,
    here: int,
    caption: str = "",
) -> Figure:
    """Draw a query, the head of its shortlist, under it the same after reranking, and the place among all settings.

    Frames as in :func:`neighbours`. A picture that reranking moved says from which place.

    Args:
        before, after: k pictures, and the class numbers of each.
        places: where in the shortlist each of ``after`` stood, from 1.
        costs: one row a setting: flops and value (mAP@10, per cent). here: the row of this one.
    """
    columns = len(places)
    fig = Figure(figsize=(1.3 + 1.12 * columns, 5.6), layout="constrained")
    fig.suptitle(caption, fontsize="medium")
    upper, lower = fig.subfigures(2, 1, height_ratios=(3.2, 2.2))
    axes = upper.subplots(2, columns + 1, squeeze=False)
    _picture(axes[0, 0], query, f"query:\n{classes[label]}")
    _frame(axes[0, 0], INK, "-")
    axes[1, 0].set_axis_off()
    for row, (pictures, labels), name in zip(axes, (before, after), ("shortlist", "reranked"), strict=True):
        for i, ax in enumerate(row[1:]):
            right = int(labels[i]) == label
            moved = name == "reranked" and places[i] != i + 1
            _picture(ax, pictures[i], f"{'✓' if right else '✗'} {classes[int(labels[i])]}")
            _frame(ax, GREEN if right else RED, "-" if right else (0, (2.5, 1.5)))
            ax.set_xlabel(f"was no. {places[i]}" if moved else "", fontsize="x-small")
        row[1].set_ylabel(name)
    ax = lower.subplots()
    ax.plot(costs["flops"], costs["value"], "o", color=GREY, markerfacecolor="none")
    ax.plot(costs["flops"].iloc[here], costs["value"].iloc[here], "D", color=BLUE, markersize=9)
    ax.set(xscale="log", xlabel=f"{AXES['flops']} a query", ylabel=metric_name("map@10"))
    return fig


def nesting(sizes: Sequence[int]) -> Figure:
    """Draw what nests: one embedding of d numbers, and under it each prefix with a loss of its own."""
    d = sizes[-1]
    ax = _axes((7, 0.5 + 0.42 * len(sizes)))
    colours = shades(len(sizes))
    for row, (m, colour) in enumerate(zip(reversed(sizes), reversed(colours), strict=True)):
        ax.barh(-row, m, 0.62, align="center", left=0, color=colour)
        for i in range(1, m if d <= 64 else 0):
            ax.plot([i, i], [-row - 0.31, -row + 0.31], color="white", linewidth=0.7)
        ax.text(
            d * 1.03, -row, f"first {m} numbers  →  loss {m}" if m < d else f"all {m} numbers  →  loss {m}", va="center"
        )
    ax.set_xlim(0, d * 1.55)
    ax.set_axis_off()
    return ax.figure


def _picture(ax: Axes, image: np.ndarray, title: str) -> None:
    """Show one picture with its own pixels; values outside 0 to 1 are stretched into it."""
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    scaled = pixels / 255 if pixels.dtype == np.uint8 else pixels
    if scaled.min() < 0 or scaled.max() > 1:
        scaled = (scaled - scaled.min()) / (scaled.max() - scaled.min())
    ax.imshow(scaled.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="none")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.set_title(title.replace(" | ", " |\n"), fontsize="small", pad=3)  # the name of a pair takes two lines


def _frame(ax: Axes, colour: str, dash: str | tuple) -> None:
    for side in ax.spines.values():
        side.set(visible=True, color=colour, linewidth=2.4, linestyle=dash)
