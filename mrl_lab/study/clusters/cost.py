"""What nested heads cost: the time of a training step, and the bytes that it keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

import pandas as pd
import torch
from torch import Tensor

from mrl_lab.clock import measure
from mrl_lab.lab import Recipe, built
from mrl_lab.memory import kept
from mrl_lab.study.clusters.prefixes import Unlabelled
from mrl_lab.study.clusters.students import Student


def kept_bytes(loss: Callable[[], Tensor]) -> int:
    """Bytes of all that autograd keeps until the backward pass of ``loss()``."""
    return sum(one.bytes for one in kept(loss))


def step(spec: Student, task: Unlabelled, recipe: Recipe) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """Return two functions of one batch: the loss alone, and a whole step with update and teacher."""
    model = built(spec, task, 0).train()
    torch.manual_seed(0)
    crops = spec.rows(task)[torch.arange(recipe.batch)]
    update = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], recipe.lr, fused=True)

    def loss() -> Tensor:
        return model(*crops)[0]

    def whole() -> None:
        loss().backward()
        update.step()
        update.zero_grad()
        model.after_step(0)

    return loss, whole


def compared(specs: Mapping[str, Student], task: Unlabelled, recipe: Recipe, repeats: int = 5) -> pd.DataFrame:
    """Milliseconds and kept megabytes of a step, one row a head, with ratios to the first."""
    steps = {name: step(spec, task, recipe) for name, spec in specs.items()}
    seconds = measure({name: whole for name, (_, whole) in steps.items()}, repeats, 0)
    rows = [
        {"head": n, "ms": 1000 * median(seconds[n]), "MB": kept_bytes(loss) / 1e6} for n, (loss, _) in steps.items()
    ]
    table = pd.DataFrame(rows).set_index("head")
    ratios = (table / table.iloc[0]).rename(columns={"ms": "time ratio", "MB": "memory ratio"})
    return table.join(ratios)
