"""Does a method typed in a notebook do what the tested one does? Asked on a small batch, answered in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mrl_lab.errors import RequestError

CLOSE = 1e-5  # relative; two orders of the same float32 sums differ by less
LEAST = 1e-2  # of the largest gradient: one that is 0 in theory, as of the bias of attention's keys, is rounding alone


def same(mine: nn.Module, tested: nn.Module, *batch: Tensor) -> str:
    """Return a sentence that says that two modules have the same loss and gradients on a batch.

    ``tested`` first gets the weights of ``mine``, in order, so they must have the same ones.

    Raises:
        RequestError: weights that do not fit one another.
        AssertionError: a loss or a gradient that differs; says which, and by how much.
    """
    ours, theirs = dict(mine.named_parameters()), dict(tested.named_parameters())
    if [p.shape for p in ours.values()] != [p.shape for p in theirs.values()]:
        raise RequestError(f"the two have other weights: {_shapes(ours)} and {_shapes(theirs)}.")
    with torch.no_grad():
        for a, b in zip(ours.values(), theirs.values(), strict=True):
            b.copy_(a)
    losses, gradients = zip(*(_learns(module, batch) for module in (mine, tested)), strict=True)
    least = LEAST * max(g.abs().max().item() for g in gradients[1])
    apart = {n: _apart(a, b, least) for n, a, b in zip(ours, gradients[0], gradients[1], strict=True)}
    worst = {"the loss": _apart(*losses)} | apart
    where = max(worst, key=lambda name: worst[name])
    if worst[where] > CLOSE:
        raise AssertionError(f"not the same: {where} differs by {worst[where]:.1e} of itself.")
    return f"same loss ({losses[0].item():.4f}) and same gradients, to {max(worst.values()):.0e}"


def _learns(module: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the loss and the gradient of every weight; draws, such as dropout's, are the same in each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        total, _ = module(*batch)
    weights = list(module.parameters())
    found = torch.autograd.grad(total, [w for w in weights if w.requires_grad], allow_unused=True)
    given = iter(found)
    grads = [next(given) if w.requires_grad else None for w in weights]
    return total.detach(), [torch.zeros_like(w) if g is None else g for w, g in zip(weights, grads, strict=True)]


def _apart(a: Tensor, b: Tensor, least: float = 0.0) -> float:
    return ((a - b).abs().max() / b.abs().max().clamp(min=max(least, 1e-12))).item()


def _shapes(weights: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(w.shape)}" for name, w in weights.items())


def answer(yours: Callable, right: Callable, inputs: Iterable[tuple], says: Callable[[tuple], str] = repr) -> str:
    """Return "Right" if a reader's function gives what the ``right`` one gives, else what is wrong and on which input.

    Args:
        inputs: arguments to try, the telling ones first.
        says: puts an input into words.
    """
    inputs = list(inputs)
    for given in inputs:
        wanted = torch.as_tensor(right(*given))
        try:
            found = yours(*given)
        except Exception as error:  # a reader's code may fail in any way
            return f"Not yet: {type(error).__name__} on {says(given)}: {error}"
        if found is None or found is ...:
            return "Not yet: the function returns nothing. Write its body, and run this cell again."
        found = torch.as_tensor(found)
        if found.shape != wanted.shape:
            return f"Not yet: on {says(given)} the shape is {tuple(found.shape)}, it should be {tuple(wanted.shape)}."
        if not torch.allclose(found.double(), wanted.double(), rtol=1e-4, atol=1e-6):
            apart = (found.double() - wanted.double()).abs().max().item()
            return f"Not yet: on {says(given)} the largest difference from the right answer is {apart:.3g}."
    return f"Right, on {len(inputs)} inputs."
