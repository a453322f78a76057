"""Share of quality against share of cost: methods of different kinds on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mrl_lab.errors import RequestError, unknown
from mrl_lab.plots.lines import WIDE
from mrl_lab.plots.style import GREY, INK, Look, legend_of, looks, name_values, new_axes

COLUMNS = 3  # of panels
RIVAL = Look(GREY, "X", (0, (1.5, 1.2)))


def frontiers(
    rows: pd.DataFrame, cost: str, methods: Sequence[str] | None = None, *, keep: float = 95, ax: Axes | None = None
) -> Figure:
    """Draw the frontier of each method: what share of quality it keeps at most for each share of a cost.

    Args:
        rows: one row a method and cut: method, rival, mean (per cent of quality), low, high, the cost (per cent), and
            best: whether nothing of that method as cheap keeps as much.
        keep: a level to keep, drawn as a line.

    Raises:
        RequestError: an unknown cost or method, or a cost that none of them has.
    """
    rows = _picked(rows, cost, methods)
    ax = ax if ax is not None else new_axes()
    for method, look in looks(rows["method"]).items():
        _frontier(ax, rows[rows["method"] == method], cost, look, method)
    _dress(ax, rows, cost, keep)
    legend_of(ax, "the best cuts of each method; bars: 95 % intervals over seeds")
    return ax.figure


def beside_rivals(rows: pd.DataFrame, cost: str, methods: Sequence[str] | None = None, *, keep: float = 95) -> Figure:
    """Draw a panel a method: its cuts, its frontier, and in grey the frontier of what is cut without nesting.

    Args: as in :func:`frontiers`; rivals are named "rival of METHOD".
    """
    shown = _picked(rows, cost, methods)
    names = list(looks(shown["method"]))
    count = math.ceil(len(names) / COLUMNS)
    fig = Figure(figsize=(WIDE, 0.9 + 2.3 * count), layout="constrained")
    axes = fig.subplots(count, min(COLUMNS, len(names)), sharey=True, squeeze=False).ravel()
    for (method, look), ax in zip(looks(shown["method"]).items(), axes, strict=False):
        rival = rows[(rows["method"] == f"rival of {method}") & rows[cost].notna()]
        _frontier(ax, rival, cost, RIVAL, "without nesting")
        mine = shown[shown["method"] == method]
        ax.plot(mine[cost], mine["mean"], look.marker, color=look.colour, markerfacecolor="none", alpha=0.5)
        _frontier(ax, mine, cost, look, method)
        _dress(ax, mine, cost, keep)
        ax.set_title(method, loc="left", fontsize="small")
    for ax in axes[len(names) :]:
        ax.remove()
    fig.suptitle("share of quality kept (%); grey: cut without nesting", x=0.01, ha="left", fontsize="medium")
    return fig


def _picked(rows: pd.DataFrame, cost: str, methods: Sequence[str] | None) -> pd.DataFrame:
    if cost not in rows:
        raise unknown("cost", cost, ("bytes", "operations", "milliseconds"))
    nested = rows[~rows["rival"]]
    for method in methods or ():
        if method not in set(nested["method"]):
            raise unknown(f"method with {cost}:", method, nested["method"].unique())
    shown = nested[nested["method"].isin(methods or nested["method"].unique()) & nested[cost].notna()]
    if shown.empty:
        raise RequestError(f"{cost} were measured for none of {', '.join(methods or nested['method'].unique())}.")
    return shown


def _frontier(ax: Axes, rows: pd.DataFrame, cost: str, look: Look, label: str) -> None:
    """Draw the best cuts of one method, joined by steps: between two of them one pays for the dearer."""
    best = rows[rows["best"]].sort_values(cost)
    x, mean, low, high = (best[name].astype(float) for name in (cost, "mean", "low", "high"))
    how = {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "label": label}
    ax.plot(x, mean, drawstyle="steps-post", **how)
    ax.vlines(x, low, high, color=look.colour, linewidth=1)


def _dress(ax: Axes, rows: pd.DataFrame, cost: str, keep: float) -> None:
    ax.axhline(keep, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
    ax.set_xscale("log", base=2)
    least = min(50.0, float(rows[cost].min()))
    ticks = [100 / 2**i for i in range(math.ceil(math.log2(100 / least)) + 1)]
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(ticks, [f"{tick:.3g}" if i % 2 == 0 else "" for i, tick in enumerate(ticks)])
    ax.set_xlabel(f"share of {cost} (%)")
    name_values(ax, "share of quality kept (%)")
