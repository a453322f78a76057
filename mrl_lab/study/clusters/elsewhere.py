"""Elsewhere: a vision transformer that somebody else trained goes through the same scores as the students here.

Its prefixes beside random dims, PCA and dims of most variance, and position in and out of its patches in every way.
Methods are called :data:`NAME` and "NAME, WAY", so that no row stands for a student's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from transformers.utils import cached_file

from mrl_lab import score
from mrl_lab.cuts import halvings
from mrl_lab.data import Labelled
from mrl_lab.encoders.patches import PretrainedViT
from mrl_lab.files import digest
from mrl_lab.lab import kept
from mrl_lab.study.clusters import prefixes, removal
from mrl_lab.study.clusters.canvases import Canvases, embedded
from mrl_lab.study.pictures import states

NAME = "pretrained"
CUTS = (NAME, *(f"{NAME}, {way}" for way in ("random dims", "PCA", "top variance")))  # the methods of its prefixes
READ = ("*.json", "*.safetensors")  # the files of a model's folder that a result depends on


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """A model made elsewhere, and where it comes from: a record a file, as run.json keeps them."""

    encoder: PretrainedViT
    provenance: list[dict[str, str]]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes to score: the whole width d and its halvings, to a sixteenth."""
        return halvings(self.encoder.d, smallest=self.encoder.d // 16)


def opened(name_or_path: str, side: int = 224) -> Elsewhere:
    """Open a model from a folder or the hub, and take the checksums of its files; ``side`` is of the pictures it sees.

    Raises:
        RequestError: as :class:`~mrl_lab.encoders.patches.PretrainedViT`.
    """
    encoder, folder = PretrainedViT(name_or_path, side).eval(), Path(name_or_path)
    about = {"name": folder.resolve().name, "place": "a folder of one's own"}
    if not folder.is_dir():
        folder = Path(cached_file(name_or_path, "config.json")).parent
        about = {"name": name_or_path, "place": f"the hub, revision {folder.name}"}
    about["licence"] = "not known here: read its card"
    files = sorted(file for kind in READ for file in folder.glob(kind))
    return Elsewhere(encoder, [about | {"file": file.name, "sha256": digest(file)} for file in files])


def scored(
    name_or_path: str,
    data: Labelled,
    made: Canvases,
    steps: int = removal.STEPS,
    pictures: int = 400,
    side: int = 224,
) -> pd.DataFrame:
    """Rows of both: knn by size of every way to keep some dims, and every probe of position and content of patches."""
    files = {record["file"]: record["sha256"] for record in opened(name_or_path, side).provenance}
    return _scored(name_or_path, files, data, made, steps, pictures, side)


@kept
def _scored(
    name_or_path: str, files: dict[str, str], data: Labelled, made: Canvases, steps: int, pictures: int, side: int
) -> pd.DataFrame:
    """``files``: what the model's files hold, so that other weights under the same name are another result."""
    model = opened(name_or_path, side)
    rows = prefixes.by_cut(states(model.encoder, data), NAME, model.sizes, 0)
    z = dict(zip(("train", "test"), embedded(model.encoder, made), strict=True))
    sides = removal.sides(z, made.at(model.encoder.grid))
    position = removal.compared(*sides, made.empty, 0, steps, pictures)
    return pd.concat([score.table(rows), position.assign(method=f"{NAME}, " + position.method)], ignore_index=True)
