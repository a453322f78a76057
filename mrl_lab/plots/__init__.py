"""Figures from tables, in one style: the same method looks the same on every page.

Every function returns a ``matplotlib.figure.Figure`` that pyplot does not know, so a notebook shows it once, as the
last value of a cell; those of one panel can draw into given axes (``ax``). Colour is never the only cue: a method also
has its marker and its dashes. The colours are seaborn's "colorblind" ones, five of them darkened or shifted until each
has a contrast of at least 3 : 1 on white and on the dark page (WCAG 2.2, 1.4.11). Text and axes are in one ink and one
grid grey, which the page swaps in dark mode; the background is transparent.
"""

from mrl_lab.plots.curves import against, curve, curve_and_ratio, differences, frontier, learning_curve, ratio
from mrl_lab.plots.forest import forest
from mrl_lab.plots.grids import cells, heatmap
from mrl_lab.plots.pictures import neighbours, nesting, picture_grid, reranked, told
from mrl_lab.plots.shares import beside_rivals, frontiers
from mrl_lab.plots.style import AXES, GRID, INK, LOOKS, looks, metric_name, seeds_in_words, use_style

__all__ = [
    "AXES",
    "GRID",
    "INK",
    "LOOKS",
    "against",
    "beside_rivals",
    "cells",
    "curve",
    "curve_and_ratio",
    "differences",
    "forest",
    "frontier",
    "frontiers",
    "heatmap",
    "learning_curve",
    "looks",
    "metric_name",
    "neighbours",
    "nesting",
    "picture_grid",
    "ratio",
    "reranked",
    "seeds_in_words",
    "told",
    "use_style",
]
