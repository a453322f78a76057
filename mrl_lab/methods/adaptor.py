"""Nested adaptor: finished vectors are nested afterwards (Matryoshka-Adaptor, Yoon et al., EMNLP 2024, 2407.20243).

The model that made the vectors is not touched and need not be known. With z (B, d) of length 1, A (d, d) a matrix and
g a small MLP (or nothing), the adapted vectors and, for each size m, the neighbours that they see are

    ẑ = (z + g(z)) A                        p_ij ∝ exp(cos(z_i, z_j) / τ),  q_ij(m) ∝ exp(cos(ẑ_i[:m], ẑ_j[:m]) / τ)

over the j ≠ i of a batch. No label and no query is used:

    L = Σ_m (1/B) Σ_i KL(p_i || q_i(m))  +  β (1/B) Σ_i |ẑ_i - z_i A_0|²

where A_0 is the A that training began with, orthogonal: β holds the whole vector where it was. Where queries x_i were
judged, with a document y_i of grade s_i each, a ranking loss is added, over the j that are neither's own:

    L += γ Σ_m (1/B) Σ_i s_i mean_j log(1 + exp((cos(x̂_i[:m], ŷ_j[:m]) - cos(x̂_i[:m], ŷ_i[:m])) / τ))

How we differ: A begins as the axes of an SVD, where theirs is the identity, so that step 0 is a rotation's curve; the
softmax over neighbours stands for their two sums of |cos(z_i, z_j) - cos(ẑ_i[:m], ẑ_j[:m])|, over all pairs and over
the k nearest, and weights the nearest most by τ; without g the adaptor is one matrix, which any system can apply. Their
ranking loss has no τ. A prefix is cut before it is normalised.

Measured (SciFact, all-MiniLM-L6-v2, nDCG@10 of 300 test queries, 32 of 384 numbers; 400 steps of 1,024 rows, five
seeds): prefix 33.7, rotation 45.5, adaptor 47.7, with the ranking loss 50.3 (``08_your_embeddings`` at ``hour``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mrl_lab import shares
from mrl_lab.cuts import check_sizes, unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.losses import neighbours

TEMPERATURE = 0.05  # τ; cosines of a sentence encoder's nearest are about this far apart


class Adaptor(nn.Module):
    """Adapts vectors of a given width so that every prefix keeps the neighbours of the whole.

    Args:
        axes: A_0 (d, d), orthonormal columns by falling importance.
        sizes: M, rising.
        hidden: width of g's one hidden layer; 0 for no g. g begins at zero.
        temperature: τ. keep: β. rank: γ.

    Raises:
        RequestError: axes that are no orthogonal matrix, sizes that do not rise, or settings below zero.
    """

    def __init__(
        self,
        axes: Tensor,
        sizes: Sequence[int],
        *,
        hidden: int = 0,
        temperature: float = TEMPERATURE,
        keep: float = 0.0,
        rank: float = 1.0,
    ) -> None:
        super().__init__()
        d = axes.shape[-1]
        if axes.shape != (d, d) or not torch.allclose(axes.T @ axes, torch.eye(d), atol=1e-3):
            raise RequestError(f"an adaptor begins with an orthogonal matrix (d, d), got {tuple(axes.shape)}.")
        if temperature <= 0 or min(hidden, keep, rank) < 0:
            raise RequestError(
                f"temperature is above 0, and hidden, keep and rank at least 0; got {temperature}, {hidden}, {keep}, "
                f"{rank}."
            )
        self.sizes, self.temperature, self.keep, self.rank = check_sizes(sizes, d), temperature, keep, rank
        self.matrix = nn.Parameter(axes.clone())
        self.bend = _mlp(d, hidden) if hidden else None
        self.register_buffer("axes", axes.clone(), persistent=False)

    def adapt(self, z: Tensor) -> Tensor:
        """z (B, d), of length 1 -> ẑ (B, d), of any lengths."""
        return (z if self.bend is None else z + self.bend(z)) @ self.matrix

    def forward(self, z: Tensor, *judged: Tensor) -> tuple[Tensor, dict[int | str, Tensor]]:
        """Return the loss and its parts: one a size, and "kept" and "ranked" where they count.

        Args:
            z: (B, d), of length 1.
            judged: queries (P, d), documents (P, d) and grades (P,), if the batch has them.
        """
        z, adapted = shares.gather(z), shares.gather(self.adapt(z))
        parts: dict[int | str, Tensor] = {
            m: neighbours(z, adapted[:, :m], temperature=self.temperature) for m in self.sizes
        }
        if self.keep:
            parts["kept"] = self.keep * (adapted - z @ self.axes).square().sum(1).mean()
        if judged:
            parts["ranked"] = self.rank * self._ranked(*map(shares.gather, judged))
        return torch.stack(list(parts.values())).sum(), parts

    def _ranked(self, queries: Tensor, documents: Tensor, grades: Tensor) -> Tensor:
        others = ~(_alike(queries) | _alike(documents))
        sides = self.adapt(queries), self.adapt(documents)
        each = [ranking(*(unit_prefix(s, m) for s in sides), grades, others, self.temperature) for m in self.sizes]
        return torch.stack(each).sum()


def _mlp(d: int, hidden: int) -> nn.Sequential:
    last = nn.Linear(hidden, d)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(d, hidden), nn.GELU(), last)


def ranking(queries: Tensor, documents: Tensor, grades: Tensor, others: Tensor, temperature: float) -> Tensor:
    """Return the ranking loss at one size.

    Args:
        queries, documents: (P, m), of length 1; row i of one goes with row i of the other, by its grade (P,).
        others: (P, P), whether document j is neither query i's own nor judged for it.
    """
    cosines = queries @ documents.T  # (P, P)
    worse = softplus((cosines - cosines.diagonal()[:, None]) / temperature) * others
    return (grades * worse.sum(1) / others.sum(1).clamp(min=1)).mean()


def _alike(z: Tensor) -> Tensor:
    """Which rows of z (P, d) are the same: (P, P)."""
    which = z.unique(dim=0, return_inverse=True)[1]
    return which[:, None] == which
