"""The notebooks as the command line sees them: name, what each shows, minutes, needs and parameters.

Only the JSON of the files is read, so listing them takes no heavy import. The folder is ``MRL_LAB_NOTEBOOKS``,
else ``notebooks/`` in the current folder, else the one beside the package in a clone, or the one that came inside it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mrl_lab import parameters
from mrl_lab.errors import RequestError, unknown
from mrl_lab.parameters import Parameter
from mrl_lab.source import PACKAGE, checkout

TAG = "parameters"  # papermill's name for the cell


@dataclass(frozen=True)
class Notebook:
    """One notebook.

    Attributes:
        shows: one sentence.
        minutes: {budget: expected minutes on the machine that the budget is for}.
        needs: names of the data sets and weights of the default settings.
        cells: number of code cells that will be run.
        digest: SHA-256 over the cells, without outputs and metadata.
    """

    name: str
    path: Path
    shows: str
    minutes: dict[str, float]
    needs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    cells: int
    digest: str


def folder() -> Path:
    """Return the folder that holds the notebooks.

    Raises:
        RequestError: none of the places has a notebook.
    """
    asked = os.environ.get("MRL_LAB_NOTEBOOKS")
    places = [Path(asked)] if asked else [Path("notebooks"), (checkout() or PACKAGE) / "notebooks"]
    for place in places:
        if any(place.glob("*.ipynb")):
            return place
    looked = ", ".join(map(str, places))
    raise RequestError(f"no notebooks in {looked}: run inside the clone, or set MRL_LAB_NOTEBOOKS to their folder.")


def find() -> dict[str, Notebook]:
    """Return {name: notebook}, in the order of their numbers."""
    return {file.stem: read(file) for file in sorted(folder().glob("*.ipynb"))}


def read(file: Path) -> Notebook:
    """Read one notebook's face.

    Raises:
        RequestError: the file is no notebook, or its parameters cell cannot be read.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        about = raw["metadata"].get("mrl_lab", {})
        cells = [{**cell, "source": "".join(cell["source"])} for cell in raw["cells"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{file} is not a notebook that can be read ({error}): restore it.") from None
    try:
        found = [p for cell in cells if TAG in _tags(cell) for p in parameters.read(cell["source"])]
    except (RequestError, SyntaxError) as error:
        raise RequestError(f"{file.name}: {error}") from None
    return Notebook(
        name=file.stem,
        path=file.resolve(),
        shows=about.get("shows", ""),
        minutes=dict(sorted(about.get("minutes", {}).items(), key=lambda item: item[1])),
        needs=tuple(about.get("needs", ())),
        parameters=tuple(found),
        cells=sum(cell["cell_type"] == "code" and bool(cell["source"].strip()) for cell in cells),
        digest=_digest(cells),
    )


def _tags(cell: dict) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _digest(cells: list[dict]) -> str:
    kept = [[cell["cell_type"], _tags(cell), cell["source"]] for cell in cells]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def pick(asked: Iterable[str], known: dict[str, Notebook]) -> list[Notebook]:
    """Return the notebooks meant by names or by prefixes that fit one name only, each once.

    Raises:
        RequestError: a name that fits none or several.
    """
    chosen = {}
    for text in asked:
        name = Path(text).stem if text.endswith(".ipynb") else text
        fits = [name] if name in known else [n for n in known if name and n.startswith(name)]
        if not fits:
            raise unknown("notebook", text, known)
        if len(fits) > 1:
            raise RequestError(f"notebook {text!r} may mean {', '.join(fits)}: write more of its name.")
        chosen[fits[0]] = known[fits[0]]
    return list(chosen.values())
