"""Texts by name, as plain lists: similar pairs, triplets, captions, retrieval collections, paragraphs, papers.

Each reader takes the shared folder's form or the package's (:mod:`mrl_lab.data.catalogue`) and gives the same rows.
For a run's record: ``places.ensure(name).provenance()``.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mrl_lab.data import places
from mrl_lab.data.places import Found
from mrl_lab.errors import unknown

PAIRS = ("stsb", "sick", "sts12-16", "snli")
TRIPLETS = ("snli",)
CAPTIONS = ("multi30k",)
RETRIEVAL = ("scifact", "cranfield")
PARAGRAPHS = ("wiki100",)
SHORTEST = 41  # characters; what is shorter in an article is a heading or a caption
VOTES = {"entailment": 1.0, "neutral": 0.5, "contradiction": 0.0}  # what an annotator's label counts as a similarity
HELD_OUT = 4  # every so many pictures of SNLI's test part is for validation


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs and how similar people find them (0 to 5; SICK 1 to 5; SNLI's graded pairs 0 to 1)."""

    sentence1: list[str]
    sentence2: list[str]
    score: list[float]

    def __len__(self) -> int:
        return len(self.score)

    def some(self, most: int) -> Pairs:
        """Return at most that many pairs, spread evenly: a set is often in the order of its sources."""
        few = min(most, len(self))
        rows = [i * len(self) // few for i in range(few)]
        return Pairs(*([side[i] for i in rows] for side in (self.sentence1, self.sentence2, self.score)))


@dataclass(frozen=True)
class Retrieval:
    """A collection to search.

    Attributes:
        corpus: {document: title and text}.
        queries: {query: text}, those that were judged and others.
        judged: {split: {query: {document: grade}}}; use Cranfield's grades as yes or no.
    """

    corpus: dict[str, str]
    queries: dict[str, str]
    judged: dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True)
class Paper:
    """One paper of arXiv; ``category`` is the first of ``categories``."""

    title: str
    abstract: str
    category: str
    categories: tuple[str, ...]


def pairs(name: str) -> dict[str, Pairs]:
    """Return scored pairs by split (stsb, sick: train, dev, test) or by year and subset (sts12-16: "2012 MSRpar").

    snli: dev and test, both of SNLI's own test part, whose pairs about five annotators labelled: the mean of their
    labels as :data:`VOTES` has them. The 176 pairs without a majority for any label are left out, as SNLI's authors
    leave them out; every fourth picture is for validation, so no picture, and no premise, is in both splits. It is
    in the domain of what is trained on SNLI: of 1,360 of its 3,061 pictures :func:`triplets` has another caption.

    Raises:
        RequestError: an unknown name, or a source that cannot be had.
    """
    found = _found(name, PAIRS)
    if name == "snli":
        return _graded(_snli(found, "test"))
    if name == "sts12-16":
        return _by_subset(found["sts12-16.tsv.gz"])
    if "train.tsv" not in found:
        return _stsb_of_the_hub(found)
    columns = (
        ("sentence1", "sentence2", "score") if name == "stsb" else ("sentence_A", "sentence_B", "relatedness_score")
    )
    return {part: _scored(_tsv(found[f"{part}.tsv"]), *columns) for part in ("train", "dev", "test")}


def triplets(name: str = "snli") -> list[tuple[str, str, str]]:
    """Return (anchor, positive, negative): a premise, a sentence that follows from it, one that contradicts it."""
    found = _found(name, TRIPLETS)
    if "triplets.tsv.gz" in found:
        return [(row["anchor"], row["positive"], row["negative"]) for row in _tsv(found["triplets.tsv.gz"])]
    return _triplets(_snli(found, "train"))


