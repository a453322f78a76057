"""Students: self-distilled encoders with nested heads, trained once for each setting, with their history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from mrl_lab import runs
from mrl_lab.data import Labelled
from mrl_lab.data.crops import MultiCrop
from mrl_lab.distil.teacher import SelfDistillation
from mrl_lab.encoders import ConvNet
from mrl_lab.encoders.patches import PatchViT
from mrl_lab.errors import unknown
from mrl_lab.methods.franca import check_batch, collapse, franca
from mrl_lab.methods.masks import MASKS
from mrl_lab.study.models import settings
from mrl_lab.train import fit

ENCODERS = ("conv", "vit")


@dataclass(frozen=True)
class Student:
    """What is trained: a convolutional net by its class loss, or a ViT that also learns hidden patches.

    Attributes:
        sizes: M, rising, the last is d. head: see ``franca.nested_head``. prototypes: of the full width.
        encoder: "conv" or "vit". layers, patch: of the ViT. mask: which of its patches are hidden, see ``masks.MASKS``.
        small: small crops of a picture; their side is half a picture's. large_area, small_area: what crops keep.
        flip: mirror half of the crops.
    """

    sizes: tuple[int, ...]
    head: str = "slice"
    prototypes: int = 128
    encoder: str = "conv"
    layers: int = 3
    patch: int = 4
    mask: str = "cyclic"
    small: int = 2
    large_area: tuple[float, float] = (0.5, 1.0)
    small_area: tuple[float, float] = (0.2, 0.5)
    flip: bool = True

    def body(self, data: Labelled) -> nn.Module:
        """Return an untrained encoder that takes pictures of any size, drawn from torch's global generator."""
        shape, d = tuple(data.train.images.shape[1:]), self.sizes[-1]
        scale = {"mean": data.mean, "std": data.std}
        if self.encoder not in ENCODERS:
            raise unknown("encoder", self.encoder, ENCODERS)
        if self.encoder == "vit":
            return PatchViT(shape, d, layers=self.layers, patch=self.patch, **scale)
        return ConvNet(shape, d, positions=False, standardised=True, **scale)

    def build(self, data: Labelled, lesson: Lesson, seed: int) -> SelfDistillation:
        """Return student and teacher, untrained; at one seed the encoder is the same for every head."""
        how = {"head": self.head, "prototypes": self.prototypes, "patches": self.encoder == "vit"}
        how |= {"momentum": lesson.momentum, "temperatures": (lesson.temperature,) * 2, "seed": seed}
        made = franca(lambda: self.body(data), self.sizes, steps=lesson.steps, **how)
        if self.head != "wide":  # the control with all prototypes in one level cannot have two crops for each
            check_batch(lesson.batch, made.student.class_head.counts)
        return made

    def rows(self, data: Labelled) -> MultiCrop:
        """Return what it learns from: crops and, for a ViT, masks."""
        side = data.train.images.shape[-1]
        # a ViT takes whole patches, the ConvNet 8 x 8 pixels or more
        half = side // (2 * self.patch) * self.patch if self.encoder == "vit" else max(8, side // 2 + 2)
        masks = MASKS[self.mask]((side // self.patch,) * 2) if self.encoder == "vit" else None
        area = {"large_area": self.large_area, "small_area": self.small_area}
        return MultiCrop(data.train.images, small=self.small, side=half, masks=masks, flip=self.flip, **area)


@dataclass(frozen=True)
class Lesson:
    """How long and how it is taught; the teacher's pace matters most in a short training.

    Attributes:
        momentum: the teacher's at the start; the paper's 0.994 would leave it nearly untaught in a few hundred steps.
        temperature: the teacher's, constant; the paper's rises from 0.04 to 0.07.
    """

    steps: int = 200
    lr: float = 2e-3
    batch: int = 128
    momentum: float = 0.9
    temperature: float = 0.04
    weight_decay: float = 0.05


@dataclass(frozen=True)
class Learned:
    """A trained student and teacher, and what was watched on the way (one row a step)."""

    model: SelfDistillation
    history: pd.DataFrame

    @property
    def encoder(self) -> nn.Module:
        """The teacher's: what is evaluated."""
        return self.model.teacher.encoder

    @property
    def trouble(self) -> str:
        """What has collapsed, with what to change; empty if nothing has."""
        return collapse(self.history)


def learned(spec: Student, data: Labelled, lesson: Lesson, seed: int) -> Learned:
    """Train ``spec`` on the pictures of ``data.train``, without their labels; reused where it was trained before."""
    model = spec.build(data, lesson, seed)

    def make() -> dict[str, Tensor]:
        how = {"steps": lesson.steps, "batch": lesson.batch, "lr": lesson.lr, "weight_decay": lesson.weight_decay}
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # crops and masks draw from the global stream: the same ones for every head
            history = fit(model, spec.rows(data), seed=seed, clip=3.0, after_step=model.after_step, **how)
        log = {f"history/{name}": torch.tensor(history[name].to_numpy(dtype="float64")) for name in history}
        return {f"model/{name}": value for name, value in model.cpu().state_dict().items()} | log

    kept = runs.remember(settings("learned", spec, data, lesson, seed), make)
    model.load_state_dict(_part(kept, "model/"))
    return Learned(model.eval(), pd.DataFrame({n: values.numpy() for n, values in _part(kept, "history/").items()}))


def _part(kept: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(name): value for key, value in kept.items() if key.startswith(name)}


def untrained(spec: Student, data: Labelled, seed: int) -> nn.Module:
    """Return the encoder that every head of this seed starts from: the floor."""
    return spec.build(data, Lesson(), seed).teacher.encoder.eval()


def variants(base: Student, heads: Iterable[str]) -> dict[str, Student]:
    """Return one student a head, the same in all else."""
    return {head: replace(base, head=head) for head in heads}
