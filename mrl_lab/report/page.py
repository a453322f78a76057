"""A finished run as one HTML file: what was run on top, the notebook, and at the end how the page was made.

The file needs no network and no other file; the tables, the notebook and run.json that it names lie beside it.
The same run gives the same bytes.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mrl_lab.files import write
from mrl_lab.report import record, tables
from mrl_lab.schema import VERDICTS

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = Path(__file__).parent / "template"
FILES = {
    "scores.csv": "every score, one row each",
    "rows.csv": "what each training came to, by key: with it a run goes on elsewhere",
    "claims.csv": "the claims and their verdicts",
    "protocol.json": "what was fixed before the seeds that judge were trained",
    "run.json": "all facts about this run",
    "notebook.ipynb": "the notebook that was run",
}


def render(folder: Path) -> Path:
    """Write ``page.html`` of the run in ``folder``, from its notebook.ipynb, run.json and tables; return its path."""
    import nbformat

    from mrl_lab.report import body

    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    run = record.read(folder)
    cell = (run.get("failure") or {}).get("cell")
    html = (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title(notebook.cells) or run["notebook"],
            body=body.render(notebook, cell),
            run=run,
            claims=claims(folder),
            facts=facts(run),
            made=made(run),
            files={name: text for name, text in FILES.items() if (folder / name).is_file()},
        )
    )
    file = folder / "page.html"
    write(file, html.encode())
    return file


@cache
def environment() -> Environment:
    """Return where the templates of pages and index are; what they insert is escaped unless marked as safe."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"day": day, "took": took, "device": device, "verdict": _verdict}
    return made


def _verdict(text: str) -> object:
    from markupsafe import Markup

    return Markup(tables.verdict(text))


# ------------------------------------------------------------------------------------------------ in words


def title(cells: Iterable[Mapping]) -> str:
    """Return a notebook's title, the first heading in its cells, as plain text; empty when it has none."""
    for cell in cells:
        found = re.match(r"\s*#\s+(.+)", "".join(cell["source"]))
        if cell["cell_type"] == "markdown" and found:
            return re.sub(r"[*`]", "", found[1]).strip()
    return ""


def claims(folder: Path) -> dict[str, int]:
    """Return {verdict: how many claims have it}, shown ones first; empty without claims."""
    file = folder / "claims.csv"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as rows:
        counted = Counter(row["verdict"] for row in csv.DictReader(rows))
    return {v: counted[v] for v in VERDICTS if counted[v]}


def day(start: str) -> str:
    """Return the day of an ISO date: "25 November 2026"."""
    date = datetime.fromisoformat(start)
    return f"{date.day} {date:%B %Y}"


def duration(seconds: float) -> str:
    """Return a duration as one says it: "12 s", "4 min 10 s", "1 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def took(run: Mapping) -> str:
    """Return how long it took to compute, and to draw again: "computed in 55 min 45 s, drawn again in 58 s"."""
    reused = round(run.get("reused", 0))
    if not reused:
        return f"computed in {duration(run['duration'])}" if "reused" in run else duration(run["duration"])
    if round(run["computed"]):
        return f"computed in {duration(run['duration'])}, and {duration(reused)} of earlier work reused"
    return f"computed in {duration(reused)}, drawn again in {duration(run['duration'])}"


def facts(run: Mapping) -> list[str]:
    """Return what a reader wants to know first: notebook, budget, day, time, device."""
    budget = run["parameters"].get("budget")
    return [
        run["notebook"],
        *([f"budget {budget}"] if budget else []),
        *([run["tag"]] if run["tag"] != budget else []),
        day(run["start"]),
        took(run),
        *([device(run["device"])] if run["device"] else []),
    ]


def device(described: str) -> str:
    """Return what a reader needs of a device: "CPU, 2 threads" or "NVIDIA H200, bf16 autocast"."""
    kind, _, rest = re.sub(r" \(.*\)$", "", described).partition(": ")
    name, *more = [part for part in rest.split(", ") if part != "float32"]
    told = [kind.upper() if kind in ("cpu", "mps") else name or kind, *more]
    return ", ".join(told).replace(" 1 threads", " 1 thread")


def made(run: Mapping) -> list[tuple[str, list[str]]]:
    """Return how the page was made, as (heading, lines)."""
    words = [f"written after the run: {_commit(run['prose'])}"] if "prose" in run else []
    rows = [
        ("Parameters", [f"{name} = {value!r}" for name, value in run["parameters"].items()]),
        ("Data", _sources(run["data"]) or ["none was noted"]),
        ("Weights", _sources(run["weights"]) or ["none: every model was trained here, from random weights"]),
        ("Machine", [f"{run['platform']}, {run['threads']} threads", *filter(None, [run["device"]])]),
        ("Code", [_commit(run["git"])]),
        ("Words", words),
        ("Versions", [", ".join(f"{name} {v}" for name, v in [("python", run["python"]), *run["versions"].items()])]),
    ]
    return [(heading, lines) for heading, lines in rows if lines]


def _commit(git: Mapping | None) -> str:
    return f"git commit {git['id']}{', changed since' if git['dirty'] else ''}" if git else "not known: no git here"


def _sources(items: Iterable[Mapping | str]) -> list[str]:
    """One line a data set or a set of weights: name, where it was found, licence, and its files with checksums."""
    files: dict[str, list[str]] = {}
    for item in items:
        facts = dict(item) if isinstance(item, Mapping) else {"name": item}
        file, checksum = facts.pop("file", ""), facts.pop("sha256", "")
        told = [str(facts.pop("name", "")), *(f"{name}: {value}" for name, value in facts.items() if value)]
        found = files.setdefault(", ".join(filter(None, told)), [])
        if file or checksum:
            found.append(f"{file} sha256 {checksum[:12]}…".strip() if checksum else str(file))
    return [": ".join(filter(None, (what, ", ".join(found)))) for what, found in files.items()]
