"""RASA: removal of absolute spatial attributes from patch features (Franca, arXiv 2507.14137, section 2.3).

A patch feature z (D,) tells where its patch is. Step t learns a head W (2, D) without bias so that sigmoid(W z) is the
patch's (row, column) in [0, 1]^2, orthonormalises the two rows, and projects their plane out (equation 3):

    L_t = I - (u_r u_r^T + u_c u_c^T),    z <- L_t z;    after T steps  z -> L z,  L = L_T ... L_1   (T = 8)

How we differ. Each W of the paper is learned anew in all of R^D, so planes overlap and L is no projection: its rank
stays D - 2, and a later step gives back part of what an earlier one took. ``orthogonal`` puts every plane at right
angles to all before it; L is then the projection I - Q Q^T of rank D - 2 T. ``orthogonal=False`` is as released.

One step in closed form does more. Affine predictors of position are blind exactly if Cov(L z, y) = 0. Removing the two
columns of Cov(z, y) does so at rank D - 2 (:func:`remove_cross_covariance`), :func:`leace` with the least change.
Neither removes what is not affine in (row, column); :func:`position_offsets` holds each place's mean, to subtract.

Features stand after a LayerNorm, whose diagonal gain cannot hold L: a map folds into the *next* linear layer.

Statistics, what is solved from them, and the probe are in float64 whatever the features are in. Position may live in
directions of little variance: a whitening in float32 takes those below 1e-7 of the largest for dead, and leaves there
what it was meant to remove. (A map is applied in the features' own type, which leaves R^2 below 0.005.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from mrl_lab.errors import RequestError

CHUNK = 1 << 14  # patches that are in float64 at a time

# --------------------------------------------------------------------------------------------- places


def positions(grid: tuple[int, int]) -> Tensor:
    """Return (row, column) of each patch in [0, 1]^2, (t, 2) in raster order; each axis by its own number of patches.

    Raises:
        RequestError: a grid with a side below 2, on which there is no position to learn.
    """
    if min(grid) < 2:
        raise RequestError(f"position needs a grid of at least 2 x 2 patches; got {grid[0]} x {grid[1]}.")
    axes = (torch.linspace(0, 1, n, dtype=torch.float64) for n in grid)
    return torch.cartesian_prod(*axes)


Target = Callable[[tuple[int, int]], Tensor]  # grid -> what is to be found of each place (t, k) float64


def chance_error(grid: tuple[int, int]) -> float:
    """Return the mean squared error of a head that always says 0.5: mean over axes of (n + 1) / (12 (n - 1))."""
    return sum((n + 1) / (12 * (n - 1)) for n in grid) / 2


def check_patches(z: Tensor, grid: tuple[int, int]) -> None:
    """Refuse features that are not (n, t, D) with t = rows x columns of ``grid``."""
    if z.ndim != 3 or z.shape[1] != grid[0] * grid[1]:
        raise RequestError(
            f"features of a {grid[0]} x {grid[1]} grid are (pictures, {grid[0] * grid[1]}, D) without class token; "
            f"got {tuple(z.shape)}."
        )


def in_float64(z: Tensor) -> Iterator[Tensor]:
    """Give the rows of z (..., D) as float64 on the CPU, at most :data:`CHUNK` of them (k, D) at a time."""
    return (rows.cpu().double() for rows in z.reshape(-1, z.shape[-1]).split(CHUNK))


# ----------------------------------------------------------------------------------------- linear maps


@dataclass(frozen=True)
class LinearMap:
    """z -> L z + b on the last axis, wherever z is; the map itself and what it is folded into are on the CPU.

    Attributes:
        matrix: L (D, D) float64.
        bias: b (D,) float64; 0 but for LEACE.
    """

    matrix: Tensor
    bias: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """z (..., D) -> (..., D) in z's own type."""
        matrix, bias = (a.to(z) for a in (self.matrix, self.bias))
        return z @ matrix.T + bias

    def fold(self, layer: nn.Linear) -> nn.Linear:
        """Return a layer that gives on z what ``layer`` gives on L z + b: W' = W L, c' = W b + c, at no cost."""
        weight = layer.weight.detach().cpu().double()
        bias = weight @ self.bias + (0 if layer.bias is None else layer.bias.detach().cpu().double())
        return _filled(weight @ self.matrix, bias, layer.weight.dtype)

    def fold_norm(self, norm: nn.LayerNorm) -> FullNorm:
        """Return a norm that gives L norm(x) + b; its gain is a full matrix, for none on the diagonal could."""
        gain, shift = (p.detach().cpu().double() for p in (norm.weight, norm.bias))
        return FullNorm(_filled(self.matrix * gain, self.matrix @ shift + self.bias, norm.weight.dtype), norm.eps)


