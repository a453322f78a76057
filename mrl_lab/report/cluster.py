"""Jobs side by side by Dask: on threads of this process, or on the workers of any cluster, by its scheduler's address.

Dask hands out the jobs, gives those of a worker that died to another, and carries what happens here. What it cannot
know is what this lab asks of a worker, and what a job leaves running there: a :class:`Foreman` on every worker sees to
both. A thread of a worker has one job at a time, which computes in a process of its own (:mod:`mrl_lab.report.attend`);
so for one machine threads of this process are enough.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import Popen

import dask.config
import distributed
from distributed import Client, Future, Status, Worker, WorkerPlugin

from mrl_lab import files, source
from mrl_lab.errors import RequestError
from mrl_lab.report.attend import Tell, attend, cores, let_go

ANSWER = 10  # seconds that a scheduler gets to answer
BACK = 600  # seconds that one which was lost gets to come back
HERE = {
    "n_workers": 1,
    "processes": False,
    "memory_limit": 0,
    "dashboard_address": "127.0.0.1:0",  # Dask shows what it does to this machine alone
    "worker_dashboard_address": "127.0.0.1:0",
}
SAME = "start the scheduler and all workers from the same environment as this command, at the same path"
LOST = "the cluster lost this job ({why}). Nothing half-written is left; the same command continues."


def performed(orders: Sequence[dict], side_by_side: int, scheduler: str | None, tell: Tell) -> Iterator[dict]:
    """Yield the last event of each job as they come; ``tell`` those before, from a thread of its own.

    When a scheduler is lost, and the jobs with it, those that are left are handed to the one that comes in its place.

    Args:
        side_by_side: how many at once on this machine, where there is no ``scheduler``.

    Raises:
        RequestError: the cluster does not answer, or one of its workers cannot do these jobs.
    """
    left = {order["number"]: order for order in orders}
    yield from _handed_out(left, side_by_side, scheduler, tell)
    why = "it was cancelled"
    while left and scheduler is not None:
        tell({"event": "idle", "why": f"{scheduler} is lost, waiting for it to come back; jobs left: {len(left)}"})
        try:
            _await_answer(scheduler, BACK)
            yield from _handed_out(left, side_by_side, scheduler, tell)
        except RequestError as error:
            why = str(error)
            break
    yield from (_lost(number, why) for number in left)


def _handed_out(left: dict[int, dict], side_by_side: int, scheduler: str | None, tell: Tell) -> Iterator[dict]:
    """Yield last events, and take their jobs out of ``left``; what is left in the end was lost with the scheduler."""
    request, orders = f"mrl-lab-{uuid.uuid4().hex}", list(left.values())
    with _client(side_by_side, scheduler) as client, _foremen(client, request, orders):
        client.subscribe_topic(request, lambda event: tell(event[1]))
        if not client.nthreads():
            tell({"event": "idle", "why": f"{scheduler} has no workers yet, waiting for them"})
        futures = {_key(request, order): _submitted(client, request, order) for order in orders}
        numbers = {_key(request, order): order["number"] for order in orders}
        try:
            for future in distributed.as_completed(futures.values()):
                if not future.cancelled():
                    del left[numbers[future.key]]
                    yield _last(future, numbers[future.key])
        finally:
            if client.status == "running":
                client.cancel(list(futures.values()))


def _submitted(client: Client, request: str, order: dict) -> Future:
    return client.submit(_perform, request, order, key=_key(request, order), resources={request: 1})


def _key(request: str, order: dict) -> str:
    return f"{order['name']}-{order['tag']}-{request}"


def _perform(request: str, order: dict) -> dict:
    return distributed.get_worker().plugins[request].perform(order, _key(request, order))


def _last(future: Future, number: int) -> dict:
    try:
        return future.result()
    except Exception as error:  # a cell that fails is a result; this is a fault of what carries it
        return _lost(number, f"{type(error).__name__}: {error}")


def _lost(number: int, why: str) -> dict:
    return {"event": "failed", "number": number, "error": LOST.format(why=why)}


@contextmanager
def _client(side_by_side: int, scheduler: str | None) -> Iterator[Client]:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what a person must know is said in our own words
    if scheduler is not None:
        _await_answer(scheduler, ANSWER)
        with Client(scheduler, timeout=ANSWER) as client:
            yield client
        return
    awake = dask.config.set({"distributed.scheduler.worker-ttl": None})  # however long a laptop sleeps
    with awake, distributed.LocalCluster(threads_per_worker=side_by_side, **HERE) as cluster, Client(cluster) as client:
        yield client


def _await_answer(scheduler: str, seconds: float) -> None:
    """Wait until a scheduler answers; Dask's own client waits without end for one that accepts and says nothing.

    Raises:
        RequestError: it did not within so many ``seconds``.
    """
    try:
        asyncio.run(_answer(scheduler, seconds))
    except Exception as error:  # whatever a stranger at that port may say
        raise RequestError(
            f"--scheduler {scheduler} does not answer ({str(error) or f'{seconds} s'}). Give the address that "
            "`dask scheduler` prints, such as tcp://host:8786."
        ) from None


async def _answer(scheduler: str, seconds: float) -> None:
    own = distributed.Security().get_connection_args("client")
    async with asyncio.timeout(seconds):
        while True:
            with suppress(OSError):
                async with asyncio.timeout(ANSWER), distributed.rpc(scheduler, connection_args=own) as there:
                    await there.identity()
                    return
            await asyncio.sleep(0.5)


# --------------------------------------------------------------------------------------------------- foremen


@contextmanager
def _foremen(client: Client, request: str, orders: Sequence[dict]) -> Iterator[None]:
    """Have a foreman on each worker, also on those that come later; at the end they end what still runs."""
    with _tokens(request, orders) as tokens:
        needed = {str(file): files.digest(file) for file in (*tokens, *(Path(o["notebook"]) for o in orders))}
        try:
            _engage(client, Foreman(request, files.content(source.PACKAGE), needed))
            yield
        finally:
            with suppress(Exception):  # a cluster that is lost, and whose workers end what they do by themselves
                client.unregister_worker_plugin(request)


def _engage(client: Client, foreman: Foreman) -> None:
    try:
        client.register_plugin(foreman, name=foreman.request)
    except RequestError:
        raise
    except Exception as error:  # of a worker whose package is so different that it has no foremen
        raise RequestError(f"a worker cannot do these jobs ({error!r}): {SAME}.") from None


@contextmanager
def _tokens(request: str, orders: Sequence[dict]) -> Iterator[list[Path]]:
    """Write a file of this request's own into each folder that the workers must share."""
    folders = {Path(order["out"]).absolute() / ".running" for order in orders} | {files.cache_folder().absolute()}
    tokens = [folder / f"{request}.token" for folder in sorted(folders)]
    try:
        for token in tokens:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.write_text(request)
        yield tokens
    finally:
        for token in tokens:
            token.unlink(missing_ok=True)


class Foreman(WorkerPlugin):
    """On a worker: lets it have a request's jobs if it can do them, and ends those that were given up.

    Args:
        package: SHA-256 over the package where the request was made.
        needed: {file: SHA-256} of what a worker must be able to read.
    """

    def __init__(self, request: str, package: str, needed: dict[str, str]) -> None:
        self.request, self.package, self.needed = request, package, needed

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
        for name, digest in self.needed.items():
            if not Path(name).is_file() or files.digest(Path(name)) != digest:
                raise RequestError(
                    f"worker {self.worker.address} does not find {name} as it is here: --out, the cache "
                    "(MRL_LAB_CACHE) and the notebooks must be on a disk that all workers share, at the same path."
                )

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
        """End all processes, and wait until they have."""
        for key in list(self.processes):
            self._give_up(key)
        while self.processes:
            await asyncio.sleep(0.05)

    def _give_up(self, key: str) -> None:
        self.given_up.add(key)
        if key in self.processes:
            let_go(self.processes[key])
