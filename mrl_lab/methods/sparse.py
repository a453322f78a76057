"""Sparse codes of finished vectors (CSR, "Beyond Matryoshka", Wen et al., ICML 2025, arXiv 2503.01776).

The rival of every prefix: not fewer numbers but a wide vector of which only k are not zero. With x (d) of length 1, W
(h, d) one matrix for both directions, b (d) and c (h) biases, and top_k keeping the k largest of what is above zero,

    s_k = top_k(W (x - b) + c)        x̂_k = Wᵀ s_k + b

    L = |x - x̂_k|² + |x - x̂_4k|² / 8 + β |e - ê|² / var(e) + γ L_contrast

where e = x - x̂_k is what is left, and ê = Wᵀ s what the ``spare`` largest latents that were silent for
``patience`` steps would say of it, so that none stays silent for ever. Codes are compared by cosine.

How we differ. The paper's contrastive term wants a code to be its own nearest in the batch (τ = 0.2). The released code
passes the same vector through the same net twice, so that the pair's cosine is 1 whatever is learnt, and the term only
drives codes apart: ``contrast="itself"``. By default the neighbours of the code are to be those of the vector
(:func:`mrl_lab.losses.neighbours`), which asks of the rival what is asked of the adaptor. Squares are summed over the d
dims of a vector of length 1, so that γ means the same at every width; the paper takes their mean.

**Bytes** (:func:`stored_bytes`): a value of k costs its index as well, 2 bytes up to 65,536 latents, which the paper's
comparison "at equal active dims" leaves out.

As in sentence-transformers' ``SparseAutoEncoder`` and ``CSRLoss``, which the tests compare with; their parts of a
loss are means over dims too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize

from mrl_lab import shares
from mrl_lab.errors import RequestError, unknown
from mrl_lab.losses import neighbours

CONTRASTS = ("neighbours", "itself", "none")
OWN = 0.2  # τ of the paper's contrastive term


class Sparse(nn.Module):
    """A top-k autoencoder of vectors x (B, d).

    Args:
        d: width of a vector. active: k. latents: h, by default 4 d, the paper's.
        contrast: one of :data:`CONTRASTS`; weight: γ. temperature: τ of "neighbours".
        spare: latents that speak of what is left; revive: β; patience: steps until a latent counts as silent.

    Raises:
        RequestError: an unknown contrast, or no room for 4 k active latents.
    """

    def __init__(
        self,
        d: int,
        active: int,
        latents: int = 0,
        *,
        contrast: str = "neighbours",
        weight: float = 1.0,
        temperature: float = 0.05,
        spare: int = 512,
        revive: float = 1 / 32,
        patience: int = 30,
    ) -> None:
        super().__init__()
        latents = latents or 4 * d
        if contrast not in CONTRASTS:
            raise unknown("contrast", contrast, CONTRASTS)
        if not 1 <= active <= latents // 4:
            raise RequestError(f"{active} of {latents} latents cannot be active: use 1 to {latents // 4}, a quarter.")
        self.d, self.active, self.contrast, self.weight, self.temperature = d, active, contrast, weight, temperature
        self.spare, self.revive, self.patience = min(spare, latents), revive, patience
        self.matrix = nn.Parameter(normalize(torch.randn(latents, d), dim=1))
        self.before, self.threshold = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(latents))
        self.register_buffer("silent", torch.zeros(latents, dtype=torch.long))  # steps since a latent last spoke

    def latents(self, x: Tensor) -> Tensor:
        """x (B, d) -> all latents (B, h), before the choice."""
        return linear(x - self.before, self.matrix, self.threshold)

    def code(self, x: Tensor) -> Tensor:
        """x (B, d), of length 1 -> its code (B, h), at most k of it above zero and none below."""
        return largest(self.latents(x), self.active)

    def decode(self, code: Tensor) -> Tensor:
        """Codes (B, h) -> vectors (B, d)."""
        return code @ self.matrix + self.before

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts: "k", "4k", "silent" and, unless it is none, the contrast."""
        x, every = shares.gather(x), shares.gather(self.latents(x))
        code = largest(every, self.active)
        left = x - self.decode(code)
        parts = {"k": _squares(left), "4k": _squares(x - self.decode(largest(every, 4 * self.active))) / 8}
        parts["silent"] = self.revive * self._of_the_silent(every, left.detach())
        if self.contrast != "none":
            parts[self.contrast] = self.weight * self._contrast(x, code)
        if self.training:
            self._listen(code)
        return torch.stack(list(parts.values())).sum(), parts

    def _of_the_silent(self, every: Tensor, left: Tensor) -> Tensor:
        """Squared error of what silent latents say of the rest ``left`` (B, d), as a share of the rest's variance."""
        said = largest(every * (self.silent > self.patience), self.spare) @ self.matrix
        return (said - left).square().mean() / (left - left.mean(0)).square().mean().clamp(min=1e-12)

    def _contrast(self, x: Tensor, code: Tensor) -> Tensor:
        if self.contrast == "neighbours":
            return neighbours(x, code, temperature=self.temperature)
        unit = normalize(code, dim=1)
        return cross_entropy(unit @ unit.T / OWN, torch.arange(len(code), device=code.device))

    @torch.no_grad()
    def _listen(self, code: Tensor) -> None:
        self.silent += 1
        self.silent[(code > 0).any(0)] = 0


def largest(latents: Tensor, k: int) -> Tensor:
    """Keep the k largest of each row (B, h), those above zero; all else is zero."""
    values, places = latents.topk(k, dim=1)
    return torch.zeros_like(latents).scatter(1, places, values.relu())


def _squares(rest: Tensor) -> Tensor:
    return rest.square().sum(1).mean()


def stored_bytes(active: int, latents: int, value: int = 4) -> int:
    """Bytes of one code: for each active latent its ``value`` and its index, 2 bytes up to 65,536 latents, else 4."""
    return active * (value + (2 if latents <= 2**16 else 4))
