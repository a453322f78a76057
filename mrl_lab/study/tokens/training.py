"""Training: one start for all (a tower that knows things, then a LLaVA with all tokens), and each way tuned from it.

As in the paper, where M3 begins from a LLaVA that has learnt to follow instructions. Every way gets the same start,
data and number of steps. A seed is an order of the data, a draw of scales where there is one, and, up to
``Effort.starts``, a start of its own: other first weights and another order for all that is learnt before.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from mrl_lab import runs
from mrl_lab.encoders import llava_weights
from mrl_lab.encoders.llava import Llava
from mrl_lab.errors import unknown
from mrl_lab.methods.m3 import M3
from mrl_lab.study.tokens.world import GRID, World, covered
from mrl_lab.train import fit

SCALES = (1, 4, 16)
TOWERS = ("what", "what and where", "nothing")


@dataclass(frozen=True)
class Effort:
    """How much is trained: steps of the tower alone, of LLaVA with all tokens, and of each way; rates; rows a step.

    Attributes:
        knows: what the tower learns of each patch before it meets the language model: "what" covers it (as CLIP, whose
            captions say what there is), "what and where" (and in which cell), or "nothing".
        starts: how many starts there are; seeds take them in turn.
        pictures, batch: scenes a step of the tower alone, and rows a step of all that follows.
    """

    tower: int
    base: int
    steps: int
    knows: str = "what"
    starts: int = 1
    tower_lr: float = 4e-3
    base_lr: float = 2e-3
    lr: float = 1e-3
    pictures: int = 128
    batch: int = 96

    def __post_init__(self) -> None:
        if self.knows not in TOWERS:
            raise unknown("thing for a tower to know", self.knows, TOWERS)


@dataclass(frozen=True)
class Way:
    """What is tuned from the start: the scales that learn, and what differs from M3. ``times`` multiplies the steps."""

    scales: tuple[int, ...] = SCALES
    random_scale: bool = False
    select: str = "average"
    train_tower: bool = True
    train_language: bool = True
    times: int = 1

    def build(self, world: World, seed: int = 0) -> M3:
        """Return it with weights drawn by ``seed``, which are not yet those of the start."""
        body = llava_weights.build(len(world.words), side=GRID * world.patch, patch=world.patch, seed=seed)
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


def start(world: World, effort: Effort, number: int = 0) -> dict[str, Tensor]:
    """Return the weights that all ways begin from, those of start ``number``."""

    def make() -> dict[str, Tensor]:
        model = Way((16,)).build(world, number)
        with torch.random.fork_rng():
            torch.manual_seed(number)
            if effort.knows != "nothing":
                _teach(model.llava, world, effort, number)
            _tune(model, world, effort.base, effort.base_lr, effort.batch, number)
        return model.state_dict()

    begun = asdict(replace(effort, steps=0, starts=1, lr=0.0))  # what follows the start does not change it
    return runs.remember({"what": "visual start", "world": world.key, "effort": begun, "number": number}, make)


def _teach(llava: Llava, world: World, effort: Effort, seed: int) -> None:
    """Teach the tower what covers each patch of the training scenes, and where if it is to know."""
    where = effort.knows == "what and where"
    answers = 1 + world.classes * (world.train.grids[0].numel() if where else 1)
    what = TensorDataset(world.train.images, covered(world.train, world.classes, where))
    how = {"steps": effort.tower, "batch": effort.pictures, "lr": effort.tower_lr, "clip": 1.0, "seed": seed}
    fit(Seeing(llava, answers), what, **how)


def tuned(way: Way, world: World, effort: Effort, seed: int) -> M3:
    """Return a way tuned from the start; reused where these very settings were trained before."""
    model = way.build(world)

    def make() -> dict[str, Tensor]:
        model.load_state_dict(start(world, effort, seed % effort.starts))
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
