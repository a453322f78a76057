"""One style for all figures: colours, markers, names of metrics and axes, and the parts that figures share."""

from __future__ import annotations

import math
import re
import textwrap
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter, NullLocator

from mrl_lab.errors import unknown

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
HUES = (0, 1, 2, 1, 3, 1, 2, 0, 0)  # of LOOKS: two of one hue are told apart by their markers rather than their colours
KNOWN = {"MRL": 0, "plain": 1, "FF": 1, "MRL-E": 2, "2DMSE": 2, "Starbucks": 8, "separate": 6, "untouched": 6}
KNOWN |= {"M3": 3, "all tokens": 7, "all tokens, pooled": 0, "slice": 0, "none": 1, "proj": 2, "Franca": 4}
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
    "right": "right answers (%)",
    "cell": "what is at a cell, right (%)",
}
AXES = {
    "dim": "dims kept, m",
    "layer": "layers kept, n",
    "tokens": "tokens kept, t",
    "flops": "multiply-adds",
    "bytes": "bytes an embedding",
    "seconds": "seconds",
}
UNITS = {"flops": "", "bytes": "B", "seconds": "s"}
LETTER = 6.2  # points that a letter takes, on the whole


def use_style() -> None:
    """Set the style for all figures and tables that follow; in a notebook, show figures as SVG. Call once."""
    pd.set_option("display.max_colwidth", None)  # claims and notes are sentences
    pd.set_option("display.precision", 3)
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

    A variant, such as "MRL, cut" or "MRL cascade", looks as MRL where that is not there. Two methods of one figure
    never share a look while there are enough; one without its own takes another hue than the rest where it can.
    """
    methods = list(dict.fromkeys(methods))
    taken: dict[str, int] = {}
    for name in sorted(methods, key=lambda name: name not in KNOWN):
        taken[name] = _free(name, list(taken.values()))
    return {name: LOOKS[taken[name]] for name in methods}


def _free(name: str, taken: Sequence[int]) -> int:
    """Return the number of the look that ``name`` gets beside those that are taken."""
    of = [known for known in KNOWN if re.match(rf"{re.escape(known)}(?![\w-])", name)]
    own = KNOWN[max(of, key=len)] if of else None
    first = zlib.crc32(name.encode()) % len(LOOKS) if own is None else own
    if own is not None and own not in taken:
        return own
    free = [i % len(LOOKS) for i in range(first, first + len(LOOKS)) if i % len(LOOKS) not in taken]
    apart = [i for i in free if HUES[i] not in {HUES[j] for j in taken}]
    return next(iter(apart + free), first)


def metric_name(metric: str) -> str:
    """Return a metric as a reader says it: "pairs map@10" is "mAP@10 (%), pairs"."""
    where, _, last = metric.rpartition(" ")
    base, at, k = last.partition("@")
    known = METRICS.get(base, last.replace("_", " "))
    return known.format(at + k) + (f", {where}" if where else "")


def new_axes(size: tuple[float, float] | None = None) -> Axes:
    """Return axes of a figure that pyplot does not know."""
    return Figure(figsize=size or mpl.rcParams["figure.figsize"], layout="constrained").subplots()


def pick(scores: pd.DataFrame, metric: str, methods: Sequence[str] | None) -> pd.DataFrame:
    """Return the rows of one metric and of ``methods``, in their order."""
    rows = scores[scores["metric"] == metric]
    if rows.empty:
        raise unknown("metric", metric, sorted(set(scores["metric"])))
    there = list(dict.fromkeys(rows["method"]))
    for method in methods or ():
        if method not in there:
            raise unknown("method", method, there)
    return pd.concat([rows[rows["method"] == method] for method in methods or there], ignore_index=True)


def name_values(ax: Axes, name: str) -> None:
    """Say what the values are above the axes, level: so it is read at once, and cannot run into a legend."""
    ax.set_title(textwrap.fill(name, int(_width(ax) / LETTER)), loc="left")


def size_axis(ax: Axes, by: str, sizes: Iterable[float]) -> None:
    """Name the real sizes on the axis, in steps of doubling except for layers; the larger first where room is short."""
    sizes = sorted(set(map(int, sizes)))
    if by != "layer":
        ax.set_xscale("log", base=2)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(sizes, _with_room(sizes, sizes if by == "layer" else np.log2(sizes), _width(ax)))
    ax.grid(visible=False, axis="x")
    ax.set_xlabel(AXES.get(by, by))


def _with_room(sizes: Sequence[int], places: Sequence[float], width: float) -> list[str]:
    """Return the sizes as text, empty where the next larger one's would lie on it."""
    names, edge = [], math.inf
    reach = max(places) - min(places) or 1
    for size, place in zip(reversed(sizes), reversed(places), strict=True):
        at, half = width * place / reach, LETTER * (len(str(size)) + 0.5) / 2
        fits = at + half < edge
        names.append(str(size) if fits else "")
        edge = at - half if fits else edge
    return names[::-1]


def cost_axis(ax: Axes, cost: str, values: Iterable[float]) -> None:
    """Show a cost on a logarithmic axis in words: "10 M", "2 kB", "5 ms"."""
    ax.set_xscale("log")
    if max(values) < 10 * min(values):
        ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(EngFormatter(UNITS[cost]))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(AXES[cost])


def _width(ax: Axes) -> float:
    """Return about how many points wide the axes are, before they are laid out."""
    return ax.get_window_extent().width * 72 / ax.figure.dpi


def seeds_in_words(rows: pd.DataFrame) -> str:
    """What the lines and bands are, in words."""
    counts = rows.groupby("method", sort=False)["seed"].nunique()
    least, most = counts.min(), counts.max()
    if most < 2:
        return "one seed, so no interval"
    return f"mean of {least if least == most else f'{least} to {most}'} seeds, band: 95 % interval"


def legend_of(ax: Axes, title: str | None = None, above: bool = False) -> None:
    """Put the legend above the panels of a figure made here, or inside axes that were given."""
    handles, labels = ax.get_legend_handles_labels()
    how = {"title": title, "alignment": "left", "handlelength": 3.2}
    if not above and len(ax.figure.axes) > 1:
        ax.legend(handles, labels, loc="best", **how)
        return
    width = 6 + max(map(len, labels), default=0)  # in letters, with the line drawn before it
    columns = max(1, min(len(labels), int(12 * ax.figure.get_figwidth()) // width))
    ax.figure.legend(handles, labels, loc="outside upper left", ncols=columns, **how)


def shades(n: int) -> list[tuple[float, float, float, float]]:
    """Return ``n`` colours of one scale, from small to large, legible on light and dark."""
    return [mpl.colormaps["viridis"](share) for share in np.linspace(0.68, 0.28, n)]
