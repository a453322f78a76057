"""Nearest neighbours, from one set of nested vectors at every size.

    search.exact(queries, database, k)         all rows, by a blocked product                     flat, running
    search.at_size(queries, database, m, k)    the same on prefixes, normalised after the cut
    search.store(rows, "int8")                 rows in fewer bytes, for exact                     quantise
    search.rerank(queries, z, ids, m)          candidates put in order by more dims               shortlist
    search.funnel(queries, z, ids, dims, ...)  halving lists, doubling dims
    search.nested(z, 16, ...)                  prefixes beside full vectors: shortlist and rerank
    search.hnsw(rows), search.ivf(rows)        faiss's graph and inverted lists                   ann
    search.brute_force(queries, rows, k)       faiss's exact search, to compare with
    search.plan(z, queries, quality, ...)      which sizes and lists are enough                   planning
    search.cost                                multiply-adds a query
    search.ondisk                              a database larger than memory

Every search returns scores (Q, k), falling, and ids (Q, k), and changes none of its inputs.
"""

from mrl_lab.search import cost, ondisk
from mrl_lab.search.ann import Hnsw, Ivf, brute_force, faiss_threads, hnsw, ivf
from mrl_lab.search.flat import Found, at_size, exact
from mrl_lab.search.nested import Flat, Nested, nested, unit_rows
from mrl_lab.search.planning import Known, Planned, plan, recall
from mrl_lab.search.quantise import FORMS, Stored, store
from mrl_lab.search.shortlist import funnel, rerank

__all__ = [
    "FORMS",
    "Flat",
    "Found",
    "Hnsw",
    "Ivf",
    "Known",
    "Nested",
    "Planned",
    "Stored",
    "at_size",
    "brute_force",
    "cost",
    "exact",
    "faiss_threads",
    "funnel",
    "hnsw",
    "ivf",
    "nested",
    "ondisk",
    "plan",
    "recall",
    "rerank",
    "store",
    "unit_rows",
]
