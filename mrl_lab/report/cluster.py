"""Jobs side by side by Dask: on threads of this process, or on the workers of any cluster, by its scheduler's address.

Dask hands out the jobs, gives those of a worker that died to another, and carries what happens here. What it does not
know, a :class:`mrl_lab.report.foreman.Foreman` on each worker sees to: which workers may have jobs, and what a job
leaves running there. A thread of a worker has one job at a time, which computes in a process of its own
(:mod:`mrl_lab.report.attend`); so for one machine threads of this process are enough.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path

import dask.config
import distributed
from distributed import Client, Future

from mrl_lab import files, source
from mrl_lab.errors import RequestError
from mrl_lab.report import foreman
from mrl_lab.report.attend import Tell
from mrl_lab.report.foreman import Foreman

ANSWER = 10  # seconds that a scheduler gets to answer
BACK = 600  # seconds that one which was lost gets to come back
HERE = {
    "n_workers": 1,
    "processes": False,
    "memory_limit": 0,
    "dashboard_address": "127.0.0.1:0",  # Dask shows what it does to this machine alone
    "worker_dashboard_address": "127.0.0.1:0",
}
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
        tell({"event": "idle", "why": f"{scheduler} is lost, waiting for it to come back; reports left: {len(left)}"})
        try:
            _await_answer(scheduler, BACK)
            yield from _handed_out(left, side_by_side, scheduler, tell)
        except RequestError as error:
            why = str(error)
            break
    yield from (_lost(number, why) for number in left)


def _handed_out(left: dict[int, dict], side_by_side: int, scheduler: str | None, tell: Tell) -> Iterator[dict]:
    """Yield last events, and take their jobs out of ``left``: what stays there was lost with the scheduler."""
    request, orders = f"mrl-lab-{uuid.uuid4().hex}", list(left.values())
    with _client(side_by_side, scheduler) as client, _foremen(client, request, orders, scheduler is not None):
        client.subscribe_topic(request, lambda event: tell(event[1]))
        if not client.nthreads():
            tell({"event": "idle", "why": f"{scheduler} has no workers yet, waiting for them"})
        futures = [_submitted(client, request, order) for order in orders]
        numbers = {future.key: order["number"] for future, order in zip(futures, orders, strict=True)}
        try:
            for future in distributed.as_completed(futures):
                if last := _last(future, numbers[future.key]):
                    del left[last["number"]]
                    yield last
        finally:
            if client.status == "running":
                client.cancel(futures)


def _submitted(client: Client, request: str, order: dict) -> Future:
    key = f"{order['name']}-{order['tag']}-{request}"
    in_turn = {"priority": -order["number"], "resources": {request: 1}}
    return client.submit(foreman.perform, request, order, key, key=key, **in_turn)


def _last(future: Future, number: int) -> dict | None:
    """Return a job's last event; None when the scheduler was lost, and the job with it."""
    try:
        return future.result()
    except CancelledError:
        return None
    except Exception as error:  # a cell that fails is a result; this is a fault of what carries it
        return _lost(number, f"{type(error).__name__}: {error}")


def _lost(number: int, why: str) -> dict:
    return {"event": "failed", "number": number, "error": LOST.format(why=why)}


# ------------------------------------------------------------------------------------------------ the scheduler


@contextmanager
def _client(side_by_side: int, scheduler: str | None) -> Iterator[Client]:
    for name in ("distributed", "distributed.client"):  # what a person must know is said in our own words
        logging.getLogger(name).setLevel(logging.CRITICAL)
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


# -------------------------------------------------------------------------------------------------- the workers


@contextmanager
def _foremen(client: Client, request: str, orders: Sequence[dict], elsewhere: bool) -> Iterator[None]:
    """Have a foreman on each worker, also on those that come later; at the end they end what still runs.

    Args:
        elsewhere: the workers may be on other machines.
    """
    with _tokens(request, _written(orders) if elsewhere else ()) as tokens:
        read = (*tokens, *(Path(order["notebook"]) for order in orders))
        package, needed = files.content(source.PACKAGE), {str(file): files.digest(file) for file in read}
        try:
            _engage(client, Foreman(request, package, needed, _stood_in()))
            yield
        finally:
            if client.status == "running":  # the workers of a cluster that is lost end what they do by themselves
                with suppress(Exception):
                    client.unregister_worker_plugin(request)


def _engage(client: Client, one: Foreman) -> None:
    try:
        client.register_plugin(one, name=one.request)
    except RequestError:
        raise
    except Exception as error:  # of a worker whose package is so different that it has no foremen
        raise RequestError(f"a worker cannot do these jobs ({error!r}): {foreman.SAME}.") from None


def _written(orders: Sequence[dict]) -> set[Path]:
    return {Path(order["out"]).absolute() / ".running" for order in orders} | {files.cache_folder().absolute()}


def _stood_in() -> list[str]:
    data = os.environ.get("MRL_LAB_DATA")
    return [os.getcwd(), *([os.path.abspath(data)] if data else [])]


@contextmanager
def _tokens(request: str, folders: Iterable[Path]) -> Iterator[list[Path]]:
    """Write a file of this request's own into each folder that the workers must share."""
    tokens = [folder / f"{request}.token" for folder in sorted(folders)]
    try:
        for token in tokens:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.write_text(request)
        yield tokens
    finally:
        for token in tokens:
            token.unlink(missing_ok=True)
