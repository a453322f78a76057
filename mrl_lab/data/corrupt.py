"""Corruptions: test pictures made worse on purpose, four kinds in three strengths, the same for every model."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mrl_lab.errors import RequestError, unknown

KINDS = ("noise", "blur", "contrast", "rotation")
STRENGTHS = (1, 2, 3)
SOME = 2048  # pictures at a time, so that floats of all of them need not fit into memory


def corrupt(images: Tensor, kind: str, strength: int, seed: int = 0) -> Tensor:
    """Return damaged copies of pictures (N, C, H, W) uint8, same shape and type; the same for the same seed.

    ======== ============================================ ================
    kind     what is done                                 at strength 1 2 3
    ======== ============================================ ================
    noise    normal noise, standard deviation of 255      10, 20, 35 %
    blur     Gaussian, standard deviation in pixels       0.7, 1.2, 2
    contrast distance from the picture's mean times       0.5, 0.3, 0.15
    rotation by that angle, to either side, black outside 15, 30, 45 degrees
    ======== ============================================ ================

    Raises:
        RequestError: an unknown kind or strength, or something that is no uint8 picture.
    """
    if kind not in KINDS:
        raise unknown("corruption", kind, KINDS)
    if strength not in STRENGTHS:
        raise unknown("strength", strength, map(str, STRENGTHS))
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise RequestError(
            f"corruptions are for uint8 pictures (N, C, H, W), got {images.dtype} {tuple(images.shape)}."
        )
    generator = torch.Generator().manual_seed(seed)
    damage, amounts = DAMAGE[kind]
    worse = [damage(some.float(), amounts[strength - 1], generator) for some in images.split(SOME)]
    return torch.cat([x.round().clamp(0, 255).to(torch.uint8) for x in worse]) if worse else images.clone()


def _noise(x: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    return x + 255 * deviation * torch.randn(x.shape, generator=generator)


def _blur(x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Convolve with a Gaussian along one axis, then along the other; the border is repeated outwards."""
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    for _ in range(2):
        flat = x.flatten(0, 1)[:, None]  # (N, C, H, W) -> (N C, 1, H, W)
        flat = functional.conv2d(functional.pad(flat, (reach, reach, 0, 0), mode="replicate"), kernel)
        x = flat.view_as(x).transpose(2, 3).contiguous()  # the next axis becomes the last; twice is back
    return x


def _contrast(x: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + factor * (x - mean)


def _rotation(x: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Rotate each picture by ``degrees`` to a side that is drawn."""
    side = 2.0 * torch.randint(0, 2, (len(x),), generator=generator) - 1
    angle = side * math.radians(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    tall = x.shape[2] / x.shape[3]  # the grid runs from -1 to 1 on both axes whatever the shape
    turn = torch.stack([cos, -sin * tall, zero, sin / tall, cos, zero], 1).view(-1, 2, 3)  # (N, 6) -> (N, 2, 3)
    return functional.grid_sample(x, functional.affine_grid(turn, x.shape, align_corners=False), align_corners=False)


DAMAGE: dict[str, tuple[Callable, tuple[float, float, float]]] = {
    "noise": (_noise, (0.10, 0.20, 0.35)),
    "blur": (_blur, (0.7, 1.2, 2.0)),
    "contrast": (_contrast, (0.5, 0.3, 0.15)),
    "rotation": (_rotation, (15, 30, 45)),
}
