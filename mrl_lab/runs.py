"""Run folders as a notebook sees them: where it saves its tables, what it notes, and what need not be computed twice.

    run = runs.start("01_mrl")
    run.note(data=pictures.provenance, device=compute.describe())
    table = runs.remember({"what": "sweep", "dim": dim}, lambda: sweep(...))
    run.save_scores(table)

Under ``mrl-lab run`` the folder is the runner's; in JupyterLab it is ``reports/scratch/NAME/``. Everything is
written under another name first and then renamed, so that a reader never meets half a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mrl_lab import source
from mrl_lab.data import places
from mrl_lab.errors import RequestError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

SCORES = {
    "method": "string",
    "seed": "Int64",
    "layer": "Int64",
    "dim": "Int64",
    "tokens": "Int64",
    "metric": "string",
    "value": "float64",
    "n": "Int64",
    "bytes": "Int64",
    "flops": "Int64",
    "seconds": "float64",
}
CLAIMS = {
    "id": "string",
    "claim": "string",
    "paper": "string",
    "ours": "float64",
    "low": "float64",
    "high": "float64",
    "seeds": "Int64",
    "verdict": "string",
    "note": "string",
}
NEEDED = ("method", "metric", "value"), ("id", "claim", "verdict")
WORTH_TELLING = 20  # seconds
VERDICTS = ("shown", "not shown", "inconclusive")

MADE: set[str] = set()  # what this process has computed itself

T = TypeVar("T", "pd.DataFrame", "dict[str, Tensor]")


# ------------------------------------------------------------------------------------------------ one run


@dataclass(frozen=True)
class Run:
    """One run of a notebook: its name, and the folder it writes into."""

    name: str
    folder: Path

    def note(self, **facts: object) -> None:
        """Keep facts for run.json: ``data`` and ``weights`` are lists that grow, anything else is set."""
        file = self.folder / "facts.json"
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for name, value in facts.items():
            plain = _plain(value)
            if isinstance(plain, list):
                before = known.get(name, [])
                plain = before + [item for item in plain if item not in before]
            known[name] = plain
        _write(file, json.dumps(known, indent=2, ensure_ascii=False).encode())

    def save_scores(self, table: pd.DataFrame) -> None:
        """Save the tidy table as scores.csv, columns in the order of :data:`SCORES`.

        Raises:
            RequestError: an unknown column, no method, metric or value, or a column of the wrong type.
        """
        _save(self.folder / "scores.csv", table, SCORES, NEEDED[0])

    def save_claims(self, table: pd.DataFrame) -> None:
        """Save the judged claims as claims.csv, columns in the order of :data:`CLAIMS`.

        Raises:
            RequestError: as for the scores, or a verdict that is none of :data:`VERDICTS`.
        """
        for verdict in table.get("verdict", ()):
            if verdict not in VERDICTS:
                raise unknown("verdict", verdict, VERDICTS)
        _save(self.folder / "claims.csv", table, CLAIMS, NEEDED[1])


def start(name: str) -> Run:
    """Return the run of the notebook ``name``: in the runner's folder, or in a scratch one when there is no runner."""
    given = os.environ.get("MRL_LAB_RUN")
    folder = Path(given) if given else _scratch(name)
    folder.mkdir(parents=True, exist_ok=True)
    return Run(name, folder)


def _scratch(name: str) -> Path:
    """Return ``reports/scratch/NAME`` of the clone, or of a temporary folder when that cannot be written."""
    folder = (source.checkout() or Path.cwd()) / "reports" / "scratch" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="mrl-lab-")) / name
    for old in ("facts.json", "scores.csv", "claims.csv"):
        (folder / old).unlink(missing_ok=True)
    return folder


def _plain(value: object) -> object:
    """Return ``value`` as JSON has it: dataclasses as objects, tuples as lists, paths as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, dict, type(None))) else str(value)


def _save(file: Path, table: pd.DataFrame, columns: Mapping[str, str], needed: Iterable[str]) -> None:
    for name in table.columns:
        if name not in columns:
            raise unknown(f"column of {file.name}:", name, columns)
    lacking = [name for name in needed if name not in table.columns]
    if lacking:
        raise RequestError(f"{file.name} needs the columns {', '.join(lacking)}; the table has {list(table.columns)}.")
    _write(file, _typed(file, table.reindex(columns=list(columns)), columns).to_csv(index=False).encode())


def _typed(file: Path, table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    for name, kind in columns.items():
        try:
            table[name] = table[name].astype(kind)
        except (TypeError, ValueError) as error:
            raise RequestError(f"column {name!r} of {file.name} is {kind}: {error}.") from None
    return table


def _write(file: Path, content: bytes) -> None:
    """Write ``content`` beside ``file``, then rename: a reader sees the old file or the new one."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_bytes(content)
    os.replace(beside, file)


