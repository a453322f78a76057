"""Attend to one job: start its process, hand it the job, hear what happens, and see it end, whatever ends first.

The process lives as long as the pipe to its standard input is open, so that nothing outlives this one however it ends
(see :mod:`mrl_lab.report.worker`). It works where it was asked for: in that folder, with the lab's settings of there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mrl_lab import files
from mrl_lab.report import record

if TYPE_CHECKING:  # a cluster's workers go without what a request needs
    from mrl_lab.report.jobs import Job

PATIENCE = 60.0  # seconds that a process gets to end by itself; what a long run has come to takes some to write
LAST = ("done", "already", "failed")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# OpenMP's threads wait for each other in a loop, 300,000 times round unless told otherwise. With another busy program
# on one of two cores a training step then takes 636 ms, with 3,000 rounds 32 ms; with both cores free 12.7 and 13.4 ms.
PATIENT = {"GOMP_SPINCOUNT": "3000"}

Tell = Callable[[dict], object]
Hold = Callable[[subprocess.Popen], object]


def cores() -> int:
    """Return how many cores this process may use; ``OMP_NUM_THREADS`` lowers it."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(asked), allowed) if asked.isdigit() and int(asked) else allowed


def order(job: Job, number: int, fresh: bool) -> dict:
    """Return a job in plain values, with where it is asked for: it may be done by another machine."""
    lab = {name: value for name, value in os.environ.items() if name.startswith("MRL_LAB_")}
    lab |= {"MRL_LAB_CACHE": str(files.cache_folder().absolute())} | ({"MRL_LAB_FRESH": "1"} if fresh else {})
    plain = json.loads(json.dumps(asdict(job), default=str))
    outdated = record.read(job.folder).get("start") if fresh else ""
    return plain | {"number": number, "outdated": outdated, "cwd": os.getcwd(), "environment": lab}


def attend(order: dict, threads: int, tell: Tell, hold: Hold = lambda process: None) -> dict:
    """Do a job in a process of ``threads`` threads, ``tell`` what happens, and return its last event, of those in LAST.

    Each event carries the ``number`` of the order.

    Args:
        hold: is given the process as soon as it lives, and may let it go.
    """
    number = {"number": order["number"]}
    place = Path(order["cwd"], order["out"], order["name"], order["tag"])
    if record.is_done(place, order["key"], order["outdated"]):
        return {"event": "already"} | number
    last, began = {}, time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise:
        with _process(order, threads, noise) as process:
            hold(process)
            tell({"event": "started"} | number)
            _hand(process, order)
            for last in map(json.loads, process.stdout):
                if last["event"] not in LAST:
                    tell(last | number)
            process.wait()
        seconds, error = time.monotonic() - began, _broken(process.returncode, noise)
    return (last if last.get("event") in LAST else {"event": "failed", "seconds": seconds, "error": error}) | number


@contextmanager
def _process(order: dict, threads: int, noise) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mrl_lab.report.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=noise,
        text=True,
        encoding="utf-8",
        cwd=order["cwd"],
        env={**PATIENT, **os.environ, **order["environment"], **dict.fromkeys(THREADS, str(threads))},
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the other in good order
    )
    try:
        yield process
    finally:
        let_go(process)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()


def _hand(process: subprocess.Popen, order: dict) -> None:
    with suppress(OSError, ValueError):  # it has ended, or was let go; what it wrote to its standard error tells why
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()


def let_go(process: subprocess.Popen) -> None:
    """Close the pipe by which a process lives; it then clears up and ends."""
    with suppress(OSError):
        process.stdin.close()


def _broken(status: int, noise) -> str:
    """Tell why a process ended without a result, from what it wrote to its standard error."""
    noise.seek(0)
    tail = "\n".join(noise.read().strip().splitlines()[-8:])
    return f"the worker ended with status {status} before the run was saved:\n{tail}"
