"""The notebooks as the command line sees them: name, what each shows, minutes, needs and parameters.

Only the JSON of the files is read, so listing them takes no heavy import. The folder is ``MRL_LAB_NOTEBOOKS``,
else ``notebooks/`` in the current folder, else the one beside the package in a clone, or the one that came inside it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mrl_lab import parameters
from mrl_lab.errors import RequestError, unknown
from mrl_lab.parameters import Parameter
from mrl_lab.source import PACKAGE, checkout

TAG = "parameters"  # papermill's name for the cell
INJECTED = "# Parameters\n"  # the head of the one that it adds


@dataclass(frozen=True)
class Notebook:
    """One notebook.

    Attributes:
        shows: one sentence.
        minutes: {budget: expected minutes on the machine that the budget is for}.
        needs: {budget: names of the data sets and weights that must be there}.
        adds: {budget: names of those that only add to it, where they are found}.
        instead: {parameter: names of those that are not used once the parameter is given another value}.
        untried: what it can do and was never seen to do, in a sentence.
        code: the code cells that will be run.
        digest: SHA-256 over the cells, without outputs and metadata.
    """

    name: str
    path: Path
    shows: str
    minutes: dict[str, float]
    needs: dict[str, list[str]]
    adds: dict[str, list[str]]
    instead: dict[str, list[str]]
    untried: str
    parameters: tuple[Parameter, ...]
    code: tuple[str, ...]
    digest: str

    def check(self, given: Mapping[str, object], sources: Iterable[str] = ()) -> None:
        """Check the parameters that a kernel was given.

        Args:
            given: the kernel's variables.
            sources: of the cells that it has run; papermill puts what it was given into one of its own.

        Raises:
            RequestError: a parameter that is not set, of the wrong kind or against its rule, or an unknown one.
        """
        known = parameters.named(self.parameters)
        own = {name for source in sources for name in _annotated(source)}  # a copy may have more than the original
        for name in _injected(sources):
            if name not in known and name not in own:
                raise unknown("parameter", name, known)
        lacking = [name for name in known if name not in given]
        if lacking:
            raise RequestError(f"parameter {lacking[0]!r} of {self.name} is not set: run the parameters cell first.")
        parameters.check(self.parameters, {name: parameters.of_kind(p, given[name]) for name, p in known.items()})


def _injected(sources: Iterable[str]) -> list[str]:
    """Return the names that papermill's own cell sets."""
    found = [node for source in sources if source.startswith(INJECTED) for node in ast.parse(source).body]
    return [target.id for node in found for target in node.targets]


def _annotated(source: str) -> list[str]:
    """Return the names that a cell sets with an annotation, as a parameters cell does."""
    try:
        return [node.target.id for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
    except (SyntaxError, AttributeError):  # magics of IPython; the attribute of something
        return []


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
    """Return {name: notebook} of those that can be read, in the order of their numbers."""
    return survey()[0]


def survey() -> tuple[dict[str, Notebook], dict[str, RequestError]]:
    """Return {name: notebook}, in the order of their numbers, and {name: what is wrong with it} of broken ones."""
    found, broken = {}, {}
    for file in sorted(folder().glob("*.ipynb")):
        try:
            found[file.stem] = read(file)
        except RequestError as error:
            broken[file.stem] = error
    return found, broken


def original(name: str) -> Notebook | None:
    """Return the notebook of this name; None where its file is not at hand."""
    try:
        file = folder() / f"{name}.ipynb"
    except RequestError:
        return None
    return read(file) if file.is_file() else None


def read(file: Path) -> Notebook:
    """Read one notebook's face.

    Raises:
        RequestError: the file is no notebook, or its parameters cell cannot be read.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        about = raw["metadata"].get("mrl_lab", {})
        cells = [{**cell, "source": "".join(cell["source"])} for cell in raw["cells"]]
        minutes = dict(sorted(about.get("minutes", {}).items(), key=lambda item: item[1]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RequestError(f"{file} is not a notebook that can be read ({error!r}): restore it.") from None
    try:
        found = [p for cell in cells if TAG in _tags(cell) for p in parameters.read(cell["source"])]
    except (ValueError, SyntaxError) as error:
        raise RequestError(f"{file.name}: {error}") from None
    return Notebook(
        name=file.stem,
        path=file.resolve(),
        shows=about.get("shows", ""),
        minutes=minutes,
        needs=about.get("needs", {}),
        adds=about.get("adds", {}),
        instead=about.get("instead", {}),
        untried=about.get("untried", ""),
        parameters=tuple(found),
        code=tuple(c["source"] for c in cells if c["cell_type"] == "code" and c["source"].strip()),
        digest=_digest(cells),
    )


def _tags(cell: dict) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _digest(cells: list[dict]) -> str:
    kept = [[cell["cell_type"], _tags(cell), cell["source"]] for cell in cells]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def pick(asked: Iterable[str], known: Mapping[str, Notebook], broken: Mapping[str, RequestError]) -> list[Notebook]:
    """Return the notebooks meant by names or by prefixes that fit one name only, each once.

    Raises:
        RequestError: a name that fits none or several, or one that cannot be read.
    """
    chosen, names = {}, [*known, *broken]
    for text in asked:
        name = Path(text).stem if text.endswith(".ipynb") else text
        fits = [name] if name in names else [n for n in names if name and n.startswith(name)]
        if not fits:
            raise unknown("notebook", text, names)
        if len(fits) > 1:
            raise RequestError(f"notebook {text!r} may mean {', '.join(fits)}: write more of its name.")
        if fits[0] in broken:
            raise broken[fits[0]]
        chosen[fits[0]] = known[fits[0]]
    return list(chosen.values())
