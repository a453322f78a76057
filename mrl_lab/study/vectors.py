"""Vectors of one's own: what is searched, who asks, and the ways to make a vector smaller.

A :class:`Collection` holds vectors and what is known of them; a :class:`Way` takes a vector to any of its sizes. Every
way here nests: its first m numbers are the vector at size m, so that one pass over the rows serves all sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mrl_lab.cuts import prefix


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
        lessons: (query, row of a document, grade) of other queries that may be learnt from, and ``learners`` their
            vectors (L, d); none where there are none.
        provenance: as in :class:`mrl_lab.data.Labelled`.
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
    provenance: Sequence[Mapping[str, str]] = field(default=())

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
