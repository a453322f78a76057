"""What something takes: seconds of several ways, run in turn, and the most memory that one of them holds."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def measure(
    ways: Mapping[str, Callable[[], object]], least: int = 15, seconds_at_least: float = 5.0
) -> dict[str, list[float]]:
    """Return the seconds of each way, run in turn after a warm-up: ``least`` times and for some seconds."""
    for run in ways.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + seconds_at_least
    while len(next(iter(seconds.values()))) < least or time.perf_counter() < end:
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most memory that ``run()`` held at any moment for its tensors, in bytes, beyond what was there.

    Read from the profiler's record of every allocation and release on the CPU, what kernels need for themselves
    included. (The process's own peak would count what it held before, and never falls.)
    """
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read at its first use; else it prints lines of its own
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    return max(accumulate((change for _, change in changes), initial=0))


def peak_of_process() -> int:
    """Return the most memory that this process has held so far, in bytes, with the mapped files it has touched.

    On Linux from its status: what ``getrusage`` says there may be what its parent held when it was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def training_step(model: nn.Module, lr: float, batch: Sequence[Tensor], device: str = "cpu") -> Callable[[], None]:
    """Return a way to learn from one batch, over and over; it ends when the device has done."""
    import torch

    rule = torch.optim.AdamW(model.to(device).train().parameters(), lr, fused=True)
    here = [part.to(device) for part in batch]

    def way() -> None:
        rule.zero_grad()
        model(*here)[0].backward()
        rule.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return way
