"""What nested heads cost: the time of a training step, and the bytes that it keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

import pandas as pd
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mrl_lab.bench import measure
from mrl_lab.data import Labelled
from mrl_lab.study.clusters.students import Lesson, Student


def kept_bytes(loss: Callable[[], Tensor]) -> int:
    """Bytes of all storages that autograd keeps until the backward pass of ``loss()``, each counted once."""
    sizes: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        sizes[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with saved_tensors_hooks(note, lambda saved: saved):
        alive = loss()  # holds the graph, so that no address is used twice
    del alive
    return sum(sizes.values())


def step(spec: Student, data: Labelled, lesson: Lesson) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """Return two functions of one batch: the loss alone, and a whole step with update and teacher."""
    model = spec.build(data, lesson, 0).train()
    torch.manual_seed(0)
    crops = spec.rows(data)[torch.arange(lesson.batch)]
    update = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lesson.lr, fused=True)

    def loss() -> Tensor:
        return model(*crops)[0]

    def whole() -> None:
        loss().backward()
        update.step()
        update.zero_grad()
        model.after_step(0)

    return loss, whole


def compared(specs: Mapping[str, Student], data: Labelled, lesson: Lesson, repeats: int = 5) -> pd.DataFrame:
    """Milliseconds and kept megabytes of a step, one row a head, with ratios to the first."""
    steps = {name: step(spec, data, lesson) for name, spec in specs.items()}
    seconds = measure({name: whole for name, (_, whole) in steps.items()}, repeats, 0)
    rows = [
        {"head": n, "ms": 1000 * median(seconds[n]), "MB": kept_bytes(loss) / 1e6} for n, (loss, _) in steps.items()
    ]
    table = pd.DataFrame(rows).set_index("head")
    ratios = (table / table.iloc[0]).rename(columns={"ms": "time ratio", "MB": "memory ratio"})
    return table.join(ratios)
