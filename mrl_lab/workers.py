"""Workers: independent calls side by side, each in a process of its own.

A small model leaves most of a machine idle: of a GPU, and of a CPU too, where torch's threads wait for one another. On
two cores an encoder of 4 layers of 64 dims learns 2.4 times as fast in two processes of one thread as in one process
of two; all-MiniLM-L6-v2, 1.2 times. ``MRL_LAB_WORKERS`` overrides how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from time import perf_counter
from typing import TypeVar

import cloudpickle

from mrl_lab import device
from mrl_lab.errors import RequestError

MOST = {"cuda": 8, "cpu": 2}  # each holds some hundred MB of a GPU, or up to 2 GB of memory
PAYS = 60.0  # seconds of work from which processes pay: each has torch to load and texts to tokenise

T = TypeVar("T")


def count() -> int:
    """Return how many processes may work side by side.

    Raises:
        RequestError: ``MRL_LAB_WORKERS`` is no number from 1 on.
    """
    asked = os.environ.get("MRL_LAB_WORKERS", "")
    if asked and not (asked.isdigit() and int(asked) > 0):
        raise RequestError(f"MRL_LAB_WORKERS is a number of processes from 1 on, got {asked!r}.")
    return int(asked) if asked else min(MOST.get(device.choose().device, 1), os.cpu_count() or 1)


def each(call: Callable[..., T], arguments: Sequence[tuple]) -> list[T]:
    """Return ``[call(*given) for given in arguments]``, side by side where that pays.

    Calls are made in this process until one took so long that the rest is worth others' while. An error, or an
    interrupt, leaves undone what no process has begun.

    Args:
        call: a function; it, and what it is given, may be typed in a notebook. They travel as bytes between processes
            of this machine alone (cloudpickle), and never lie on a disk.
    """
    waiting, done, taken = list(arguments), [], 0.0
    while waiting and not _pays(taken * len(waiting)):
        begun = perf_counter()
        done.append(call(*waiting.pop(0)))
        taken = perf_counter() - begun
    under_way = [_pool(count()).submit(_called, cloudpickle.dumps((call, given))) for given in waiting]
    try:
        return done + [one.result() for one in under_way]
    finally:
        for one in under_way:
            one.cancel()


def apart(call: Callable[..., T], *given: object) -> T:
    """Return ``call(*given)``, made in a new process that ends with it: what that holds, and held, is its alone.

    With as many threads as this process; function and arguments travel as in :func:`each`.
    """
    import torch

    with ProcessPoolExecutor(1, get_context("spawn"), _begin, (torch.get_num_threads(),)) as process:
        return process.submit(_called, cloudpickle.dumps((call, given))).result()


def _called(sent: bytes) -> object:
    call, given = cloudpickle.loads(sent)
    return call(*given)


def _pays(seconds: float) -> bool:
    begun = _pool.cache_info().currsize > 0
    return count() > 1 and (begun or seconds > PAYS)


@cache
def _pool(several: int) -> ProcessPoolExecutor:
    """Return processes that stay until this one ends."""
    threads = max(1, (os.cpu_count() or 1) // several)
    return ProcessPoolExecutor(several, get_context("spawn"), _begin, (threads,))


def _begin(threads: int) -> None:
    """Make this process a worker: it leaves interrupts to its parent, and ends when that does, however it does."""
    import signal
    from multiprocessing import connection, parent_process
    from threading import Thread

    import torch

    def follow() -> None:
        connection.wait([parent_process().sentinel])
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=follow, daemon=True).start()
    torch.set_num_threads(threads)
