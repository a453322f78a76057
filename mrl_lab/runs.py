"""Run folders as a notebook sees them: where it saves its tables, what it notes, and what need not be computed twice.

    run = runs.start("01_mrl")
    run.note(data=pictures.provenance, device=compute.describe())
    table = runs.remember({"what": "sweep", "dim": dim}, lambda: sweep(...))
    run.save_scores(table)

Under ``mrl-lab run`` the folder is the runner's; elsewhere each kernel has its own, ``reports/scratch/NAME-TIME-PID/``.
Everything is written under another name first and then renamed, so that a reader never meets half a file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mrl_lab import files, schema, source
from mrl_lab.errors import RequestError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

USED = "used.jsonl"  # in a run's folder: the key of each result in use and when it was made, a line each
ROWS = "rows.csv"  # beside a page: all tidy tables that its run used, under their keys

Span = tuple[float, float]  # of time: begin and end, in seconds since 1970

MADE: set[str] = set()  # what this process has computed itself
MAKING: list[list[Span]] = []  # for each result that is being made, the outermost first: when what it uses was made

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
        files.write(file, json.dumps(known, indent=2, ensure_ascii=False).encode())

    def save_scores(self, table: pd.DataFrame) -> None:
        """Save the tidy table as scores.csv, columns in the order of :data:`mrl_lab.schema.SCORES`.

        Raises:
            RequestError: an unknown column, no method, metric or value, or a column of the wrong type.
        """
        _save(self.folder / "scores.csv", table, schema.SCORES)

    def save_claims(self, table: pd.DataFrame) -> None:
        """Save the judged claims as claims.csv, columns in the order of :data:`mrl_lab.schema.CLAIMS`.

        Raises:
            RequestError: as for the scores, or a verdict that is none of :data:`mrl_lab.schema.VERDICTS`.
        """
        for verdict in table.get("verdict", ()):
            if verdict not in schema.VERDICTS:
                raise unknown("verdict", verdict, schema.VERDICTS)
        _save(self.folder / "claims.csv", table, schema.CLAIMS)

    def save_recommendation(self, found: Mapping[str, object]) -> None:
        """Save what is recommended as recommendation.json."""
        files.write(self.folder / "recommendation.json", json.dumps(found, indent=2, ensure_ascii=False).encode())

    def anew(self, name: str) -> Path:
        """Return where a folder of this run is to be made; what its cell left there before is gone."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / name


def start(name: str) -> Run:
    """Return a notebook's run, which writes into the runner's folder.

    Without a runner (JupyterLab, plain papermill) it is one of this kernel alone, and said.
    """
    given = os.environ.get("MRL_LAB_RUN")
    folder = Path(given) if given else _scratch(name)
    folder.mkdir(parents=True, exist_ok=True)
    if not given:
        print(f"tables of this run: {folder}")
    return Run(name, folder)


def _scratch(name: str) -> Path:
    """Return the kernel's folder in ``reports/scratch``, or in a temporary one when that cannot be written, emptied."""
    folder = _own_folder(name)
    for old in ("facts.json", "protocol.json", "scores.csv", "claims.csv", "recommendation.json"):
        (folder / old).unlink(missing_ok=True)
    return folder


@cache
def _own_folder(name: str) -> Path:
    own = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = (source.checkout() or Path.cwd()) / "reports" / "scratch" / own
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="mrl-lab-")) / own
    return folder


def _plain(value: object) -> object:
    """Return ``value`` as JSON has it: dataclasses as objects, tuples as lists, paths as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, dict, type(None))) else str(value)


def _save(file: Path, table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    for name in table.columns:
        if name not in columns:
            raise unknown(f"column of {file.name}:", name, columns)
    lacking = [name for name in schema.NEEDED[file.name] if name not in table.columns]
    if lacking:
        raise RequestError(f"{file.name} needs the columns {', '.join(lacking)}; the table has {list(table.columns)}.")
    files.write(file, _typed(file, table.reindex(columns=list(columns)), columns).to_csv(index=False).encode())


def _typed(file: Path, table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    for name, kind in columns.items():
        try:
            table[name] = table[name].astype(kind)
        except (TypeError, ValueError) as error:
            raise RequestError(f"column {name!r} of {file.name} is {kind}: {error}.") from None
    return table


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
            table = pd.read_csv(scores, dtype=schema.SCORES)
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
    call cannot differ. A second process that wants the same waits for the first; what is there is read without a
    lock, so that a cache that cannot be written serves what it has. Tidy tables that lie beside a published page are
    taken from there where the cache lacks them. With ``MRL_LAB_FRESH=1`` a process computes everything anew, once.

    Args:
        settings: all that the result depends on, its code as well, as :mod:`mrl_lab.keys` tells it.
        make: takes nothing, gives the result.

    Raises:
        RequestError: settings that JSON cannot hold, a result of another kind, or a cache that cannot be written.
    """
    entry = files.cache_folder() / "results" / _key(settings)
    stale = os.environ.get("MRL_LAB_FRESH") and entry.name not in MADE
    found = None if stale else _reuse(entry)
    if found is None:
        with _locked(entry):
            # Another process may have made it while this one waited; what is damaged now will stay so.
            found = None if stale else _reuse(entry, aloud=True)
            if found is None and not stale:
                found = _restored(entry, dict(settings))
            if found is None:
                found = _made(entry, make, dict(settings))
    return found


