"""run.json: what a run was, so that its numbers can be judged and made again, and whether it is the work asked for."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from mrl_lab import source
from mrl_lab.report.kernel import Failure


def read(folder: Path) -> dict:
    """Return run.json of a folder; empty when there is none that can be read."""
    try:
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def is_done(folder: Path, key: str) -> bool:
    """True when ``folder`` holds the finished work of this key."""
    run = read(folder)
    return run.get("status") == "done" and run.get("key") == key and (folder / "page.html").is_file()


def write(folder: Path, job: Mapping, start: datetime, failure: Failure | None) -> float:
    """Write run.json into ``folder``, take in what the notebook noted (facts.json), return the duration in seconds."""
    facts = folder / "facts.json"
    noted = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
    facts.unlink(missing_ok=True)
    seconds = round((datetime.now(UTC) - start).total_seconds(), 1)
    run = {
        "notebook": job["name"],
        "tag": job["tag"],
        "status": "failed" if failure else "done",
        "parameters": job["settings"],
        "command": job["command"],
        "start": start.isoformat(timespec="seconds"),
        "duration": seconds,
        "device": None,
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "data": [],
        "weights": [],
        **noted,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": source.versions(),
        "git": source.commit(),
        "key": job["key"],
        **({"failure": asdict(failure)} if failure else {}),
    }
    (folder / "run.json").write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return seconds
