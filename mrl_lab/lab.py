"""The lab: a method, a task and a recipe are trained, remembered, tuned and swept, ours or one typed a minute ago.

    class Mine:                                    # a method: how it is built
        def build(self, task, seed): ...           # -> a module whose forward returns (total, {name: part})

    model = lab.trained(Mine(), task, Recipe(epochs=3), seed=0)      # model.history is its learning curve
    table = lab.sweep({"mine": Mine(), "MRL": ours}, task, recipes, seeds=range(5))

A *task* says what is learnt from and what is asked afterwards: ``rows()`` (see :class:`mrl_lab.train.Rows`), ``key``
(what identifies these rows) and ``ask(module, split, seed)``, which gives rows of the tidy table. A method that learns
from something else has ``rows(task)`` itself. A module with ``after_step`` is told of each step.

Everything is computed once for what it depends on (:mod:`mrl_lab.keys`), and side by side where that pays
(:mod:`mrl_lab.workers`). At one seed all methods share the order of rows, dropout and views.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from itertools import product
from typing import Any, Protocol, TypeVar, cast

import pandas as pd
import torch
from torch import Tensor, nn

from mrl_lab import keys, runs, score, workers
from mrl_lab.device import choose
from mrl_lab.errors import RequestError
from mrl_lab.train import Rows, fit

WEIGHT, LOG = "model/", "history/"
T = TypeVar("T", bound=Callable)


class Task(Protocol):
    """What is learnt from, and what is asked.

    Attributes:
        key: what identifies the rows that are learnt from, as JSON can hold it.

    A task whose trained weights are too large to keep (of 90 MB each they fill a disk) has ``keep(module)`` as well:
    the tensors by name that are kept in their place, and that ``ask`` gets in the place of the module.
    """

    key: object

    def rows(self) -> Rows: ...
    def ask(self, module: nn.Module, split: str, seed: int) -> pd.DataFrame: ...


class Method(Protocol):
    """What can be trained: ``build`` makes it untrained, from draws of ``seed`` alone."""

    def build(self, task: Task, seed: int) -> nn.Module: ...


Methods = Mapping[str, "Method | Sequence[Method]"]  # several under one name: a separate model for each size


@dataclass(frozen=True)
class Recipe:
    """How long and how a model is trained: ``steps``, or ``epochs`` passes over the rows where steps is 0.

    ``schedule`` is one of :data:`mrl_lab.train.SCHEDULES`.
    """

    epochs: float = 1.0
    lr: float = 3e-2
    batch: int = 64
    weight_decay: float = 0.05
    clip: float | None = None
    steps: int = 0
    schedule: str = "one-cycle"

    def fit(self, model: nn.Module, rows: Rows, seed: int, after_step: Callable[[int], None] | None = None):
        """Train ``model`` in place by this recipe and return its history."""
        batch = min(self.batch, len(rows))
        steps = self.steps or max(1, round(self.epochs * len(rows) / batch))
        how: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay, "clip": self.clip}
        how["schedule"] = self.schedule
        return fit(model, rows, steps=steps, batch=batch, seed=seed, after_step=after_step, **how)


# ------------------------------------------------------------------------------------------------ one model


def built(method: Method, task: Task, seed: int) -> nn.Module:
    """Return ``method`` untrained: all that it draws is drawn from ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return method.build(task, seed)


def learnt_from(method: Method, task: Task) -> Rows:
    """Return the rows that ``method`` learns from: the task's, where it has none itself."""
    return method.rows(task) if hasattr(method, "rows") else task.rows()


def learn(method: Method, task: Task, recipe: Recipe | None, seed: int) -> nn.Module:
    """Return ``method`` trained on the task's rows, with its ``history``; computed anew each time.

    Without a recipe it stays as it was built.
    """
    module = built(method, task, seed)
    if recipe is None:
        module.history = pd.DataFrame()
        return module.eval()
    rows = learnt_from(method, task)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout, views and crops draw from the global stream: the same ones for every method
        module.history = recipe.fit(module, rows, seed, after_step=getattr(module, "after_step", None))
    return module.cpu().eval()


def trained(method: Method, task: Task, recipe: Recipe | None, seed: int) -> nn.Module:
    """Return ``method`` trained on the CPU, with its ``history`` (one row a step); computed once."""

    def kept() -> dict[str, Tensor]:
        module = learn(method, task, recipe, seed)
        history: Any = module.history
        # Numbered, since what is read back comes in the order of its names.
        log = {f"{LOG}{i:04d} {n}": torch.tensor(c.to_numpy("float64")) for i, (n, c) in enumerate(history.items())}
        return {f"{WEIGHT}{name}": value for name, value in module.state_dict().items()} | log

    found = runs.remember({"trained": _key(method, task, recipe, seed), "form": [WEIGHT, LOG]}, kept)
    module = built(method, task, seed)
    module.load_state_dict(_named(found, WEIGHT))
    log = sorted(_named(found, LOG).items())
    module.history = pd.DataFrame({name.partition(" ")[2]: values.numpy() for name, values in log})
    return module.eval()


