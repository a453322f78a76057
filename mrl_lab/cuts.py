"""Cuts: which part of an encoder's states is kept, and what the rest would have cost.

An encoder turns an input into states (layers x tokens x dims). A :class:`Cut` keeps part of them: the
leading ``dim`` coordinates (MRL), the lowest ``layer`` blocks (2DMSE, Starbucks), ``tokens`` pooled
tokens (M3). A prefix is always cut *before* it is normalised (MRL, section 3 and appendix C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, order=True)
class Cut:
    """What is kept of an encoder's states; ``None`` keeps all of that axis.

    Attributes:
        layer: number of blocks kept from the bottom, counted from 1 (0 is the embedding output).
        dim: number of leading dims kept, from 1.
        tokens: number of pooled tokens kept, from 1.
    """

    layer: int | None = None
    dim: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("layer", 0), ("dim", 1), ("tokens", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise RequestError(f"{name} of a cut is a whole number from {least}, got {value!r}.")


def check_sizes(sizes: Sequence[int], dim: int, least: int = 1) -> tuple[int, ...]:
    """Return ``sizes`` as a tuple if they are whole, from 1 to ``dim``, rising, each once, and at least ``least``.

    Raises:
        RequestError: names the offending size and prints the list as it should be.
    """
    sizes = list(sizes)
    if not sizes:
        raise RequestError("sizes is empty: give at least one, such as [8, 16, 32].")
    for m in sizes:
        if isinstance(m, bool) or not isinstance(m, int) or m < 1:
            raise RequestError(f"sizes are whole numbers from 1, got {m!r} in {sizes}.")
        if m > dim:
            raise RequestError(f"size {m} is larger than the embedding, which has {dim} dims: use at most {dim}.")
    if sizes != sorted(set(sizes)):
        raise RequestError(f"sizes must rise and not repeat, got {sizes}: write {sorted(set(sizes))}.")
    if len(sizes) < least:
        raise RequestError(f"at least {least} sizes are needed here, got {sizes}: give more, such as 8, 16 and 32.")
    return tuple(sizes)


def halvings(dim: int, smallest: int, factor: int = 2) -> tuple[int, ...]:
    """Sizes from ``dim`` divided by ``factor`` down to no less than ``smallest``, rising (MRL, section 3)."""
    sizes = []
    while dim >= max(smallest, 1):
        sizes.append(dim)
        dim //= factor
    return tuple(reversed(sizes))


def prefix(z: Tensor, m: int) -> Tensor:
    """Return the leading ``m`` dims of ``z`` (..., d) as a view (..., m)."""
    if isinstance(m, bool | float) or not 1 <= m <= z.shape[-1]:
        raise RequestError(f"cannot keep {m} dims of an embedding that has {z.shape[-1]}.")
    return z[..., :m]


def unit_prefix(z: Tensor, m: int) -> Tensor:
    """Cut ``z`` (..., d) to its leading ``m`` dims, **then** scale each row to length 1.

    In float32 at least: a length in half precision overflows at 65,504, and is 0 where it should only be small.
    """
    import torch
    from torch.nn.functional import normalize

    cut = prefix(torch.as_tensor(z), m)
    return normalize(cut.to(torch.promote_types(cut.dtype, torch.float32)), dim=-1)


def stored_bytes(dim: int, bytes_per_value: int = 4) -> int:
    """Bytes that one embedding of ``dim`` values takes (float32 by default)."""
    return dim * bytes_per_value
