"""Every verdict that was ever published: ``reports/history.csv``, with the time and the commit of its run.

A row is added where a published run says something else of a claim than the last row does. None is ever taken out, so
that a verdict which changed can be seen to have changed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from mrl_lab import files
from mrl_lab.report import record

FILE = "history.csv"
CLAIM = ("notebook", "budget", "id")
SAID = ("ours", "low", "high", "seeds", "verdict")
FIELDS = ("date", "commit", *CLAIM, *SAID)
Rows = list[dict[str, str]]


def read(reports: Path) -> Rows:
    """Return the rows, oldest first."""
    return rows_of(reports / FILE)


def rows_of(file: Path) -> Rows:
    """Return the rows of a CSV file; none where there is no file."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def grown(known: Rows, folders: Iterable[Path]) -> Rows:
    """Return ``known`` and, of the runs in ``folders``, what they say that was not said last."""
    rows = list(known)
    last = {_claim(row): row for row in rows}
    for folder in folders:
        run = record.read(folder)
        shared = {"date": run["start"], "commit": (run.get("git") or {}).get("id", "")}
        shared |= {"notebook": run["notebook"], "budget": folder.name}
        for claim in rows_of(folder / "claims.csv"):
            row = shared | {name: claim[name] for name in ("id", *SAID)}
            if _said(last.get(_claim(row), {})) != _said(row):
                rows.append(row)
                last[_claim(row)] = row
    return rows


def write(reports: Path, rows: Rows) -> None:
    """Write ``history.csv``."""
    text = io.StringIO()
    table = csv.DictWriter(text, FIELDS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    files.write(reports / FILE, text.getvalue().encode())


def earlier(rows: Rows, **claim: str) -> Rows:
    """Return what was said of a claim before its last row, oldest first."""
    return [row for row in rows if all(row[name] == value for name, value in claim.items())][:-1]


def _claim(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in CLAIM)


def _said(row: dict[str, str]) -> tuple[str | None, ...]:
    return tuple(row.get(name) for name in SAID)
