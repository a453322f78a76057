"""Claims at a glance: for each the estimate with its interval, its bound and the paper's own figure."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from mrl_lab import schema
from mrl_lab.errors import RequestError, unknown
from mrl_lab.plots.lines import WIDE
from mrl_lab.plots.style import BLUE, GREY, INK, PURPLE, RED

NEEDED = ("id", "claim", "what", "unit", "ours", "low", "high", "verdict", "headline", "above", "below")
LETTERS, LETTER = 44, 5.6  # of a claim in one line, and the points that each takes
TIMES = "times"  # a unit of ratios, drawn on a logarithmic axis
LINE, AXIS = 0.17, 0.55  # inches that a line of text takes, and an axis with its name


class Mark(NamedTuple):
    """How a verdict is drawn: the colour and the marker of the estimate; the sign before its word is the schema's."""

    colour: str
    marker: str


VERDICTS = {
    schema.SHOWN: Mark(BLUE, "o"),
    schema.CONTRADICTED: Mark(RED, "X"),
    schema.AT_THE_BOUND: Mark(PURPLE, "s"),
    schema.UNDECIDED: Mark(GREY, "D"),
}


def forest(table: pd.DataFrame) -> Figure:
    """Draw one row a claim, in a panel for each unit: headlines in bold, verdict and numbers to the right.

    Args:
        table: claims as in ``claims.csv``: id, claim, what (the contrast), unit, ours, low, high (95 %), above, below
            (the bounds), verdict, headline (true or false), and where known paper_value and delta, all in the claim's
            unit. NaN where there is no interval, bound, figure or delta.

    Raises:
        RequestError: no rows, a column that is missing, an unknown verdict.
    """
    _check(table)
    table = table.reindex(columns=[*NEEDED, "paper_value", "delta"])
    words = [textwrap.wrap(f"{row.id}  {row.what}", LETTERS) for row in table.itertuples()]
    table = table.assign(words=["\n".join(lines) for lines in words], room=[LINE * (max(2, len(w)) + 1) for w in words])
    units = list(table.groupby("unit", sort=False))
    heights = [rows["room"].sum() for _, rows in units]
    fig = Figure(figsize=(WIDE, sum(heights) + AXIS * (len(units) + 0.5)), layout="constrained")
    axes = fig.subplots(len(units), 1, squeeze=False, height_ratios=heights).ravel()
    for ax, (unit, rows) in zip(axes, units, strict=True):
        _panel(ax, unit, rows)
    labels = dict(zip(*reversed(_entries(axes)), strict=True))  # each once
    title = "ours with its 95 % interval; the verdict to the right"
    fig.legend(labels.values(), labels.keys(), loc="outside upper left", ncols=3, title=title, alignment="left")
    return fig


def _check(table: pd.DataFrame) -> None:
    missing = [name for name in NEEDED if name not in table]
    if missing or table.empty:
        lacks = f"column {', '.join(missing)}" if missing else "row"
        raise RequestError(f"a forest needs a table of claims with the columns {', '.join(NEEDED)}: no {lacks}.")
    for verdict in set(table["verdict"]) - set(VERDICTS):
        raise unknown("verdict", verdict, VERDICTS)


def _panel(ax: Axes, unit: str, rows: pd.DataFrame) -> None:
    """Draw the claims of one unit from top to bottom, each as high as its text."""
    middles = -(rows["room"].cumsum() - rows["room"] / 2).to_numpy()
    for row, y in zip(rows.itertuples(), middles, strict=True):
        _claim(ax, row, y)
    ax.set_yticks(middles, rows["words"], fontsize="small", ha="left")
    for label, headline in zip(ax.get_yticklabels(), rows["headline"], strict=True):
        label.set_fontweight("bold" if headline else "normal")
    ax.tick_params(axis="y", length=0, pad=LETTER * LETTERS)
    ax.set(ylim=(-rows["room"].sum(), 0), xlabel=unit, xscale="log" if unit == TIMES else "linear")
    if unit == TIMES:
        ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.08)


def _claim(ax: Axes, row: NamedTuple, y: float) -> None:
    mark, half = VERDICTS[row.verdict], 0.42 * row.room
    for bound in (row.above, row.below):
        if np.isfinite(bound):
            _bound(ax, row, bound, y, half)
    ax.plot([row.low, row.high], [y, y], color=mark.colour, linewidth=2.2)
    ax.plot(row.ours, y, mark.marker, color=mark.colour, markersize=9 if row.headline else 6.5)
    if np.isfinite(row.paper_value):
        how = {"color": INK, "linestyle": "", "markerfacecolor": "none", "label": "the paper's figure"}
        ax.plot(row.paper_value, y + 0.6 * half, marker="v", **how)
    at = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": "small"}
    ax.annotate(f"{schema.VERDICTS[row.verdict]} {row.verdict}\n{_numbers(row)}", (1.02, y), **at)


def _bound(ax: Axes, row: NamedTuple, bound: float, y: float, half: float) -> None:
    if row.delta > 0:
        low, high = (
            (bound / row.delta, bound * row.delta) if row.unit == TIMES else (bound - row.delta, bound + row.delta)
        )
        size = high - low, 2 * half
        how = {"color": GREY, "alpha": 0.25, "linewidth": 0, "label": "within delta of the bound"}
        ax.add_patch(Rectangle((low, y - half), *size, **how))
    ax.plot([bound] * 2, [y - half, y + half], color=INK, linewidth=1.4, label="bound")


def _numbers(row: NamedTuple) -> str:
    """Return "1.2 [0.8, 1.6]", or the estimate alone."""
    ours, low, high = (f"{value:.3g}".replace("-", "−") for value in (row.ours, row.low, row.high))
    return f"{ours} [{low}, {high}]" if np.isfinite([row.low, row.high]).all() else ours


def _entries(axes: np.ndarray) -> tuple[list, list[str]]:
    """Return the handles and labels of all panels' legends."""
    found = [ax.get_legend_handles_labels() for ax in axes]
    return [handle for handles, _ in found for handle in handles], [label for _, labels in found for label in labels]
