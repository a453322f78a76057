"""What each database gives to be measured: ways of searching it, ready to be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EDGES, EFFORT = 16, 64  # of a graph: links of a node, and candidates while it is built (pgvector's own defaults)
EXACT, WHOLE, PREFIX = "every row, whole", "index on the whole", "index on the prefix, reranked"


@dataclass(frozen=True)
class Way:
    """One way of searching a database that is filled and indexed already.

    Attributes:
        name: :data:`EXACT`, :data:`WHOLE` or :data:`PREFIX`. dim: numbers of a vector that are searched.
        search: a query (d,) -> row numbers of the nearest, in order. None where the engine has no such index.
        bytes: of what is searched: the index with the vectors in it, or all rows.
        build: seconds that it took to make the index.
        uses: the index that the engine says it uses, empty for none. note: what else there is to say.
    """

    name: str
    dim: int
    search: Callable[[np.ndarray], list[int]] | None
    bytes: int | None = None
    build: float | None = None
    uses: str = ""
    note: str = ""
