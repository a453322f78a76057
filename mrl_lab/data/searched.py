"""What is searched: vectors or texts of your own, queries, who answers whom, and classes, checked before any work.

==========  ===========================================================================================================
vectors     a file of vectors (:mod:`mrl_lab.data.own`), no labels needed; a row's name is its id, else its number
texts       ``.txt`` a text a line; ``.jsonl .csv .parquet`` with a column ``text``, if any ``title`` and ``id``
queries     vectors where vectors are searched, texts where texts are
qrels       TREC's lines ``query 0 document grade``, or BEIR's table ``query-id corpus-id score``
labels      ``.txt`` a label a line, or ``.npy`` (N,), one for each document
collection  a folder of BEIR's: ``corpus.jsonl queries.jsonl qrels/test.tsv``, and ``qrels/train.tsv`` to learn from
==========  ===========================================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mrl_lab.data import own, places, tables, texts
from mrl_lab.errors import RequestError
from mrl_lab.files import digest

NONE, AUTO, MINILM = "none", "auto", "all-minilm"  # what stands where nothing of your own is given
FILES = ("vectors", "queries", "qrels", "labels", "texts")  # parameters that name files
GIVEN = (*FILES, "model", "collection")
LEAST = 20  # documents; fewer have no neighbours to speak of
LOOKED_AT = 1_000  # rows of a file, to see whether they differ
CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"

Grades = Mapping[str, Mapping[str, int]]  # {query: {document: grade}}


@dataclass(frozen=True)
class Texts:
    """Texts with their names."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def key(self) -> str:
        """SHA-256 of the texts, which vectors of them depend on."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Searched:
    """What is to be searched; either all of it texts, or vectors.

    Attributes:
        name: as the page calls it.
        documents, queries: queries are None where documents ask for others like them.
        judged: of the queries, grades above 0 alone; lessons: of other queries, which may be learnt from.
        learners: those other queries.
        labels: one text a document, or None.
        said: texts of the documents where they are vectors, or None.
        notes: what was left out and why, a line each.
        provenance: as in :class:`mrl_lab.data.Labelled`.
    """

    name: str
    documents: own.Vectors | Texts
    queries: own.Vectors | Texts | None = None
    judged: Grades | None = None
    learners: Texts | None = None
    lessons: Grades | None = None
    labels: tuple[str, ...] | None = None
    said: Texts | None = None
    notes: tuple[str, ...] = ()
    provenance: Sequence[Mapping[str, str]] = field(default=())


def searched(given: Mapping[str, str]) -> Searched:
    """Return what the parameters :data:`GIVEN` of a request name.

    Raises:
        RequestError: parameters that do not go together, or a file that cannot be used: names it and the row or line.
    """
    given = _whole(given)
    _check_together(given)
    if given["vectors"] != NONE:
        found = _of_vectors(given)
    elif given["texts"] != NONE:
        found = _of_texts(given)
    else:
        found = named(given["collection"])
    _check_enough(found)
    return found


def check(given: Mapping[str, str]) -> None:
    """Check what is your own; a collection that has a name is looked for elsewhere.

    Raises:
        RequestError: as :func:`searched`.
    """
    given = _whole(given)
    _check_together(given)
    if any(given[name] != NONE for name in FILES) or Path(given["collection"]).is_dir():
        searched(given)


def _whole(given: Mapping[str, str]) -> dict[str, str]:
    return dict.fromkeys(FILES, NONE) | {"model": MINILM, "collection": AUTO} | dict(given)


def _check_together(given: Mapping[str, str]) -> None:
    have = [name for name in FILES if given[name] != NONE]
    if "vectors" in have and given["model"] != MINILM:
        raise RequestError("vectors are made already: leave model out, or give texts in their place.")
    if {"vectors", "texts"} & set(have) and given["collection"] != AUTO:
        raise RequestError(f"{have[0]} and collection both say what is searched: give one of them.")
    ours = not {"vectors", "texts"} & set(have)
    if ours and have:
        raise RequestError(
            f"{' and '.join(have)} belong to vectors or texts of your own: give vectors or texts, or leave them out."
        )
    if "qrels" in have and "labels" in have:
        raise RequestError("qrels and labels are two criteria: give one of them.")
    if "qrels" in have and "queries" not in have:
        raise RequestError("qrels say which documents answer which queries: give queries as well.")
    if "queries" in have and "labels" in have:
        raise RequestError("with labels each document asks for others of its class: leave queries out, or give qrels.")


def _check_enough(found: Searched) -> None:
    if len(found.documents) < LEAST:
        raise RequestError(f"{found.name} has {len(found.documents)} documents: at least {LEAST} are needed.")
    if found.queries is not None and len(found.queries) < 4:
        raise RequestError(
            f"{found.name}: {len(found.queries)} queries are left; at least 4 are needed, half of them to choose by."
        )


def at_most(found: Searched, most: int) -> Searched:
    """Return a part of at most that many texts, half of them answers to the first queries; says so in its notes."""
    if len(found.documents) <= most:
        return found
    answers: dict[str, None] = {}
    judged = {}
    for query, grades in (found.judged or {}).items():
        if len(answers.keys() | grades.keys()) > most // 2:
            break
        judged[query], answers = grades, answers | dict.fromkeys(grades)
    rest = [name for name in found.documents.ids if name not in answers]
    kept = answers.keys() | set(rest[: most - len(answers)])
    lessons = {q: grades for q, grades in (found.lessons or {}).items() if grades.keys() <= kept}
    note = f"{most:,} of {len(found.documents):,} documents, and queries that they answer: a larger budget takes more"
    return replace(
        found,
        documents=_some(found.documents, kept),
        queries=found.queries and _some(found.queries, judged.keys() if found.judged else set(found.queries.ids)),
        judged=found.judged and judged,
        learners=found.learners and _some(found.learners, lessons.keys()),
        lessons=lessons or None,
        labels=found.labels
        and tuple(y for y, name in zip(found.labels, found.documents.ids, strict=True) if name in kept),
        notes=(*found.notes, note),
    )


# ------------------------------------------------------------------------------------------------ vectors


def _of_vectors(given: Mapping[str, str]) -> Searched:
    path = Path(given["vectors"])
    z = own.vectors(path)
    _check_differ(path, z)
    found = Searched(path.name, z, provenance=z.provenance)
    if z.classes and given["qrels"] == NONE == given["labels"] == given["queries"]:
        found = replace(found, labels=tuple(z.classes[i] for i in z.labels.tolist()))
    elif z.classes:
        found = replace(found, notes=(f"labels in {path.name} are not used: another criterion is given",))
    if given["texts"] != NONE:
        said = _same_length(Path(given["texts"]), read_texts(Path(given["texts"])), z, "texts")
        found = replace(found, said=said, provenance=[*found.provenance, *own.provenance(Path(given["texts"]))])
    if given["queries"] != NONE:
        queries = own.vectors(given["queries"])
        if queries.z.shape[1] != z.z.shape[1]:
            raise RequestError(
                f"{given['queries']}: queries have {queries.z.shape[1]} numbers and {path.name} {z.z.shape[1]}: they "
                "must come from one model."
            )
        found = replace(found, queries=queries, provenance=[*found.provenance, *queries.provenance])
    return _judged_or_labelled(found, given)


def _check_differ(path: Path, z: own.Vectors) -> None:
    """Look at rows spread over the file; those of a large one are not all compared."""
    if z.ids is not None:
        _unique(path, z.ids)
    some = z.z[:: max(1, len(z) // LOOKED_AT)]
    different = len(some.unique(dim=0))
    if different < min(LEAST, len(some)):
        raise RequestError(
            f"{path}: of {len(some)} rows only {different} differ, so that no search can tell them apart: are they "
            "the right vectors?"
        )


def names(part: own.Vectors | Texts) -> tuple[str, ...]:
    """Return the ids of documents or queries; the numbers of their rows, from 0, where the file has none."""
    return part.ids if part.ids is not None else tuple(map(str, range(len(part))))


# -------------------------------------------------------------------------------------------------- texts


def _of_texts(given: Mapping[str, str]) -> Searched:
    path = Path(given["texts"])
    found = Searched(path.name, read_texts(path), provenance=own.provenance(path))
    if given["queries"] != NONE:
        queries = Path(given["queries"])
        known = [*found.provenance, *own.provenance(queries)]
        found = replace(found, queries=read_texts(queries), provenance=known)
    return _judged_or_labelled(found, given)


def read_texts(path: Path) -> Texts:
    """Return the texts of a file, with their names.

    Raises:
        RequestError: a file of another kind, no texts, or an empty one, by its row.
    """
    if path.suffix == ".txt":
        said, ids = _lines(path), None
    elif path.suffix in tables.READERS:
        said, ids = tables.texts(path)
    else:
        raise RequestError(f"{path}: files of texts end in .txt, {', '.join(tables.READERS)}.")
    empty = [i for i, text in enumerate(said) if not text.strip()]
    if empty or not said:
        where = f"row {empty[0]} is empty" if empty else "there are none"
        raise RequestError(f"{path}: each row is a text, but {where}: mend or leave out such rows.")
    return Texts(_unique(path, ids or list(map(str, range(len(said))))), tuple(said))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read as text ({error}): save it as UTF-8.") from error


def _unique(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    seen: set[str] = set()
    twice = next((name for name in ids if name in seen or seen.add(name)), None)
    if twice is not None:
        raise RequestError(f"{path}: the id {twice!r} stands there twice: each row needs one of its own.")
    return tuple(ids)


def _same_length(path: Path, part: Sequence, documents: own.Vectors | Texts, what: str):
    if len(part) != len(documents):
        raise RequestError(f"{path}: {len(part)} {what} for {len(documents)} documents; there must be one each.")
    return part


# ---------------------------------------------------------------------------------- judgements and labels


def _judged_or_labelled(found: Searched, given: Mapping[str, str]) -> Searched:
    if given["qrels"] != NONE:
        path = Path(given["qrels"])
        return _judge(replace(found, provenance=[*found.provenance, *own.provenance(path)]), path, read_qrels(path))
    if given["labels"] != NONE:
        path = Path(given["labels"])
        labels = _same_length(path, _labels(path), found.documents, "labels")
        return replace(found, labels=labels, provenance=[*found.provenance, *own.provenance(path)])
    return found


def _labels(path: Path) -> tuple[str, ...]:
    if path.suffix == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise RequestError(f"{path} cannot be read as .npy ({error}): save it again, without objects.") from error
        if values.ndim != 1:
            raise RequestError(f"{path}: labels are (N,), one a document; got {values.shape}.")
        return tuple(map(str, values.tolist()))
    if path.suffix != ".txt":
        raise RequestError(f"{path}: files of labels end in .txt (one a line) or .npy.")
    return tuple(_lines(path))


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Return {query: {document: grade}} of TREC's or BEIR's file.

    Raises:
        RequestError: a line that is neither, or two grades for one pair; names the line.
    """
    grades: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(path), 1):
        words = line.split("\t") if line.count("\t") == 2 else line.split()
        if not words or (number == 1 and not _grade(words[-1])):  # a blank line, and BEIR's first
            continue
        if len(words) not in (3, 4) or not _grade(words[-1]):
            raise RequestError(
                f"{path}, line {number}: {line!r:.60} is neither 'query 0 document grade' nor 'query document grade', "
                "with a whole number for a grade."
            )
        query, document, grade = words[0], words[-2], int(words[-1])
        if grades.setdefault(query, {}).setdefault(document, grade) != grade:
            raise RequestError(f"{path}, line {number}: another grade for {query!r} and {document!r} stands before it.")
    if not grades:
        raise RequestError(f"{path} holds no judgement.")
    return grades


