"""Notebooks of a few cells, for tests of the machinery around notebooks."""

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PATIENCE = 240  # seconds that a busy machine may take for what takes a few; no test measures by it

FORM = """\
budget: str = "seconds"  # how much work; one of seconds, minutes, gpu
dim: int = 64  # width d of the embedding; from 2 to 4096
sizes: list[int] = []  # sizes M, rising; each from 1 to dim
"""


def write(folder: Path, name: str, *cells: str, form: str = FORM, needs: tuple[str, ...] = (), **more) -> Path:
    """Write ``folder/name.ipynb`` with a parameters cell and these cells, needs at all budgets, and more metadata."""
    tagged = new_code_cell(form.strip(), metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[new_markdown_cell(f"# {name}"), tagged, *map(new_code_cell, cells)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata.mrl_lab = {
        "shows": f"What {name} shows.",
        "minutes": {"seconds": 1, "minutes": 9},
        "needs": dict.fromkeys(("seconds", "minutes"), needs),
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def setting(notebook, **given) -> dict:
    """Return every parameter of a notebook that was read: its default, or what is given."""
    return {p.name: p.default for p in notebook.parameters} | given


def command(*arguments: object) -> list[str]:
    """Return the command line of ``mrl-lab`` in a process of its own."""
    return [sys.executable, "-m", "mrl_lab", *map(str, arguments)]


def run(notebooks: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run ``mrl-lab`` on the notebooks of a folder, to its end."""
    return subprocess.run(
        command(*arguments), env=environment(notebooks), capture_output=True, text=True, timeout=PATIENCE
    )


def environment(notebooks: Path) -> dict[str, str]:
    """Return this process's environment, with that folder of notebooks."""
    return {**os.environ, "MRL_LAB_NOTEBOOKS": str(notebooks)}


def alive(pid: int | str) -> bool:
    """True while a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(true, seconds: float = PATIENCE) -> None:
    """Return as soon as ``true()`` is; fail after some seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
