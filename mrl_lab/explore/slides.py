"""A slider with two faces: a widget in JupyterLab, plain HTML in the exported page; the same pictures in both.

    explore.slider(draw, dim=[2, 4, 8])                      one axis; draw(dim=4) returns a figure, or HTML text
    explore.slider(draw, layer=[1, 2, 3], dim=[2, 4, 8])     two axes: every pair is drawn

All pictures are drawn once, when the slider is made. From then on no kernel is needed: the widgets are linked in the
browser, and the page has a few lines of script. A stored widget shows nothing in an exported page and a script does
nothing for a live notebook, hence two faces; Jupyter picks the one it knows.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from mrl_lab.errors import RequestError, unknown
from mrl_lab.explore.svg import NAMES, picture_of

if TYPE_CHECKING:
    from ipywidgets import Widget
    from jinja2 import Template
    from matplotlib.figure import Figure

MOST = 60  # pictures; at 10 to 25 KB each a page stays below 1.5 MB
TEMPLATE = Path(__file__).parents[1] / "report" / "template" / "slider.html.j2"

Draw = Callable[..., "Figure | str"]
_shown: Counter[str] = Counter()  # how often this kernel has shown a slider: two of the same need different ids


@dataclass(frozen=True)
class Axis:
    """One axis of a slider: how it is called, its values as text, and where it starts (a position)."""

    name: str
    values: tuple[str, ...]
    start: int


@dataclass(frozen=True)
class Slider:
    """A picture for every combination of the axes, the last axis running fastest. Show it as a cell's last value."""

    axes: tuple[Axis, ...]
    pictures: tuple[str, ...]
    caption: str = ""

    def html(self) -> str:
        """Return the face of the exported page."""
        digest = hashlib.sha256("".join(self.pictures).encode()).hexdigest()[:8]
        name = f"s{digest}{_shown[digest] or ''}"
        _shown[digest] += 1
        pictures = [_with_own_ids(picture, f"{name}-{i}") for i, picture in enumerate(self.pictures)]
        return _template().render(slider=self, name=name, pictures=pictures, at=self._position())

    def widget(self) -> Widget:
        """Return the live face: a Stack of pictures, whose position is linked to the sliders in the browser."""
        import ipywidgets

        sliders = [
            ipywidgets.SelectionSlider(
                options=[(value, i) for i, value in enumerate(axis.values)],
                index=axis.start,
                description=axis.name,
                style={"description_width": "initial"},
                layout={"width": "28em", "max_width": "100%"},
            )
            for axis in self.axes
        ]
        pictures = [ipywidgets.HTML(_with_own_ids(picture, f"w{i}")) for i, picture in enumerate(self.pictures)]
        caption = [ipywidgets.HTML(escape(self.caption))] if self.caption else []
        return ipywidgets.VBox([*sliders, _stack(sliders, pictures), *caption])

    def _position(self) -> int:
        """Return which picture is shown first."""
        at = 0
        for axis in self.axes:
            at = at * len(axis.values) + axis.start
        return at

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        axes = ", ".join(f"{axis.name}: {', '.join(axis.values)}" for axis in self.axes)
        return self.widget()._repr_mimebundle_() | {"text/html": self.html(), "text/plain": f"slider ({axes})"}


def slider(draw: Draw, *, start: dict[str, object] | None = None, caption: str = "", **axes: Sequence) -> Slider:
    """Draw a picture for every value of one axis, or for every pair of two, and put them under sliders.

    Args:
        draw: called by the names of the axes; returns a matplotlib figure, or HTML text (of which it escapes what
            it took from data).
        start: the values to start at, such as ``{"dim": 64}``; by default the largest number, or
            the last text.
        caption: plain text below the picture.
        axes: one or two, each a list of real values.

    Raises:
        RequestError: none or too many axes, values or pictures; a start that is not a value; not a picture.
    """
    lists = {name: list(values) for name, values in axes.items()}
    _check(lists, start or {})
    points = [dict(zip(lists, point, strict=True)) for point in product(*lists.values())]
    made = tuple(_axis(name, values, start or {}) for name, values in lists.items())
    return Slider(made, tuple(picture_of(draw(**point), point) for point in points), caption)


def _check(axes: dict[str, list], start: dict[str, object]) -> None:
    if not 1 <= len(axes) <= 2:
        raise RequestError(f"a slider has one or two axes, got {len(axes)}: slider(draw, dim=[2, 4, 8]).")
    for name, values in axes.items():
        if not values:
            raise RequestError(f"axis {name!r} has no values: give a list, such as {name}=[2, 4, 8].")
        if len(set(values)) < len(values):
            raise RequestError(f"axis {name!r} has a value twice: {values}. Give each once.")
    count = prod(map(len, axes.values()))
    if count > MOST:
        raise RequestError(f"{' × '.join(axes)} makes {count} pictures, at most {MOST} fit a page: give fewer values.")
    for name, value in start.items():
        if name not in axes:
            raise unknown("axis of start:", name, axes)
        if value not in axes[name]:
            raise unknown(f"start of {name!r}:", value, axes[name])


def _axis(name: str, values: list, start: dict[str, object]) -> Axis:
    largest = values[-1] if any(isinstance(value, str) for value in values) else max(values)
    texts = tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return Axis(NAMES.get(name, name.replace("_", " ")), texts, values.index(start.get(name, largest)))


def _stack(sliders: Sequence[Widget], pictures: Sequence[Widget]) -> Widget:
    """Stack the pictures of the last slider; those of a slider before it are stacks of stacks."""
    import ipywidgets

    first, *others = sliders
    size = len(pictures) // len(first.options)
    children = [_stack(others, pictures[i : i + size]) for i in range(0, len(pictures), size)] if others else pictures
    stack = ipywidgets.Stack(children, selected_index=first.index)
    ipywidgets.jslink((first, "index"), (stack, "selected_index"))
    return stack


def _with_own_ids(picture: str, prefix: str) -> str:
    """Put ``prefix`` before each id of an SVG: where two share an id, one that is hidden breaks the other."""
    if not picture.startswith("<svg"):
        return picture
    named = re.compile(r'(\sid="|url\(#|href="#)')
    return re.sub(r"<[^>]+>", lambda tag: named.sub(rf"\g<1>{prefix}-", tag[0]), picture)


@cache
def _template() -> Template:
    from jinja2 import Environment

    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE.read_text("utf-8"))
