"""A score against a size, a cost, a step or another score: lines and points with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from mrl_lab import stats
from mrl_lab.errors import RequestError, unknown
from mrl_lab.plots.labels import name_points
from mrl_lab.plots.lines import WIDE, Lines
from mrl_lab.plots.style import (
    AXES,
    BLUE,
    GREY,
    INK,
    cost_axis,
    legend_of,
    looks,
    metric_name,
    name_values,
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

    More than six methods get a panel each, with the others in grey behind, unless ``ax`` is given.

    Args:
        scores: the tidy table, one row a method, seed and ``by`` (filter other layers or tokens out first).
        methods: which, in this order; all by default.
        trained: sizes that were trained; markers at others are hollow, and the axis names these.
        chance: score of guessing, drawn as a line.

    Raises:
        RequestError: an unknown metric, method or column; several rows of one seed at one size.
    """
    lines = Lines(pick(scores, metric, methods), by, metric_name(metric), trained, chance, "chance")
    return lines.show(legend, ax)


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

    ``base`` names the method whose full size counts as 100 %; by default each method's own. Panels as in :func:`curve`.

    Raises:
        RequestError: as :func:`curve`, and a method without a score at the full size when no ``base`` is named.
    """
    return _shares(scores, metric, methods, by, base, trained).show(legend, ax)


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
    """Draw :func:`curve` and :func:`ratio` side by side under one legend, or below one another where both are many."""
    values = Lines(pick(scores, metric, methods), by, metric_name(metric), trained, chance, "chance")
    both = values, _shares(scores, metric, methods, by, base, trained)
    if values.many:
        fig = Figure(figsize=(WIDE, 2 * values.height), layout="constrained")
        for lines, part in zip(both, fig.subfigures(2, 1), strict=True):
            lines.panels(part)
        return fig
    fig = Figure(figsize=(WIDE, 3.6), layout="constrained")
    for lines, ax in zip(both, fig.subplots(1, 2), strict=True):
        lines.draw(ax)
    legend_of(fig.axes[0], seeds_in_words(values.rows), above=True)
    return fig


def _shares(
    scores: pd.DataFrame,
    metric: str,
    methods: Sequence[str] | None,
    by: str,
    base: str | None,
    trained: Sequence[int] | None,
) -> Lines:
    rows = pick(scores, metric, methods)
    rows = rows.assign(value=100 * rows["value"] / _full_size(scores, rows, metric, by, base))
    return Lines(rows, by, f"share of {base + '’s' if base else 'the'} full-size score (%)", trained, 100)


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
    name_values(ax, f"{what} (points)")
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

    A filled marker is on the frontier: nothing cheaper, or as cheap, scores more. A dotted step joins them. Points
    that stand too close to others have no name.
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
    cost_axis(ax, x, points[x])
    name_values(ax, metric_name(metric))
    legend_of(ax, f"each point: one size ({AXES.get(by, by)}); filled: on the frontier")
    named = pd.concat([points[best][::-1], points[~best]])  # the best first: not all have room
    name_points(ax, named[[x, "value"]].to_numpy(), named[by].astype(int).astype(str))
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
    ax.set_xlabel(names[0] or metric_name(x))
    name_values(ax, names[1] or metric_name(y))
    legend_of(ax, title)
    return ax.figure


def learning_curve(history: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Draw the loss of each size or term (part of ``train.fit``'s history) by step, smoothed over 2 % of the steps."""
    ax = ax if ax is not None else new_axes()
    parts = [name for name in history.columns if name not in ("step", "lr", "total")]
    window = max(1, len(history) // 50)
    for i, (name, colour) in enumerate(zip(parts, shades(len(parts)), strict=True)):
        smooth = history[name].rolling(window, min_periods=1).mean()
        ax.plot(history["step"], smooth, color=colour, linewidth=1 + 1.6 * i / max(1, len(parts) - 1), label=name)
    ax.set(xlabel="step", yscale="log")
    if (limits := ax.get_ylim())[1] < 10 * limits[0]:  # no power of ten may lie between them, and none would be named
        ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    name_values(ax, "loss")
    legend_of(ax, "size" if all(str(name).isdigit() for name in parts) else "term")
    return ax.figure
