"""Run jobs side by side, each in a worker process of its own, and collect what became of them.

A worker lives as long as the pipe to its standard input is open, so that nothing outlives this process however it
ends (see :mod:`mrl_lab.report.worker`). Workers share the cores: N of them get 1/N each, and start a little apart,
because kernels that start at the same moment take each other's ports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import Queue

from mrl_lab.errors import RequestError
from mrl_lab.report import record
from mrl_lab.report.jobs import Job, check_writable
from mrl_lab.report.progress import Progress
from mrl_lab.report.worker import sweep

APART = 2.0  # seconds between two starts
PATIENCE = 10.0  # seconds that a worker gets to end by itself
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# OpenMP's threads wait for each other in a loop, 300,000 times round unless told otherwise. With another busy program
# on one of two cores a training step then takes 636 ms, with 3,000 rounds 32 ms; with both cores free 12.7 and 13.4 ms.
PATIENT = {"GOMP_SPINCOUNT": "3000"}


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``done``, ``already`` done, or ``failed`` (in a cell; None: outside the notebook)."""

    job: Job
    event: str
    seconds: float = 0.0
    took: str = ""
    cell: int | None = None
    source: str = ""
    error: str = ""

    @property
    def page(self) -> Path:
        """The page of what ran."""
        folder = self.job.folder
        return (folder.with_name(folder.name + ".failed") if self.event == "failed" else folder) / "page.html"


def cores() -> int:
    """Return how many cores this process may use; ``OMP_NUM_THREADS`` lowers it."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(asked), allowed) if asked.isdigit() and int(asked) else allowed


def run(jobs: Sequence[Job], side_by_side: int = 1, fresh: bool = False) -> list[Outcome]:
    """Run all jobs, at most ``side_by_side`` at once; a job that fails does not stop the others.

    Raises:
        RequestError: the output folder cannot be made.
        KeyboardInterrupt: after all workers have ended.
    """
    for out in {job.out for job in jobs}:
        _prepare(out)
        sweep(out)
    crew = Crew(min(side_by_side, len(jobs)), fresh)
    progress = Progress(jobs)
    try:
        return [outcome for event in crew.events(jobs) if (outcome := _show(progress, *event))]
    finally:
        crew.end()
        progress.close()


def _prepare(out: Path) -> None:
    check_writable(out)
    try:
        (out / ".running").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"--out {out} cannot be written to ({error.strerror}): give another --out.") from None


def _show(progress: Progress, job: Job, event: dict) -> Outcome | None:
    """Show an event; return the outcome when it is a job's last."""
    kind = event["event"]
    if kind == "cell":
        progress.cell(job)
    elif kind == "started":
        progress.say(job, f"started, {job.cells} cells")
    elif kind == "waiting":
        progress.say(job, "another run is at it, waiting for that one")
    else:
        outcome = Outcome(job, **event)
        progress.say(job, _ending(outcome))
        progress.end(job)
        return outcome
    return None


def _ending(outcome: Outcome) -> str:
    if outcome.event == "already":
        return f"done already: {outcome.page}"
    if outcome.event == "done":
        return f"done, {outcome.took}: {outcome.page}"
    return f"failed after {outcome.seconds:.0f} s"


def write_index(out: Path) -> Path:
    """Write the index of all runs in ``out``; runs that end at the same moment take turns."""
    from filelock import FileLock

    from mrl_lab.report import index

    _prepare(out)
    with FileLock(out / ".running" / "index.lock"):
        return index.write_index(out)


class Crew:
    """The worker processes of one run."""

    def __init__(self, size: int, fresh: bool) -> None:
        self.size, self.fresh = size, fresh
        self.workers: set[subprocess.Popen] = set()
        self.stop = threading.Event()
        self.starting = threading.Lock()
        self.next_start = 0.0

    def events(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict]]:
        """Yield (job, event) as they happen, until every job has had its last one."""
        queue: Queue[tuple[Job, dict] | None] = Queue()
        pool = ThreadPoolExecutor(self.size)
        for job in jobs:
            pool.submit(self._work, job, queue).add_done_callback(partial(_last, job, queue))
        left = len(jobs)
        try:
            while left:
                if item := queue.get():
                    yield item
                else:
                    left -= 1
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def end(self) -> None:
        """End the workers that still live: close their pipes, then wait."""
        self.stop.set()
        with self.starting:
            workers = list(self.workers)
            for worker in workers:
                worker.stdin.close()
            for worker in workers:
                try:
                    worker.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    worker.kill()

    def _work(self, job: Job, queue: Queue) -> None:
        """Run one job, in a thread; its last event is sent in any case."""
        if record.is_done(job.folder, job.key) and not self.fresh:
            queue.put((job, {"event": "already"}))
            return
        last, began = {}, time.monotonic()
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise:
            worker = self._start(job, noise)
            if worker is None:
                return
            queue.put((job, {"event": "started"}))
            for line in worker.stdout:
                last = json.loads(line)
                queue.put((job, last))
            worker.wait()
            if last.get("event") not in ("done", "already", "failed"):
                seconds, error = time.monotonic() - began, _broken(worker.returncode, noise)
                queue.put((job, {"event": "failed", "seconds": seconds, "error": error}))
        worker.stdin.close()
        self.workers.discard(worker)

    def _start(self, job: Job, noise) -> subprocess.Popen | None:
        """Start a worker when it is its turn and hand it the job; None when all work is to stop."""
        with self.starting:
            self.stop.wait(self.next_start - time.monotonic())
            if self.stop.is_set():
                return None
            self.next_start = time.monotonic() + APART
            worker = subprocess.Popen(
                [sys.executable, "-m", "mrl_lab.report.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                text=True,
                encoding="utf-8",
                env=self._environment(),
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the workers in good order
            )
            self.workers.add(worker)
        with suppress(BrokenPipeError):  # it has ended already; what it wrote to its standard error tells why
            worker.stdin.write(json.dumps(asdict(job) | {"fresh": self.fresh}, default=str) + "\n")
            worker.stdin.flush()
        return worker

    def _environment(self) -> dict[str, str]:
        share = str(max(1, cores() // self.size))
        fresh = {"MRL_LAB_FRESH": "1"} if self.fresh else {}
        return {**PATIENT, **os.environ, **dict.fromkeys(THREADS, share), **fresh}


def _last(job: Job, queue: Queue, future: Future) -> None:
    """Mark the end of a job's events; a fault of this module is an event too."""
    fault = None if future.cancelled() else future.exception()
    if fault:
        queue.put((job, {"event": "failed", "error": repr(fault)}))
    queue.put(None)


def _broken(status: int, noise) -> str:
    """Tell why a worker ended without a result, from what it wrote to its standard error."""
    noise.seek(0)
    tail = "\n".join(noise.read().strip().splitlines()[-8:])
    return f"the worker ended with status {status} before the run was saved:\n{tail}"
