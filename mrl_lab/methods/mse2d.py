"""2DMSE: 2D Matryoshka Sentence Embeddings (Li et al., arXiv 2402.14776, versions 1 and 3; version 2 is ESE).

Depth and width nest at once. A step draws a layer n from 1..N-1 and a width m below D; with z_n the pooled state
of layer n, l the base loss and delta(n) a weight by depth, the five terms are

    L = w_A l(z_N) + w_B delta(n) l(z_n) + w_C l(z_N[:m]) + w_E delta(n) l(z_n[:m])
      + w_K T [KL(z_N || z_n; T) + KL(z_N[:m] || z_n[:m]; T)]

* KL runs over the coordinates of the pooled, **not** normalised states of all texts.
* The last layer is trained at full width in every step. sentence-transformers' ``Matryoshka2dLoss`` does so only
  when it happens to draw D, draws a second width for z_n, and may draw layer 0, the embedding output.

| preset | delta(n) | KL | teacher |
|---|---|---|---|
| ``2dmse-paper`` | 1 | at full width and at m | not detached (the paper does not say; a switch) |
| ``2dmse-v038`` | 1/n | at full width | not detached |
| ``2dmse-st51`` | 1/n | at full width, T = 0.3 | not detached |
| ``2dmse-st6`` | 1 | at full width, T = 0.3 | detached |

``2dmse-v038`` is the authors' released code, v0.3.8 to 0.3.10, whose base loss is AnglE. The last two are
``Matryoshka2dLoss`` before version 5.2 of sentence-transformers and since 5.7: no term at full width, and two widths a
step. How we differ: ``layers="all"`` takes the mean over all n of 1..N-1, the expectation of one drawn, in one backward
pass too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mrl_lab import shares
from mrl_lab.cuts import check_sizes, prefix
from mrl_lab.errors import RequestError, unknown
from mrl_lab.losses import alignment, info_nce

DEPTH_WEIGHTS = {"none": lambda n: 1.0, "1/n": lambda n: 1 / n, "1/(1+ln n)": lambda n: 1 / (1 + math.log(n))}

ALLOWED = {
    "depth_weight": DEPTH_WEIGHTS,
    "alignments": (1, 2),
    "layers": ("one", "all"),
    "lowest": (0, 1),
    "widths": ("one", "two"),
}

# ------------------------------------------------------------------------------------------ settings


@dataclass(frozen=True)
class Settings:
    """The switches of the objective.

    Attributes:
        depth_weight: delta(n), one of :data:`DEPTH_WEIGHTS`; the last layer's weight is always 1.
        alignments: 1 KL at full width, or 2, also at width m.
        detach: let no gradient of KL reach the last layer.
        layers: "one" drawn a step, or "all" of them.
        lowest: the first n that may be drawn: 1, or 0, the embedding output, which has no weight by depth.
        widths: "one" a step, below D; or "two", one for the last layer and another for z_n, D among them.
        weights: w_A, w_B, w_C, w_E, w_K; a term of weight 0 is not computed. (1, 0, 0, 0, 0) is plain training.
        temperature: T; it divides the coordinates and multiplies KL once.

    Raises:
        RequestError: a value that is not allowed.
    """

    depth_weight: str = "none"
    alignments: int = 2
    detach: bool = False
    layers: str = "one"
    lowest: int = 1
    widths: str = "one"
    weights: tuple[float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name, allowed in ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        if self.lowest == 0 and self.depth_weight != "none":
            raise RequestError(f"the embedding output (lowest = 0) has no depth to weigh by {self.depth_weight}.")
        if self.widths == "two" and self.alignments == 2:
            raise RequestError("two widths a step share no width for a second KL: set alignments = 1.")
        if len(self.weights) != 5 or min(self.weights) < 0 or not any(self.weights):
            raise RequestError(f"weights are five numbers w_A, w_B, w_C, w_E, w_K >= 0, not all 0; got {self.weights}.")
        if self.temperature <= 0:
            raise RequestError(f"the temperature of KL is above 0, got {self.temperature}; set w_K = 0 for no KL.")


# Matryoshka2dLoss: both layers at a width of their own, KL at full width.
_ST = Settings(alignments=1, widths="two", weights=(0.0, 0.0, 1.0, 1.0, 1.0), temperature=0.3)
PRESETS = {
    "2dmse-paper": Settings(),
    "2dmse-v038": Settings(depth_weight="1/n", alignments=1),
    "2dmse-st51": replace(_ST, depth_weight="1/n"),
    "2dmse-st6": replace(_ST, detach=True, lowest=0),
}


def nested_sizes(d: int, smallest: int = 8) -> tuple[int, ...]:
    """Return ``smallest`` and its doublings strictly below d: 768 -> 8, 16, ..., 512 (the released code)."""
    return tuple(smallest * 2**i for i in range(d.bit_length()) if smallest * 2**i < d)


# -------------------------------------------------------------------------------------------- terms


def terms(
    states: Tensor,
    layers: Sequence[int],
    m: int,
    labels: Tensor | None,
    base: Callable[[Tensor, Tensor | None], Tensor],
    settings: Settings,
    own: int | None = None,
) -> dict[str, Tensor]:
    """Return the weighted terms of nonzero weight, which add up to the loss.

    Args:
        states: (B, C, N+1, D), pooled states of all layers. layers: the n of this step, below N. m: width.
        labels: what ``base`` takes second.
        own: width of z_n where it is not m.
    """
    last = states[:, :, -1]
    delta = DEPTH_WEIGHTS[settings.depth_weight]

    def over_layers(term: Callable[[Tensor], Tensor], weight: Callable[[int], float]) -> Tensor:
        return torch.stack([weight(n) * term(states[:, :, n]) for n in layers]).mean()

    ways = {
        "last": lambda: base(last, labels),
        "shallow": lambda: over_layers(lambda z: base(z, labels), delta),
        "last nested": lambda: base(prefix(last, m), labels),
        "shallow nested": lambda: over_layers(lambda z: base(prefix(z, own or m), labels), delta),
        "alignment": lambda: over_layers(lambda z: _align(last, z, m, settings), lambda n: settings.temperature),
    }
    return {name: weight * way() for (name, way), weight in zip(ways.items(), settings.weights, strict=True) if weight}


def _align(last: Tensor, z: Tensor, m: int, settings: Settings) -> Tensor:
    how = {"temperature": settings.temperature, "detach": settings.detach}
    last, z = last.flatten(0, 1), z.flatten(0, 1)  # (B, C, D) -> (B C, D)
    at_full_width = alignment(last, z, **how)
    return (
        at_full_width if settings.alignments == 1 else at_full_width + alignment(prefix(last, m), prefix(z, m), **how)
    )


# -------------------------------------------------------------------------------------------- model


class MSE2D(nn.Module):
    """A sentence encoder under the objective above; forward gives what the training loop needs.

    Args:
        encoder: (ids, attention) (B, C, T) -> states (B, C, N+1, D), with attributes ``layers`` (N) and ``d`` (D).
        settings: :class:`Settings`, or the name of a preset.
        sizes: widths to draw m from, below D; :func:`nested_sizes` by default.
        base: the base loss of z (B, C, d) and labels, such as ``losses.angle``.
        generator: where draws come from; by default torch's own stream, which checkpoints keep.

    Raises:
        RequestError: an unknown preset, an encoder of fewer than 2 layers, or wrong sizes.
    """

    def __init__(
        self,
        encoder: nn.Module,
        settings: Settings | str = "2dmse-paper",
        sizes: Sequence[int] | None = None,
        base: Callable[[Tensor, Tensor | None], Tensor] = info_nce,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if isinstance(settings, str) and settings not in PRESETS:
            raise unknown("preset of 2DMSE", settings, PRESETS)
        if encoder.layers < 2:
            raise RequestError(f"2DMSE needs a shallow layer below the last: 2 layers or more, got {encoder.layers}.")
        self.encoder, self.base, self.generator = encoder, base, generator
        self.settings = PRESETS[settings] if isinstance(settings, str) else settings
        self.sizes = check_sizes(nested_sizes(encoder.d) if sizes is None else sizes, encoder.d)
        if self.sizes[-1] == encoder.d:
            raise RequestError(
                f"sizes of 2DMSE are below the full {encoder.d} dims, which are always trained: omit it."
            )

    def draw(self) -> tuple[tuple[int, ...], int, int]:
        """Return a step's layers, the last layer's width and that of z_n, each uniform over what is allowed."""
        shallow = range(self.settings.lowest, self.encoder.layers)
        layers = tuple(shallow) if self.settings.layers == "all" else (self._one_of(shallow),)
        if self.settings.widths == "two":
            return layers, *(self._one_of((*self.sizes, self.encoder.d)) for _ in range(2))
        m = self._one_of(self.sizes)
        return layers, m, m

    def _one_of(self, things: Sequence[int]) -> int:
        return things[torch.randint(len(things), (), generator=self.generator)]

    def forward(self, ids: Tensor, attention: Tensor, labels: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its weighted terms for token ids and attention (B, C, T), from one encoding."""
        layers, m, own = self.draw()
        states = shares.gather(self.encoder(ids, attention))
        parts = terms(states, layers, m, shares.gather(labels), self.base, self.settings, own)
        return torch.stack(list(parts.values())).sum(), parts
