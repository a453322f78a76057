"""run.json: what a run was, so that its numbers can be judged and made again, and whether it is the work asked for."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from mrl_lab import runs, source
from mrl_lab.report.kernel import Failure


def read(folder: Path) -> dict:
    """Return run.json of a folder; empty when there is none that can be read."""
    try:
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def is_done(folder: Path, key: str, outdated: str | None = "") -> bool:
    """True when ``folder`` holds the finished work of this key, but for a run that started at ``outdated``."""
    run = read(folder)
    done = run.get("status") == "done" and run.get("key") == key and run.get("start") != outdated
    return done and (folder / "page.html").is_file()


def write(folder: Path, job: Mapping, start: datetime, failure: Failure | None) -> dict:
    """Write run.json into ``folder`` and return it; what the notebook noted there (facts.json, used.jsonl) goes in.

    Three times, in seconds as a clock shows them: ``duration`` of this run, ``computed``, the part of it in which
    results were made, and ``reused``, what the others had taken before.
    """
    facts = folder / "facts.json"
    noted = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
    computed, reused = runs.spent(folder, start.timestamp())
    runs.keep_rows(folder)
    run = {
        "notebook": job["name"],
        "tag": job["tag"],
        "status": "failed" if failure else "done",
        "parameters": job["settings"],
        "command": job["command"],
        "start": start.isoformat(timespec="seconds"),
        "duration": round((datetime.now(UTC) - start).total_seconds(), 1),
        "computed": round(computed, 1),
        "reused": round(reused, 1),
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
    for taken_in in (facts, folder / runs.USED):
        taken_in.unlink(missing_ok=True)
    return run
