"""MRL: Matryoshka Representation Learning (Kusupati et al., NeurIPS 2022, arXiv 2205.13147).

Every prefix ``z[:, :m]`` of one embedding, m in M, must do the task alone (eq. 1):

    L = mean over the batch of  sum over m in M of  c_m * CE(W_m z[:m] + b_m, y),   c_m = 1

* **MRL** keeps one linear head a size; **MRL-E** slices one head W (C, d), its bias shared by all sizes.
* The loss is a **sum** over sizes, so the encoder's gradient is up to |M| times the plain one's. We keep it.
* In the contrastive form each prefix is normalised on its own, after the cut, on **both** sides (appendix C).

How we differ: the baseline that trains a size alone (FF-k) is this very classifier with M = {k}; MRL-E's
logits are accumulated block by block (same numbers, one full product for all sizes); ``per_size`` adds the
bias and scale of each size that the paper's MRL-E lacks, for the ablation of its weakness at the smallest size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mrl_lab import shares
from mrl_lab.cuts import check_sizes, prefix, unit_prefix
from mrl_lab.errors import RequestError, unknown
from mrl_lab.losses import contrast

# ---------------------------------------------------------------------------------------------- loss


def weights_for(sizes: Sequence[int], weights: Sequence[float] | Tensor | None = None) -> dict[int, float]:
    """Return {m: c_m}; ``None`` is the paper's c_m = 1.

    Raises:
        RequestError: not one finite weight >= 0 a size, or all are zero.
    """
    given = [1.0] * len(sizes) if weights is None else [float(c) for c in weights]
    if len(given) != len(sizes):
        raise RequestError(f"{len(given)} loss weights for {len(sizes)} sizes {list(sizes)}: give one c_m a size.")
    if not any(given) or not all(0 <= c < float("inf") for c in given):
        raise RequestError(f"loss weights c_m must be finite, at least 0 and not all 0; got {given}.")
    return dict(zip(sizes, given, strict=True))


def weighted_sum(losses: dict[int, Tensor], weights: dict[int, float]) -> Tensor:
    """Return sum over m of c_m * loss_m, a scalar (eq. 1)."""
    return torch.stack([weights[m] * loss for m, loss in losses.items()]).sum()


def nested_cross_entropy(logits: dict[int, Tensor], y: Tensor, label_smoothing: float = 0.0) -> dict[int, Tensor]:
    """Return the cross-entropy of each size: logits {m: (B, C)} against labels y (B,).

    All sizes go through one call, which keeps the step of 7 sizes within 1.1 of a plain one (``mrl-lab bench step``).
    """
    stacked = torch.cat(list(logits.values()))  # |M| x (B, C) -> (|M| B, C)
    losses = cross_entropy(stacked, y.repeat(len(logits)), label_smoothing=label_smoothing, reduction="none")
    return dict(zip(logits, losses.view(len(logits), -1).mean(1), strict=True))  # (|M| B,) -> (|M|, B) -> (|M|,)


# --------------------------------------------------------------------------------------------- heads


class SeparateHeads(nn.Module):
    """MRL: one ``Linear(m, C)`` a size, C (sum of sizes + |M|) parameters."""

    def __init__(self, sizes: Sequence[int], classes: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.heads = nn.ModuleList(nn.Linear(m, classes) for m in self.sizes)

    def forward(self, z: Tensor) -> dict[int, Tensor]:
        """z (B, d) -> {m: logits (B, C)}."""
        return {m: head(prefix(z, m)) for m, head in zip(self.sizes, self.heads, strict=True)}

    def linear(self, m: int) -> nn.Linear:
        """Return the head of size ``m`` as a plain layer, to use without this package."""
        return self.heads[_place(self.sizes, m)]


class SlicedHead(nn.Module):
    """MRL-E: one weight W (C, d) and one bias b (C,); logits_m = z[:, :m] W[:, :m]^T + b.

    ``per_size``: "none" (the paper), "bias" or "scale" (one learned bias, or bias and factor, a size). At the
    start W ~ U(±1/sqrt d) whatever m, so the logits of small sizes begin sqrt(d/m) times smaller than MRL's;
    the factor starts at sqrt(d/m) to undo that.
    """

    def __init__(self, sizes: Sequence[int], classes: int, per_size: str = "none") -> None:
        super().__init__()
        if per_size not in ("none", "bias", "scale"):
            raise unknown("per_size", per_size, ("none", "bias", "scale"))
        self.sizes = tuple(sizes)
        d = self.sizes[-1]
        self.full = nn.Linear(d, classes)
        if per_size != "none":
            self.bias = nn.Parameter(torch.zeros(len(self.sizes), classes))
        if per_size == "scale":
            self.factor = nn.Parameter(torch.tensor([(d / m) ** 0.5 for m in self.sizes]))
        self.per_size = per_size

    def forward(self, z: Tensor) -> dict[int, Tensor]:
        """z (B, d) -> {m: logits (B, C)}."""
        products = accumulated_products(z, self.full.weight, self.sizes)
        return {m: self._finish(i, product) for i, (m, product) in enumerate(products.items())}

    def _finish(self, i: int, product: Tensor) -> Tensor:
        if self.per_size == "none":
            return product + self.full.bias
        factor = self.factor[i] if self.per_size == "scale" else 1.0
        return factor * product + self.full.bias + self.bias[i]

    def linear(self, m: int) -> nn.Linear:
        """Return the head of size ``m`` as a plain layer, to use without this package."""
        i = _place(self.sizes, m)
        layer = nn.Linear(m, self.full.out_features)
        factor = self.factor[i] if self.per_size == "scale" else 1.0
        extra = self.bias[i] if self.per_size != "none" else 0.0
        layer.load_state_dict({"weight": factor * self.full.weight[:, :m], "bias": self.full.bias + extra})
        return layer


def _place(sizes: tuple[int, ...], m: int) -> int:
    if m not in sizes:
        raise RequestError(f"size {m} has no trained head; trained sizes: {list(sizes)}. Fit a probe, or use 1-NN.")
    return sizes.index(m)


def accumulated_products(z: Tensor, weight: Tensor, sizes: Sequence[int]) -> dict[int, Tensor]:
    """Return {m: z[:, :m] weight[:, :m]^T}, each made from the one before by adding its new block.

    A_i = A_(i-1) + z[:, m_(i-1):m_i] W[:, m_(i-1):m_i]^T costs one full product for all sizes together, where
    slices cost sum(M)/d of it (2x for halvings, more for dense M). ``mrl-lab bench heads`` measures it.
    """
    products, done, total = {}, 0, None
    for m in sizes:
        block = z[:, done:m] @ weight[:, done:m].T  # (B, m - done) (m - done, C) -> (B, C)
        total = block if total is None else total + block
        products[m], done = total, m
    return products


# -------------------------------------------------------------------------------------------- models


class Classifier(nn.Module):
    """An encoder and nested heads; forward(x, y) gives what the training loop needs.

    Args:
        encoder: x -> z (B, d).
        head: z -> {m: logits (B, C)}.
        weights: c_m in the order of the head's sizes.
    """

    def __init__(
        self, encoder: nn.Module, head: nn.Module, weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.weights = weights_for(head.sizes, weights)
        self.label_smoothing = label_smoothing

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the loss of eq. 1 and the loss of each size."""
        losses = nested_cross_entropy(self.head(self.encoder(x)), y, self.label_smoothing)
        return weighted_sum(losses, self.weights), losses