def _filled(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


class FullNorm(nn.Module):
    """(x - mean) / std over the last axis, then a linear layer in place of LayerNorm's gain and shift."""

    def __init__(self, linear: nn.Linear, eps: float) -> None:
        super().__init__()
        self.linear, self.eps = linear, eps

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(layer_norm(x, x.shape[-1:], eps=self.eps))


def without(directions: Tensor) -> LinearMap:
    """Return the orthogonal projection that removes the span of ``directions`` (k, D), k <= D."""
    q = orthonormal(directions)  # (k, D)
    d = q.shape[1]
    return LinearMap(torch.eye(d, dtype=torch.float64) - q.T @ q, torch.zeros(d, dtype=torch.float64))


def orthonormal(rows: Tensor) -> Tensor:
    """Return an orthonormal basis (k, D) float64 of rows (k, D) by Gram-Schmidt (as QR), each after those before it."""
    q, _ = torch.linalg.qr(rows.double().T)  # (D, k)
    return q.T


def random_removal(d: int, dims: int, seed: int) -> LinearMap:
    """Remove ``dims`` random directions: the control that tells removal of position from loss of dims."""
    return without(torch.randn(dims, d, generator=torch.Generator().manual_seed(seed)))


# --------------------------------------------------------------------------------------- the iteration


def rasa(learn: Callable[[LinearMap], Tensor], d: int, steps: int = 8, orthogonal: bool = True) -> list[LinearMap]:
    """Return the maps after 1, 2, ... ``steps`` iterations.

    Args:
        learn: map so far -> head W (2, D) that finds position in the mapped features, such as :class:`SigmoidHead` or
            :class:`RidgeHead`.
        d: D. orthogonal: see the module; False is as released.

    Raises:
        RequestError: more planes than D has room for.
    """
    if not 1 <= steps < d / 2:
        raise RequestError(f"RASA takes 2 of {d} dims a step and must leave some: steps from 1 to {(d - 1) // 2}.")
    heads, maps = torch.zeros(0, d, dtype=torch.float64), []
    so_far = without(heads)
    for _ in range(steps):
        w = learn(so_far).cpu().double()  # (2, D)
        if orthogonal:
            heads = torch.cat([heads, w])  # (2 t, D)
            so_far = without(heads)  # the new plane at right angles to all before it
        else:
            so_far = LinearMap(without(w).matrix @ so_far.matrix, so_far.bias)
        maps.append(so_far)
    return maps


def of_planes(planes: Sequence[Tensor]) -> LinearMap:
    """Return the map without planes (2, D), one after the other as released: such as of a checkpoint's own head."""
    learnt = iter(planes)
    return rasa(lambda _: next(learnt), planes[0].shape[1], len(planes), orthogonal=False)[-1]


class SigmoidHead:
    """The released learner: sigmoid(W L z) against (row, column) by squared error, from a fresh W.

    AdamW without weight decay, its rate falling to 0 by half a cosine over all steps.

    Args:
        z: features (n, t, D). grid: rows, columns.
        lr, epochs, batch: of pictures; as the released configuration has them. The paper's rate is 2e-3 (appendix B).
            Five epochs are 410 steps for its 10,582 pictures: fewer pictures need more epochs or larger steps.
        seed: of first weights and order; each call continues the stream.

    How we differ: features are of one view of each picture; the release draws crops, colours, flips and turns anew
    each time, and leaves out the last, smaller batch. It learns nine planes, the paper eight.
    """

    def __init__(
        self, z: Tensor, grid: tuple[int, int], lr: float = 2e-4, epochs: int = 5, batch: int = 128, seed: int = 0
    ) -> None:
        check_patches(z, grid)
        self.z, self.y = z, positions(grid).to(z)
        self.lr, self.epochs, self.batch = lr, epochs, batch
        self.draw = torch.Generator().manual_seed(seed)

    def __call__(self, so_far: LinearMap) -> Tensor:
        """Return W (2, D)."""
        d = self.z.shape[2]
        w = ((2 * torch.rand(2, d, generator=self.draw) - 1) / d**0.5).to(self.z).requires_grad_()
        update = torch.optim.AdamW([w], self.lr, weight_decay=0.0)
        z, batches = so_far(self.z), [part for _ in range(self.epochs) for part in self._epoch()]
        anneal = torch.optim.lr_scheduler.CosineAnnealingLR(update, len(batches))
        for batch in batches:
            update.zero_grad()
            head_error(z[batch], self.y, w).backward()
            update.step()
            anneal.step()
        return w.detach()

    def _epoch(self) -> tuple[Tensor, ...]:
        """Return the pictures of each step of an epoch, in random order."""
        return torch.randperm(len(self.z), generator=self.draw).split(self.batch)


def head_error(z: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Return the mean squared error of sigmoid(W z) for z (n, t, D) against y (t, 2)."""
    return ((z @ w.T).sigmoid() - y).square().mean()  # (n, t, 2)


class RidgeHead:
    """A learner without steps or rates: W = (L S L^T + lambda I)^-1 L Cov(z, y), from statistics gathered once.

    lambda is ``ridge`` times the mean variance. Plain regression (0) leans on directions of little variance, removes
    those and leaves position where it was; the larger lambda, the nearer W is to Cov(z, y), which needs one step.
    """

    def __init__(self, z: Tensor, grid: tuple[int, int], ridge: float = 1.0, of: Target = positions) -> None:
        self.covariance, self.cross = covariance(z), cross_covariance(z, grid, of)
        self.ridge = ridge * self.covariance.diagonal().mean()

    def __call__(self, so_far: LinearMap) -> Tensor:
        """Return W (k, D), k = 2 for positions."""
        mapped = so_far.matrix @ self.covariance @ so_far.matrix.T
        mapped.diagonal().add_(self.ridge)
        return torch.linalg.solve(mapped, so_far.matrix @ self.cross).T  # (D, k) -> (k, D)


# ----------------------------------------------------------------------------------------- closed form


def cross_covariance(z: Tensor, grid: tuple[int, int], of: Target = positions) -> Tensor:
    """Return Cov(z, y) (D, k) float64 of features z (n, t, D) with y = of(grid): only the mean of each place counts."""
    check_patches(z, grid)
    y = of(grid)
    return position_offsets(z).T @ (y - y.mean(0)) / len(y)  # (D, t) (t, k) -> (D, k)


def covariance(z: Tensor) -> Tensor:
    """Return Cov(z, z) (D, D) float64 over all patches of z (n, t, D)."""
    mean, total = mean_patch(z), torch.zeros(z.shape[2], z.shape[2], dtype=torch.float64)
    for rows in in_float64(z):
        total += (rows - mean).T @ (rows - mean)
    return total / (z.shape[0] * z.shape[1])


def mean_patch(z: Tensor) -> Tensor:
    """Return the mean (D,) float64 of all patches of z (n, t, D)."""
    return z.mean((0, 1), dtype=torch.float64).cpu()


def position_offsets(z: Tensor) -> Tensor:
    """Return how the mean of each place differs from the mean of all, (t, D) float64, for z (n, t, D).

    ``z - position_offsets(train_z)`` leaves place no mean of its own. It is tied to the grid and is no map of z alone.
    """
    means = z.mean(0, dtype=torch.float64).cpu()  # (n, t, D) -> (t, D)
    return means - means.mean(0)


def remove_cross_covariance(z: Tensor, grid: tuple[int, int]) -> LinearMap:
    """Return the projection of rank D - 2 after which no affine predictor finds row or column on z (n, t, D)."""
    return without(cross_covariance(z, grid).T)


def remove_offset_directions(z: Tensor, k: int) -> LinearMap:
    """Return the projection without the ``k`` main directions of :func:`position_offsets`."""
    return without(torch.linalg.svd(position_offsets(z), full_matrices=False)[2][:k])


def leace(z: Tensor, grid: tuple[int, int]) -> LinearMap:
    """Return the affine map nearest to the identity on z (n, t, D) after which no affine predictor finds position.

    z -> z - S^1/2 P S^-1/2 (z - mean), P the projection onto S^-1/2 Cov(z, y), S = Cov(z, z) (Belrose et al., NeurIPS
    2023, arXiv 2306.03819, theorem 4.2). It is oblique: idempotent, but not symmetric.
    """
    values, axes = torch.linalg.eigh(covariance(z))
    noise = len(values) * torch.finfo(values.dtype).eps * values[-1]
    kept = values > noise  # a dead direction carries nothing, and must not be divided by
    root, axes = values[kept].sqrt(), axes[:, kept]
    q = orthonormal((axes.T @ cross_covariance(z, grid) / root[:, None]).T)  # (2, kept), whitened
    removed = (axes * root) @ q.T @ q @ (axes / root).T  # (D, D)
    return LinearMap(torch.eye(len(removed), dtype=torch.float64) - removed, removed @ mean_patch(z))


# ----------------------------------------------------------------------------------------- measurement


def affine_r2(train_z: Tensor, z: Tensor, grid: tuple[int, int], of: Target = positions, ridge: float = 1e-10) -> float:
    """Return R^2 of the affine ridge predictor of ``of`` each place, fitted on train_z (n, t, D), on z (n', t, D).

    It is fresh, has an intercept and is solved, not trained: a head whose loss is at chance proves nothing. R^2 is
    against each column's own mean, pooled over columns; held-out values may lie below 0. The ridge, in mean variances,
    lets it see position in directions of a ten-thousandth of the others' spread. Narrower ones hold the rounding that
    a map leaves in float32 features, which is linear in them and so tells position too.
    """
    check_patches(z, grid)
    w, mean = RidgeHead(train_z, grid, ridge, of)(without(torch.zeros(0, train_z.shape[2]))), mean_patch(train_z)
    predicted = torch.cat([(rows - mean) @ w.T for rows in in_float64(z)]).unflatten(0, (len(z), -1))  # (n', t, k)
    centred = of(grid) - of(grid).mean(0)
    return (1 - (predicted - centred).square().mean() / centred.square().mean()).item()
