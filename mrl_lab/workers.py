"""Workers: independent calls side by side, where a machine has room for more than one.

A small model leaves most of a GPU idle, so several are trained there at once, each in a process of its own. On the CPU
torch's threads share the cores already, and calls are made one after the other. ``MRL_LAB_WORKERS`` overrides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import TypeVar

from mrl_lab import device
from mrl_lab.errors import RequestError

MOST = 8  # processes on one GPU: each holds some hundred MB of it

T = TypeVar("T")


def count() -> int:
    """Return how many processes may work side by side.

    Raises:
        RequestError: ``MRL_LAB_WORKERS`` is no number from 1 on.
    """
    asked = os.environ.get("MRL_LAB_WORKERS", "")
    if asked and not (asked.isdigit() and int(asked) > 0):
        raise RequestError(f"MRL_LAB_WORKERS is a number of processes from 1 on, got {asked!r}.")
    if asked:
        return int(asked)
    return min(MOST, max(1, (os.cpu_count() or 1) // 2)) if device.choose().device == "cuda" else 1


def each(call: Callable[..., T], arguments: Sequence[tuple]) -> list[T]:
    """Return ``[call(*given) for given in arguments]``; side by side where :func:`count` allows it.

    Args:
        call: a function of a module, so that another process can find it by its name.
    """
    several = count()
    if min(several, len(arguments)) <= 1:
        return [call(*given) for given in arguments]
    under_way = [_pool(several).submit(call, *given) for given in arguments]
    return [one.result() for one in under_way]


@cache
def _pool(several: int) -> ProcessPoolExecutor:
    """Return processes that stay until this one ends: each has torch to load and texts to tokenise."""
    threads = max(1, (os.cpu_count() or 1) // several)
    return ProcessPoolExecutor(several, get_context("spawn"), _begin, (threads,))


def _begin(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
