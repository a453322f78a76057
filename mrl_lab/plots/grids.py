"""Numbers in cells: layers by dims, or any table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mrl_lab.plots.style import AXES, metric_name, name_values, new_axes, pick


def heatmap(
    scores: pd.DataFrame,
    metric: str,
    method: str,
    minus: str | None = None,
    rows: str = "layer",
    columns: str = "dim",
    *,
    outlined: Sequence[tuple[int, int]] = (),
    ax: Axes | None = None,
) -> Figure:
    """Draw mean scores over two axes of the cut, with the number in each cell; the deepest layer on top.

    Args:
        minus: a method to subtract; colours then say better (blue) or worse (red) than it.
        outlined: cells (row, column) with a frame, such as the pairs that were trained.
    """

    def grid(name: str) -> pd.DataFrame:
        part = pick(scores, metric, [name]).astype({rows: int, columns: int})
        return part.pivot_table(index=rows, columns=columns, values="value").sort_index()

    values = grid(method) - grid(minus) if minus else grid(method)
    label = f"{method} − {minus} (points)" if minus else metric_name(metric)
    fig = cells(values, label, signed=minus is not None, ax=ax)
    for row, column in outlined:
        place = values.columns.get_loc(column), values.index.get_loc(row)
        for colour, width in (("#ffffff", 4.0), ("#000000", 1.8)):  # seen on light cells and on dark ones
            fig.axes[0].add_patch(Rectangle(place, 1, 1, fill=False, edgecolor=colour, linewidth=width))
    fig.axes[0].set(xlabel=AXES.get(columns, columns), ylabel=AXES.get(rows, rows))
    return fig


def cells(
    values: pd.DataFrame,
    label: str,
    *,
    signed: bool = False,
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw any table of numbers as coloured cells with the number in each, its first row at the bottom.

    Args:
        label: what the numbers are, with their unit.
        signed: they are differences: blue above 0, red below.
        xlabel, ylabel: what columns and rows are.
    """
    widest = max((len(str(name)) for name in values.index), default=0)
    size = (1.6 + 0.72 * values.shape[1] + 0.07 * widest, 1.2 + max(1.3, 0.42 * values.shape[0]))
    ax = ax if ax is not None else new_axes(size)
    reach = np.nanmax(np.abs(values)) if signed else None
    how = {"cmap": "RdBu", "vmin": -reach, "vmax": reach} if signed else {"cmap": "viridis"}
    mesh = ax.pcolormesh(values, **how)
    for (row, column), value in np.ndenumerate(values):
        text = "" if math.isnan(value) else f"{value:.1f}".replace("-", "−")
        colour = _on(mesh.cmap(mesh.norm(value)))
        ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour)
    ax.figure.colorbar(mesh, ax=ax)
    name_values(ax, label)
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, list(map(str, values.columns)))
    ax.set_yticks(np.arange(values.shape[0]) + 0.5, list(map(str, values.index)))
    ax.grid(visible=False)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax.figure


def _on(cell: Sequence[float]) -> str:
    """Return black or white, whichever stands out more from a cell's colour: always by 4.58 : 1 or more (WCAG 2.2).

    Neither is the ink that a page swaps in dark mode, since the cell keeps its colour there.
    """
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in cell[:3])
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
