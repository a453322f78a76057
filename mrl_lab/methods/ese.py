"""ESE: Espresso Sentence Embeddings (Li et al., ICLR 2025; version 2 of arXiv 2402.14776, the successor of 2DMSE).

All layers learn in every step, at one width k beside the whole. With z_n the pooled state of layer n = 1..N, l the base
loss and w_n = 1 / (1 + ln n) for n < N, w_N = 1:

    express     l(z_N) + l(z_N[:k]) + 1/(N-1)  sum over n < N of  w_n l(z_n[:k])
    compress    c(z_N)              + 1/(N-1)  sum over n < N of  w_n c(z_n)
                c(z) = MSE(z[:k], t) + T KL(t || z[:k]),   t = Z U_k diag(s_k)

Z (rows, D) are a layer's states; U and s are those of its dependencies, rowsoftmax(Z^T Z / sqrt D) (D, D); no gradient
reaches t. So the first k dims are pulled towards what all dims say, in their order of weight.

How we differ: the released code counts hidden states from 0, and so trains the embedding output, gives each layer the
weight of the one above, and never trains layer N-1; its decomposition is randomised, ours is exact. The sign of each
column of U, which no decomposition fixes, is the one that makes its largest entry positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mrl_lab import shares
from mrl_lab.cuts import prefix
from mrl_lab.errors import RequestError
from mrl_lab.losses import alignment, info_nce


def width_for(d: int) -> int:
    """Return k for d dims: the largest power of two up to a sixth of them (768 -> 128, the paper's)."""
    return 1 << max(1, d // 6).bit_length() - 1


def target(z: Tensor, k: int) -> Tensor:
    """Return what the first k dims of z (rows, D) are pulled towards, (rows, k), without a graph."""
    z = z.detach().float()
    dependencies = (z.T @ z / math.sqrt(z.shape[1])).softmax(1)  # (D, D)
    u, s, _ = torch.linalg.svd(dependencies)
    u = u[:, :k]
    sign = u.gather(0, u.abs().argmax(0, keepdim=True)).sign()  # (1, k)
    return z @ (u * sign * s[:k])


def compress(z: Tensor, k: int, temperature: float = 1.0) -> Tensor:
    """Return c(z) of a layer's states z (rows, D)."""
    t = target(z, k)
    return mse_loss(prefix(z, k), t) + temperature * alignment(t, prefix(z, k))


class ESE(nn.Module):
    """A sentence encoder under the objective above; forward gives what the training loop needs.

    Args:
        encoder: (ids, attention) (B, C, T) -> states (B, C, N+1, D), with attributes ``layers`` (N) and ``d`` (D).
        k: the one width that is trained beside D; :func:`width_for` by default.
        base: the base loss of z (B, C, d) and labels. temperature: T, a weight of KL alone.

    Raises:
        RequestError: an encoder of fewer than 2 layers, or a width that is not below D.
    """

    def __init__(
        self,
        encoder: nn.Module,
        k: int | None = None,
        base: Callable[[Tensor, Tensor | None], Tensor] = info_nce,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.base, self.temperature = encoder, base, temperature
        self.k = width_for(encoder.d) if k is None else k
        if encoder.layers < 2:
            raise RequestError(f"ESE needs a layer below the last: 2 layers or more, got {encoder.layers}.")
        if not 1 <= self.k < encoder.d:
            raise RequestError(f"the width k of ESE is from 1 to {encoder.d - 1}, got {self.k}.")

    def forward(self, ids: Tensor, attention: Tensor, labels: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its terms for token ids and attention (B, C, T), from one encoding."""
        states, labels = shares.gather(self.encoder(ids, attention)), shares.gather(labels)  # (B, C, N + 1, D)
        last, below = states[:, :, -1], range(1, self.encoder.layers)

        def shallow(term: Callable[[Tensor], Tensor]) -> Tensor:
            return torch.stack([term(states[:, :, n]) / (1 + math.log(n)) for n in below]).mean()

        parts = {
            "last": self.base(last, labels),
            "last nested": self.base(prefix(last, self.k), labels),
            "shallow nested": shallow(lambda z: self.base(prefix(z, self.k), labels)),
            "compress": self._compress(last) + shallow(self._compress),
        }
        return torch.stack(list(parts.values())).sum(), parts

    def _compress(self, z: Tensor) -> Tensor:
        return compress(z.flatten(0, 1), self.k, self.temperature)  # (B, C, D) -> (B C, D)
