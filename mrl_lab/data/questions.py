"""Pictures with questions: easy-VQA (drawn shapes, one-word answers) and NLVR (is the sentence true of the scene?)."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mrl_lab.data import places
from mrl_lab.data.places import Found
from mrl_lab.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions about pictures.

    Attributes:
        images: (N, 3, H, W) uint8; easy-VQA 64x64, NLVR 100x400.
        picture: (Q,) the row in ``images`` that each question is about.
        questions, answers: Q texts each.
    """

    images: Tensor
    picture: Tensor
    questions: list[str]
    answers: list[str]

    def __len__(self) -> int:
        return len(self.questions)


def questions(name: str) -> dict[str, Questions]:
    """Return questions by split: easy_vqa has train and test, nlvr has dev, test and hidden.

    Raises:
        RequestError: an unknown name, or a source that cannot be had.
    """
    if name not in READERS:
        raise unknown("set of questions", name, READERS)
    return READERS[name](places.ensure(name))


def _easy_vqa(found: Found) -> dict[str, Questions]:
    read = _easy_vqa_tables if "train_images.parquet" in found else _easy_vqa_wheel
    return {part: _asked(*read(found, part)) for part in ("train", "test")}


def _easy_vqa_tables(found: Found, part: str) -> tuple[dict[int, bytes], list[tuple[str, str, int]]]:
    import pyarrow.parquet as pq

    pictures = pq.read_table(found[f"{part}_images.parquet"]).to_pydict()
    asked = pq.read_table(found[f"{part}_questions.parquet"]).to_pydict()
    return dict(zip(pictures["image_id"], pictures["png"], strict=True)), list(zip(*asked.values(), strict=True))


def _easy_vqa_wheel(found: Found, part: str) -> tuple[dict[int, bytes], list[tuple[str, str, int]]]:
    with zipfile.ZipFile(next(iter(found.files.values()))) as wheel:
        asked = json.loads(wheel.read(f"easy_vqa/data/{part}/questions.json"))
        numbers = sorted({number for _, _, number in asked})
        return {n: wheel.read(f"easy_vqa/data/{part}/images/{n}.png") for n in numbers}, asked


def _nlvr(found: Found) -> dict[str, Questions]:
    read = _nlvr_repository if "nlvr.zip" in found else _nlvr_table
    return {part: _asked(*read(found, part)) for part in ("dev", "test", "hidden")}


def _nlvr_table(found: Found, part: str) -> tuple[dict[int, bytes], list[tuple[str, str, int]]]:
    import pyarrow.parquet as pq

    table = pq.read_table(found[f"{part}.parquet"]).to_pydict()
    asked = zip(table["sentence"], table["label"], range(len(table["label"])), strict=True)
    return dict(enumerate(table["png"])), list(asked)


def _nlvr_repository(found: Found, part: str) -> tuple[dict[int, bytes], list[tuple[str, str, int]]]:
    """The authors' repository as one archive; each scene is drawn with its boxes in six orders, of which one is taken.

    A picture is called ``part-identifier-order.png``; of several lists of a part the final one counts.
    """
    with zipfile.ZipFile(found["nlvr.zip"]) as archive:
        names = sorted(n for n in archive.namelist() if f"/nlvr/{part}/" in n)
        lists = [n for n in names if n.endswith(".json")]
        lines = archive.read(next((n for n in lists if "final" in n), lists[0])).decode().splitlines()
        rows = [json.loads(line) for line in lines]
        drawn: dict[str, str] = {}
        for name in (n for n in names if n.endswith(".png")):
            drawn.setdefault(PurePosixPath(name).stem.removeprefix(f"{part}-").rpartition("-")[0], name)
        pictures = {i: archive.read(drawn[row["identifier"]]) for i, row in enumerate(rows)}
    return pictures, [(row["sentence"], row["label"], i) for i, row in enumerate(rows)]


def _asked(pictures: dict[int, bytes], asked: list[tuple[str, str, int]]) -> Questions:
    """``pictures``: number -> file; ``asked``: (question, answer, number of its picture)."""
    import torch

    from mrl_lab.data.pictures import decode

    row = {number: i for i, number in enumerate(sorted(pictures))}
    images = torch.stack([decode(pictures[number], mode="RGB") for number in sorted(pictures)])
    picture = torch.tensor([row[number] for _, _, number in asked])
    return Questions(images, picture, [q for q, _, _ in asked], [a for _, a, _ in asked])


READERS = {"easy_vqa": _easy_vqa, "nlvr": _nlvr}
