"""Databases: a short index on the prefix, reranked by the whole vector, in engines that people run.

    table = databases.compare(z, queries, m=96, length=100)        a row a database and a way of searching it
    print(postgres.script(d=384, m=96, length=100))                the SQL, to copy
    print(databases.beyond(table, len(z), rows=100_000_000))       what that makes of 100 million vectors

Three ways are compared: every row by the whole vector (exact); an index on the whole; an index on the prefix, whose K
nearest are put in order by the whole. Both engines build graphs (HNSW) of the same degree and effort by one thread, and
are asked one query at a time. Recall is measured against exact search. What an exact search of the prefixes finds with
the same K stands in the first row: no index on the prefix can find more.

Measured (20,000 sentences of SNLI by all-MiniLM-L6-v2, 384 dims turned by their SVD, m = 96, K = 100, 300 queries, two
shared cores): recall@10 98.5 % by PostgreSQL 18.4 with pgvector 0.8.5 and 98.2 % by Qdrant Edge 0.9.0, of 99.4 % that
these prefixes have; 2.9 and 0.34 ms a query, where every row takes 22 and 1.6 ms, and an index on the whole 3.9 and
0.34; indexes of 14 and 9 MB in the place of 41 and 31, built in 6.6 and 6.1 s in the place of 9.9 and 7.5.

The engines are an optional extra: ``pip install 'mrl-lab[databases]'``.
"""

from mrl_lab.databases.measure import beyond, compare, ready
from mrl_lab.databases.way import Way

__all__ = ["Way", "beyond", "compare", "ready"]