def captions(name: str = "multi30k") -> dict[str, list[tuple[str, ...]]]:
    """Return each picture's five captions by split: train, val, test."""
    found = _found(name, CAPTIONS)
    files = {"train": "train.tsv.gz", "val": "val.tsv.gz", "test": "test_2016.tsv.gz"}
    numbered = [f"caption{i}" for i in range(1, 6)]
    return {part: [tuple(row[c] for c in numbered) for row in _tsv(found[file])] for part, file in files.items()}


def retrieval(name: str) -> Retrieval:
    """Return a collection with its queries and judgements; Cranfield has the split test alone."""
    found = _found(name, RETRIEVAL)
    corpus = {row["_id"]: _whole_text(row) for row in _jsonl(found["corpus.jsonl.gz"])}
    queries = {row["_id"]: row["text"] for row in _jsonl(found["queries.jsonl"])}
    judged = {Path(file).stem: _judged(found[file]) for file in found.files if file.startswith("qrels/")}
    return Retrieval(corpus, queries, judged)


def paragraphs(name: str = "wiki100") -> list[tuple[str, str]]:
    """Return (article, paragraph) in the order of the articles."""
    found = _found(name, PARAGRAPHS)
    if "paragraphs.tsv.gz" in found:
        return [(row["article"], row["text"]) for row in _tsv(found["paragraphs.tsv.gz"])]
    with zipfile.ZipFile(next(iter(found.files.values()))) as archive:
        articles = sorted(n for n in archive.namelist() if "/wiki100/" in n and n.endswith(".txt"))
        lines = [(Path(n).stem, _squeezed(line)) for n in articles for line in archive.read(n).decode().split("\n")]
    return [(article, text) for article, text in lines if len(text) >= SHORTEST and not text.startswith("=")]


def papers() -> list[Paper]:
    """Return the papers of ``arxiv``."""
    found = places.ensure("arxiv")
    file = next(iter(found.files.values()))
    rows = _tsv(file) if "papers.tsv.gz" in found else _papers_of_the_package(file)
    return [
        Paper(*(_squeezed(r[c]) for c in ("title", "abstract", "category")), tuple(r["categories"].split(",")))
        for r in rows
    ]


def _found(name: str, allowed: tuple[str, ...]) -> Found:
    if name not in allowed:
        raise unknown("text set of this kind", name, allowed)
    return places.ensure(name)


# ------------------------------------------------------------------------------------------------ file formats


def _text(file: Path) -> str:
    content = file.read_bytes()
    return (gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8")


def _tsv(file: Path) -> Iterator[dict[str, str]]:
    """Rows of a table whose cells hold no tabs and whose quotes mean nothing."""
    return csv.DictReader(io.StringIO(_text(file)), delimiter="\t", quoting=csv.QUOTE_NONE)


def _jsonl(file: Path) -> Iterator[dict]:
    return (json.loads(line) for line in _text(file).split("\n") if line)


def _squeezed(text: str) -> str:
    return " ".join(text.split())


# ------------------------------------------------------------------------------------------------ one set each


def _scored(rows: Iterable[dict], first: str, second: str, score: str) -> Pairs:
    rows = list(rows)
    return Pairs([r[first] for r in rows], [r[second] for r in rows], [float(r[score]) for r in rows])


def _by_subset(file: Path) -> dict[str, Pairs]:
    subsets: dict[str, list[dict]] = {}
    for row in _tsv(file):
        subsets.setdefault(f"{row['year']} {row['subset']}", []).append(row)
    return {subset: _scored(rows, "sentence1", "sentence2", "score") for subset, rows in subsets.items()}


def _stsb_of_the_hub(found: Found) -> dict[str, Pairs]:
    """The hub's tables score from 0 to 1 and call dev validation."""
    import pyarrow.parquet as pq

    splits = {}
    for part, there in (("train", "train"), ("dev", "validation"), ("test", "test")):
        rows = pq.read_table(next(f for n, f in found.files.items() if Path(n).name.startswith(there))).to_pylist()
        scores = [5 * r["score"] for r in rows]
        splits[part] = Pairs([r["sentence1"] for r in rows], [r["sentence2"] for r in rows], scores)
    return splits


@dataclass(frozen=True)
class _Inference:
    """A pair of SNLI: its label, "-" without a majority, each annotator's, and the picture that the premise is of."""

    label: str
    votes: tuple[int, ...]  # of each of VOTES
    premise: str
    hypothesis: str
    picture: str


def _snli(found: Found, part: str) -> list[_Inference]:
    """Return the pairs of one part, test or train, from either form; the folder's has none without a majority."""
    table = {"test": "test.tsv.gz", "train": "train_100k.tsv.gz"}[part]
    if table not in found:
        return _snli_of_the_package(next(iter(found.files.values())), {"train": "train_subset"}.get(part, part))
    return [
        _Inference(
            row["label"],
            tuple(map(int, row["votes_e/n/c"].split("/"))),
            row["premise"],
            row["hypothesis"],
            row["caption_id"].partition("#")[0],
        )
        for row in _tsv(found[table])
    ]


@cache
def _snli_of_the_package(file: Path, part: str) -> list[_Inference]:
    """Kept once read: the training part is 88 MB of JSON, most of it parses."""
    with tarfile.open(file) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(f"/data/snli_1.0_{part}.jsonl"))
        rows = map(json.loads, archive.extractfile(member))
        return [
            _Inference(
                row["gold_label"],
                tuple(row["annotator_labels"].count(label) for label in VOTES),
                _squeezed(row["sentence1"]),
                _squeezed(row["sentence2"]),
                row["captionID"].partition("#")[0],
            )
            for row in rows
        ]


