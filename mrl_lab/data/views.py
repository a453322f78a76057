"""Two views of each picture, for learning without labels: the same thing seen twice, a little differently."""

from __future__ import annotations

import torch
from torch import Tensor

from mrl_lab.errors import RequestError

ZOOM = 0.75  # a crop keeps at least this share of each side
JITTER = 0.4  # brightness and contrast change by up to this share
ERASED = 0.3  # side of the erased square, as a share of the height


class TwoViews:
    """Rows for the training loop: ``rows[index]`` gives two random views (B, C, H, W) uint8 of the same pictures.

    Everything is drawn from torch's global generator, a batch at a time: ``torch.manual_seed`` fixes the views.

    Args:
        images: (N, C, H, W) uint8.
        flip: mirror half of the views; leave it off where left and right mean something, as in pairs.
    """

    def __init__(self, images: Tensor, flip: bool = False) -> None:
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise RequestError(f"views are of uint8 pictures (N, C, H, W), got {images.dtype} {tuple(images.shape)}.")
        self.images, self.flip = images, flip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        x = self.images[index]
        return view(x, self.flip), view(x, self.flip)


def view(x: Tensor, flip: bool = False) -> Tensor:
    """Return one random view of each picture (B, C, H, W) uint8: cropped, perhaps flipped, jittered, partly erased."""
    return _erase(_jitter(_crop(x, flip).float())).clamp(0, 255).round().to(torch.uint8)


def _crop(x: Tensor, flip: bool) -> Tensor:
    """Crop, zoom back and flip in one gather of nearest pixels."""
    b, channels, height, width = x.shape
    zoom = ZOOM + (1 - ZOOM) * torch.rand(b, 1)
    rows, columns = (_coordinates(size, zoom, b) for size in (height, width))  # (B, H), (B, W)
    if flip:
        columns = torch.where(torch.rand(b, 1) < 0.5, columns.flip(1), columns)
    picture = torch.arange(b).view(-1, 1, 1, 1)
    channel = torch.arange(channels).view(1, -1, 1, 1)
    return x[picture, channel, rows[:, None, :, None], columns[:, None, None, :]]  # broadcast to (B, C, H, W)


def _coordinates(size: int, zoom: Tensor, b: int) -> Tensor:
    """Which pixels of an axis a crop of ``zoom`` (B, 1) of it shows at a random offset: (B, size)."""
    start = torch.rand(b, 1) * (1 - zoom) * size
    return (start + (torch.arange(size) + 0.5) * zoom).long().clamp(0, size - 1)


def _jitter(x: Tensor) -> Tensor:
    """Change the contrast about each picture's mean, and the brightness."""
    contrast, brightness = (1 + JITTER * (2 * torch.rand(len(x), 1, 1, 1) - 1) for _ in range(2))
    mean = x.mean((1, 2, 3), keepdim=True)
    return (mean + contrast * (x - mean)) * brightness


def _erase(x: Tensor) -> Tensor:
    """Put the picture's mean into a square somewhere in half of the pictures."""
    b, _, height, width = x.shape
    side = max(1, round(ERASED * height))
    top, left = (torch.randint(0, max(1, size - side + 1), (b, 1)) for size in (height, width))
    inside = [
        (torch.arange(n) >= first) & (torch.arange(n) < first + side) for n, first in ((height, top), (width, left))
    ]
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]  # (B, H) and (B, W) -> (B, 1, H, W)
    chosen = torch.rand(b, 1, 1, 1) < 0.5
    return torch.where(square & chosen, x.mean((1, 2, 3), keepdim=True), x)
