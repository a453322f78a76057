"""A page's words of today: what is to be said of a run can only be written after it.

What was done may not change, so each code cell has to be, to the letter, the one that ran; run.json then says from
which commit the words are. A run of other code keeps the words that it was made with, and is to be run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mrl_lab import files, source
from mrl_lab.report import faces, notebooks, record

if TYPE_CHECKING:
    from nbformat import NotebookNode

Cells = list["NotebookNode"]


def renew(folder: Path) -> bool:
    """Give the finished run in ``folder`` the prose that its notebook has now; return whether there was other."""
    import nbformat

    run, file = record.read(folder), folder / "notebook.ipynb"
    now = notebooks.original(run["notebook"]) if run.get("status") == "done" else None
    if now is None:
        return False
    kept = nbformat.read(file, as_version=4)
    cells = _renewed(kept.cells, nbformat.read(now.path, as_version=4).cells, now.path.parent)
    if cells is None or _prose(cells) == _prose(kept.cells):
        return False
    kept.cells = cells
    files.write(file, nbformat.writes(kept).encode())
    text = json.dumps(run | {"prose": source.commit()}, indent=2, ensure_ascii=False)
    files.write(folder / "run.json", f"{text}\n".encode())
    return True


def _renewed(ran: Cells, now: Cells, beside: Path) -> Cells | None:
    """Return the cells of ``now``, those with code as they ran; None where another code ran than stands there."""
    done = [cell for cell in ran if cell.cell_type == "code"]
    given = [cell for cell in done if cell.source.startswith(notebooks.INJECTED)]
    typed = [cell for cell in done if cell not in given]
    if [cell.source for cell in typed] != [cell.source for cell in now if cell.cell_type == "code"]:
        return None
    return list(_woven(iter(done), given, now, beside))


def _woven(done: Iterator[NotebookNode], given: Cells, now: Cells, beside: Path) -> Iterator[NotebookNode]:
    for cell in now:
        if cell.cell_type == "code":
            yield next(done)
            if notebooks.TAG in cell.metadata.get("tags", ()) and given:
                yield next(done)  # papermill puts what it was given behind the cell with the parameters
        else:
            faces.settle(cell, beside, {})
            yield cell


def _prose(cells: Cells) -> list[str]:
    return [cell.source for cell in cells if cell.cell_type == "markdown"]
