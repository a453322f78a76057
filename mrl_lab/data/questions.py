"""Pictures with questions: easy-VQA (drawn shapes, one-word answers), NLVR (is the sentence true of the scene?), and
one's own, a folder of pictures of any size with one .jsonl, a question a line::

    {"image": "cat.jpg", "question": "What is on the mat? Answer with one word.", "answer": "cat"}

An answer is what an exact answer is; without it nothing is counted. Where some rows have one, the others do not count.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mrl_lab.data import places
from mrl_lab.data.places import Found
from mrl_lab.errors import RequestError, unknown

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


@dataclass(frozen=True, eq=False)
class OwnQuestions:
    """Questions about pictures of one's own: Q files, questions and answers, None where none was given.

    Attributes:
        provenance: a record a file, as in :class:`mrl_lab.data.Labelled`.
    """

    files: list[Path]
    questions: list[str]
    answers: list[str | None]
    provenance: list[dict[str, str]]

    @property
    def key(self) -> list[str]:
        """What they are: checksums of all files."""
        return [record["sha256"] for record in self.provenance]

    def __len__(self) -> int:
        return len(self.questions)


def own(folder: str | Path) -> OwnQuestions:
    """Return the questions of a folder of one's own; see the head of this module.

    Raises:
        RequestError: there is not one .jsonl, or a line of it, or a picture that it names, cannot be used; says which.
    """
    from mrl_lab.files import digest

    lists = sorted(Path(folder).glob("*.jsonl"))
    if len(lists) != 1:
        raise RequestError(f"{folder} has {len(lists)} files .jsonl: one is needed, with a question a line. {LINE}")
    lines = lists[0].read_text(encoding="utf-8").splitlines()
    rows = [_row(f"{lists[0]}, line {n}", line, lists[0].parent) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise RequestError(f"{lists[0]} holds no question. {LINE}")
    files, asked, answers = map(list, zip(*rows, strict=True))
    about = {"name": Path(folder).resolve().name, "place": "a folder of one's own", "licence": "yours"}
    records = [about | {"file": file.name, "sha256": digest(file)} for file in [lists[0], *dict.fromkeys(files)]]
    return OwnQuestions(files, asked, answers, records)


LINE = 'A line is {"image": "cat.jpg", "question": "What is it?", "answer": "cat"}; the answer may be left out.'


def _row(where: str, line: str, folder: Path) -> tuple[Path, str, str | None]:
    from PIL import Image

    try:
        row = json.loads(line)
    except ValueError as error:
        raise RequestError(f"{where} is no JSON ({error}). {LINE}") from None
    kinds = {"image": str, "question": str, "answer": str | None}
    if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in kinds.items()):
        raise RequestError(f"{where} lacks a text: {line[:80]}. {LINE}")
    file = folder / row["image"]
    try:
        with Image.open(file) as picture:
            picture.verify()
    except (OSError, SyntaxError) as error:  # what PIL raises for a broken PNG
        raise RequestError(f"{where}: {row['image']} is no picture that can be read ({error}).") from None
    return file, row["question"], row.get("answer")


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
