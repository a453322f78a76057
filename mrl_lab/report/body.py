"""An executed notebook as HTML: what nbconvert makes with our template, made fit to be read on any screen.

Code is folded, maths is MathML, figures are inline SVG whose ink follows the page, tables scroll in a box of their own.
"""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mrl_lab import plots
from mrl_lab.report import tables
from mrl_lab.report.faces import legible
from mrl_lab.report.maths import to_mathml

if TYPE_CHECKING:
    from nbconvert import HTMLExporter
    from nbformat import NotebookNode

TEMPLATE = Path(__file__).parent / "template"
SHOWS = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain"]  # the first it has
COLOURS = {plots.INK: "var(--ink)", plots.GRID: "var(--grid)"}
MARKER = "papermill-error-cell-tag"  # papermill's own red cells; the page marks the cell itself
LEAST = 11  # pixels that a figure's smallest letters keep: on a phone it shrinks so far, then scrolls
MOST = 1.25  # of its own size: no figure grows beyond this for its smallest letters


def render(notebook: NotebookNode, failed: int | None = None) -> str:
    """Return the notebook without its title as HTML; ``failed`` is the number of the cell to mark."""
    from nbformat import from_dict

    notebook = from_dict(notebook)  # a copy: marks are for this page only
    notebook.cells = [c for c in notebook.cells if MARKER not in c.metadata.get("tags", []) and c.source.strip()]
    heading = next((c for c in notebook.cells if c.cell_type == "markdown"), None)
    if heading is not None:
        heading.source = re.sub(r"\A\s*#\s+.+", "", heading.source)
    _mark(notebook, failed)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = to_mathml(cell.source)
        elif cell.cell_type == "code":
            legible(cell)
    html, _ = _exporter().from_notebook_node(notebook)
    html = re.sub(r"(?:<\?xml[^>]*>\s*|<!DOCTYPE[^>]*>\s*)*(<svg\b.*?</svg>)", _picture, html, flags=re.DOTALL)
    return tables.polish(html)


def _mark(notebook: NotebookNode, failed: int | None) -> None:
    """Mark the failing cell: by its error or its count; the first that was not run when the kernel died."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if failed is None or not code:
        return
    broken = [c for c in code if any(o.output_type == "error" for o in c.outputs)]
    counted = [c for c in code if c.execution_count == failed]
    (broken + counted + code[failed - 1 :] + code)[0].metadata["failed"] = True


@cache
def _exporter() -> HTMLExporter:
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config({"NbConvertBase": {"display_data_priority": SHOWS}})
    return HTMLExporter(config, template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)])


def _picture(found: re.Match) -> str:
    """Let the page recolour a figure, and keep its letters from becoming too small to read."""
    svg = found[1]
    for colour, variable in COLOURS.items():
        svg = svg.replace(colour, variable)
    width = re.match(r'<svg[^>]*\swidth="([\d.]+)pt"', svg)
    letters = [float(size) for size in re.findall(r'font(?:-size)?:[^;"]*?([\d.]+)px', svg)]
    if width is None or not letters:
        return svg
    share = min(LEAST / (min(letters) * 4 / 3), MOST)  # matplotlib's units are points, of 4/3 pixels
    return svg.replace("<svg", f'<svg style="min-width: {math.ceil(share * float(width[1]))}pt"', 1)