def _named(found: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def _key(method: Method, task: Task, recipe: Recipe | None, seed: int) -> dict:
    """All that a trained model depends on: of the task what is learnt from, and not how it asks."""
    rows = type(method).rows if hasattr(method, "rows") else type(task).rows
    code = {
        "rows": keys.body(rows),
        "learn": [keys.body(one) for one in (Recipe, built, learn)],
        "train": keys.closure("mrl_lab.train"),
    }
    given = {"method": method, "recipe": recipe, "seed": seed}
    return {name: keys.describe(value) for name, value in given.items()} | {"task": keys.describe(task.key)} | code


def embed(encoder: nn.Module, x: Tensor) -> Tensor:
    """Return embeddings (N, d) on the CPU, computed on the device in use."""
    z = score.embed(encoder.to(choose().device), x)
    encoder.cpu()
    return z


# --------------------------------------------------------------------------------------------- many models


def outcome(method: Method, task: Any, recipe: Recipe | None, seed: int) -> dict[str, Tensor]:
    """Return what a task with ``keep`` keeps of the trained method in the place of its weights; computed once."""
    key = {"outcome": _key(method, task, recipe, seed), "how": _how(task)}
    return runs.remember(key, lambda: task.keep(learn(method, task, recipe, seed)))


def _how(task: Task) -> list:
    """How a task asks: its code, and all that it holds."""
    return [keys.code(type(task)), keys.describe(vars(task))]


def asked(method: Method, task: Task, recipe: Recipe | None, seed: int, split: str = "test") -> pd.DataFrame:
    """Return what the task says of the trained method on a split: rows of the tidy table; computed once."""

    def rows() -> pd.DataFrame:
        get: Callable[..., Any] = outcome if hasattr(task, "keep") else trained
        return score.table(task.ask(get(method, task, recipe, seed), split, seed).to_dict("records"))

    key = {"asked": _key(method, task, recipe, seed), "how": _how(task), "split": split}
    return runs.remember(key, rows)


def sweep(
    methods: Methods,
    task: Task,
    recipes: Recipe | Mapping[str, Recipe | None],
    seeds: Iterable[int],
    split: str = "test",
) -> pd.DataFrame:
    """Train and ask every method at every seed: the tidy table.

    Args:
        recipes: one for all, or one a method; None leaves a method as it was built.

    Returns:
        The tidy table; a task that answers in several ways adds the way to the method's name, such as ", PCA".
    """
    chosen = dict.fromkeys(methods, recipes) if isinstance(recipes, Recipe) else recipes
    wanted = [(name, one, seed) for seed in seeds for name, some in methods.items() for one in several(some)]
    found = workers.each(asked, [(one, task, chosen[name], seed, split) for name, one, seed in wanted])
    named = [
        table.assign(method=name + table["method"].fillna(""), seed=seed)
        for (name, _, seed), table in zip(wanted, found, strict=True)
    ]
    return pd.concat(named, ignore_index=True)


def several(some: Method | Sequence[Method]) -> Sequence[Method]:
    """Return methods that stand under one name as a list."""
    return some if isinstance(some, Sequence) else [some]


def tune(
    methods: Methods, task: Task, base: Recipe, *, seeds: Iterable[int] = (0,), **tried: Sequence[float]
) -> pd.DataFrame:
    """Try every setting on every method and ask on the validation split; the test split is never looked at.

    Args:
        seeds: not those that are judged, wherever a claim rests on what is chosen here.
        tried: fields of the recipe and the values to try, such as ``lr=[0.01, 0.03]``.

    Returns:
        One row a method and setting: method, the fields tried, and the mean of each metric that the task gives there,
        over models, sizes and seeds.
    """
    seeds = list(seeds)
    grid: list[dict[str, Any]] = [dict(zip(tried, point, strict=True)) for point in product(*tried.values())]
    if not grid or not all(hasattr(base, name) for name in tried):
        raise RequestError(f"what is tried are fields of a recipe with values to try, got {tried}.")
    wanted = [  # settings first: methods that begin from one start do not wait for it side by side
        (name, one, point, s)
        for point in grid
        for name, some in methods.items()
        for one in several(some)
        for s in seeds
    ]
    calls = [(one, task, replace(base, **point), s, "validation") for _, one, point, s in wanted]
    found = workers.each(asked, calls)
    named = [table.assign(method=name, **point) for (name, _, point, _), table in zip(wanted, found, strict=True)]
    means = pd.concat(named).groupby(["method", *tried, "metric"], sort=False)["value"].mean()
    return means.unstack("metric", sort=False).reset_index().rename_axis(columns=None)


def best(tuned: pd.DataFrame, base: Recipe, by: str = "") -> dict[str, Recipe]:
    """Return each method's recipe with the highest score of :func:`tune`, by a metric or by its first one."""
    names = [name for name in tuned.columns if hasattr(base, name)]
    by = by or next(name for name in tuned.columns if name not in ("method", *names))
    top = tuned.loc[tuned.groupby("method", sort=False)[by].idxmax()]
    return {row["method"]: replace(base, **{name: row[name] for name in names}) for row in top.to_dict("records")}


def kept(function: T) -> T:
    """Make a function compute each of its tables (or dicts of tensors) once: for its code, and for what it is given.

    What it is given must be of a kind that :func:`mrl_lab.keys.describe` can tell apart.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def once(*args, **named):
        given = signature.bind(*args, **named)
        given.apply_defaults()
        key = {"kept": keys.describe(function), "given": keys.describe(dict(given.arguments))}
        return runs.remember(key, lambda: function(*args, **named))

    return cast(T, once)
