"""The page of reference: the names that a notebook uses, each with what its docstring says and one example.

The examples are one program from top to bottom, each standing on those before it; a test runs them.
"""

from __future__ import annotations

import inspect
import re

import mrl_lab

PAGE = "reference.md"
TITLE = """# What a notebook uses

`import mrl_lab as lab` gives these names. Each example stands on those above it: run from top to bottom, they are one
small study. Made by `make readme` from the docstrings; a test holds this page against them and runs the examples.
"""
BEFORE = """\
import torch

import mrl_lab as lab
from mrl_lab.contrasts import difference
from mrl_lab.study.models import Model
from mrl_lab.study.pictures import Pictures
from mrl_lab.verdicts import Condition"""
EXAMPLES = {  # in the order in which a study uses them
    "start": 'run = lab.start("mine")',
    "load": 'digits = lab.load("digits", train=400, validation=100, test=200)',
    "halvings": "sizes = lab.halvings(16, smallest=4)  # (4, 8, 16)",
    "methods": "heads = lab.methods.mrl.SeparateHeads(sizes, 10)  # one module a paper",
    "fit": """\
task, nested = Pictures(digits), Model(sizes, 16)
history = lab.fit(nested.build(task, seed=0), task.rows(), steps=20, batch=64, lr=0.01)""",
    "plots": "lab.plots.learning_curve(history)",
    "Recipe": "recipe = lab.Recipe(epochs=4, lr=0.01)",
    "trained": "model = lab.trained(nested, task, recipe, seed=0)  # model.history is its learning curve",
    "outcome": """\
class Light(Pictures):
    def keep(self, model):  # in the place of weights that would fill a disk
        return {"z": lab.embed(model.encoder, self.data.test.images)}


lab.outcome(nested, Light(digits), recipe, seed=0)["z"]""",
    "embed": "z = lab.embed(model.encoder, digits.test.images)  # (200, 16)",
    "score": "ids = lab.score.neighbours(z, z, sizes)  # {size: (200, 10)}",
    "Cut": "pairs = [lab.Cut(layer=3, dim=32), lab.Cut(layer=6, dim=64)]  # what is kept of states",
    "tune": 'tuned = lab.tune({"MRL": nested}, task, recipe, lr=[0.01, 0.03])  # on validation pictures',
    "best": "recipes = lab.best(tuned, recipe)",
    "sweep": """\
ways = {"MRL": nested, "FF": [Model((m,), m) for m in sizes]}
scores = lab.sweep(ways, task, recipe, seeds=range(3))""",
    "paired": 'lab.paired(scores, "MRL", "FF", metric="1nn")  # at each size, seed by seed',
    "kept": """\
@lab.kept
def lengths(z):
    return {"lengths": z.norm(dim=1)}


lengths(z)  # computed once for this code and this z""",
    "same": "lab.same(nested.build(task, 0), nested.build(task, 1), *task.rows()[:8])",
    "answer": "lab.answer(lambda x: x + x, lambda x: 2 * x, [(torch.ones(3),)])  # 'Right, on 1 inputs.'",
    "slider": 'near = lab.slider(lambda dim: f"<p>row 0 is nearest to {ids[dim][0, 1]}</p>", dim=list(sizes))',
    "live": """\
lab.live(lambda query, dim: f"<p>{ids[dim][query, 1]}</p>", instead=near, query=range(200), dim=list(sizes))""",
    "Claim": """\
lead = Condition(difference("MRL", "FF", "1nn", dim=4), "MRL − FF, 1-NN, 4 dims", above=-1, unit="points", delta=0.5)
claims = [lab.Claim(1, "Nested is as good as separate (within 1 point)", "MRL, figure 2", lead)]""",
    "judging": "all_seeds = lab.judging(3)  # 100, 101, 102: none of them was tuned on",
    "freeze": "lab.freeze(run, claims, recipes, tuned=[0], judged=all_seeds)  # before the first of them is trained",
    "until_narrow": """\
measured = lambda seeds: lab.sweep(ways, task, recipe, seeds)
all_seeds, scores = lab.until_narrow(claims, measured, all_seeds, budget="minutes")  # at `night`: as it pays""",
    "judge": 'lab.judge(run, claims, scores, budget="minutes")',
}


def page() -> str:
    """Return the page as Markdown."""
    parts = [TITLE, _code(BEFORE), *(_entry(name, example) for name, example in EXAMPLES.items())]
    return "\n".join(parts)


def program() -> str:
    """Return all examples as one program."""
    return "\n\n".join([BEFORE, *EXAMPLES.values()])


def _entry(name: str, example: str) -> str:
    thing = getattr(mrl_lab, name)
    first, _, more = (inspect.getdoc(thing) or "").partition("\n\n")
    told = f"\n```text\n{more}\n```\n" if more else ""
    return f"## {_called(name, thing)}\n\n{_plain(first)}\n{told}\n{_code(example)}"


def _called(name: str, thing: object) -> str:
    """Return how a thing is called: `lab.halvings(dim, smallest, factor=2)`."""
    if inspect.ismodule(thing):
        return f"`lab.{name}`"
    given = inspect.signature(thing).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in given]
    return f"`lab.{name}{inspect.Signature(bare)}`"


def _plain(text: str) -> str:
    """Return a docstring's prose as Markdown: names in single backticks."""
    return re.sub(r"(?::\w+:)?`+([^`]+)`+", r"`\1`", text)


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"
