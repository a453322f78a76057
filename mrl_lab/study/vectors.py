"""Vectors of one's own: what is searched, who asks, and the ways to make a vector smaller.

A :class:`Collection` holds vectors and what is known of them, made by :func:`opened` from files or from texts and a
model. A :class:`Way` takes a vector to any of its sizes. Every way here nests: its first m numbers are the vector at
size m, so that one pass over the rows serves all sizes; sparse codes (:class:`Codes`) have one size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mrl_lab import files
from mrl_lab.cuts import prefix, stored_bytes, unit_prefix
from mrl_lab.data import places
from mrl_lab.data.own import Vectors
from mrl_lab.data.searched import MINILM, Searched, Texts, at_most, names, searched
from mrl_lab.device import choose
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.lab import kept
from mrl_lab.methods.sparse import Sparse
from mrl_lab.methods.sparse import stored_bytes as sparse_bytes


@dataclass(frozen=True, eq=False)
class Collection:
    """What is searched, who asks, and what is known of the answers.

    Attributes:
        name: as the page calls it.
        documents: (N, d), float32 or float16, of any lengths; may lie on disk until it is read.
        key: what identifies all that stands here, as JSON can hold it.
        queries: (Q, d); None where the documents' own rows ask for others like them.
        judged: for each query {row of a document: grade above 0}; None where nobody judged.
        labels: (N,) classes of the documents, or None.
        ids: N names of documents, None for the numbers of their rows.
        texts: N texts of documents, asked: Q texts of queries; None where only vectors came.
        lessons: (P, 3) rows of query, document and grade, of other queries that may be learnt from; learners: these
            queries (L, d). None where there are none.
        notes: what was left out of it, and why.
        provenance: as in :class:`mrl_lab.data.Labelled`. weights: the same of the model, if there is one.
    """

    name: str
    documents: Tensor
    key: object
    queries: Tensor | None = None
    judged: Sequence[Mapping[int, int]] | None = None
    labels: Tensor | None = None
    ids: Sequence[str] | None = None
    texts: Sequence[str] | None = None
    asked: Sequence[str] | None = None
    lessons: Tensor | None = None
    learners: Tensor | None = None
    notes: Sequence[str] = ()
    provenance: Sequence[Mapping[str, str]] = ()
    weights: Sequence[Mapping[str, str]] = ()

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def d(self) -> int:
        """Width of a whole vector."""
        return self.documents.shape[1]

    def title(self, row: int) -> str:
        """The text of a document, else its name."""
        return self.texts[row] if self.texts is not None else str(row if self.ids is None else self.ids[row])


@dataclass(frozen=True, eq=False)
class Way:
    """A way to make vectors smaller: z (B, d) -> the first m numbers of (z + bend(z) - mean) @ matrix.

    Attributes:
        name: as the page calls it.
        matrix: (d, d), columns by falling importance; None leaves the numbers as they are.
        mean: (d,), taken off first; None for nothing.
        bend: what is added to a vector before the matrix, an adaptor's MLP; None for nothing.
    """

    name: str
    matrix: Tensor | None = None
    mean: Tensor | None = None
    bend: nn.Module | None = None

    @torch.no_grad()
    def project(self, z: Tensor, m: int) -> Tensor:
        """z (B, d), of length 1 -> (B, m), of any lengths: normalise after the cut."""
        z = z.float()
        z = z if self.bend is None else z + self.bend(z)
        z = z if self.mean is None else z - self.mean
        return prefix(z, m) if self.matrix is None else z @ prefix(self.matrix, m)

    def rows(self, z: Tensor, sizes: Sequence[int]) -> dict[int, Tensor]:
        """z (B, d), of length 1 -> {m: (B, m), of length 1}, from one projection."""
        whole = self.project(z, max(sizes))
        return {m: unit_prefix(whole, m) for m in sizes}

    def bytes(self, m: int, form: str) -> int:
        """Bytes of one stored vector of m numbers."""
        return -(-m // 8) if form in BITS else stored_bytes(m, 1 if form == "int8" else 4)


LAST = -1  # a model's last layer, wherever it is
BITS = ("binary", "signs")  # forms of one bit a number


@dataclass(frozen=True, eq=False)
class Codes:
    """Sparse codes as a way: z (B, d) -> (B, latents), of which as many are not zero as the one size says."""

    name: str
    coder: Sparse

    @torch.no_grad()
    def rows(self, z: Tensor, sizes: Sequence[int]) -> dict[int, Tensor]:
        """z (B, d), of length 1 -> {k: codes (B, latents), of length 1} for the one k."""
        return {self.coder.active: normalize(self.coder.code(z.float()), dim=1)}

    def bytes(self, m: int, form: str) -> int:
        """Bytes of one stored code: values and indices."""
        return sparse_bytes(m, len(self.coder.matrix), 1 if form == "int8" else 4)


# ------------------------------------------------------------------------------------------------ opening


def opened(given: Mapping[str, str], length: int | None = None, most: int | None = None) -> Collection:
    """Return the collection that a request's parameters name (:mod:`mrl_lab.data.searched`).

    Args:
        length: most tokens of a text that are read. most: texts that a model makes vectors of, at most.

    Raises:
        RequestError: what :func:`mrl_lab.data.searched.searched` or :func:`mrl_lab.encoders.elsewhere.pretrained` says.
    """
    found = searched(given)
    if isinstance(found.documents, Vectors):
        return _collected(found, found.documents.z, found.queries and found.queries.z)
    return by_layer(given, (LAST,), length, most)[LAST]


def by_layer(
    given: Mapping[str, str], layers: Sequence[int], length: int | None = None, most: int | None = None
) -> dict[int, Collection]:
    """Return the collection of texts that a request names as each of a model's layers sees it, from one encoding.

    Args: as in :func:`opened`; layer n's vectors are those of a model that is stopped there.

    Raises:
        RequestError: as :func:`opened`.
    """
    found = searched(given)
    found = found if most is None else at_most(found, most)
    weights, provenance = place_of(given.get("model", MINILM))
    sides = ((found.documents, "document"), (found.queries, "query"), (found.learners, "query"))
    asked = [(some, side) if some is not None and len(some) else None for some, side in sides]
    z = [encoded(weights, *one, length, tuple(layers)) if one else {} for one in asked]
    made_of = [list(provenance), length, [some is not None and some.key for some, _ in sides]]
    collected = {n: _collected(found, *(of.get(str(n)) for of in z), key=[*made_of, n]) for n in layers}
    return {n: replace(one, weights=provenance) for n, one in collected.items()}


def place_of(model: str) -> tuple[Path | str, list[dict[str, str]]]:
    """Return where a model is, and its record."""
    if model == MINILM:
        found = places.ensure(model)
        return found.folder, found.provenance()
    folder = Path(model)
    if folder.is_dir():
        about = {"name": folder.name, "place": "your own folder", "licence": "yours", "file": "all files"}
        return folder, [about | {"sha256": files.content(folder)}]
    return model, [{"name": model, "place": "the hub"}]


@kept
def encoded(
    weights: Path | str, said: Texts, side: str, length: int | None, layers: tuple[int, ...] = (LAST,)
) -> dict[str, Tensor]:
    """Return the model's own vectors of texts, {layer: (n, d)}, with the prompt of a "query" or a "document"."""
    model = pretrained(weights, length=length).to(choose().device)
    if set(layers) - {LAST, model.layers}:
        model.check_layers()
    states = model.encode(list(said.texts), side=side)  # (n, N+1, d)
    return {str(n): model.finished(states[:, n]) for n in layers}


