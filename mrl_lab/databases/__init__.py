"""Databases: a short index on the prefix, reranked by the whole vector, in engines that people run.

    table = databases.compare(z, queries, m=96, length=100)        a row a database and a way of searching it
    print(postgres.script(d=384, m=96, length=100))                the SQL, to copy
    print(databases.beyond(table, len(z), rows=100_000_000))       what that makes of 100 million vectors

Three ways are compared: every row by the whole vector (exact); an index on the whole; an index on the prefix, whose K
nearest are put in order by the whole. Both engines build graphs (HNSW) of the same degree and effort by one thread, and
are asked one query at a time. Recall is measured against exact search. What an exact search of the prefixes finds with
the same K stands in the first row: no index on the prefix can find more.

The engines are an optional extra: ``pip install 'mrl-lab[databases]'``.
"""

from mrl_lab.databases.measure import beyond, compare, ready
from mrl_lab.databases.way import Way

__all__ = ["Way", "beyond", "compare", "ready"]
