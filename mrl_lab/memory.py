"""Memory: what a step of training needs on a card, said before the first one, with the batch that would fit.

    weights + gradients + the optimiser's moments + all that autograd keeps + twice the largest tensor of that

Gradients are as many as weights that learn, AdamW's moments twice as many. The largest tensor counts twice more, for
its gradient and for what that is made of. What autograd keeps is measured: the forward pass of a copy of the model, in
the precision of training, on eight rows and on sixteen; between the two each dim of a tensor stays, or grows with B.

The largest by method (B rows, C classes, T tokens of a text, t of a picture, d the encoder's width, K_m prototypes):

    MRL, MRL-E, FF    the first block's maps, B x channels x H/2 x W/2; MRL adds |M| times B x C logits
    2DMSE, Starbucks  the blocks' inner layers, 3 B x T x 4 d, whatever is cut; scores are B x 2 B for each cut
    SMAE              logits of the hidden words alone, about 0.2 B T x words for each pair
    M3                the inner layers, B x t x 4 d in the tower and B x (s + T) x 3 d in the text for each scale s
    Franca            the inner layers, 2 B x (1 + t) x 4 d; scores 4 B x K_m for each level, Sinkhorn's 2 B x K_m
    adaptor           cosines, B x B for each of |M| sizes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import TensorDataset

from mrl_lab.errors import RequestError

PROBE = 16  # rows that are measured, and half as many
LOOKED_AT = 32  # rows of which the longest is taken: texts differ in length
USABLE = 0.9  # of what is free; the allocator's rounding and the libraries' own space take the rest
HELD = 0.25  # of what is free may hold what is learnt from
MOMENTS = {"adamw": 2, "sgd": 1}  # numbers that an optimiser keeps for each weight that learns


class Kept(NamedTuple):
    """A tensor that autograd keeps: the bytes of its storage, and its shape."""

    bytes: int
    shape: tuple[int, ...]


class _Held:
    """What autograd holds in the place of a tensor, so that it is seen when it lets go of it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def kept(loss: Callable[[], Tensor], but: Iterable[Tensor] = ()) -> list[Kept]:
    """Return what autograd keeps until the backward pass of ``loss()``, each storage once, in order; ``but`` these."""
    held: list[ref[_Held]] = []

    def note(saved: Tensor) -> _Held:
        one = _Held(saved)
        held.append(ref(one))
        return one

    with saved_tensors_hooks(note, lambda one: one.tensor):
        alive = loss()  # holds the graph; what does not lead to the loss is let go, and its address used again
    found: dict[int, Kept] = {}
    for one in filter(None, (noted() for noted in held)):
        storage = one.tensor.untyped_storage()
        found.setdefault(storage.data_ptr(), Kept(storage.nbytes(), tuple(one.tensor.shape)))
    del alive
    known = {tensor.untyped_storage().data_ptr() for tensor in but}
    return [one for address, one in found.items() if address not in known]


@dataclass(frozen=True)
class Grown:
    """A tensor as it grows with the batch: its bytes a number, and each of its dims as (times B, and so many more)."""

    width: float
    dims: tuple[tuple[float, int], ...]

    def bytes(self, batch: int) -> float:
        """Return its bytes in a step of ``batch`` rows."""
        return self.width * prod(times * batch + more for times, more in self.dims)

    def formula(self) -> str:
        """Return its shape by the batch B, such as "2 B x 50 x 1536"."""
        return " x ".join(_dim(*one) for one in self.dims) or "1"


def _dim(times: float, more: int) -> str:
    grows = "B" if times == 1 else f"{times:.3g} B"
    return f"({grows} - {-more})" if times and more else grows if times else f"{more}"


