"""Qdrant, as its edge engine: the engine of the server inside this process, with graphs, prefetch and rescoring.

A point holds the whole vector and its prefix as a second, named vector, which alone has a graph. One request finds K
candidates by the prefix (prefetch) and puts them in order by the whole. On a server the same request is
``client.query_points(..., prefetch=Prefetch(query=q[:m], using="prefix", limit=K), query=q, using="whole", limit=10)``.

Graphs are made by ``optimize()``, not by loading; before it, every search reads all rows. (The local mode of
qdrant-client makes none at all: it is a mock.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from mrl_lab.databases.way import EDGES, EFFORT, EXACT, PREFIX, WHOLE, Way

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard, QueryRequest

AT_ONCE = 1_000  # points a request


@contextmanager
def filled(z: np.ndarray, m: int, length: int, k: int) -> Iterator[tuple[str, list[Way]]]:
    """Fill two shards in a temporary folder, one with a graph on the prefix: the version, and the ways of searching."""
    d = z.shape[1]
    with (
        TemporaryDirectory(prefix="qdrant-") as folder,
        _shard(Path(folder, "prefix"), z, {"whole": (d, 0), "prefix": (m, EDGES)}) as (nested, build),
        _shard(Path(folder, "whole"), z, {"whole": (d, EDGES)}) as (plain, build_whole),
    ):
        graphs = {name: _graph(Path(folder, name), name) for name in ("prefix", "whole")}
        used = {name: name if size else "" for name, size in graphs.items()}
        ask, ask_whole = partial(reranked, m, length), partial(near, length)
        ways = [
            Way(EXACT, d, partial(_found, nested, exact, k), z.nbytes, 0.0),
            Way(PREFIX, m, partial(_found, nested, ask, k), graphs["prefix"] + 4 * len(z) * m, build, used["prefix"]),
            Way(WHOLE, d, partial(_found, plain, ask_whole, k), graphs["whole"] + z.nbytes, build_whole, used["whole"]),
        ]
        yield f"Qdrant Edge {version('qdrant-edge-py')}", ways


def reranked(m: int, length: int, query: list[float], k: int) -> QueryRequest:
    """Return a request: K candidates by the prefix, the best ``k`` of them by the whole."""
    from qdrant_edge import Prefetch, Query, QueryRequest, SearchParams

    wide = SearchParams(hnsw_ef=length)
    shortlist = Prefetch(limit=length, query=Query.Nearest(query[:m], using="prefix"), params=wide)
    return QueryRequest(limit=k, query=Query.Nearest(query, using="whole"), prefetches=[shortlist])


def near(length: int, query: list[float], k: int) -> QueryRequest:
    """Return a request for the ``k`` nearest by the graph of the whole, which looks at ``length`` candidates."""
    from qdrant_edge import Query, QueryRequest, SearchParams

    return QueryRequest(limit=k, query=Query.Nearest(query, using="whole"), params=SearchParams(hnsw_ef=max(length, k)))


def exact(query: list[float], k: int) -> QueryRequest:
    """Return a request for the ``k`` nearest of all rows."""
    from qdrant_edge import Query, QueryRequest, SearchParams

    return QueryRequest(limit=k, query=Query.Nearest(query, using="whole"), params=SearchParams(exact=True))


def _found(shard: EdgeShard, request, k: int, query: np.ndarray) -> list[int]:
    return [point.id for point in shard.query(request(query.tolist(), k))]


@contextmanager
def _shard(folder: Path, z: np.ndarray, vectors: dict[str, tuple[int, int]]) -> Iterator[tuple[EdgeShard, float]]:
    """Load leading dims of vectors (N, d) under names {name: (dims, links of a node)}; seconds that its graphs took."""
    import qdrant_edge as edge

    folder.mkdir()
    graph = {"ef_construct": EFFORT, "full_scan_threshold": 1, "max_indexing_threads": 1}
    form = {
        name: edge.EdgeVectorParams(
            size=dim, distance=edge.Distance.Cosine, hnsw_config=edge.HnswIndexConfig(m=edges, **graph)
        )
        for name, (dim, edges) in vectors.items()
    }
    merged = edge.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1)  # one graph over all, whatever N
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=form, optimizers=merged))
    try:
        for start in range(0, len(z), AT_ONCE):
            rows = enumerate(z[start : start + AT_ONCE].tolist(), start)
            points = [edge.Point(i, {name: row[:dim] for name, (dim, _) in vectors.items()}) for i, row in rows]
            shard.update(edge.UpdateOperation.upsert_points(points))
        began = time.perf_counter()
        shard.optimize()
        yield shard, time.perf_counter() - began
    finally:
        shard.close()


def _graph(folder: Path, name: str) -> int:
    """Return the bytes of a graph on disk; the vectors beside it are counted by their shape."""
    return sum(file.stat().st_size for file in folder.rglob(f"vector_index-{name}/*"))
