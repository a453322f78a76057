"""Files: where the lab keeps its own, how they are written whole, and what tells one content from another."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mrl_lab.errors import RequestError


def cache_folder() -> Path:
    """Return the folder for fetched data and remembered results; it need not exist yet."""
    given = os.environ.get("MRL_LAB_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mrl-lab"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mrl-lab"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mrl-lab"


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes ``file`` when that went well.

    A reader sees the old file or the new one, nobody half of one; nothing stays of what failed.
    """
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield beside
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def write(file: Path, content: bytes) -> None:
    """Write ``content`` into ``file``, :func:`whole`."""
    with whole(file) as beside:
        beside.write_bytes(content)


def digest(path: Path) -> str:
    """Return a file's SHA-256, computed once a process for each state of the file on disk."""
    about = path.stat()
    return _of_state(path, about.st_size, about.st_mtime_ns)


@cache
def _of_state(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(path: Path) -> str:
    """Return a SHA-256 over a file, or over the names and contents of all files below a folder, without hidden
    ones and Python's caches.

    Raises:
        RequestError: there is nothing at ``path``.
    """
    if path.is_file():
        return digest(path)
    if not path.is_dir():
        raise RequestError(f"there is no file or folder {path}.")
    below = {file.relative_to(path): file for file in path.rglob("*") if file.is_file()}
    shown = {name.as_posix(): file for name, file in below.items() if not any(_aside(p) for p in name.parts)}
    lines = [f"{digest(file)}  {name}\n" for name, file in sorted(shown.items())]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _aside(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__"
