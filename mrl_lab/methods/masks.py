"""CyclicMask and its controls: which patches the student does not see (Franca, arXiv 2507.14137, section 2.2).

Of a grid of H x W patches, c = H W - n stay visible:

* **cyclic**: one rectangle of c visible cells at a random place, then rolled around both edges by random offsets, so
  that every cell is visible equally often: P(visible) = E[c] / (H W) whatever the cell.
* **inverse block**: the same without the roll. Central cells are visible far more often than corners.
* **block**: one rectangle of n *masked* cells (BEiT and iBOT draw smaller ones until n are hidden).
* **random**: any n cells.

Half of the pictures of a batch are masked. With k masked pictures, picture i draws its ratio from the i-th of k equal
bins of [0.1, 0.65] (DINOv2's collation), and n = int(H W ratio).

How we differ: from the paper's algorithm 1, which leaves more than c cells visible, as the released code does: the
rectangle is trimmed to exactly c in raster order, so its last row may be partial. From the code: no loop over pictures.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mrl_lab.errors import RequestError

FLATTEST = 0.3  # height / width of a rectangle is log-uniform from here to its inverse


def block(grid: tuple[int, int], cells: Tensor, roll: bool = False) -> Tensor:
    """Return rectangles trimmed to exactly cells[i] >= 1 cells: (k, H, W) bool (Franca, algorithm 1).

    Args:
        grid: H, W.
        cells: (k,) whole numbers from 1 to H W.
        roll: shift each one around both edges.
    """
    height, width = grid
    rows, columns = _sides(grid, cells)
    top, left = _below(height - rows + 1), _below(width - columns + 1)  # (k,)
    if roll:  # the rectangle begins anywhere and goes on at the other edge
        top, left = _below(torch.full_like(top, height)) + top, _below(torch.full_like(left, width)) + left
    row = (torch.arange(height) - top[:, None]) % height  # (k, H): how far below the rectangle's first row
    column = (torch.arange(width) - left[:, None]) % width  # (k, W)
    row, column = row[:, :, None], column[:, None, :]
    rows, columns, cells = (n[:, None, None] for n in (rows, columns, cells))
    return (row < rows) & (column < columns) & (row * columns + column < cells)  # (k, H, W)


def _sides(grid: tuple[int, int], cells: Tensor) -> tuple[Tensor, Tensor]:
    """Draw height and width (k,) of rectangles that fit the grid and hold at least ``cells`` cells."""
    height, width = grid
    fits = (cells / width**2).log(), (height**2 / cells).log()  # of height / width, so that neither side is too long
    low, high = (torch.full(cells.shape, s * math.log(FLATTEST)).clamp(*fits) for s in (1, -1))
    aspect = (low + (high - low) * torch.rand(len(cells))).exp()
    rows = (cells * aspect).sqrt().ceil().long().clamp(1, height)
    columns = (cells / aspect).sqrt().ceil().long().clamp(1, width)
    return rows, torch.maximum(columns, -(-cells // rows))  # where the rounding of a root lost a cell


def _below(ends: Tensor) -> Tensor:
    """Draw one whole number from 0 to end - 1 for each end >= 1 (k,)."""
    return (torch.rand(len(ends), dtype=torch.float64) * ends).long()


class Masks(ABC):
    """Masks for a batch: ``masks(batch)`` -> (batch, t) bool, true where a patch is hidden, raster order.

    Everything is drawn from torch's global generator: ``torch.manual_seed`` fixes the masks.

    Args:
        grid: H, W in patches; t = H W.
        ratio: smallest and largest share of hidden patches of a masked picture.
        share: of the pictures of a batch that are masked at all; which ones is random.

    Raises:
        RequestError: a grid of fewer than two patches, a ratio outside 0..1, or a share outside it.
    """

    def __init__(self, grid: tuple[int, int], ratio: tuple[float, float] = (0.1, 0.65), share: float = 0.5) -> None:
        if min(grid) < 1 or grid[0] * grid[1] < 2:
            raise RequestError(f"a mask needs a grid of at least 2 patches (rows, columns); got {tuple(grid)}.")
        if not 0 < ratio[0] <= ratio[1] < 1:
            raise RequestError(f"mask ratios lie between 0 and 1, the smaller first, such as 0.1, 0.65; got {ratio}.")
        if not 0 <= share <= 1:
            raise RequestError(f"the share of masked pictures is from 0 to 1 (the paper: 0.5); got {share}.")
        self.grid, self.ratio, self.share = tuple(grid), ratio, share

    def __call__(self, batch: int) -> Tensor:
        """Return the masks of ``batch`` pictures (batch, t)."""
        cells = self.grid[0] * self.grid[1]
        masks = torch.zeros(batch, cells, dtype=torch.bool)
        masked = (cells * self._ratios(int(self.share * batch))).long()  # (k,)
        if len(masked):
            masks[: len(masked)] = self.draw(masked).flatten(1)  # (k, H, W) -> (k, t)
        return masks[torch.randperm(batch)]

    def _ratios(self, k: int) -> Tensor:
        """Draw one ratio from each of k equal bins: (k,)."""
        low, high = self.ratio
        return low + (high - low) * (torch.arange(k) + torch.rand(k)) / max(k, 1)

    @abstractmethod
    def draw(self, masked: Tensor) -> Tensor:
        """Return masks with exactly masked[i] hidden cells: (k,) -> (k, H, W)."""

    def _visible(self, masked: Tensor) -> Tensor:
        return (self.grid[0] * self.grid[1] - masked).clamp(min=1)


class CyclicMask(Masks):
    """Franca's: all but one rectangle, rolled around the edges."""

    def draw(self, masked: Tensor) -> Tensor:
        return ~block(self.grid, self._visible(masked), roll=True)


class InverseBlockMask(Masks):
    """All but one rectangle, not rolled: the control that CyclicMask mends."""

    def draw(self, masked: Tensor) -> Tensor:
        return ~block(self.grid, self._visible(masked))


class BlockMask(Masks):
    """One hidden rectangle."""

    def draw(self, masked: Tensor) -> Tensor:
        return block(self.grid, masked.clamp(min=1)) & (masked > 0)[:, None, None]


class RandomMask(Masks):
    """Hidden cells anywhere."""

    def draw(self, masked: Tensor) -> Tensor:
        order = torch.rand(len(masked), self.grid[0] * self.grid[1]).argsort(1).argsort(1)  # ranks: (k, t)
        return (order < masked[:, None]).unflatten(1, self.grid)  # (k, t) -> (k, H, W)


MASKS = {"cyclic": CyclicMask, "inverse block": InverseBlockMask, "block": BlockMask, "random": RandomMask}
