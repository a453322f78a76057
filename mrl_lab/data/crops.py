"""Multi-crop: two large and several small views of each picture, for students that match a teacher (SwAV, section 3.2).

SwAV is Caron et al., NeurIPS 2020, arXiv 2006.09882. Large crops keep most of a picture, small ones a corner of it at a
smaller size. A crop's area, shape and place are drawn as in torchvision's ``RandomResizedCrop``; it is read by bilinear
interpolation, so crops of all pictures come from one call.

How we differ from DINOv2: every crop changes in contrast and brightness alone, each channel by itself, where it changes
hue and saturation too in 4 of 5; nothing is blurred or solarised.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from mrl_lab.errors import RequestError

FLATTEST = 3 / 4  # height / width of a crop is log-uniform from here to its inverse
JITTER = 0.4  # contrast and brightness of each channel change by up to this share
GREY = 0.2  # share of the coloured crops that lose their colour


class MultiCrop:
    """Rows for the training loop: ``rows[index]`` -> large (B, 2, C, H, W), small (B, L, C, h, w), masks (B, 2, t).

    Crops are uint8. Without ``masks`` only the crops are given. Everything is drawn from torch's global generator, a
    batch at a time: ``torch.manual_seed`` fixes the views.

    Args:
        images: (N, C, H, W) uint8.
        small: how many small crops, L.
        side: of the small crops in pixels; None keeps the size of the pictures (for encoders that take no other).
        masks: number of pictures -> (number, t) bool, such as ``methods.masks.CyclicMask``; drawn for large crops.
        large_area, small_area: share of the picture's area that a crop keeps, smallest and largest.
        flip: mirror half of the crops; leave it off where left and right mean something.

    Raises:
        RequestError: images that are not uint8 pictures, or areas out of 0..1.
    """

    def __init__(
        self,
        images: Tensor,
        *,
        small: int = 4,
        side: int | None = None,
        masks: Callable[[int], Tensor] | None = None,
        large_area: tuple[float, float] = (0.35, 1.0),
        small_area: tuple[float, float] = (0.08, 0.35),
        flip: bool = True,
    ) -> None:
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise RequestError(f"crops are of uint8 pictures (N, C, H, W), got {images.dtype} {tuple(images.shape)}.")
        for area in (large_area, small_area):
            if not 0 < area[0] <= area[1] <= 1:
                raise RequestError(f"a crop's area is above 0 and at most 1, the smaller first; got {area}.")
        self.images, self.masks, self.flip = images, masks, flip
        size = tuple(images.shape[2:])
        self.large = (2, size, large_area)
        self.small = (small, (side, side) if side else size, small_area)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, ...]:
        x = self.images[index].float()
        views = [crops(x, *how, self.flip) for how in (self.large, self.small)]
        if self.masks is not None:
            views.append(self.masks(2 * len(x)).unflatten(0, (len(x), 2)))  # (2 B, t) -> (B, 2, t)
        return tuple(views)


def crops(x: Tensor, number: int, size: tuple[int, int], area: tuple[float, float], flip: bool) -> Tensor:
    """Return random crops at ``size`` of each picture x (B, C, H, W) in 0..255: (B, number, C, h, w) uint8."""
    b, channels = x.shape[:2]
    if number == 0:
        return torch.zeros(b, 0, channels, *size, dtype=torch.uint8)
    repeated = x.repeat_interleave(number, 0)  # (B, C, H, W) -> (B number, C, H, W)
    where = affine_grid(_places(b * number, area, flip), (b * number, channels, *size), align_corners=False)
    cut = grid_sample(repeated, where, align_corners=False, padding_mode="border")  # (B number, C, h, w)
    return _recolour(cut).clamp(0, 255).round().to(torch.uint8).unflatten(0, (b, number))


def _places(n: int, area: tuple[float, float], flip: bool) -> Tensor:
    """Draw crops as maps (n, 2, 3) from the crop's coordinates in -1..1, x first, to the picture's."""
    share = area[0] + (area[1] - area[0]) * torch.rand(n)
    flattest = share.clamp(min=FLATTEST).log()  # neither side may be longer than the picture
    aspect = (flattest * (1 - 2 * torch.rand(n))).exp()
    sides = torch.stack([(share / aspect).sqrt(), (share * aspect).sqrt()], 1)  # (n, 2): x, y
    centre = (1 - sides) * (2 * torch.rand(n, 2) - 1)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    scale = torch.diag_embed(sides * torch.stack([mirror, torch.ones(n)], 1))  # (n, 2) -> (n, 2, 2)
    return torch.cat([scale, centre[:, :, None]], 2)  # (n, 2, 2) and (n, 2, 1) -> (n, 2, 3)


def _recolour(x: Tensor) -> Tensor:
    """Change contrast and brightness, each channel a little differently, and take the colour from some."""
    b, channels = x.shape[:2]
    gain, shift = (JITTER * (2 * torch.rand(b, channels, 1, 1) - 1) for _ in range(2))
    mean = x.mean((2, 3), keepdim=True)
    x = mean * (1 + shift) + (x - mean) * (1 + gain)
    grey = torch.rand(b, 1, 1, 1) < (GREY if channels > 1 else 0)
    return torch.where(grey, x.mean(1, keepdim=True), x)
