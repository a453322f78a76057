"""Training: one start for all (a tower that knows things, then a LLaVA with all tokens), and each way tuned from it.

As in the paper, where M3 begins from a LLaVA that has learnt to follow instructions. Every way gets the same start,
data and number of steps. A seed is an order of the data, a draw of scales where there is one, and, up to
``Start.count``, a start of its own: other first weights and another order for all that is learnt before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from mrl_lab import lab
from mrl_lab.encoders import llava_weights
from mrl_lab.encoders.llava import Llava
from mrl_lab.errors import unknown
from mrl_lab.lab import Recipe
from mrl_lab.methods.m3 import M3
from mrl_lab.study.tokens.world import GRID, GRIDS, World, covered

TOWERS = ("what", "what and where", "nothing")
TUNED = Recipe(lr=1e-3, batch=96, weight_decay=0.01, clip=1.0)  # rows are questions; steps are the notebook's


@dataclass(frozen=True)
class Body:
    """How large a LLaVA is: its width, the blocks of its tower and of its language model."""

    d: int = 64
    tower: int = 3
    language: int = 2


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


@dataclass(frozen=True)
class Tower:
    """A tower that learns what covers each patch of the training scenes, and ``where`` if it is to know that too."""

    where: bool
    body: Body = Body()

    def build(self, task: World, seed: int) -> Seeing:
        """Return it untrained, inside the LLaVA that it will be a part of."""
        answers = 1 + task.classes * (task.train.grids[0].numel() if self.where else 1)
        return Seeing(Way(task.scales[-1:], body=self.body).build(task, seed).llava, answers)

    def rows(self, task: World) -> TensorDataset:
        """Return scenes (N, C, H, W) and what covers their patches (N, grid^2)."""
        return TensorDataset(task.train.images, covered(task.train, task.classes, self.where, task.grid))


@dataclass(frozen=True)
class Start:
    """What all ways begin from: a tower that learns alone, then a LLaVA that learns with all tokens.

    Attributes:
        tower, base: how long each of the two learns.
        knows: what the tower learns of each patch before it meets the language model: "what" covers it (as CLIP, whose
            captions say what there is), "what and where" (and in which cell), or "nothing".
        count: how many starts there are; seeds take them in turn.
        body: how large the LLaVA is.
    """

    tower: Recipe
    base: Recipe
    knows: str = "what"
    count: int = 1
    body: Body = Body()

    def __post_init__(self) -> None:
        if self.knows not in TOWERS:
            raise unknown("thing for a tower to know", self.knows, TOWERS)

    def weights(self, task: World, seed: int) -> dict[str, Tensor]:
        """Return the weights that a way begins from at this seed."""
        number, whole = seed % self.count, Way(task.scales[-1:], start=replace(self, count=1), body=self.body)
        return lab.trained(whole, task, self.base, number).state_dict()

    def seen(self, task: World, number: int) -> dict[str, Tensor]:
        """Return the weights of a LLaVA whose tower has learnt to see."""
        tower = Tower(self.knows == "what and where", self.body)
        return lab.trained(tower, task, self.tower, number).llava.state_dict()


def start(tower: int, base: int, count: int = 1, batch: int = 96, body: Body | None = None, **other) -> Start:
    """Return a start by the steps of its tower (of 128 scenes) and of its LLaVA (of ``batch`` rows).

    Rates are those of a width of 64, and fall as it grows.
    """
    body = body or Body()
    alone = Recipe(steps=tower, lr=4e-3 * 64 / body.d, batch=128, clip=1.0)
    whole = replace(TUNED, steps=base, lr=2e-3 * 64 / body.d, batch=batch)
    return Start(alone, whole, count=count, body=body, **other)


@dataclass(frozen=True)
class Way:
    """What is tuned from the start: the scales that learn, and what differs from M3.

    Attributes:
        begins: what it begins from; the start's own LLaVA, whose ``start`` this is, begins from the tower alone.
        body: how large it is, as its start.
    """

    scales: tuple[int, ...] = GRIDS[GRID]
    random_scale: bool = False
    select: str = "average"
    train_tower: bool = True
    train_language: bool = True
    begins: Start | None = None
    start: Start | None = None
    body: Body = Body()

    def build(self, task: World, seed: int) -> M3:
        """Return it with the weights of its start; without one, with weights drawn by ``seed``."""
        drawn = 0 if self.begins else seed
        size = {"d": self.body.d, "tower_layers": self.body.tower, "layers": self.body.language}
        pixels = {"side": task.grid * task.patch, "patch": task.patch}
        body = llava_weights.build(len(task.words), **pixels, **size, seed=drawn)
        llava = Llava(body, train_tower=self.train_tower, train_language=self.train_language)
        model = M3(llava, self.scales, select=self.select, random_scale=self.random_scale)
        if self.begins:
            model.load_state_dict(self.begins.weights(task, seed))
        elif self.start and self.start.knows != "nothing":
            model.llava.load_state_dict(self.start.seen(task, seed))
        return model


def _every(scales: tuple[int, ...]) -> dict[str, Way]:
    """Return all ways by name, for numbers of tokens that rise from 1 and 4 to all."""
    return {
        "M3": Way(scales),
        "all tokens": Way(scales[-1:]),
        "separate, 1": Way((1,)),
        "separate, 4": Way((4,)),
        "random scale": Way(scales, random_scale=True),
        "random scale, equal tokens": Way(scales, random_scale=True),
        "frozen tower": Way(scales, train_tower=False),
        "frozen language": Way(scales, train_language=False),
        "M3, spatial": Way(scales, select="spatial"),
        "M3, first": Way(scales, select="first"),
        "M3 without 4": Way(tuple(t for t in scales if t != 4)),
        "blind": Way((0,)),
    }


WAYS = _every(GRIDS[GRID])
LONGER = {"random scale, equal tokens": 3}  # times the steps of all others
TRIED = ("M3", "all tokens", "random scale")  # whose rates are chosen; the others take that of their like


def ways(names: list[str], begins: Start, grid: int = GRID) -> dict[str, Way]:
    """Return ways by name for a grid of tokens, all of which begin from one start."""
    return {name: replace(_every(GRIDS[grid])[name], begins=begins, body=begins.body) for name in names}


def recipes(names: list[str], chosen: dict[str, Recipe], base: Recipe) -> dict[str, Recipe]:
    """Return what each way is tuned by: the rate of the tried one that learns alike, or that of ``base``."""
    rates = {name: chosen.get(_like(name), base).lr for name in names}
    return {name: replace(base, lr=lr, steps=LONGER.get(name, 1) * base.steps) for name, lr in rates.items()}


def _like(name: str) -> str:
    way = WAYS[name]
    if way.random_scale:
        return "random scale"
    return "all tokens" if len(way.scales) == 1 else "M3"
