"""A line a method, in one panel, or in a panel each where they are many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from mrl_lab import stats
from mrl_lab.plots.style import (
    AXES,
    GREY,
    INK,
    Look,
    legend_of,
    looks,
    name_values,
    new_axes,
    seeds_in_words,
    size_axis,
)

WIDE = 8.4  # inches of a figure with several panels
MANY = 6  # lines that can be told apart in one panel
COLUMNS = 4  # of panels


@dataclass(frozen=True)
class Lines:
    """One line a method, from ``rows`` by the column ``by``: what the values are called, and a ``level`` to compare."""

    rows: pd.DataFrame
    by: str
    name: str
    trained: Sequence[int] | None = None
    level: float | None = None
    word: str = ""

    @property
    def methods(self) -> list[str]:
        """Those that have a score at any size, in their order."""
        return list(dict.fromkeys(self.table["method"]))

    @cached_property
    def table(self) -> pd.DataFrame:
        """The mean and interval of each method at each size."""
        return stats.intervals(self.rows, ["method", self.by]).dropna(subset=[self.by]).astype({self.by: float})

    @property
    def many(self) -> bool:
        """Whether each gets a panel."""
        return len(self.methods) > MANY

    @property
    def height(self) -> float:
        """Inches that the panels take."""
        return 0.6 + 1.7 * math.ceil(len(self.methods) / COLUMNS)

    def show(self, legend: bool, ax: Axes | None) -> Figure:
        """Draw into ``ax``, or else into one panel, or as many as it takes."""
        if ax is None and self.many:
            return self.panels(Figure(figsize=(WIDE, self.height), layout="constrained"))
        ax = ax if ax is not None else new_axes()
        self.draw(ax)
        if legend:
            legend_of(ax, seeds_in_words(self.rows))
        return ax.figure

    def panels(self, fig: Figure | SubFigure) -> Figure | SubFigure:
        """Draw a panel a method, its line in colour and all others in grey."""
        count = math.ceil(len(self.methods) / COLUMNS)
        axes = fig.subplots(count, COLUMNS, sharey=True, squeeze=False).ravel()
        fig.suptitle(f"{self.name}; {seeds_in_words(self.rows)}", x=0.01, ha="left", fontsize="medium")
        for method, ax in zip(self.methods, axes, strict=False):
            self.draw(ax, method)
            ax.set_title(method, loc="left", fontsize="small")
            ax.set_xlabel("")
        for ax in axes[len(self.methods) :]:
            ax.remove()
        fig.supxlabel(AXES.get(self.by, self.by), fontsize="medium")
        return fig

    def draw(self, ax: Axes, only: str | None = None) -> None:
        """Draw the lines into ``ax``; with ``only``, the other methods' without markers, in grey."""
        for method, look in looks(self.methods).items():
            line = self.table[self.table["method"] == method].sort_values(self.by)
            if only in (None, method):
                _line(ax, line, self.by, look, line[self.by] if self.trained is None else self.trained)
            else:
                ax.plot(line[self.by], line["mean"], color=GREY, linewidth=0.8, alpha=0.7, zorder=1.5)
        size_axis(ax, self.by, self.table[self.by] if self.trained is None else self.trained)
        name_values(ax, self.name)
        if self.level is not None:
            ax.axhline(self.level, color=INK, linewidth=0.9, linestyle=(0, (2, 2)) if self.word else "-")
            at = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom", "fontsize": "small"}
            ax.annotate(self.word, (1, self.level), **at)


def _line(ax: Axes, line: pd.DataFrame, by: str, look: Look, trained: Iterable[float]) -> None:
    """Draw a mean over seeds, a marker a size, and a band where there are seeds enough for one."""
    hollow = ~line[by].isin(trained)
    x, mean, low, high = (line[column] for column in (by, "mean", "low", "high"))
    how = {"color": look.colour, "linestyle": look.dash, "label": line["method"].iloc[0]}
    ax.plot(x, mean, marker=look.marker, markevery=np.flatnonzero(~hollow).tolist(), **how)
    if hollow.any():
        ax.plot(x[hollow], mean[hollow], look.marker, color=look.colour, markerfacecolor="none")
    if low.notna().any():
        ax.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0)
        ax.vlines(x, low, high, color=look.colour, linewidth=1)
