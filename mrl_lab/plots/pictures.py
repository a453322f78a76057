"""Things rather than numbers: pictures, the neighbours of one, and the drawing of what nests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrl_lab.plots.style import (
    AXES,
    BLUE,
    GREEN,
    GREY,
    INK,
    RED,
    cost_axis,
    metric_name,
    name_values,
    new_axes,
    shades,
)


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
            ax.set_xlabel(f"was no. {places[i]}" if moved else "", fontsize="small")
        row[1].set_ylabel(name)
    ax = lower.subplots()
    ax.plot(costs["flops"], costs["value"], "o", color=GREY, markerfacecolor="none")
    ax.plot(costs["flops"].iloc[here], costs["value"].iloc[here], "D", color=BLUE, markersize=9)
    cost_axis(ax, "flops", costs["flops"])
    ax.set_xlabel(f"{AXES['flops']} a query")
    name_values(ax, metric_name("map@10"))
    return fig


def told(images: Sequence, pooled: Sequence, words: Sequence[str], right: Sequence[bool], caption: str = "") -> Figure:
    """Draw pictures, under each what coarser tokens would keep of it, and under that what was said; frames as above.

    Args:
        images, pooled: n pictures each. words: n texts below. right: whether each is the right answer.
    """
    fig = Figure(figsize=(1.75 * len(images), 4.1), layout="constrained")
    fig.suptitle(caption, fontsize="medium")
    upper, lower = fig.subplots(2, len(images), squeeze=False)
    for i, (whole, coarse) in enumerate(zip(upper, lower, strict=True)):
        _picture(whole, images[i], "")
        _picture(coarse, pooled[i], "")
        _frame(coarse, GREEN if right[i] else RED, "-" if right[i] else (0, (2.5, 1.5)))
        coarse.set_xlabel(words[i], fontsize="small")
    return fig


def nesting(sizes: Sequence[int]) -> Figure:
    """Draw what nests: one embedding of d numbers, and under it each prefix with a loss of its own."""
    d = sizes[-1]
    ax = new_axes((7, 0.5 + 0.42 * len(sizes)))
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