def _graded(rows: list[_Inference]) -> dict[str, Pairs]:
    """Grades are quotients of whole halves of votes, so that grades that are equal are equal numbers: ranks tie."""
    rows = [row for row in rows if row.label in VOTES]
    place = {picture: i for i, picture in enumerate(dict.fromkeys(row.picture for row in rows))}
    splits: dict[str, list[dict]] = {"dev": [], "test": []}
    for row in rows:
        grade = sum(n * worth for n, worth in zip(row.votes, VOTES.values(), strict=True)) / sum(row.votes)
        part = "test" if place[row.picture] % HELD_OUT else "dev"
        splits[part].append({"first": row.premise, "second": row.hypothesis, "grade": grade})
    return {part: _scored(graded, "first", "second", "grade") for part, graded in splits.items()}


def _triplets(rows: Iterable[_Inference]) -> list[tuple[str, str, str]]:
    """Each entailed sentence of a premise, with the premise's contradictions in turn."""
    premises: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        said = premises.setdefault(row.premise, {"entailment": [], "contradiction": []})
        said.setdefault(row.label, []).append(row.hypothesis)
    return [
        (premise, positive, said["contradiction"][i % len(said["contradiction"])])
        for premise, said in premises.items()
        for i, positive in enumerate(said["entailment"])
        if said["contradiction"]
    ]


def _whole_text(row: dict) -> str:
    """Title and text; Cranfield's texts begin with their titles already."""
    title, text = row["title"], row["text"]
    return text if text.startswith(title) else f"{title} {text}"


def _judged(file: Path) -> dict[str, dict[str, int]]:
    grades: dict[str, dict[str, int]] = {}
    for row in _tsv(file):
        grades.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return grades


def _papers_of_the_package(file: Path) -> list[dict[str, str]]:
    """Papers of the package's two collections, each once: versions of one paper (v1, v2) are one."""
    papers: dict[str, dict[str, str]] = {}
    with tarfile.open(file) as archive:
        for name in sorted(n for n in archive.getnames() if n.endswith("/papers_full.csv")):
            for row in csv.DictReader(io.TextIOWrapper(archive.extractfile(name), "utf-8", newline="")):
                papers.setdefault(re.sub(r"v\d+$", "", row["arxiv_id"]), row)
    return list(papers.values())
