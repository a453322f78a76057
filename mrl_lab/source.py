"""The code behind a result: where it lies, its commit, and the packages it stands on."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE = Path(__file__).parent


def checkout() -> Path | None:
    """Return the folder of the clone that this package runs from, None when it was installed elsewhere."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def commit() -> dict[str, str | bool] | None:
    """Return the clone's git commit, and whether the package or the notebooks were changed since; None without git."""
    root = checkout()
    if root is None:
        return None
    try:
        head = _git(root, "rev-parse", "HEAD", "--show-prefix").splitlines()
        changed = _git(root, "status", "--porcelain", "--", "mrl_lab", "notebooks")
    except (OSError, subprocess.CalledProcessError):
        return None
    # A prefix means that the clone is a mere folder inside some other repository.
    return None if len(head) > 1 and head[1] else {"id": head[0], "dirty": bool(changed)}


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def requirements() -> list[Requirement]:
    """Return what this package needs to run, with lower bounds; without the extras."""
    from packaging.requirements import Requirement

    found = [Requirement(line) for line in metadata.requires("mrl-lab") or []]
    return [r for r in found if not (r.marker and "extra" in str(r.marker))]


def versions() -> dict[str, str]:
    """Return {package: version} of this package and of what it needs, as far as that is installed."""
    found = {}
    for name in ("mrl-lab", *(r.name for r in requirements())):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
