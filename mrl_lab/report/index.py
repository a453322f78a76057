"""The index over all runs of a folder: what each shows, when and on what it ran, how its claims fared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mrl_lab import files
from mrl_lab.report import page, record
from mrl_lab.report.spark import Spark, spark
from mrl_lab.schema import BUDGETS


@dataclass(frozen=True)
class Entry:
    """One run: where it lies under the index, its run.json, and how its claims and scores came out."""

    place: str
    run: dict
    claims: dict[str, int]
    spark: Spark | None


@dataclass(frozen=True)
class Group:
    """The runs of one notebook, under its title and the sentence that says what it shows."""

    name: str
    title: str
    shows: str
    entries: tuple[Entry, ...]


def write_index(out: Path, folders: Iterable[Path] | None = None) -> Path:
    """Write ``out/index.html`` over the runs in ``folders``, by default all that ``out`` holds; return its path."""
    found = out.glob("*/*/run.json") if folders is None else (folder / "run.json" for folder in folders)
    groups: dict[str, list[Path]] = {}
    for file in sorted(found, key=_order):
        if record.read(file.parent):
            groups.setdefault(file.parent.parent.name, []).append(file.parent)
    html = page.environment().get_template("runs.html.j2").render(groups=[_group(*item) for item in groups.items()])
    file = out / "index.html"
    files.write(file, html.encode())
    return file


def _order(file: Path) -> tuple[str, int, str]:
    """By notebook, then from the strongest budget to the weakest, then by tag."""
    name, tag = file.parts[-3:-1]
    budget = re.split(r"[-.~]", tag)[0]
    return name, -BUDGETS.index(budget) if budget in BUDGETS else 1, tag


def _group(name: str, folders: list[Path]) -> Group:
    title, shows = _about(folders[0] / "notebook.ipynb")
    return Group(name, title or name, shows, tuple(map(_entry, folders)))


def _entry(folder: Path) -> Entry:
    place = folder.relative_to(folder.parent.parent).as_posix()
    return Entry(place, record.read(folder), page.claims(folder), spark(folder / "scores.csv"))


def _about(file: Path) -> tuple[str, str]:
    """Return a notebook's title and what it shows; only its JSON is read, since there may be many."""
    try:
        notebook = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "", ""
    shows = notebook["metadata"].get("mrl_lab", {}).get("shows", "")
    return page.title(notebook["cells"]), shows[:1].upper() + shows[1:]
