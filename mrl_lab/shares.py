"""One step over several processes: what a loss that looks across rows needs of the rows that others have.

Under ``accelerate launch`` each process has a share of a step's rows, all shares are equal, and gradients are averaged
over processes. A loss that is a mean over rows is right as it stands. One that compares rows (in-batch negatives,
balanced targets, nearest neighbours) takes those of all processes by :func:`gather` and is then the same everywhere; a
mean over things of which rows have different numbers is weighed by :func:`weight`. One process alone computes what it
would without.

Not shared: the statistics of a BatchNorm and what dropout draws, which are of a process's own rows. What is drawn for a
step (layers, widths, crops) is the same everywhere if ``torch.manual_seed`` is.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T", Tensor, None)


def processes() -> int:
    """Return how many processes share a step's rows."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather(rows: T, dim: int = 0) -> T:
    """Return the rows of all processes along ``dim``, process by process; None of None.

    Gradients are right if every process goes on to compute the same loss of them, and they are averaged afterwards.
    """
    if rows is None or processes() == 1:
        return rows
    return _Gathered.apply(rows.movedim(dim, 0)).movedim(0, dim)


def weight(count: int, device: torch.device) -> float:
    """Return ``count`` over its mean over processes.

    Means over so many things, weighed by this and averaged over processes, are the mean over all things of all.
    """
    if processes() == 1:
        return 1.0
    from accelerate.utils import reduce

    total = reduce(torch.tensor(float(count), device=device), "mean").item()
    return count / total if total else 1.0


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        from accelerate.utils import gather

        ctx.n = len(rows)
        return gather(rows.contiguous())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # The loss is the same in each process, so all of them together say so many times what this one does.
        own = distributed.get_rank() * ctx.n
        return gradient[own : own + ctx.n] * processes()