def _grade(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def _judge(found: Searched, path: Path, grades: Grades) -> Searched:
    """Keep the queries that some document answers, and the grades above 0."""
    documents, queries = set(names(found.documents)), set(names(found.queries))
    _check_known(path, "queries", grades, queries)
    _check_known(path, "documents", {document for some in grades.values() for document in some}, documents)
    answered = {q: {d: g for d, g in some.items() if g > 0} for q, some in grades.items()}
    kept = {query: answered[query] for query in names(found.queries) if answered.get(query)}
    lost = len(queries) - len(kept)
    notes = [f"{lost} of {len(queries)} queries are left out: {path.name} has no document for them"] if lost else []
    return replace(found, judged=kept, queries=_some(found.queries, set(kept)), notes=(*found.notes, *notes))


def _check_known(path: Path, what: str, named: object, known: set[str]) -> None:
    unknown = sorted(set(named) - known)
    if unknown:
        raise RequestError(
            f"{path}: {len(unknown)} of its {what} are not there, such as {unknown[0]!r}; known are names such as "
            f"{min(known)!r}. Files without ids count their rows from 0."
        )


def _some(part: own.Vectors | Texts, kept: Collection[str]) -> own.Vectors | Texts:
    rows = [i for i, name in enumerate(names(part)) if name in kept]
    ids = tuple(names(part)[i] for i in rows)
    if isinstance(part, Texts):
        return Texts(ids, tuple(part.texts[i] for i in rows))
    return replace(part, z=part.z[rows], ids=ids, labels=None, classes=())


# -------------------------------------------------------------------------------------------- collections


def named(collection: str) -> Searched:
    """Return a collection by its name, or one that lies in a folder as BEIR's do.

    ``arxiv`` asks for known items: a paper's abstract by its title, which is no part of it.

    Raises:
        RequestError: a source that cannot be had, or a folder without one of the files.
    """
    if collection in ("arxiv", AUTO):
        found, papers = places.ensure("arxiv"), texts.papers()
        ids = tuple(map(str, range(len(papers))))
        sides = (Texts(ids, tuple(getattr(p, part) for p in papers)) for part in ("abstract", "title"))
        documents, queries = sides
        itself = {i: {i: 1} for i in ids}
        return Searched("arxiv", documents, queries, itself, provenance=found.provenance())
    if collection in texts.RETRIEVAL:
        return _searched(collection, texts.retrieval(collection), places.ensure(collection).provenance())
    folder = Path(collection)
    found = _found(folder)
    try:
        return _searched(folder.name, texts.retrieval_in(found), found.provenance())
    except (KeyError, ValueError, OSError, StopIteration) as error:
        raise RequestError(
            f"{folder} cannot be read as a collection ({error!r}): lines of {CORPUS} have _id, title and text, lines "
            f"of {QUERIES} _id and text, and qrels/*.tsv the columns query-id, corpus-id and score."
        ) from error


def _found(folder: Path) -> places.Found:
    files = [f.relative_to(folder).as_posix() for f in sorted(folder.rglob("*")) if f.is_file()]
    kept = [f for f in files if f.removesuffix(".gz") in (CORPUS, QUERIES) or (f.endswith(".tsv") and "qrels/" in f)]
    lacking = [name for name in (CORPUS, QUERIES) if not any(f.removesuffix(".gz") == name for f in kept)]
    if not any(f.endswith(".tsv") for f in kept):
        lacking.append("qrels/test.tsv")
    if lacking:
        raise RequestError(f"{folder} is no collection: it has no {' and no '.join(lacking)}.")
    sha256 = {file: digest(folder / file) for file in kept}
    return places.Found(folder.name, "your own folder", folder, sha256, "yours")


def _searched(name: str, found: texts.Retrieval, provenance: Sequence[Mapping[str, str]]) -> Searched:
    """The split test is asked, where there is one; what is in train may be learnt from."""
    asked = "test" if "test" in found.judged else next(iter(found.judged))
    documents = Texts(tuple(found.corpus), tuple(found.corpus.values()))
    grades, notes = _within(found.judged[asked], found)
    lessons, _ = _within(found.judged.get("train", {}) if asked != "train" else {}, found)
    queries, learners = (Texts(tuple(some), tuple(found.queries[q] for q in some)) for some in (grades, lessons))
    return Searched(
        name, documents, queries, grades, learners, lessons or None, notes=notes, provenance=list(provenance)
    )


def _within(grades: Grades, found: texts.Retrieval) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Keep what a collection has: its queries that some document of its answers, and grades above 0."""
    known = {q: {d: g for d, g in some.items() if g > 0 and d in found.corpus} for q, some in grades.items()}
    kept = {query: some for query, some in known.items() if some and query in found.queries}
    lost = len(grades) - len(kept)
    return kept, (f"{lost} of {len(grades)} queries are left out: no document answers them",) if lost else ()
