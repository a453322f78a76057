"""Students: self-distilled encoders with nested heads; what is evaluated is the teacher's encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from mrl_lab.data import Labelled
from mrl_lab.data.crops import MultiCrop
from mrl_lab.distil.teacher import SelfDistillation
from mrl_lab.encoders import ConvNet
from mrl_lab.encoders.patches import PatchViT
from mrl_lab.errors import unknown
from mrl_lab.lab import Recipe, Task
from mrl_lab.methods.franca import check_batch, franca, prototype_counts
from mrl_lab.methods.masks import MASKS

ENCODERS = ("conv", "vit")


@dataclass(frozen=True)
class Student:
    """What is trained: a convolutional net by its class loss, or a ViT that also learns hidden patches.

    Attributes:
        sizes: M, rising, the last is d. head: see ``franca.nested_head``. prototypes: of the full width.
        encoder: "conv" or "vit". channels: of the first two blocks of the one. layers, patch: of the other.
        mask: which of its patches are hidden, see ``masks.MASKS``.
        small: small crops of a picture; their side is half a picture's. large_area, small_area: what crops keep.
        flip: mirror half of the crops.
        steps: of the training, for the teacher's schedules, which matter most in a short one.
        momentum: the teacher's at the start; the paper's 0.994 would leave it nearly untaught in a few hundred steps.
        temperature: the teacher's, constant; the paper's rises from 0.04 to 0.07.
    """

    sizes: tuple[int, ...]
    head: str = "slice"
    prototypes: int = 128
    encoder: str = "conv"
    channels: tuple[int, int] = (32, 64)
    layers: int = 3
    patch: int = 4
    mask: str = "cyclic"
    small: int = 2
    large_area: tuple[float, float] = (0.5, 1.0)
    small_area: tuple[float, float] = (0.2, 0.5)
    flip: bool = True
    steps: int = 200
    momentum: float = 0.9
    temperature: float = 0.04

    def recipe(self, lr: float = 2e-3, batch: int = 128) -> Recipe:
        """Return how it is trained.

        Raises:
            RequestError: a batch that has not two large crops for each prototype of a level.
        """
        if self.head != "wide":  # the control with all prototypes in one level cannot have as many
            check_batch(batch, prototype_counts(self.prototypes, self.sizes, self.sizes[-1]))
        return Recipe(steps=self.steps, lr=lr, batch=batch, clip=3.0)

    def body(self, data: Labelled) -> nn.Module:
        """Return an untrained encoder that takes pictures of any size, drawn from torch's global generator."""
        shape, d = tuple(data.train.images.shape[1:]), self.sizes[-1]
        scale = {"mean": data.mean, "std": data.std}
        if self.encoder not in ENCODERS:
            raise unknown("encoder", self.encoder, ENCODERS)
        if self.encoder == "vit":
            return PatchViT(shape, d, layers=self.layers, patch=self.patch, **scale)
        return ConvNet(shape, d, self.channels, positions=False, standardised=True, **scale)

    def build(self, task: Task, seed: int) -> SelfDistillation:
        """Return student and teacher, untrained; at one seed the encoder is the same for every head."""
        how = {"head": self.head, "prototypes": self.prototypes, "patches": self.encoder == "vit"}
        how |= {"momentum": self.momentum, "temperatures": (self.temperature,) * 2, "seed": seed}
        return franca(lambda: self.body(task.data), self.sizes, steps=self.steps, **how)

    def rows(self, task: Task) -> MultiCrop:
        """Return what it learns from, without labels: crops and, for a ViT, masks."""
        data = task.data
        side = data.train.images.shape[-1]
        # a ViT takes whole patches, the ConvNet 8 x 8 pixels or more
        half = side // (2 * self.patch) * self.patch if self.encoder == "vit" else max(8, side // 2 + 2)
        masks = MASKS[self.mask]((side // self.patch,) * 2) if self.encoder == "vit" else None
        area = {"large_area": self.large_area, "small_area": self.small_area}
        return MultiCrop(data.train.images, small=self.small, side=half, masks=masks, flip=self.flip, **area)


def variants(base: Student, heads: Iterable[str]) -> dict[str, Student]:
    """Return one student a head, the same in all else."""
    return {head: replace(base, head=head) for head in heads}