def _collected(
    found: Searched, z: Tensor, queries: Tensor | None, learners: Tensor | None = None, key: object = None
) -> Collection:
    place = {name: row for row, name in enumerate(names(found.documents))}
    said = found.documents if isinstance(found.documents, Texts) else found.said
    by_row = lambda grades: {place[document]: grade for document, grade in grades.items()}  # noqa: E731
    return Collection(
        found.name,
        z,
        [key, *(item["sha256"] for item in found.provenance)],
        queries=queries,
        judged=found.judged and [by_row(found.judged[name]) for name in names(found.queries)],
        labels=None if found.labels is None else _numbers(found.labels),
        ids=names(found.documents),
        texts=said and said.texts,
        asked=found.queries.texts if isinstance(found.queries, Texts) else None,
        lessons=_lessons([by_row(found.lessons[name]) for name in names(found.learners)]) if found.lessons else None,
        learners=learners,
        notes=found.notes,
        provenance=found.provenance,
    )


def _numbers(labels: Sequence[str]) -> Tensor:
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return torch.tensor([number[label] for label in labels])


def _lessons(grades: Sequence[Mapping[int, int]]) -> Tensor:
    """Rows (query, document, grade)."""
    return torch.tensor([(query, row, grade) for query, some in enumerate(grades) for row, grade in some.items()])
