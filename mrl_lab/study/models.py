"""What the studies train: a specification of each model, and one function that trains it once and remembers it.

A specification is a frozen dataclass that says all a trained model depends on: ``build`` makes it untrained, ``rows``
is what it learns from. Its fields, the data, the recipe and the seed are the key under which the weights are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from mrl_lab import encoders, runs, score
from mrl_lab.data import Labelled
from mrl_lab.data.views import TwoViews
from mrl_lab.device import choose
from mrl_lab.methods import baselines, mrl
from mrl_lab.train import Rows, fit


@dataclass(frozen=True)
class Recipe:
    """How long and how a model is trained."""

    epochs: float = 1.0
    lr: float = 3e-2
    batch: int = 64
    weight_decay: float = 0.05

    def fit(self, model: nn.Module, rows: Rows, seed: int) -> pd.DataFrame:
        """Train ``model`` in place by this recipe and return its history."""
        batch = min(self.batch, len(rows))
        steps = max(1, round(self.epochs * len(rows) / batch))
        return fit(model, rows, steps=steps, batch=batch, lr=self.lr, weight_decay=self.weight_decay, seed=seed)


class Spec(Protocol):
    """What can be trained: how to make it, and from which rows it learns."""

    def build(self, data: Labelled, seed: int) -> nn.Module: ...
    def rows(self, data: Labelled) -> Rows: ...


@dataclass(frozen=True)
class Model:
    """A nested classifier: sizes M, width d of the embedding, kind of head and of encoder. M = {k} is FF-k."""

    sizes: tuple[int, ...]
    d: int
    efficient: bool = False
    per_size: str = "none"
    weights: tuple[float, ...] | None = None
    encoder: str = "conv"

    def build(self, data: Labelled, seed: int) -> mrl.Classifier:
        """Return it untrained; at one seed the encoder is the same whatever the head."""
        head = {"efficient": self.efficient, "per_size": self.per_size, "weights": self.weights}
        body = lambda: encoders.build(self.encoder, data, self.d)  # noqa: E731
        return mrl.classifier(body, self.sizes, len(data.classes), seed=seed, **head)

    def rows(self, data: Labelled) -> Rows:
        return TensorDataset(data.train.images, data.train.labels)


@dataclass(frozen=True)
class Slim:
    """A slimmable classifier: one network that also runs at a quarter, a half and three quarters of its width."""

    d: int
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)

    def build(self, data: Labelled, seed: int) -> baselines.Slimmable:
        """Return it untrained."""
        scale = encoders.Scale(data.mean, data.std)
        shape = tuple(data.train.images.shape[1:])
        body = lambda: baselines.SlimConvNet(shape, self.d, self.widths, scale=scale)  # noqa: E731
        return baselines.slimmable(body, len(data.classes), seed)

    def rows(self, data: Labelled) -> Rows:
        return TensorDataset(data.train.images, data.train.labels)


@dataclass(frozen=True)
class NestedLater:
    """A trained FF-d (``full``, by the recipe ``first``) that gets fresh MRL heads and is trained on in ``part``."""

    full: Model
    first: Recipe
    sizes: tuple[int, ...]
    part: str

    def build(self, data: Labelled, seed: int) -> baselines.PartlyFrozen:
        """Return it with the trained encoder and untrained heads."""
        model = replace(self.full, sizes=self.sizes).build(data, seed)
        model.encoder.load_state_dict(trained(self.full, data, self.first, seed).encoder.state_dict())
        return baselines.unfreeze(model, self.part)

    def rows(self, data: Labelled) -> Rows:
        return self.full.rows(data)


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

    def build(self, data: Labelled, seed: int) -> mrl.Contrastive:
        """Return it untrained; at one seed the encoder is the same for every form."""
        encoder = Model((self.d,), self.d).build(data, seed).encoder
        form = {"normalise": self.normalise, "towers": self.towers, "temperature": self.temperature}
        return mrl.Contrastive(encoder, self.sizes, symmetric=True, **form)

    def rows(self, data: Labelled) -> Rows:
        return TwoViews(data.train.images, flip=self.flip)


def trained(spec: Spec, data: Labelled, recipe: Recipe, seed: int) -> nn.Module:
    """Return ``spec`` trained on ``data.train``, on the CPU; reused where these very settings were trained before."""
    model = spec.build(data, seed)

    def make() -> dict[str, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # views draw from the global stream: the same ones for every method
            recipe.fit(model, spec.rows(data), seed)
        return model.cpu().state_dict()

    model.load_state_dict(runs.remember(settings("trained", spec, data, recipe, seed), make))
    return model.eval()


def settings(what: str, spec: Spec, data: Labelled, recipe: Recipe, seed: int) -> dict:
    """Return all that a result depends on, as ``runs.remember`` takes it."""
    return {
        "what": what,
        "kind": type(spec).__name__,
        "spec": asdict(spec),
        "data": data.key,
        "recipe": asdict(recipe),
        "seed": seed,
    }


def embed(encoder: nn.Module, x: Tensor) -> Tensor:
    """Return embeddings (N, d) on the CPU, computed on the device in use."""
    z = score.embed(encoder.to(choose().device), x)
    encoder.cpu()
    return z


def separate(base: Model, sizes: Sequence[int]) -> list[Model]:
    """Return FF: the same model trained for each size alone."""
    return [replace(base, sizes=(k,)) for k in sizes]