def _made(entry: Path, make: Callable[[], T], settings: dict) -> T:
    began = time.time()
    MAKING.append([])
    try:
        made = make()
    finally:
        stood_on = MAKING.pop()
    with _writing(entry):
        about = _keep(entry, made, settings, _merged([(began, time.time()), *stood_on]))
    MADE.add(entry.name)
    _note_use(entry, about["made"])
    return _read(entry, about)


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    from filelock import FileLock

    lock = FileLock(f"{entry}.lock")
    with _writing(entry):
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(entry: Path) -> Iterator[None]:
    """Turn what the system says about a cache that cannot be written into an error for a person."""
    try:
        yield
    except OSError as error:
        raise RequestError(
            f"the lab's cache {entry.parent} cannot be written to ({error.strerror}): make room or change its rights, "
            "or name another folder by MRL_LAB_CACHE."
        ) from None


def _key(settings: Mapping[str, object]) -> str:
    """Digest of the settings, and of a device that was asked for by name."""
    asked = [os.environ.get(name, "") for name in ("MRL_LAB_DEVICE", "MRL_LAB_PRECISION")]
    try:
        text = json.dumps([settings, asked], sort_keys=True)
    except (TypeError, ValueError) as error:
        raise RequestError(f"settings to remember a result by are plain values: {error}.") from None
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _reuse(entry: Path, aloud: bool = False) -> T | None:
    """Return a cached result; None when there is none, or none that is whole, which is said ``aloud``."""
    file = entry.with_suffix(".json")
    if not file.is_file():
        return None
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        found, spans = _read(entry, about), about["made"]
    except (OSError, ValueError, KeyError) as error:
        if aloud:
            print(f"the cached result {entry.name[:8]} is damaged ({error}): making it again", flush=True)
        return None
    _note_use(entry, spans)
    return found


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


def _keep(entry: Path, made: T, settings: dict, spans: list[Span]) -> dict:
    """Write a result, then its JSON: without the second, the first does not exist."""
    suffix, content = _content(made)
    file = entry.with_suffix(suffix)
    files.write(file, content)
    about = {"file": file.name, "sha256": hashlib.sha256(content).hexdigest(), "made": spans, "settings": settings}
    files.write(entry.with_suffix(".json"), json.dumps(about, indent=2).encode())
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


# ------------------------------------------------------------------------------------------------ time it took


def _note_use(entry: Path, spans: Iterable[Span]) -> None:
    """Note a result in use and when it was made: for the run, and for the results that are being made of it."""
    for stood_on in MAKING:
        stood_on += spans
    folder = os.environ.get("MRL_LAB_RUN")
    if folder:
        with open(Path(folder, USED), "a", encoding="utf-8") as file:
            file.write(json.dumps({"key": entry.name, "made": spans}) + "\n")  # in one piece: several processes write


def spent(folder: Path, start: float) -> tuple[float, float]:
    """Return how long results were being made that the run in ``folder`` used: since ``start``, and before it.

    Times are in seconds as a clock shows them: results that several processes made side by side count once.
    """
    spans = _merged(span for used in _used(folder) for span in used["made"])
    before = sum(max(0.0, min(end, start) - begin) for begin, end in spans)
    return sum(end - begin for begin, end in spans) - before, before


def _used(folder: Path) -> list[dict]:
    file = folder / USED
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Return spans of time in order, those that overlap as one."""
    found: list[Span] = []
    for begin, end in sorted(map(tuple, spans)):
        if found and begin <= found[-1][1]:
            begin, end = found[-1][0], max(end, found.pop()[1])
        found.append((begin, end))
    return found


# ------------------------------------------------------------------------------------------ beside a page


def keep_rows(folder: Path, to: Path | None = None) -> None:
    """Write all tidy tables that the run in ``folder`` used into its rows.csv, with their keys and when each was made.

    They are what its training came to, and small: with them a run goes on where the cache is gone.

    Args:
        to: where they are written instead, behind those that stand there already.
    """
    import pandas as pd

    file = (to or folder) / ROWS
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    kept = dict(list(_parsed(text).groupby("key", sort=False))) if text else {}
    used = {one["key"]: one["made"] for one in _used(folder)}
    for key in [key for key in used if key not in kept]:  # in the order in which they were used
        cached = (files.cache_folder() / "results" / key).with_suffix(".parquet")
        table = pd.read_parquet(cached) if cached.is_file() else pd.DataFrame()
        if list(table.columns) == list(schema.SCORES) and len(table):
            table.insert(0, "made", [json.dumps(used[key]), *[""] * (len(table) - 1)])
            table.insert(0, "key", key)
            kept[key] = table
    if kept:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write(file, pd.concat(kept.values()).to_csv(index=False).encode())


def _restored(entry: Path, settings: dict) -> T | None:
    """Return a tidy table from beside a published page, and put it into the cache; None where there is none."""
    text = next((text for text in _beside_pages() if f"\n{entry.name}," in text), None)
    if text is None:
        return None
    rows = _parsed(text)
    found = rows[rows["key"] == entry.name]
    spans = json.loads(found["made"].iloc[0])
    with _writing(entry):
        about = _keep(entry, found.drop(columns=["key", "made"]).reset_index(drop=True), settings, spans)
    _note_use(entry, spans)
    return _read(entry, about)


@cache
def _beside_pages() -> list[str]:
    """Return what stands in rows.csv of each published run, and of each that was stopped."""
    root = source.checkout()
    return [file.read_text(encoding="utf-8") for file in sorted(root.glob(f"reports/*/*/{ROWS}"))] if root else []


@cache
def _parsed(text: str) -> pd.DataFrame:
    import pandas as pd

    words = ("key", "made", "method", "metric")
    empty = {name: [""] for name in schema.SCORES if name not in words}
    how = {"dtype": dict.fromkeys(words, str), "na_values": empty, "keep_default_na": False}
    return pd.read_csv(io.StringIO(text), **how)
