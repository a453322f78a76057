"""Names beside points, each only where there is room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

BESIDE = 5.0  # points from a point's middle to its name
MARKER = 3.5  # points from a point's middle to its edge
AROUND = tuple((dx, dy) for dx in (1, -1, 0) for dy in (-1, 1, 0) if dx or dy)  # below to the right first
ACROSS, UPWARDS = {1: "left", -1: "right", 0: "center"}, {1: "bottom", -1: "top", 0: "center"}


def name_points(ax: Axes, points: Sequence[tuple[float, float]], names: Iterable[str]) -> None:
    """Write names beside points, the first ones first; one that would lie on a name, a point or the edge is left out.

    So is one that would stand nearer to another point than to its own. Call it last: it measures the figure as it is.
    """
    ax.figure.draw_without_rendering()
    edge, pixel = ax.get_window_extent(), ax.figure.dpi / 72
    places = ax.transData.transform(points)
    taken = [Bbox.from_extents(*at, *at).padded(MARKER * pixel) for at in places]
    for point, place, name in zip(points, places, names, strict=True):
        for dx, dy in AROUND:
            where = {"ha": ACROSS[dx], "va": UPWARDS[dy], "fontsize": "small"}
            label = ax.annotate(name, point, (BESIDE * dx, BESIDE * dy), textcoords="offset points", **where)
            box = label.get_window_extent()
            inside = edge.contains(box.x0, box.y0) and edge.contains(box.x1, box.y1)
            if inside and not box.count_overlaps(taken) and _gap(box, place) <= min(_gap(box, at) for at in places):
                taken.append(box.padded(pixel))
                break
            label.remove()


def _gap(box: Bbox, at: np.ndarray) -> float:
    """Return how many pixels lie between a box and a point."""
    return float(np.linalg.norm(np.maximum([box.x0 - at[0], box.y0 - at[1]], 0) + np.maximum(at - box.max, 0)))
