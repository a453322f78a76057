"""A live panel: choose a query, sizes, K, tokens or a cluster, and see what the states in memory say of it, at once.

    explore.live(draw, query=range(200), dim=[4, 8, 16], instead=prepared)

``draw`` is called by the names of the axes whenever one was moved and has rested for a moment, and returns a figure or
HTML text. It needs a kernel (JupyterLab, Voila); an exported page shows the ``instead`` slider in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from mrl_lab.errors import RequestError
from mrl_lab.explore.svg import NAMES, picture_of

if TYPE_CHECKING:
    from ipywidgets import Widget
    from matplotlib.figure import Figure

    from mrl_lab.explore.slides import Slider

REST = 0.15  # seconds that a control must be still before anything is computed
BUSY, READY = "computing …", ""


@dataclass(eq=False)
class Live:
    """A panel of controls over one picture. Show it as a cell's last value."""

    draw: Callable[..., Figure | str]
    axes: dict[str, Sequence]
    instead: Slider | None = None
    _waiting: asyncio.TimerHandle | None = field(default=None, init=False, repr=False)

    def widget(self) -> Widget:
        """Return controls, a sign that is seen while it computes, and the picture."""
        import ipywidgets

        controls = {name: _control(name, values) for name, values in self.axes.items()}
        sign, picture = ipywidgets.HTML(READY), ipywidgets.HTML()

        def show() -> None:
            sign.value = BUSY
            picture.value = self._drawn({name: control.value for name, control in controls.items()})
            sign.value = READY

        for control in controls.values():
            control.observe(lambda change: self._after_a_rest(show), names="value")
        show()
        return ipywidgets.VBox([*controls.values(), sign, picture])

    def _after_a_rest(self, show: Callable[[], None]) -> None:
        """Call ``show`` once no control has moved for :data:`REST`; at once where nothing could wait."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            show()
            return
        if self._waiting:
            self._waiting.cancel()
        self._waiting = loop.call_later(REST, show)

    def _drawn(self, point: dict[str, object]) -> str:
        """Return the picture, or what went wrong: an error in a callback would be seen by nobody."""
        try:
            return picture_of(self.draw(**point), point)
        except Exception as error:
            return f"<pre>{escape(type(error).__name__)}: {escape(str(error))}</pre>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        words = f"live panel ({', '.join(self.axes)})"
        page = self.instead.html() if self.instead else f"<p>{words}: open the notebook in JupyterLab to use it.</p>"
        return self.widget()._repr_mimebundle_() | {"text/html": page, "text/plain": words}


def live(draw: Callable[..., Figure | str], *, instead: Slider | None = None, **axes: Sequence) -> Live:
    """Return a panel that draws what is chosen, when it is chosen.

    Args:
        draw: called by the names of the axes; returns a figure, or HTML text (of which it escapes what it took from
            data).
        instead: what an exported page shows.
        axes: values to choose from: a ``range`` becomes a slider over whole numbers, texts a list, others a slider.

    Raises:
        RequestError: no axis, or one without values.
    """
    if not axes:
        raise RequestError("a live panel has at least one axis: live(draw, query=range(100), dim=[2, 4, 8]).")
    for name, values in axes.items():
        if not len(values):
            raise RequestError(f"axis {name!r} has no values: give a list or a range, such as {name}=[2, 4, 8].")
    return Live(draw, dict(axes), instead)


def _control(name: str, values: Sequence) -> Widget:
    import ipywidgets

    how = {"description": NAMES.get(name, name.replace("_", " ")), "style": {"description_width": "initial"}}
    how |= {"layout": {"width": "28em", "max_width": "100%"}}
    if isinstance(values, range):
        return ipywidgets.IntSlider(values[0], values[0], values[-1], values.step, **how)
    if any(isinstance(value, str) for value in values):
        return ipywidgets.Dropdown(options=list(values), value=values[0], **how)
    return ipywidgets.SelectionSlider(options=list(values), value=values[-1], **how)
