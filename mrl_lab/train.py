"""The one training loop. Any module whose forward returns ``(total, parts)`` can be fitted.

``total`` is the loss to lower and ``parts`` a dict of its named pieces (one a cut), which are logged.
accelerate takes care of device, precision and processes: run a script that calls :func:`fit` under
``accelerate launch`` and every process takes its share of each batch, to the same losses (:mod:`mrl_lab.shares`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from mrl_lab import files, memory
from mrl_lab.device import Compute, choose
from mrl_lab.errors import RequestError, unknown

if TYPE_CHECKING:
    import pandas as pd


class Rows(Protocol):
    """What is trained on: ``len(rows)`` and ``rows[index]`` -> the tensors that the model's forward takes, a row each.

    ``torch.utils.data.TensorDataset`` is one; a text set can pad, and a picture set augment, in ``[index]``.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor) -> tuple[Tensor, ...]: ...


OPTIMIZERS = {
    "adamw": lambda parameters, lr, decay: torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=True),
    "sgd": lambda parameters, lr, decay: torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=decay),
}
SCHEDULES = {  # the rate at each step as a share of the peak: t runs from 0 to 1
    "one-cycle": lambda t: t / 0.3 if t < 0.3 else (1 + math.cos(math.pi * (t - 0.3) / 0.7)) / 2,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
    "linear": lambda t: t / 0.1 if t < 0.1 else (1 - t) / 0.9,  # transformers' own, after a tenth of warm-up
    "constant": lambda t: 1.0,
}


