"""The child process of one job: run the notebook, make its page, put the finished folder in its place.

It reads the job as one line of JSON from its standard input, and tells what happens as lines of JSON on its
standard output. The pipe stays open while the parent lives; when it closes, whatever ended the parent, this
process ends its kernel, removes what is half-finished and exits. Work happens in a folder of its own, under a
lock, and one rename makes it visible::

    DIR/.running/NAME--TAG.lock     held while the job runs; the system frees it when the process ends
    DIR/.running/NAME--TAG/PID/     where the job writes; ipython/ beside it is the kernel's own
    DIR/NAME/TAG/                   where it goes; TAG.failed/ when a cell failed
    DIR/NAME/TAG.stopped/rows.csv   what the training of a long run came to that was stopped, until it is done
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from mrl_lab import runs
from mrl_lab.report import record

Tell = Callable[..., None]
WORTH = 600.0  # seconds of computing from which what a stopped run has come to is kept


class Orphan:
    """What to undo when the parent ends: a thread waits for that, and holds ``lock`` while it undoes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.undo: list[Callable[[], None]] = []
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        sys.stdin.read()  # returns when the pipe closes
        with self.lock:
            try:
                for step in reversed(self.undo):
                    step()
            finally:
                os._exit(1)


def main() -> None:
    """Run the job that standard input describes."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the kernel inherits this process's output and must not write between our lines

    def tell(event: str, **more: object) -> None:
        print(json.dumps({"event": event, **more}), file=lines, flush=True)

    perform(json.loads(sys.stdin.readline()), Orphan(), tell)


def perform(job: dict, orphan: Orphan, tell: Tell) -> None:
    """Run a job unless it is done already, and ``tell`` what becomes of it; nothing half-finished is left."""
    out = Path(job["out"]).absolute()  # papermill takes a name that begins with a dash, or s3:, for something else
    place = out / job["name"] / job["tag"]
    running = out / ".running" / f"{job['name']}--{job['tag']}"
    with locked(_lock(running), tell):
        restore(running, place)
        if record.is_done(place, job["key"], job["outdated"]):
            tell("already")
            return
        began = time.monotonic()
        try:
            _run(job, running, place, orphan, tell)
        except OSError as error:
            seconds, text = time.monotonic() - began, f"Nothing of this run could be kept: {_explained(error)}"
            tell("failed", seconds=seconds, error=text)
        finally:
            restore(running, place)


def _lock(running: Path) -> Path:
    return running.with_name(running.name + ".lock")


def _explained(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{error}." + (" The disk is full: make room, or give --out a folder on another disk." if full else "")


@contextmanager
def locked(file: Path, tell: Tell) -> Iterator[None]:
    """Hold the lock of a job; says so when another run has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("waiting")
        lock.acquire(poll_interval=0.5)
    with lock:
        yield


def _run(job: dict, running: Path, place: Path, orphan: Orphan, tell: Tell) -> None:
    from mrl_lab.report import kernel

    start = datetime.now(UTC)
    work = running / str(os.getpid())
    orphan.undo.append(lambda: shutil.rmtree(running, ignore_errors=True))
    orphan.undo.append(lambda: leave_rows(work, place))
    work.mkdir(parents=True)
    os.environ["MRL_LAB_RUN"] = str(work)
    process = kernel.start(running / "ipython")
    orphan.undo.append(lambda: kernel.kill(process))
    try:
        cells = Path(job["notebook"]), job["changed"], work / "notebook.ipynb"
        failure = kernel.run(process, *cells, lambda: tell("cell"))
    finally:
        process.shutdown_kernel(now=True)
    seconds = (datetime.now(UTC) - start).total_seconds()
    try:
        took = _keep(work, job, start, failure)
        with orphan.lock:
            publish(work, place, running, failed=failure is not None)
    except OSError as error:
        if failure is None:
            raise
        failure = replace(failure, error=f"{failure.error}\nIts page could not be kept: {_explained(error)}")
    tell("failed", seconds=seconds, **asdict(failure)) if failure else tell("done", took=took)


def _keep(work: Path, job: dict, start: datetime, failure: object) -> str:
    """Write run.json and the page; return what they say about time."""
    from mrl_lab.report import page

    run = record.write(work, job, start, failure)
    page.render(work)
    return page.took(run)


# ----------------------------------------------------------------------------------------- putting in place


def leave_rows(work: Path, place: Path) -> None:
    """Keep beside ``place`` what a stopped run has come to, if that took long: with it, it goes on elsewhere."""
    with suppress(OSError, ValueError):
        if sum(runs.spent(work, time.time())) >= WORTH:
            runs.keep_rows(work, _stopped(place))


def _stopped(place: Path) -> Path:
    return place.with_name(place.name + ".stopped")


def publish(work: Path, place: Path, running: Path, failed: bool) -> None:
    """Move a run to its place; a failed one goes beside it and never takes the place of a good one."""
    beside = place.with_name(place.name + ".failed")
    place.parent.mkdir(parents=True, exist_ok=True)
    if failed:
        shutil.rmtree(beside, ignore_errors=True)
        os.replace(work, beside)
    else:
        if place.exists():
            os.replace(place, running / "previous")
        os.replace(work, place)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(_stopped(place), ignore_errors=True)
    shutil.rmtree(running, ignore_errors=True)


def restore(running: Path, place: Path) -> None:
    """Clear what a killed run left behind; if it was killed between the two moves, put the previous result back."""
    previous = running / "previous"
    if previous.exists() and not place.exists():
        os.replace(previous, place)
    shutil.rmtree(running, ignore_errors=True)


def sweep(out: Path) -> None:
    """Clear what killed runs left in ``out``; those that are under way hold their locks."""
    from filelock import FileLock, Timeout

    for running in sorted(out.glob(".running/*--*/")):
        name, _, tag = running.name.rpartition("--")
        with suppress(Timeout), FileLock(_lock(running), timeout=0):
            restore(running, out / name / tag)


if __name__ == "__main__":
    main()