def load(folder: str | Path) -> pd.DataFrame:
    """Return the scores of all finished runs under ``folder`` as one table, with columns notebook and tag in front.

    Raises:
        RequestError: there are none.
    """
    import pandas as pd

    tables = []
    for file in sorted(Path(folder).glob("*/*/run.json")):
        run = json.loads(file.read_text(encoding="utf-8"))
        scores = file.with_name("scores.csv")
        if run["status"] == "done" and scores.is_file():
            table = pd.read_csv(scores, dtype=SCORES)
            table.insert(0, "notebook", run["notebook"])
            table.insert(1, "tag", run["tag"])
            tables.append(table)
    if not tables:
        raise RequestError(f"no finished runs with scores in {folder}: make some with mrl-lab run --out {folder}.")
    return pd.concat(tables, ignore_index=True)


# -------------------------------------------------------------------------------------- not computing twice


def remember(settings: Mapping[str, object], make: Callable[[], T]) -> T:
    """Return what ``make`` gives, computed once for these settings.

    The result is a DataFrame or a dict of tensors. It lies in the lab's cache as parquet or safetensors, with its
    settings in a JSON file beside it. What is returned is always what was read back, so that a first and a later
    call cannot differ. A second process that wants the same waits for the first. With ``MRL_LAB_FRESH=1`` a process
    computes everything anew, once.

    Args:
        settings: all that the result depends on, its code as well, as :mod:`mrl_lab.keys` tells it.
        make: takes nothing, gives the result.

    Raises:
        RequestError: settings that JSON cannot hold, or a result of another kind.
    """
    from filelock import FileLock

    entry = places.cache_folder() / "results" / _key(settings)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{entry}.lock"):
        stale = os.environ.get("MRL_LAB_FRESH") and entry.name not in MADE
        found = None if stale else _reuse(entry)
        if found is not None:
            return found
        began = time.perf_counter()
        made = make()
        about = _keep(entry, made, dict(settings), time.perf_counter() - began)
        MADE.add(entry.name)
        _tell(f"made {entry.name[:8]} in", about)
        return _read(entry, about)


def _key(settings: Mapping[str, object]) -> str:
    """Digest of the settings, and of a device that was asked for by name."""
    asked = [os.environ.get(name, "") for name in ("MRL_LAB_DEVICE", "MRL_LAB_PRECISION")]
    try:
        text = json.dumps([settings, asked], sort_keys=True)
    except (TypeError, ValueError) as error:
        raise RequestError(f"settings to remember a result by are plain values: {error}.") from None
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _reuse(entry: Path) -> T | None:
    """Return a cached result; None when there is none, or none that is whole."""
    file = entry.with_suffix(".json")
    if not file.is_file():
        return None
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        found = _read(entry, about)
    except (OSError, ValueError, KeyError) as error:
        print(f"the cached result {entry.name[:8]} is damaged ({error}): making it again", flush=True)
        return None
    _tell(f"reused {entry.name[:8]}, made in", about)
    return found


def _tell(what: str, about: Mapping) -> None:
    """Say what became of a result that took long; of short ones a study has hundreds."""
    if about["seconds"] >= WORTH_TELLING:
        line = f"{what} {about['seconds']:.0f} s\n"
        print(line, end="", flush=True)  # in one piece, so that lines of several processes do not mix


def _read(entry: Path, about: Mapping) -> T:
    """Read a cached result; a ValueError when its file is not the one that was written."""
    file = entry.with_name(about["file"])
    if hashlib.sha256(file.read_bytes()).hexdigest() != about["sha256"]:
        raise ValueError("its checksum is wrong")
    if file.suffix == ".parquet":
        import pandas as pd

        return pd.read_parquet(file)
    from safetensors.torch import load_file

    return load_file(file)


def _keep(entry: Path, made: T, settings: dict, seconds: float) -> dict:
    """Write a result, then its JSON: without the second, the first does not exist."""
    suffix, content = _content(made)
    file = entry.with_suffix(suffix)
    _write(file, content)
    about = {"file": file.name, "sha256": hashlib.sha256(content).hexdigest(), "seconds": seconds, "settings": settings}
    _write(entry.with_suffix(".json"), json.dumps(about, indent=2).encode())
    return about


def _content(made: T) -> tuple[str, bytes]:
    if isinstance(made, dict):
        from safetensors.torch import save

        try:
            # A copy of its own for each: a prefix is a view, and safetensors does not hold shared memory.
            return ".safetensors", save({name: t.detach().cpu().contiguous().clone() for name, t in made.items()})
        except AttributeError:
            pass
    elif hasattr(made, "to_parquet"):
        return ".parquet", made.to_parquet()
    raise RequestError(f"a result to remember is a DataFrame or a dict of tensors, got {type(made).__name__}.")
