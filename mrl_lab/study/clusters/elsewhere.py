"""Elsewhere: vision transformers that somebody else trained go through the same scores as the students here.

Their prefixes beside random dims, PCA and dims of most variance, and position in and out of their patches in every way,
by the released planes of RASA too where there are any. Methods are called "pretrained NAME" and "pretrained NAME, WAY",
so that no row stands for a student's. Is a model nested? Then its first dims do better than as many at random, which
:func:`beyond_random` asks.

Nothing is trained, so a seed stands for a share of the pictures, apart from all others, and for its draws: an interval
over seeds speaks of other pictures, not of another training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from scipy.stats import t
from torch import Tensor

from mrl_lab import score
from mrl_lab.cuts import halvings
from mrl_lab.data import Labelled
from mrl_lab.encoders import franca_weights
from mrl_lab.encoders.patches import PretrainedViT
from mrl_lab.errors import RequestError
from mrl_lab.lab import kept
from mrl_lab.methods import baselines, rasa
from mrl_lab.study import origin
from mrl_lab.study.clusters import prefixes, removal
from mrl_lab.study.clusters.canvases import Canvases, embedded
from mrl_lab.study.pictures import States, states

WAYS = ("random dims", "PCA", "top variance")  # to keep some dims, beside a prefix
RELEASED = "RASA, its own planes"
BEYOND, DRAWS = "beyond random", 20  # and the draws of random dims that it is beyond


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """A model made elsewhere.

    Attributes:
        name: what its rows are called. side: of the pictures it sees.
        provenance: where it comes from, a record a file, as run.json keeps them.
        planes: (2, D) each, of position, that were released with it.
    """

    name: str
    encoder: PretrainedViT
    side: int
    provenance: list[dict[str, str]]
    planes: list[Tensor]

    @property
    def key(self) -> dict:
        """What its features depend on: other weights under the same name are another model."""
        return {"files": {record["file"]: record["sha256"] for record in self.provenance}, "side": self.side}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes to score: the whole width d and its halvings, to a sixteenth, as Franca nests them."""
        return halvings(self.encoder.d, smallest=self.encoder.d // 16)

    def ways(self, *ways: str) -> list[str]:
        """Return the methods of its prefixes, and of other ways."""
        return [self.name, *(f"{self.name}, {way}" for way in ways)]


def opened(names_or_paths: Sequence[str], side: int = 224) -> list[Elsewhere]:
    """Open models from folders, Franca's .pth files or the hub, and take the checksums of their files.

    Raises:
        RequestError: two of one name; or as :class:`~mrl_lab.encoders.patches.PretrainedViT`.
    """
    found = [_opened(one, side) for one in names_or_paths]
    names = [model.name for model in found]
    if len(set(names)) < len(names):
        raise RequestError(f"models of one name cannot be told apart: {', '.join(names)}. Rename a folder or a file.")
    return found


def _opened(name_or_path: str, side: int) -> Elsewhere:
    encoder, place, planes, beside = PretrainedViT(name_or_path, side).eval(), Path(name_or_path), [], []
    if place.suffix == franca_weights.SUFFIX:
        planes, apart = franca_weights.planes(place), franca_weights.rasa_file(place)
        beside = [apart] if apart else []
    records = origin.records(name_or_path, beside)
    name = records[0]["name"].rpartition("/")[2].removesuffix(franca_weights.SUFFIX)
    return Elsewhere(f"pretrained {name}", encoder, side, records, planes)


def scored(
    model: Elsewhere,
    data: Labelled,
    made: Canvases,
    seeds: Sequence[int] = (0,),
    steps: int = removal.STEPS,
    pictures: int = 400,
) -> pd.DataFrame:
    """Rows of both: knn by size of every way to keep some dims, and every probe of position and content of patches.

    Each seed asks its share of the test pictures, and fits and asks on its share of the canvases.
    """
    s, rows = _states(model, data), []
    for i, seed in enumerate(seeds):
        share = replace(s, z=s.z[i :: len(seeds)], y=s.y[i :: len(seeds)])
        rows += prefixes.by_cut(share, model.name, model.sizes, seed)
    position = _position(model, made, tuple(seeds), steps, pictures)
    position = position.assign(method=f"{model.name}, " + position.method)
    return pd.concat([score.table(rows), position], ignore_index=True)


def beyond_random(model: Elsewhere, data: Labelled) -> pd.DataFrame:
    """Rows of by how many points the first m dims are right more often than m dims at random, by size.

    Metrics: :data:`BEYOND`, and its bounds "BEYOND, low" and "BEYOND, high". They are where the difference to *another*
    draw lies in 95 % of cases, if prefixes are draws like any: the spread of draws counts, and that of test pictures.
    """
    s, rows = _states(model, data), []
    for m in model.sizes[:-1]:
        first = prefixes.right(s, lambda z, m=m: baselines.first_dims(z, m)).double()
        drawn = torch.stack(
            [prefixes.right(s, lambda z, m=m, i=i: baselines.random_dims(z, m, i)) for i in range(DRAWS)]
        )
        gains = 100 * (first - drawn.double().mean(0))  # (n,), of each picture
        spread = (100 * drawn.double().mean(1)).var() * (1 + 1 / DRAWS) + gains.var() / len(gains)
        half = t.ppf(0.975, DRAWS - 1) * spread.sqrt().item()
        mean, named = gains.mean().item(), {"method": model.name, "dim": m, "seed": 0, "n": len(s.y)}
        values = {BEYOND: mean, f"{BEYOND}, low": mean - half, f"{BEYOND}, high": mean + half}
        rows += [named | {"metric": metric, "value": value} for metric, value in values.items()]
    return score.table(rows)


def _states(model: Elsewhere, data: Labelled) -> States:
    z = _features(model, data)
    return States(z["database"], data.train.labels, z["queries"], data.test.labels)


@kept
def _features(model: Elsewhere, data: Labelled) -> dict[str, Tensor]:
    s = states(model.encoder, data)
    return {"database": s.database, "queries": s.z}


@kept
def _position(model: Elsewhere, made: Canvases, seeds: tuple[int, ...], steps: int, pictures: int) -> pd.DataFrame:
    z = dict(zip(("train", "test"), embedded(model.encoder, made), strict=True))
    sides = removal.sides(z, made.at(model.encoder.grid))
    more = {RELEASED: rasa.of_planes(model.planes)} if model.planes else {}
    tables = []
    for i, seed in enumerate(seeds):
        train, test = (side.share(i, len(seeds)) for side in sides)
        tables.append(removal.compared(train, test, made.empty, seed, steps, pictures, more))
    return pd.concat(tables, ignore_index=True)
