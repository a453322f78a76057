"""Elsewhere: a vision transformer that somebody else trained goes through the same scores as the students here.

Its prefixes beside random dims, PCA and dims of most variance, and position in and out of its patches in every way.
Methods are called :data:`NAME` and "NAME, WAY", so that no row stands for a student's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from transformers.utils import cached_file

from mrl_lab import runs, score
from mrl_lab.cuts import halvings
from mrl_lab.data import Labelled, digests
from mrl_lab.encoders.patches import PretrainedViT
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
    return Elsewhere(encoder, [about | {"file": file.name, "sha256": digests.of_file(file)} for file in files])


def scored(
    model: Elsewhere, data: Labelled, made: Canvases, steps: int = removal.STEPS, pictures: int = 400
) -> pd.DataFrame:
    """Rows of both: knn by size of every way to keep some dims, and every probe of position and content of patches."""
    encoder = model.encoder

    def make() -> pd.DataFrame:
        rows = prefixes.by_cut(states(encoder, data), NAME, model.sizes, 0)
        sides = removal.sides(embedded(encoder, made), made.at(encoder.grid))
        position = removal.compared(*sides, made.empty, 0, steps, pictures)
        return pd.concat([score.table(rows), position.assign(method=f"{NAME}, " + position.method)], ignore_index=True)

    files = {record["file"]: record["sha256"] for record in model.provenance}
    key = {"what": "elsewhere", "files": files, "grid": encoder.grid, "data": data.key, "canvases": made.data.key}
    return runs.remember(key | {"steps": steps, "pictures": pictures}, make)
