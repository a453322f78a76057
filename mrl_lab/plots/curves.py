"""A score against a size, a cost, a step or another score: lines and points with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from mrl_lab import stats
from mrl_lab.errors import RequestError, unknown
from mrl_lab.plots.style import (
    AXES,
    BLUE,
    GREY,
    INK,
    legend_of,
    looks,
    metric_name,
    new_axes,
    pick,
    seeds_in_words,
    shades,
    size_axis,
)


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
    ax = ax if ax is not None else new_axes()
    rows = pick(scores, metric, methods)
    _lines(ax, rows, by, trained)
    if chance is not None:
        ax.axhline(chance, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
        ax.annotate(
            "chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize="small"
        )
    ax.set_ylabel(metric_name(metric))
    if legend:
        legend_of(ax, seeds_in_words(rows))
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
    ax = ax if ax is not None else new_axes()
    rows = pick(scores, metric, methods)
    _lines(ax, rows.assign(value=100 * rows["value"] / _full_size(scores, rows, metric, by, base)), by, trained)
    ax.axhline(100, color=INK, linewidth=0.9)
    ax.set_ylabel(f"share of {base + '’s' if base else 'the'} full-size score (%)")
    if legend:
        legend_of(ax, seeds_in_words(rows))
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
    legend_of(left, seeds_in_words(pick(scores, metric, methods)), above=True)
    return fig


def _full_size(scores: pd.DataFrame, rows: pd.DataFrame, metric: str, by: str, base: str | None) -> np.ndarray:
    """Return for each row the full-size score of its seed, by ``base`` or by its own method."""
    full = rows[by].max()
    whole = pick(scores, metric, [base]) if base else rows
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
    size_axis(ax, by, table[by] if trained is None else trained)


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
    ax = ax if ax is not None else new_axes((7, 3.4))
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
    size_axis(ax, by, paired[by])
    ax.set_ylabel(f"{what} (points)")
    legend_of(ax, "mean and 95 % interval, paired by seed; clear of 0 by Holm's test over all sizes")
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
    ax = ax if ax is not None else new_axes()
    rows = pick(scores, metric, methods)
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
        ax.annotate(f"{int(getattr(point, by))}", at, (4, -4), textcoords="offset points", va="top", fontsize="small")
    ax.set_xscale("log")
    ax.set(xlabel=AXES[x], ylabel=metric_name(metric))
    legend_of(ax, f"each point: one size ({AXES.get(by, by)}); filled: on the frontier")
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
    ax = ax if ax is not None else new_axes()
    both = [pick(scores, metric, methods) for metric in (x, y)]
    title = seeds_in_words(both[1]).replace("band", "crosses")
    for method, look in looks(methods).items():
        sides = [stats.intervals(rows[rows["method"] == method], ["dim"]).set_index("dim") for rows in both]
        at = sides[0].merge(sides[1], on="dim").sort_index()
        errors = {f"{side}err": (at[f"high_{side}"] - at[f"low_{side}"]).fillna(0) / 2 for side in "xy"}
        ax.errorbar(at["mean_x"], at["mean_y"], **errors, color=look.colour, marker=look.marker, label=method)
    if log:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set(xlabel=names[0] or metric_name(x), ylabel=names[1] or metric_name(y))
    legend_of(ax, title)
    return ax.figure


def learning_curve(history: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Draw the loss of each size (each part of ``train.fit``'s history) by step, smoothed over 2 % of the steps."""
    ax = ax if ax is not None else new_axes()
    parts = [name for name in history.columns if name not in ("step", "lr", "total")]
    window = max(1, len(history) // 50)
    for i, (name, colour) in enumerate(zip(parts, shades(len(parts)), strict=True)):
        smooth = history[name].rolling(window, min_periods=1).mean()
        ax.plot(history["step"], smooth, color=colour, linewidth=1 + 1.6 * i / max(1, len(parts) - 1), label=name)
    ax.set(xlabel="step", ylabel="loss", yscale="log")
    ax.yaxis.set_minor_formatter(NullFormatter())
    legend_of(ax, "size")
    return ax.figure
