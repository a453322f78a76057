"""What a worker of a cluster must be for a request, and what it does for it: a foreman sees to both.

A foreman comes by Dask from where the request was made, and stands on the worker's own copy of this package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from subprocess import Popen

import distributed
from distributed import Status, Worker, WorkerPlugin

from mrl_lab import files, source
from mrl_lab.errors import RequestError
from mrl_lab.report.attend import attend, cores, let_go

SAME = "start the scheduler and all workers from the same environment as this command, at the same path"
SHARED = (
    "--out, the cache (MRL_LAB_CACHE), the data (MRL_LAB_DATA), the notebooks and the folder you are in must be on a "
    "disk that all workers share, at the same path"
)


def perform(request: str, order: dict, key: str) -> dict:
    """Do a job on this worker, as Dask calls it by this ``key``, and return its last event."""
    return distributed.get_worker().plugins[request].perform(order, key)


class Foreman(WorkerPlugin):
    """On a worker: lets it have a request's jobs if it can do them, and ends those that were given up.

    Args:
        package: SHA-256 over the package where the request was made.
        needed: {file: SHA-256} of what a worker must be able to read.
        folders: what must be there as well.
    """

    def __init__(self, request: str, package: str, needed: dict[str, str], folders: Sequence[str]) -> None:
        self.request, self.package, self.needed, self.folders = request, package, needed, folders

    async def setup(self, worker: Worker) -> None:
        """Look whether this worker can do the jobs; only then they are sent here."""
        self.worker, self.processes, self.given_up = worker, {}, set()
        try:
            self._check()
        except RequestError as error:
            worker.log_event(self.request, {"event": "refused", "why": str(error)})
            raise
        await worker.set_resources(**{self.request: worker.state.nthreads})
        for status in (Status.paused, Status.running):  # so that the scheduler looks for jobs that nobody could have
            worker.status = status

    def _check(self) -> None:
        if files.content(source.PACKAGE) != self.package:
            raise RequestError(f"worker {self.worker.address} has another version of this package: {SAME}.")
        strange = [folder for folder in self.folders if not Path(folder).is_dir()]
        strange += [name for name, digest in self.needed.items() if not _has(Path(name), digest)]
        if strange:
            raise RequestError(f"worker {self.worker.address} does not find {strange[0]} as it is here: {SHARED}.")

    def perform(self, order: dict, key: str) -> dict:
        """Do a job, in one of the worker's threads, and return its last event."""

        def hold(process: Popen) -> None:
            self.processes[key] = process
            if key in self.given_up:
                let_go(process)

        threads = max(1, cores() // self.worker.state.nthreads)
        try:
            event = attend(order, threads, partial(self.worker.log_event, self.request), hold)
        finally:
            self.processes.pop(key, None)
        if key in self.given_up:
            raise distributed.Reschedule  # what an ended process leaves is not the job's result
        return event

    def transition(self, key: str, start: str, finish: str, **_: object) -> None:
        """End the process of a job that Dask takes back: its request was stopped, or is gone."""
        if (start, finish) == ("executing", "released"):
            self._give_up(key)

    async def teardown(self, worker: Worker) -> None:
        """End all processes, and wait until they have; one that closes does not wait, lest it be interrupted there."""
        for key in list(self.processes):
            self._give_up(key)
        while self.processes and worker.status == Status.running:
            await asyncio.sleep(0.05)

    def _give_up(self, key: str) -> None:
        self.given_up.add(key)
        if key in self.processes:
            let_go(self.processes[key])


def _has(file: Path, digest: str) -> bool:
    return file.is_file() and files.digest(file) == digest
