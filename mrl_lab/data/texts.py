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
from pathlib import Path

from mrl_lab.data import places
from mrl_lab.data.places import Found
from mrl_lab.errors import unknown

PAIRS = ("stsb", "sick", "sts12-16")
TRIPLETS = ("snli",)
CAPTIONS = ("multi30k",)
RETRIEVAL = ("scifact", "cranfield")
PARAGRAPHS = ("wiki100",)
SHORTEST = 41  # characters; what is shorter in an article is a heading or a caption


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs and how similar people find them (0 to 5; SICK 1 to 5)."""

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

    Raises:
        RequestError: an unknown name, or a source that cannot be had.
    """
    found = _found(name, PAIRS)
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
    with tarfile.open(next(iter(found.files.values()))) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("/data/snli_1.0_train_subset.jsonl"))
        return _triplets(json.loads(line) for line in archive.extractfile(member))


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


def _triplets(rows: Iterable[dict]) -> list[tuple[str, str, str]]:
    """Each entailed sentence of a premise, with the premise's contradictions in turn."""
    premises: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        said = premises.setdefault(_squeezed(row["sentence1"]), {"entailment": [], "contradiction": []})
        said.setdefault(row["gold_label"], []).append(_squeezed(row["sentence2"]))
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
