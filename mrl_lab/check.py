"""``mrl-lab check``: one line a requirement, [OK] or [FAIL], with what was found or the fix."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mrl_lab import source
from mrl_lab.errors import RequestError
from mrl_lab.report import jobs, notebooks

PYTHON = (3, 11)
DISK = 5e9  # bytes: data, cached results and pages of all notebooks
MEMORY = 4e9  # bytes: the largest notebook at budget minutes, with room

Line = tuple[bool, str]


def main(out: Path) -> bool:
    """Print all lines; return True when every one is [OK]."""
    lines = []
    for line in checks(out):
        lines.append(line)
        print(f"{'[OK]  ' if line[0] else '[FAIL]'} {line[1]}", flush=True)
    failed = sum(not ok for ok, _ in lines)
    print(
        f"{failed} of {len(lines)} failed" if failed else f"all {len(lines)} are fine: mrl-lab list, then mrl-lab run"
    )
    return not failed


def checks(out: Path) -> Iterator[Line]:
    """Yield (is it fine, what was found or how to mend it), cheap ones first."""
    yield python()
    yield from packages()
    yield guarded("kernel", kernel)
    yield guarded("notebooks", found_notebooks)
    yield from broken_notebooks()
    yield guarded("output", lambda: output(out))
    yield guarded("cache", cache)
    yield disk(out)
    yield memory()
    yield guarded("device", device)
    yield guarded("threads", threads)
    yield from data()


def guarded(name: str, check: Callable[[], Line]) -> Line:
    """Return a check's line; what it raises is a failure like any other."""
    try:
        return check()
    except Exception as error:
        return False, f"{name}: {error}"


def python() -> Line:
    """The interpreter is new enough."""
    have = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= PYTHON:
        return True, f"Python {have}"
    return False, f"Python {have} is too old: use {PYTHON[0]}.{PYTHON[1]} or newer"


def packages() -> Iterator[Line]:
    """Each package is there and not older than its lower bound."""
    from importlib import metadata

    for need in source.requirements():
        fix = f'python -m pip install "{need}"'
        try:
            have = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            yield False, f"{need.name} is missing: {fix}"
            continue
        fine = need.specifier.contains(have, prereleases=True)
        yield fine, f"{need.name} {have}" if fine else f"{need.name} {have}, but {need.specifier} is needed: {fix}"


def kernel() -> Line:
    """Jupyter's ``python3`` kernel is this interpreter, which has mrl_lab."""
    from jupyter_client.kernelspec import KernelSpecManager

    from mrl_lab.report.kernel import KERNEL

    command = KernelSpecManager().get_kernel_spec(KERNEL).argv[0]
    # Jupyter replaces a bare "python" by the interpreter that it runs in itself.
    program = sys.executable if Path(command).name == command else command
    if Path(program).resolve() == Path(sys.executable).resolve() and _prefix(program) == _prefix(sys.executable):
        return True, f"kernel {KERNEL} starts this interpreter"
    return False, f"kernel {KERNEL} starts {program}, not {sys.executable}: python -m ipykernel install --sys-prefix"


def _prefix(program: str) -> Path:
    """The environment that an interpreter belongs to: two environments may link to one binary."""
    return Path(program).absolute().parent.parent


def found_notebooks() -> Line:
    """There are notebooks."""
    found = notebooks.find()
    return True, f"{len(found)} notebooks in {notebooks.folder()}: {', '.join(found)}"


def broken_notebooks() -> Iterator[Line]:
    """Each notebook that cannot be read, by name; there should be none."""
    try:
        yield from ((False, str(error)) for error in notebooks.survey()[1].values())
    except RequestError:
        return  # the notebooks' own line says it


def output(out: Path) -> Line:
    """Runs can be written."""
    jobs.check_writable(out)
    return True, f"runs go to {out}"


def disk(out: Path) -> Line:
    """There is room for data, results and pages."""
    place = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    fine = free >= DISK
    return fine, f"{free / 1e9:.1f} GB free in {place}" + ("" if fine else f": {DISK / 1e9:.0f} GB are needed")


def memory() -> Line:
    """There is enough memory; what the system does not tell is not held against it."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return True, "memory: this system does not tell how much there is"
    fine = total >= MEMORY
    return fine, f"{total / 1e9:.1f} GB of memory" + ("" if fine else f": {MEMORY / 1e9:.0f} GB are needed")


def device() -> Line:
    """Where it will compute, how precisely, and why."""
    from mrl_lab.device import choose

    return True, f"device {choose().describe()}"


def threads() -> Line:
    """How many cores it will use."""
    from mrl_lab.report.attend import cores

    return True, f"{cores()} cores to use (OMP_NUM_THREADS lowers it)"


def cache() -> Line:
    """What is fetched and what is computed can be kept."""
    from mrl_lab import files

    home = files.cache_folder()
    for folder in (home, home / "data", home / "results"):
        nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            fix = "set MRL_LAB_CACHE to a folder of your own, or change its rights"
            return False, f"the lab's cache {home}: {nearest} cannot be written to: {fix}"
    return True, f"data and results are kept in {home}"


def data() -> Iterator[Line]:
    """Each data set and weight that a notebook needs by default is here, or can be fetched; what only adds may lack."""
    from concurrent.futures import ThreadPoolExecutor

    needed, adding = _wanted()
    with ThreadPoolExecutor() as pool:  # each may wait for an answer of its own
        yield from pool.map(lambda name: guarded(name, lambda: _place(name, needed, adding)), {**adding, **needed})


def _wanted() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return {source: the notebooks that need it}, and the same for those it only adds to."""
    needed: dict[str, list[str]] = {}
    adding: dict[str, list[str]] = {}
    try:
        found = notebooks.find().values()
    except RequestError:
        return {}, {}  # the notebooks' own line says it
    for notebook in found:
        for sources, wanted in ((notebook.needs, needed), (notebook.adds, adding)):
            for name in dict.fromkeys(name for names in sources.values() for name in names):
                wanted.setdefault(name, []).append(notebook.name)
    return needed, adding


def _place(name: str, needed: Iterable[str], adding: dict[str, list[str]]) -> Line:
    from mrl_lab.data import places

    fine, where = places.status(name)[:2]
    if not fine and name not in needed:
        return (
            True,
            f"{name} is not here and only adds to {', '.join(adding[name])}. To get it: mrl-lab data get {name}",
        )
    return fine, f"{name}: {where}" if fine else where