def classifier(
    encoder: Callable[[], nn.Module],
    sizes: Sequence[int],
    classes: int,
    *,
    efficient: bool = False,
    per_size: str = "none",
    weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    seed: int = 0,
) -> Classifier:
    """Build MRL, MRL-E (``efficient``) or, with one size k, the fixed-feature baseline FF-k (section 4.1).

    ``encoder`` is a function, so that for one seed the encoder of every method starts from the very same
    weights: heads draw theirs from a stream of their own.

    Raises:
        RequestError: sizes that do not rise or exceed the encoder's d, or wrong weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = encoder()
        sizes = check_sizes(sizes, body.d)
        torch.manual_seed(seed + 1)
        head = SlicedHead(sizes, classes, per_size) if efficient else SeparateHeads(sizes, classes)
    return Classifier(body, head, weights, label_smoothing)


# --------------------------------------------------------------------------------------- contrastive


def nested_info_nce(
    a: Tensor,
    b: Tensor,
    sizes: Sequence[int],
    *,
    temperature: float = 0.05,
    normalise: str = "each prefix",
    towers: str = "both",
    symmetric: bool = False,
) -> dict[int, Tensor]:
    """Return {m: InfoNCE of a (B, d) against b (B, d)}; row i of b is the match of row i of a.

    Args:
        temperature: cosines are divided by it.
        normalise: "each prefix" (the paper), or "the whole" vector once, before the cut (the wrong way, as a control).
        towers: "both" nested (the paper), or "first": a[:, :m] padded with zeros against the whole of b (a control).
        symmetric: also b against a, averaged.
    """
    if normalise not in ("each prefix", "the whole"):
        raise unknown("normalise", normalise, ("each prefix", "the whole"))
    if towers not in ("both", "first"):
        raise unknown("towers", towers, ("both", "first"))
    cut = unit_prefix if normalise == "each prefix" else lambda z, m: prefix(normalize(z, dim=-1), m)
    full = b.shape[-1]
    losses = {}
    for m in sizes:
        left = cut(a, m)
        right = cut(b, m) if towers == "both" else cut(b, full)[:, :m]
        scores = left @ right.T / temperature  # (B, m) (m, B) -> (B, B)
        losses[m] = (contrast(scores) + contrast(scores.T)) / 2 if symmetric else contrast(scores)
    return losses


class Contrastive(nn.Module):
    """Two views of each row through one encoder; forward(a, b) gives the nested contrastive loss."""

    def __init__(
        self, encoder: nn.Module, sizes: Sequence[int], weights: Sequence[float] | None = None, **form
    ) -> None:
        super().__init__()
        self.encoder, self.form = encoder, form
        self.sizes = check_sizes(sizes, encoder.d)
        self.weights = weights_for(self.sizes, weights)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the weighted sum and the loss of each size for views a and b of the same rows."""
        a, b = (shares.gather(self.encoder(x)) for x in (a, b))
        losses = nested_info_nce(a, b, self.sizes, **self.form)
        return weighted_sum(losses, self.weights), losses
