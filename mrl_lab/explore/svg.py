"""Pictures as text: a figure becomes inline SVG that names what it shows."""

from __future__ import annotations

import io
import re
import sys
from html import escape
from typing import TYPE_CHECKING

from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {"dim": "dims kept, m", "layer": "layers kept, n", "tokens": "tokens kept, t"}


def picture_of(drawn: Figure | str, point: dict[str, object]) -> str:
    """Return what a notebook has drawn as HTML: text as it is, a figure as inline SVG named by its ``point``."""
    if isinstance(drawn, str):
        return drawn
    where = ", ".join(f"{NAMES.get(name, name)} = {value}" for name, value in point.items())
    if not hasattr(drawn, "savefig"):
        raise RequestError(
            f"draw returned {type(drawn).__name__} at {where}: let it return a matplotlib Figure, or HTML text."
        )
    return inline(drawn, where)


def inline(figure: Figure, title: str) -> str:
    """Return a figure as inline SVG: text stays text, no date, nothing before the first tag."""
    import matplotlib as mpl

    file = io.StringIO()
    fonts = ["DejaVu Sans", "sans-serif"]  # a short list, since every text repeats it
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mrl-lab", "font.sans-serif": fonts}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close(figure)  # or the notebook would show it once more
    text = file.getvalue()
    return _lean(text[text.index("<svg") :]).replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def _lean(svg: str) -> str:
    """Drop what no reader sees: blanks, ids that nothing refers to, digits beyond a thousandth of a point."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))

    def lean(tag: re.Match) -> str:
        named = re.sub(r'\sid="([^"]+)"', lambda found: found[0] if found[1] in used else "", tag[0])
        return re.sub(r"\d+\.\d{4,}", lambda number: f"{float(number[0]):.3f}", named)

    return re.sub(r"<[^>]+>", lean, re.sub(r">\s+<", "><", svg))
