"""Training: one start for all (a tower that knows things, then a LLaVA with all tokens), and each way tuned from it.

As in the paper, where M3 begins from a LLaVA that has learnt to follow instructions. Every way gets the same start,
data, rate and number of steps; a seed is an order of the data, and a draw of scales where there is one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from mrl_lab import runs
from mrl_lab.encoders import llava_weights
from mrl_lab.encoders.llava import Llava
from mrl_lab.methods.m3 import M3
from mrl_lab.study.tokens.world import GRID, PATCH, World, covered
from mrl_lab.train import fit

SCALES = (1, 4, 16)


@dataclass(frozen=True)
class Effort:
    """How much is trained: steps of the tower alone, of LLaVA with all tokens, and of each way; rates; rows a step."""

    tower: int
    base: int
    steps: int
    tower_lr: float = 4e-3
    base_lr: float = 1.5e-3
    lr: float = 1e-3
    batch: int = 64


@dataclass(frozen=True)
class Way:
    """What is tuned from the start: the scales that learn, and what differs from M3. ``times`` multiplies the steps."""

    scales: tuple[int, ...] = SCALES
    random_scale: bool = False
    select: str = "average"
    train_tower: bool = True
    train_language: bool = True
    times: int = 1

    def build(self, words: int) -> M3:
        """Return it with weights that are not yet those of the start."""
        body = llava_weights.build(words, side=GRID * PATCH, patch=PATCH)
        llava = Llava(body, train_tower=self.train_tower, train_language=self.train_language)
        return M3(llava, self.scales, select=self.select, random_scale=self.random_scale)


WAYS = {
    "M3": Way(),
    "all tokens": Way((16,)),
    "separate, 1": Way((1,)),
    "separate, 4": Way((4,)),
    "random scale": Way(random_scale=True),
    "random scale, equal tokens": Way(random_scale=True, times=3),
    "frozen tower": Way(train_tower=False),
    "frozen language": Way(train_language=False),
    "M3, spatial": Way(select="spatial"),
    "M3, first": Way(select="first"),
    "M3 without 4": Way((1, 16)),
    "blind": Way((0,)),
}


class Seeing(nn.Module):
    """The tower with a linear layer that says what covers each patch; forward(images, covered) for the loop."""

    def __init__(self, llava: Llava, answers: int) -> None:
        super().__init__()
        self.llava = llava
        self.head = nn.Linear(llava.body.config.vision_config.hidden_size, answers)

    def forward(self, images: Tensor, what: Tensor) -> tuple[Tensor, dict]:
        """Return the mean cross-entropy over patches, and no parts."""
        said = self.head(self.llava.patches(images))  # (B, N, width) -> (B, N, answers)
        return cross_entropy(said.flatten(0, 1), what.flatten()), {}


def start(world: World, effort: Effort) -> dict[str, Tensor]:
    """Return the weights that all ways begin from."""

    def make() -> dict[str, Tensor]:
        model = Way((16,)).build(len(world.words))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            seeing = Seeing(model.llava, 1 + 4 * world.classes)
            what = TensorDataset(world.train.images, covered(world.train, world.classes))
            fit(seeing, what, steps=effort.tower, batch=2 * effort.batch, lr=effort.tower_lr, clip=1.0)
            _tune(model, world, effort.base, effort.base_lr, effort.batch, 0)
        return model.state_dict()

    return runs.remember({"what": "visual start", "world": world.key, "effort": asdict(effort)}, make)


def tuned(way: Way, world: World, effort: Effort, seed: int) -> M3:
    """Return a way tuned from the start; reused where these very settings were trained before."""
    model = way.build(len(world.words))

    def make() -> dict[str, Tensor]:
        model.load_state_dict(start(world, effort))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            _tune(model, world, way.times * effort.steps, effort.lr, effort.batch, seed)
        return model.cpu().state_dict()

    model.load_state_dict(runs.remember(settings("visual way", way, world, effort, seed), make))
    return model.eval()


def settings(what: str, way: Way, world: World, effort: Effort, seed: int) -> dict:
    """Return all that a result depends on, as ``runs.remember`` takes it."""
    return {"what": what, "way": asdict(way), "world": world.key, "effort": asdict(effort), "seed": seed}


def _tune(model: M3, world: World, steps: int, lr: float, batch: int, seed: int) -> None:
    how = {"weight_decay": 0.01, "clip": 1.0, "seed": seed}
    fit(model, world.turns("train"), steps=steps, batch=batch, lr=lr, **how)
