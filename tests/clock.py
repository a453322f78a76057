"""Time that a busy machine does not stretch: what processes computed, not how long they waited for their turn."""

import resource
import subprocess
import sys


def computed() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


TRAINING = """
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3))
for _ in range(12):
    net(torch.randn(128, 1, 28, 28)).square().mean().backward()
"""
IDLE = 5.5  # CPU seconds that it takes on two idle cores (AMD EPYC, AVX2)


def slowness() -> float:
    """Return how many times as much CPU a little training takes here and now as on idle cores, at least 1.

    A neighbour on the same processor takes caches and half of a core away, and CPU seconds with them.
    """
    return max(1.0, least(TRAINING, times=2) / IDLE)


def least(code: str, times: int = 5) -> float:
    """Return the CPU seconds that a Python of its own takes for some code, the least of several times."""
    seconds = []
    for _ in range(times):
        before = computed()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        seconds.append(computed() - before)
    return min(seconds)
