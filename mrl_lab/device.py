"""Where to compute and how precisely: chosen once, with the reason, and open to override.

``MRL_LAB_DEVICE`` (cpu, cuda, mps) and ``MRL_LAB_PRECISION`` (no, bf16, fp16) override the choice; both
are accelerate's own words, so ``accelerate launch`` and these functions mean the same thing.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mrl_lab.errors import RequestError, unknown

if TYPE_CHECKING:
    from accelerate import Accelerator

DEVICES = ("cpu", "cuda", "mps")
PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class Compute:
    """A device, a mixed precision (``"no"`` is plain float32) and why they were chosen."""

    device: str
    precision: str
    reason: str

    def describe(self) -> str:
        """One line for pages and logs: hardware, precision, threads, reason."""
        import torch

        name = torch.cuda.get_device_name() if self.device == "cuda" else _processor()
        precision = "float32" if self.precision == "no" else f"{self.precision} autocast"
        n = torch.get_num_threads()
        threads = f", {n} thread{'s' * (n != 1)}" if self.device == "cpu" else ""
        return f"{self.device}: {name}, {precision}{threads} ({self.reason})"

    def accelerator(self) -> Accelerator:
        """Return accelerate's handle for this choice; under ``accelerate launch`` it joins the group."""
        from accelerate import Accelerator, DistributedDataParallelKwargs

        # Not every step uses every weight: a layer that was not drawn, a pooler that nobody asks.
        several = DistributedDataParallelKwargs(find_unused_parameters=True)
        return Accelerator(cpu=self.device == "cpu", mixed_precision=self.precision, kwargs_handlers=[several])


def choose(device: str = "", precision: str = "") -> Compute:
    """Return the device and precision to use; empty strings leave the choice to the machine.

    Raises:
        RequestError: an unknown name, or a device that this machine does not have.
    """
    device = device or os.environ.get("MRL_LAB_DEVICE", "")
    precision = precision or os.environ.get("MRL_LAB_PRECISION", "")
    if device and device not in DEVICES:
        raise unknown("device", device, DEVICES)
    if precision and precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    found = _available()
    if device and device not in found:
        raise RequestError(f"device {device!r} was asked for, but torch sees only {', '.join(found)} here.")
    chosen = device or found[0]
    reason = "asked for" if device else f"best of what torch sees: {', '.join(found)}"
    return Compute(chosen, precision or _default_precision(chosen), reason)


def _available() -> list[str]:
    """Devices that torch can use on this machine, fastest first."""
    import torch

    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def _default_precision(device: str) -> str:
    """bf16 on cards that have it; float32 elsewhere, where it is exact, and small nets gain nothing."""
    import torch

    return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "no"


def _processor() -> str:
    return platform.processor() or platform.machine()
