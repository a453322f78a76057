"""From a request to jobs: everything is checked here, before anything runs or is written.

A job is one notebook with one full setting. Its *tag* names the folder (the budget, and what differs from the
defaults); its *key* says whether a finished run there is still the same work: notebook, setting, the files it
was given, and the code that it imports.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

from mrl_lab import files, keys, parameters
from mrl_lab.data import catalogue
from mrl_lab.errors import RequestError, unknown
from mrl_lab.parameters import Value
from mrl_lab.report import needs
from mrl_lab.report.needs import Seen
from mrl_lab.report.notebooks import Notebook

LONGEST_TAG = 100  # characters; file systems allow 255 bytes for a name, and a lock's name holds more than the tag


@dataclass(frozen=True, eq=False)
class Job:
    """One notebook with one setting, to be run into ``out/name/tag``.

    Attributes:
        settings: every parameter.
        changed: those that differ from the notebook's defaults.
        cells: number of code cells.
        key: digest of all that the result depends on.
        command: what repeats this job alone, without ``--out``.
    """

    name: str
    notebook: Path
    out: Path
    settings: dict[str, Value]
    changed: dict[str, Value]
    cells: int
    tag: str
    key: str
    command: str

    @property
    def folder(self) -> Path:
        """Where the finished run lies."""
        return self.out / self.name / self.tag

    def __str__(self) -> str:
        return f"{self.name} {self.tag}"


@dataclass(frozen=True, eq=False)
class Plan:
    """The jobs of a request, and what it goes without (:class:`mrl_lab.report.needs.Seen`)."""

    jobs: list[Job]
    seen: Seen


def plan(
    notebooks: Sequence[Notebook], given: Mapping[str, str], grid: Mapping[str, str], out: Path, spare: bool = False
) -> Plan:
    """Return the jobs of a request, one for each notebook and point of the grid.

    Args:
        spare: leave out a notebook whose data cannot be had, so that the others run.

    Raises:
        RequestError: anything about the request that is wrong.
    """
    both = sorted(given.keys() & grid.keys())
    if both:
        raise RequestError(f"{both[0]!r} is given both as one value and as a grid: give it once.")
    for name in [*given, *grid]:
        _check_known(name, notebooks)
    settings = [(n, setting) for n in notebooks for setting in _settings(n, given, grid)]
    for notebook, setting in settings:
        parameters.check(notebook.parameters, setting)
        _check_offered(notebook, setting)
    check_writable(out)
    seen = needs.see_to(settings, spare)
    return Plan([_job(n, setting, out) for n, setting in settings if n.name not in seen.unable], seen)


def _check_known(name: str, notebooks: Sequence[Notebook]) -> None:
    have = [n.name for n in notebooks if name in parameters.named(n.parameters)]
    if not have:
        raise unknown("parameter", name, dict.fromkeys(p.name for n in notebooks for p in n.parameters))
    lack = [n.name for n in notebooks if n.name not in have]
    if lack:
        raise RequestError(
            f"parameter {name!r} exists in {', '.join(have)}, but not in {', '.join(lack)}: name the notebooks to run."
        )


def _settings(notebook: Notebook, given: Mapping[str, str], grid: Mapping[str, str]) -> list[dict[str, Value]]:
    """Return the full settings of a notebook: defaults, then the given values, then each point of the grid."""
    known = parameters.named(notebook.parameters)
    fixed = {name: p.default for name, p in known.items()}
    fixed |= {name: parameters.parse(known[name], text) for name, text in given.items()}
    axes = [parameters.parse_grid(known[name], text) for name, text in grid.items()]
    return [fixed | dict(zip(grid, point, strict=True)) for point in product(*axes)]


def _check_offered(notebook: Notebook, setting: Mapping[str, Value]) -> None:
    budget = setting.get("budget")
    if budget is not None and notebook.minutes and budget not in notebook.minutes:
        raise unknown(f"budget for {notebook.name}:", budget, notebook.minutes)


def check_writable(out: Path) -> None:
    """Check that ``out`` is, or can become, a folder to write into, without making it.

    Raises:
        RequestError: something in its path is a file, or forbids writing.
    """
    nearest = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise RequestError(f"--out {out}: {nearest} is a file, not a folder. Give another --out.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RequestError(f"--out {out}: {nearest} cannot be written to. Give another --out, or change its rights.")


# ------------------------------------------------------------------------------------------ tag, key, command


def _job(notebook: Notebook, setting: dict[str, Value], out: Path) -> Job:
    changed = {p.name: setting[p.name] for p in notebook.parameters if setting[p.name] != p.default}
    return Job(
        name=notebook.name,
        notebook=notebook.path,
        out=out,
        settings=setting,
        changed=changed,
        cells=len(notebook.code) + bool(changed),  # papermill adds a cell that sets what was changed
        tag=tag(setting, changed),
        key=key(notebook, setting),
        command=command(notebook, changed),
    )


def tag(setting: Mapping[str, Value], changed: Mapping[str, Value]) -> str:
    """Return the folder name of a setting: the budget, then ``-name=value`` for what differs from the defaults.

    A value that is long or holds other characters than a-z, 0-9, comma, dot and underscore is shortened to
    what is safe and told apart by a digest, so that two settings never share a tag.
    """
    others = [f"{name}={_in_tag(value)}" for name, value in changed.items() if name != "budget"]
    text = "-".join([_in_tag(setting.get("budget", "default")), *others])
    return text if len(text) <= LONGEST_TAG else f"{text[: LONGEST_TAG - 11]}~{_short_digest(dict(changed))}"


def _in_tag(value: Value) -> str:
    items = value if isinstance(value, list) else [value]
    # Texts may hold no dot, no comma and no minus of their own: those belong to numbers, lists and the tag.
    safe = items and all(re.fullmatch(r"[a-z0-9_]+", v) if isinstance(v, str) else True for v in items)
    text = ",".join(str(v).lower() for v in items)
    if safe and len(text) <= 40:
        return text
    return f"{re.sub(r'[^a-z0-9_]+', '_', text)[:24]}~{_short_digest(value)}"


def _short_digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def key(notebook: Notebook, setting: Mapping[str, Value]) -> str:
    """Return the digest of all that a job's result depends on.

    That is the notebook and its setting, the code that it imports (:func:`mrl_lab.keys.behind`), and data and weights:
    a source by its recorded checksums, a file or a folder that a parameter names by its contents.
    """
    lists = {name: value if isinstance(value, list) else [value] for name, value in setting.items()}
    texts = [(name, text) for name, values in lists.items() for text in values if isinstance(text, str)]
    own = {f"{name} {text}": files.content(Path(text)) for name, text in texts if _is_path(notebook, name, text)}
    used = map(catalogue.find, sorted({*chain(*needs.sources_of(notebook, setting))}))
    recorded = [[source.forms(), source.rows] for source in used]
    whole = [notebook.name, notebook.digest, setting, own, recorded, keys.behind(notebook.code)]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _is_path(notebook: Notebook, name: str, value: str) -> bool:
    """True for a file, and for a folder where the parameter takes one: another's value may be such a name by chance."""
    if os.path.isdir(value):
        rule = parameters.named(notebook.parameters)[name].rule
        return bool(rule) and "folder" in rule.path
    return os.path.isfile(value)


def command(notebook: Notebook, changed: Mapping[str, Value]) -> str:
    """Return the command line that runs exactly this job."""
    words = ["mrl-lab", "run", notebook.name]
    for name, value in changed.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words += ["--budget", text] if name == "budget" else ["-p", name, text]
    return shlex.join(words)