@dataclass(frozen=True)
class Step:
    """What one step of training holds.

    Attributes:
        fixed: bytes of weights, buffers, gradients and moments. kept: all that autograd keeps.
    """

    fixed: int
    kept: tuple[Grown, ...]

    def bytes(self, batch: int) -> float:
        """Return the bytes of a step of ``batch`` rows."""
        sizes = [one.bytes(batch) for one in self.kept]
        return self.fixed + sum(sizes) + 2 * max(sizes, default=0)

    def largest(self, batch: int) -> Grown:
        """Return the largest tensor of a step of ``batch`` rows."""
        return max(self.kept, key=lambda one: one.bytes(batch))

    def fits(self, free: float, most: int) -> int:
        """Return the largest batch up to ``most`` that ``free`` bytes hold; 0 if none does."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.bytes(middle) <= free else (low, middle - 1)
        return low


def step(model: nn.Module, rows: Any, batch: int, optimizer: str = "adamw", accelerator: Any = None) -> Step:
    """Measure what a step holds; neither the model nor a random stream is touched.

    Args:
        rows: see :class:`mrl_lab.train.Rows`. batch: rows a step; more than :data:`PROBE` are never run.
        accelerator: whose device and precision are used; none is the CPU in float32.
    """
    device = torch.device("cpu") if accelerator is None else accelerator.device
    with torch.random.fork_rng():
        copied = deepcopy(model).to(device).train()
        longest = _longest(rows, min(batch, LOOKED_AT))
        runs = [_run(copied, rows, longest.repeat(n), accelerator) for n in (max(1, PROBE // 2), PROBE)]
    return Step(_fixed(copied, optimizer), tuple(_grown(*runs)))


def _run(model: nn.Module, rows: Any, index: Tensor, accelerator: Any) -> list[Kept]:
    weights = [*model.parameters(), *model.buffers()]
    batch = [tensor.to(weights[0].device) for tensor in rows[index]]
    if accelerator is None:
        return kept(lambda: model(*batch)[0], weights)
    with accelerator.autocast():
        return kept(lambda: model(*batch)[0], weights)


def _longest(rows: Any, some: int) -> Tensor:
    """Return the number (1,) of the row, of the first ``some``, that comes as the largest tensors."""
    sizes = [sum(tensor.numel() for tensor in rows[torch.tensor([row])]) for row in range(some)]
    return torch.tensor([sizes.index(max(sizes))])


def _fixed(model: nn.Module, optimizer: str) -> int:
    size = lambda tensors: sum(t.numel() * t.element_size() for t in tensors)  # noqa: E731
    learns = size(p for p in model.parameters() if p.requires_grad)
    return size([*model.parameters(), *model.buffers()]) + (1 + MOMENTS[optimizer]) * learns


def _grown(few: list[Kept], many: list[Kept]) -> list[Grown]:
    """Pair what was kept at half the rows with what was kept at all; where they do not pair, all follow the batch."""
    if [len(one.shape) for one in few] != [len(one.shape) for one in many]:
        return [Grown(one.bytes / PROBE, ((1, 0),)) for one in many]
    dims = [tuple(map(_line, a.shape, b.shape)) for a, b in zip(few, many, strict=True)]
    return [Grown(one.bytes / max(1, prod(one.shape)), lines) for one, lines in zip(many, dims, strict=True)]


def _line(few: int, many: int) -> tuple[float, int]:
    """Return a dim as (times B, more): the same, in proportion (what is drawn varies), or one less than that."""
    if few == many:
        return 0, many
    return ((many + 1) / PROBE, -1) if 2 * (few + 1) == many + 1 else (many / PROBE, 0)


# ------------------------------------------------------------------------------------------------- the card


def free(device: torch.device) -> float | None:
    """Return the bytes that this process may still take of a card; None for what is no card."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def check(model: nn.Module, rows: Any, batch: int, optimizer: str, accelerator: Any) -> None:
    """Hold a step against what is free on the card; on a CPU nothing is asked.

    Trainings side by side on one card each see what is free when they begin.

    Raises:
        RequestError: it would not fit: what it needs, what there is, the largest tensor, and the batch that would fit.
    """
    there = free(accelerator.device)
    if there is None:
        return
    usable, each = USABLE * there, -(-batch // accelerator.num_processes)
    needed = Step(_fixed(model, optimizer), ())
    if needed.fixed <= usable:  # else not even a copy fits
        needed = step(model, rows, each, optimizer, accelerator)
    if needed.bytes(each) > usable:
        raise RequestError(_said(needed, each, there, needed.fits(usable, each) * accelerator.num_processes))


def _said(needed: Step, batch: int, there: float, fits: int) -> str:
    gb = lambda size: f"{size / 1e9:.2f} GB"  # noqa: E731
    text = f"a step of {batch} rows needs about {gb(needed.bytes(batch))} of the card, of which {gb(there)} are free: "
    text += f"{gb(needed.fixed)} for weights, gradients and moments"
    if needed.kept:
        largest = needed.largest(batch)
        text += f", the rest to go backwards (most of it {largest.formula()}: {gb(largest.bytes(batch))})"
    return text + (f". A batch of {fits} would fit." if fits else ". No batch fits: take a smaller model.")


def near(rows: Any, device: torch.device, there: float | None = None) -> Any:
    """Return rows that are plain tensors on the card, where a quarter of what is free holds them; others as is."""
    there = free(device) if there is None else there
    if there is None or not isinstance(rows, TensorDataset):
        return rows
    fits = sum(t.numel() * t.element_size() for t in rows.tensors) <= HELD * there
    return TensorDataset(*(t.to(device) for t in rows.tensors)) if fits else rows
