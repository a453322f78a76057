"""What the studies of pictures train: one frozen dataclass a method, which says all that a model of it depends on.

Each has ``build(task, seed)`` and is trained, tuned and swept by :mod:`mrl_lab.lab` as any method is, one typed in a
notebook as well. At one seed all of them begin with the same encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from mrl_lab import encoders, lab
from mrl_lab.data.views import TwoViews
from mrl_lab.lab import Recipe, Task
from mrl_lab.methods import baselines, mrl


@dataclass(frozen=True)
class Model:
    """A nested classifier: sizes M, width d of the embedding, kind of head. M = {k} is FF-k."""

    sizes: tuple[int, ...]
    d: int
    efficient: bool = False
    per_size: str = "none"
    weights: tuple[float, ...] | None = None

    def build(self, task: Task, seed: int) -> mrl.Classifier:
        """Return it untrained; at one seed the encoder is the same whatever the head."""
        head = {"efficient": self.efficient, "per_size": self.per_size, "weights": self.weights}
        body = lambda: task.encoder(self.d)  # noqa: E731
        return mrl.classifier(body, self.sizes, len(task.data.classes), seed=seed, **head)


@dataclass(frozen=True)
class Slim:
    """A slimmable classifier: one network that also runs at a quarter, a half and three quarters of its width."""

    d: int
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)

    def build(self, task: Task, seed: int) -> baselines.Slimmable:
        """Return it untrained."""
        data = task.data
        scale = encoders.Scale(data.mean, data.std)
        shape = tuple(data.train.images.shape[1:])
        body = lambda: baselines.SlimConvNet(shape, self.d, self.widths, task.channels, scale)  # noqa: E731
        return baselines.slimmable(body, len(data.classes), seed)


@dataclass(frozen=True)
class NestedLater:
    """A trained FF-d (``full``, by the recipe ``first``) that gets fresh MRL heads and is trained on in ``part``."""

    full: Model
    first: Recipe
    sizes: tuple[int, ...]
    part: str

    def build(self, task: Task, seed: int) -> baselines.PartlyFrozen:
        """Return it with the trained encoder and untrained heads."""
        model = replace(self.full, sizes=self.sizes).build(task, seed)
        model.encoder.load_state_dict(lab.trained(self.full, task, self.first, seed).encoder.state_dict())
        return baselines.unfreeze(model, self.part)


@dataclass(frozen=True)
class Contrast:
    """An encoder trained on two views of each picture, without labels, by nested InfoNCE in one of its forms.

    ``flip`` lets a view be mirrored: right for single pictures, wrong where left and right are what is asked.
    """

    sizes: tuple[int, ...]
    d: int
    normalise: str = "each prefix"
    towers: str = "both"
    temperature: float = 0.1
    flip: bool = True

    def build(self, task: Task, seed: int) -> mrl.Contrastive:
        """Return it untrained; at one seed the encoder is the same for every form."""
        encoder = Model((self.d,), self.d).build(task, seed).encoder
        form = {"normalise": self.normalise, "towers": self.towers, "temperature": self.temperature}
        return mrl.Contrastive(encoder, self.sizes, symmetric=True, **form)

    def rows(self, task: Task) -> TwoViews:
        """Return two views of each picture."""
        return TwoViews(task.data.train.images, flip=self.flip)


# ------------------------------------------------------------------------------------------------ by name


def three(sizes: Sequence[int]) -> dict[str, list[Model]]:
    """Return the paper's three: MRL, MRL-E, and FF as one separately trained model a size."""
    base = Model(tuple(sizes), sizes[-1])
    return {"MRL": [base], "MRL-E": [replace(base, efficient=True)], "FF": [replace(base, sizes=(k,)) for k in sizes]}


def spread(specs: Sequence, most: int = 3) -> list:
    """Return at most ``most`` of the models, first and last among them: a rate is chosen on these for all."""
    places = torch.linspace(0, len(specs) - 1, min(most, len(specs))).round().int().unique().tolist()
    return [specs[i] for i in places]


def uniform_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """As many sizes as M, evenly spaced from its first to its last (MRL, appendix K.1)."""
    return tuple(sorted({round(x) for x in torch.linspace(sizes[0], sizes[-1], len(sizes)).tolist()}))


def variants(base: Model) -> dict[str, Model]:
    """MRL with uniform sizes, and with c = 2 at the first; MRL-E with a bias, or a bias and a scale, for each size."""
    double = (2.0, *(1.0 for _ in base.sizes[1:]))
    return {
        "MRL, uniform sizes": replace(base, sizes=uniform_sizes(base.sizes)),
        "MRL, c = 2 at first": replace(base, weights=double),
        "MRL-E, own bias": replace(base, efficient=True, per_size="bias"),
        "MRL-E, own bias and scale": replace(base, efficient=True, per_size="scale"),
    }


def later(full: Model, first: Recipe, sizes: Sequence[int]) -> dict[str, NestedLater]:
    """FF-d nested after its training, more and more of it unfrozen (MRL, appendix K.1)."""
    return {f"nested later: {part}": NestedLater(full, first, tuple(sizes), part) for part in baselines.PARTS}


def forms(sizes: Sequence[int]) -> dict[str, Contrast]:
    """Nested InfoNCE as the paper has it, its two wrong forms, and InfoNCE at the full size alone."""
    base = Contrast(tuple(sizes), sizes[-1])
    return {
        "InfoNCE, nested": base,
        "InfoNCE, whole normalised": replace(base, normalise="the whole"),
        "InfoNCE, one side nested": replace(base, towers="first"),
        "InfoNCE, full size only": replace(base, sizes=(base.d,)),
    }
