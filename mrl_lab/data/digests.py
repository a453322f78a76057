"""Digests: what says that a file, or all files of a folder, are still the same, by their contents."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


def of_file(path: Path) -> str:
    """Return a file's SHA-256, computed once a process for each state of the file on disk."""
    about = path.stat()
    return _of_state(path, about.st_size, about.st_mtime_ns)


@cache
def _of_state(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_folder(folder: Path) -> str:
    """Return a SHA-256 over the names and contents of all files below ``folder``, hidden ones left out."""
    files = {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()}
    shown = {name.as_posix(): file for name, file in files.items() if not any(p.startswith(".") for p in name.parts)}
    lines = [f"{of_file(file)}  {name}\n" for name, file in sorted(shown.items())]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
