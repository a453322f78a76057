"""Origin: where a model that somebody else trained comes from, a record a file, as run.json keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transformers.utils import cached_file

from mrl_lab.files import digest

READ = (
    "*.json",
    "*.safetensors",
    "pytorch_model*.bin",
    "*.model",
)  # the files of a model's folder that a result may depend on


def records(name_or_path: str, beside: Iterable[Path] = ()) -> list[dict[str, str]]:
    """Return name, place, licence, file and sha256 of each file of a model: a folder, a file, or a name on the hub.

    Args:
        beside: more files that belong to it.
    """
    place = Path(name_or_path)
    about = {"name": place.resolve().name, "place": "a folder of one's own"}
    if place.is_file():
        about["place"] = "a file of one's own"
    elif not place.is_dir():
        place = Path(cached_file(name_or_path, "config.json")).parent
        about = {"name": name_or_path, "place": f"the hub, revision {place.name}"}
    about["licence"] = "not known here: read its card"
    files = [place] if place.is_file() else sorted(file for kind in READ for file in place.glob(kind))
    return [about | {"file": file.name, "sha256": digest(file)} for file in [*files, *beside]]