def fit(
    model: nn.Module,
    rows: Rows,
    *,
    steps: int,
    batch: int = 128,
    lr: float = 1e-2,
    optimizer: str = "adamw",
    schedule: str = "one-cycle",
    weight_decay: float = 0.05,
    clip: float | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    checkpoint: Path | None = None,
    save_every: int = 500,
    after_step: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Train ``model`` in place for ``steps`` steps; return one row a step: step, lr, total and the parts.

    Args:
        model: forward(*tensors) -> (total, {name: part}).
        rows: see :class:`Rows`; rows are drawn without replacement, reshuffled each pass by ``seed``.
        batch: rows a step, over all processes together.
        lr: peak learning rate; ``schedule`` shapes it over the steps.
        clip: largest gradient norm, if any.
        checkpoint: file to continue from and to save to every ``save_every`` steps (bit-equal on CPU).
        after_step: called with the step's number after each update; say: receives at most ten lines of progress.

    Raises:
        RequestError: settings that cannot work, before the first step.
        FloatingPointError: a loss that is not finite; names the step and the part.
    """
    _check(rows, steps, batch, lr, optimizer, schedule)
    update = OPTIMIZERS[optimizer]([p for p in model.parameters() if p.requires_grad], lr, weight_decay)
    rate = torch.optim.lr_scheduler.LambdaLR(update, lambda step: SCHEDULES[schedule](step / steps))
    accelerator = (compute or choose()).accelerator()
    memory.check(model, rows, batch, optimizer, accelerator)
    rows, run = memory.near(rows, accelerator.device), _Run(accelerator, model, update, rate, checkpoint)
    for step, index in zip(range(run.begin, steps), batches(len(rows), batch, seed, run.begin), strict=False):
        total = run.step(step, rows, index, clip)
        if after_step is not None:
            after_step(step)
        run.stop_if_not_finite(step)
        if say is not None and (step + 1) % max(1, steps // 10) == 0:
            say(f"step {step + 1}/{steps}  loss {total.item():.3f}")
        if (step + 1) % save_every == 0:
            run.save(step + 1)
    return run.finish()


class _Run:
    """A training under way: all that a step changes and a checkpoint holds."""

    def __init__(self, accelerator, model: nn.Module, update, rate, checkpoint: Path | None) -> None:
        self.accelerator, self.model, self.rate, self.checkpoint = accelerator, model, rate, checkpoint
        self.home = next(model.parameters()).device
        self.wrapped, self.update = accelerator.prepare(model, update)
        self.begin, self.log = _resume(checkpoint, model, self.update, rate)
        self.wrapped.train()

    def step(self, number: int, rows: Rows, index: Tensor, clip: float | None) -> Tensor:
        """Learn from this process's share of the rows ``index`` and return the loss.

        Each process makes all of them, so that what is drawn for them (crops, hidden words) is what one would draw.
        """
        n = len(index) // self.accelerator.num_processes
        own = slice(self.accelerator.process_index * n, (self.accelerator.process_index + 1) * n)
        with self.accelerator.autocast():
            total, parts = self.wrapped(*(t[own].to(self.accelerator.device) for t in rows[index]))
        self.log.append(_note(number, self.rate.get_last_lr()[0], total, parts))
        self.accelerator.backward(total)
        if clip is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), clip)
        self.update.step()
        self.update.zero_grad()
        self.rate.step()
        return total

    def stop_if_not_finite(self, number: int) -> None:
        """Look at the last losses; on a GPU not after every step, since each look waits for the card."""
        if self.accelerator.device.type == "cpu" or (number + 1) % 50 == 0:
            _stop_if_not_finite(self.log[-50:])

    def save(self, done: int) -> None:
        """Write the checkpoint after ``done`` steps, if one was asked for."""
        if self.checkpoint is not None and self.accelerator.is_main_process:
            _save(self.checkpoint, done, self.model, self.update, self.rate, self.log)

    def finish(self) -> pd.DataFrame:
        """Leave the model ready to be used, where it was before, and return the history."""
        _stop_if_not_finite(self.log[-50:])
        self.model.to(self.home).eval()
        return _history(self.log, self.accelerator)


def batches(n: int, batch: int, seed: int, start: int = 0) -> Iterator[Tensor]:
    """Yield the row numbers of each batch for ever: whole passes, reshuffled, the odd rest of a pass left out.

    A pass's order depends on ``seed`` and its number alone, so a resumed run draws what it would have drawn.
    """
    a_pass = n // batch
    for number in range(start // a_pass, 2**31):
        shuffle = torch.Generator().manual_seed(hash((seed, number)) % 2**31)
        order = torch.randperm(n, generator=shuffle)
        first = start % a_pass if number == start // a_pass else 0
        for i in range(first, a_pass):
            yield order[i * batch : (i + 1) * batch]


def _check(rows: Rows, steps: int, batch: int, lr: float, optimizer: str, schedule: str) -> None:
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if steps < 1 or lr <= 0:
        raise RequestError(f"training needs at least 1 step and a rate above 0; got steps = {steps}, lr = {lr}.")
    if not 1 <= batch <= len(rows):
        raise RequestError(f"a batch of {batch} cannot be drawn from {len(rows)} rows: use 1 to {len(rows)}.")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if batch % processes:
        raise RequestError(
            f"a batch of {batch} cannot be shared by {processes} processes: use a multiple of {processes}."
        )


def _note(step: int, lr: float, total: Tensor, parts: dict[str, Tensor]) -> dict:
    """Return a row of the log; on a CPU its losses are numbers at once, on a GPU each look would wait for the card.

    A small tensor that lives on keeps the freed memory around it from being used again: on a CPU 20 MB a step, where a
    batch of 1,024 is compared with itself at eight sizes, until the training ends.
    """
    losses = {"total": total} | {str(name): part for name, part in parts.items()}
    told = {name: x.item() if x.device.type == "cpu" else x.detach() for name, x in losses.items()}
    return {"step": step, "lr": lr} | told


def _stop_if_not_finite(log: list[dict]) -> None:
    for row in log:
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            which = ", ".join(name for name in bad if name != "total") or "total"
            raise FloatingPointError(
                f"the loss is not finite at step {row['step']} (part: {which}; rate {row['lr']:.2g}). "
                "Lower lr, set clip=1.0, or look for extreme values in the data."
            )


def _history(log: list[dict], accelerator) -> pd.DataFrame:
    """Losses as numbers, averaged over processes in one exchange at the end."""
    import pandas as pd

    names = [name for name in dict.fromkeys(n for row in log for n in row) if name not in ("step", "lr")]
    absent = torch.tensor(math.nan)  # a part that this step did not draw
    losses = torch.stack(
        [torch.stack([torch.as_tensor(row.get(n, absent)).float().cpu() for n in names]) for row in log]
    )
    losses = accelerator.reduce(losses.to(accelerator.device), "mean").cpu()  # (steps, parts)
    table = pd.DataFrame(losses.numpy(), columns=names)
    return pd.concat([pd.DataFrame([{k: row[k] for k in ("step", "lr")} for row in log]), table], axis=1)


def _save(file: Path, step: int, model: nn.Module, update, rate, log: list[dict]) -> None:
    """Write everything that the next step depends on, in one rename."""
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": update.state_dict(),
        "schedule": rate.state_dict(),
        "random": torch.get_rng_state(),
        "log": [{name: float(value) for name, value in row.items()} for row in log],
    }
    with files.whole(file) as beside:
        torch.save(state, beside)


def _resume(file: Path | None, model: nn.Module, update, rate) -> tuple[int, list[dict]]:
    if file is None or not file.exists():
        return 0, []
    state = torch.load(file, weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    update.load_state_dict(state["optimizer"])
    rate.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    return state["step"], [row | {"step": int(row["step"])} for row in state["log"]]
