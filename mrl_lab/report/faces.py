"""What the cells of an executed notebook show, made fit for a file that stands alone.

:func:`settle` is for the notebook that is kept: its pictures come into it, and of a widget stays what needs no kernel.
:func:`legible` is for the page: what was printed is one text of a bounded length, and maths in outputs is MathML.
"""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Iterator, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mrl_lab.report.maths import CODE, to_mathml

if TYPE_CHECKING:
    from nbformat import NotebookNode

LONGEST = 10_000  # characters of one text on the page: its first and its last half of that
WIDGET = "application/vnd.jupyter.widget-view+json"
STATES = "application/vnd.jupyter.widget-state+json"
LIVE = "This widget moves where a kernel runs: open notebook.ipynb in JupyterLab and run the cell."
PICTURE = re.compile(
    rf"{CODE}"
    r"|!\[(?P<alt>[^\]]*)\]\(\s*(?P<link><[^>\n]+>|[^)\s]+)(?:\s+[\"'][^)]*)?\)"
    r"|(?P<before><img\b[^>]*?\bsrc=(?P<quote>[\"']))(?P<source>.+?)(?P<after>(?P=quote)[^>]*>)",
    re.DOTALL | re.MULTILINE,
)


# ------------------------------------------------------------------------------------- the notebook that is kept


def settle(cell: NotebookNode, beside: Path, states: Mapping) -> None:
    """Take the pictures of the folder ``beside`` into a cell, and give its widgets a face that needs no kernel.

    Args:
        states: the notebook's widgets, {model: {"state": ...}}.
    """
    if cell.cell_type == "markdown":
        cell.source = _embed(cell.source, beside)
    cell.update({"outputs": list(_settled(cell.outputs, beside, states))} if cell.cell_type == "code" else {})


def _settled(outputs: list[NotebookNode], beside: Path, states: Mapping) -> Iterator[NotebookNode]:
    for output in outputs:
        data = output.get("data", {})
        view = data.pop(WIDGET, None)
        if view is not None and set(data) <= {"text/plain"}:
            data["text/plain"] = LIVE
        for kind in {"text/html", "text/markdown"} & set(data):
            data[kind] = _embed(data[kind], beside)
        yield output
        if data.get("text/plain") == LIVE:
            yield from _inside(view["model_id"], states)


def _inside(model: str, states: Mapping) -> Iterator[NotebookNode]:
    """What a widget and those within it show when they are first seen."""
    from nbformat import from_dict

    state = states.get(model, {}).get("state", {})
    yield from map(from_dict, state.get("outputs", ()))
    for child in state.get("children", ()):
        yield from _inside(child.removeprefix("IPY_MODEL_"), states)


def _embed(text: str, beside: Path) -> str:
    """Return Markdown or HTML with its local pictures in it, as data."""
    return PICTURE.sub(partial(_picture, beside), text)


def _picture(beside: Path, found: re.Match) -> str:
    link = found["source"] or (found["link"] or "").strip("<>")
    if not link or urlsplit(link).netloc or urlsplit(link).scheme:
        return found[0]
    file, kind = beside / unquote(urlsplit(link).path), mimetypes.guess_type(link)[0] or ""
    if not file.is_file() or not kind.startswith("image/"):
        return f"<em>(no picture {escape(link)} beside the notebook)</em>"
    data = f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
    if found["source"]:
        return found["before"] + data + found["after"]
    return f'<img src="{data}" alt="{escape(found["alt"])}">'


# ----------------------------------------------------------------------------------------------------- the page


def legible(cell: NotebookNode) -> None:
    """Join and shorten what a code cell printed, and turn the maths that it shows into MathML."""
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    for output in cell.outputs:
        if output.output_type == "stream":
            output.name = "stdout"  # the page draws both alike; lines that alternate are one text too
    CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)
    for output in cell.outputs:
        if output.output_type == "stream":
            output.text = shorten(output.text)
        elif output.output_type == "error":
            output.traceback = [shorten(part) for part in output.traceback]
        else:
            _legible(output.data)


def _legible(data: NotebookNode) -> None:
    if "text/plain" in data:
        data["text/plain"] = shorten(data["text/plain"])
    if "text/latex" in data:
        latex = data.pop("text/latex").strip()
        data.setdefault("text/markdown", latex if "$" in latex or latex.startswith(r"\begin") else f"$${latex}$$")
    if "text/markdown" in data:
        data["text/markdown"] = to_mathml(data["text/markdown"])


def shorten(text: str) -> str:
    """Return a text of up to :data:`LONGEST` characters as it is; of a longer one both ends, and what is left out."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    out = text[half:-half]
    lines = f" in {out.count(chr(10)):,} lines" if "\n" in out else ""
    return (
        f"{text[:half]}\n… {len(out):,} characters{lines} are left out here; notebook.ipynb has them …\n{text[-half:]}"
    )
