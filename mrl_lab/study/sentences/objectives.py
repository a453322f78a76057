"""Objectives: what an encoder is trained by, one loss over the states of its layers each, with everything else equal.

At one seed all share first weights, order of rows and dropout. A separate model is as deep as its cut and is trained
at its own width; by depth alone, as the published code has it, at full width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mrl_lab.errors import unknown
from mrl_lab.lab import Task
from mrl_lab.methods.ese import ESE
from mrl_lab.methods.mse2d import MSE2D, PRESETS, Settings
from mrl_lab.methods.starbucks import SRL
from mrl_lab.study.sentences.pretraining import Pretraining

DEPTH = {"uniform": "none", "log": "1/(1+ln n)", "linear": "1/n"}  # weights of the variant that trains all layers
OF_2DMSE = {
    "2DMSE": Settings(),
    "2DMSE, v0.3.8": PRESETS["2dmse-v038"],
    "2DMSE, no KL": Settings(weights=(1.0, 1.0, 1.0, 1.0, 0.0)),
    "2DMSE, detached": Settings(detach=True),
    "2DMSE, one width": Settings(weights=(0.0, 0.0, 1.0, 1.0, 1.0)),
    "2DMSE, ST 5.1": PRESETS["2dmse-st51"],  # sentence-transformers' own form, as it was and as it is
    "2DMSE, ST 6": PRESETS["2dmse-st6"],
} | {f"2DMSE, all layers, {name}": Settings(layers="all", depth_weight=weight) for name, weight in DEPTH.items()}
DOT = ("plain, dot", "Starbucks, dot")  # for search: raw products, and each pair learns the whole model's ranking
METHODS = ("plain", "MRL", *OF_2DMSE, "ESE", "Starbucks", "random pairs", "one of the list", *DOT)
ALONE = ("separate", "separate, depth only")  # a model a cut


@dataclass(frozen=True)
class Objective:
    """A method by name, around the encoder that a task begins with, or that has read first.

    Attributes:
        name: one of :data:`METHODS` and :data:`ALONE`.
        cut: layer and width of a separate model, which is asked there alone.
        start: what the encoder reads before.

    Raises:
        RequestError: an unknown method.
    """

    name: str
    cut: tuple[int, int] | None = None
    start: Pretraining | None = None

    def __post_init__(self) -> None:
        if self.name not in METHODS + ALONE:
            raise unknown("method", self.name, METHODS + ALONE)

    def build(self, task: Task, seed: int) -> nn.Module:
        """Return it untrained, its blocks with the weights that the task's encoder has at this seed."""
        n, m = self.cut or (task.layers, task.d)
        encoder = self.start.read(task, seed) if self.start else task.encoder(seed)
        encoder = encoder.keep(n) if n < task.layers else encoder
        ways = {
            "plain": lambda: SRL(encoder, [(n, m)]),
            "MRL": lambda: SRL(encoder, [(n, size) for size in task.sizes], weight=0.0),
            "ESE": lambda: ESE(encoder),
            "Starbucks": lambda: SRL(encoder, task.pairs),
            "random pairs": lambda: SRL(encoder, task.pairs, pool="grid", draws=len(task.pairs) - 1),
            "one of the list": lambda: SRL(encoder, task.pairs, draws=1),
            "plain, dot": lambda: SRL(encoder, [(n, m)], "dot"),
            "Starbucks, dot": lambda: SRL(encoder, task.pairs, "dot"),
            "separate": lambda: SRL(encoder, [(n, m)], whole=False),
            "separate, depth only": lambda: SRL(encoder, [(n, task.d)]),
        }
        twice = self.name in OF_2DMSE
        model = MSE2D(encoder, OF_2DMSE[self.name], task.sizes[:-1]) if twice else ways[self.name]()
        model.cut = self.cut
        return model


def named(*names: str) -> dict[str, Objective]:
    """Return objectives by their names."""
    return {name: Objective(name) for name in names}
