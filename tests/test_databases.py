"""Databases for real: a server in a temporary folder, graphs on disk, and the index that a search must use."""

import sys

import numpy as np
import pytest
import torch

from mrl_lab import databases, search
from mrl_lab.cuts import unit_prefix
from mrl_lab.databases import postgres, qdrant
from mrl_lab.databases.way import EXACT, PREFIX, WHOLE
from mrl_lab.errors import RequestError

N, D, M, K = 2000, 64, 16, 100
SIZES = {"d": D, "m": M, "length": K, "k": 10}


def clustered(n, seed):
    """Vectors (n, D) about forty centres, whose leading dims say most."""
    centres = np.random.default_rng(0).normal(size=(40, D))
    draw = np.random.default_rng(seed)
    rows = centres[draw.integers(0, 40, n)] + draw.normal(size=(n, D))
    return (rows * np.linspace(2, 0.2, D)).astype(np.float32)


Z, QUERIES = clustered(N, 1), clustered(40, 2)


@pytest.fixture(scope="module")
def table():
    return databases.compare(Z, QUERIES, M, K)


@pytest.fixture(scope="module")
def connection():
    """A server with the vectors in it and an index on their prefix."""
    with postgres.started() as started:
        postgres.load(started, Z)
        started.execute(postgres.INDEX.format(**SIZES))
        yield started


def nearest(m=D, k=10):
    return search.exact(unit_prefix(torch.from_numpy(QUERIES), m), unit_prefix(torch.from_numpy(Z), m), k)[1]


# ------------------------------------------------------------------------------------------------ PostgreSQL

PREFIX_ONLY = "SELECT id FROM items ORDER BY subvector(embedding, 1, 16)::vector(16) <=> {} LIMIT 10;"
OF_QUERY = "subvector(%(query)s::vector, 1, 16)::vector(16)"
PLANS = {  # statement -> the index that it can use
    "the script's": (postgres.SEARCH.format(**SIZES), "items_prefix"),
    "of the prefix alone": (PREFIX_ONLY.format(OF_QUERY), "items_prefix"),
    "another size": (postgres.SEARCH.format(**SIZES | {"m": 15}), ""),
    "no cast": (PREFIX_ONLY.replace("::vector(16) <=>", " <=>").format(OF_QUERY), ""),
    "another distance": (PREFIX_ONLY.replace("<=>", "<->").format(OF_QUERY), ""),
    "the whole": (postgres.SEARCH_WHOLE.format(**SIZES), ""),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_index_is_used_for_the_indexed_expression_and_for_no_other(connection, name):
    statement, index = PLANS[name]
    assert postgres.index_used(connection, statement, (postgres.NEVER_SCAN,), QUERIES[0]) == index


def test_a_search_finds_what_its_reach_lets_it_find_and_leaves_no_setting_behind(connection):
    def found(reach, length):
        before = (postgres.REACH.format(length=reach), postgres.NEVER_SCAN)
        statement = postgres.SEARCH.format(**SIZES | {"length": length, "k": length})
        return postgres.asked(connection, statement, before, QUERIES[0])

    assert len(found(K, K)) == K
    assert len(found(10, K)) < K, "hnsw.ef_search below K shortens the shortlist"
    assert connection.execute("SHOW hnsw.ef_search;").fetchone()[0] == "40"
    assert connection.execute("SHOW enable_seqscan;").fetchone()[0] == "on"


def test_a_statement_is_planned_anew_under_each_setting(connection):
    """Prepared statements keep their first plan: an index would be timed as a scan."""

    def scans():
        connection.execute("SELECT pg_stat_force_next_flush();")
        counted = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'items_whole';"
        return connection.execute(counted).fetchone()[0]

    statement = postgres.SEARCH_WHOLE.format(**SIZES)
    connection.execute(postgres.INDEX_WHOLE)
    try:
        for setting, expected in ((postgres.NEVER_INDEX, 0), (postgres.NEVER_SCAN, len(QUERIES))):
            for query in QUERIES:
                postgres.asked(connection, statement, (setting,), query)
            assert scans() == expected, setting
    finally:
        connection.execute("DROP INDEX items_whole;")


def test_the_script_runs_as_it_is_printed():
    with postgres.started() as connection:
        create, table, index, begin, reach, statement, commit = postgres.script(D, M, K).split("\n\n")
        for line in (create, table):
            connection.execute(line)
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO items VALUES (%s, %s)", list(enumerate(Z[:300])))
        for line in (index, begin, reach):
            connection.execute(line)
        found = [row[0] for row in connection.execute(statement, {"query": QUERIES[0]})]
        connection.execute(commit)
    z = torch.from_numpy(Z[:300])
    assert found == search.nested(z, M).search(torch.from_numpy(QUERIES[:1]), 10, length=K)[1][0].tolist()


def test_the_server_and_its_folder_are_gone_afterwards(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o755)

    def stopped():
        with postgres.started() as connection:
            assert connection.execute("SELECT 1;").fetchone() == (1,)
            assert list(tmp_path.glob("pg-*"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(tmp_path.glob("pg-*"))


# ---------------------------------------------------------------------------------------------------- both


@pytest.mark.slow
def test_a_row_for_each_database_and_way(table):
    names = table["database"].unique()
    assert len(names) == 3
    assert names[1].startswith("PostgreSQL 1")
    assert ", pgvector 0." in names[1]
    assert names[2].startswith("Qdrant Edge 0.")
    ways = table.groupby("database", sort=False)["way"].agg(list).to_dict()
    assert all(set(ways[name]) == {EXACT, PREFIX, WHOLE} for name in names[1:])


@pytest.mark.slow
def test_every_way_finds_what_it_should_and_uses_its_index(table):
    at = table[table["database"] != "none"].set_index("way")
    assert (at.loc[EXACT, "recall"] == 100).all()
    assert (at.loc[EXACT, "uses"] == "").all()
    assert at.loc[PREFIX, "uses"].tolist() == ["items_prefix", "prefix"]
    assert at.loc[WHOLE, "uses"].tolist() == ["items_whole", "whole"]
    most = table.loc[table["database"] == "none", "recall"].item()
    ids = search.nested(torch.from_numpy(Z), M).search(torch.from_numpy(QUERIES), 10, length=K)[1]
    same = (ids[:, :, None] == nearest()[:, None, :]).any(2).float().mean()
    assert most == pytest.approx(100 * same.item())
    assert (at.loc[PREFIX, "recall"] >= most - 5).all(), "the graph loses little of what the prefix has"
    assert (at.loc[PREFIX, "bytes"].to_numpy() < at.loc[WHOLE, "bytes"].to_numpy()).all()
    assert (at[["ms", "bytes"]] > 0).all(axis=None)


def test_the_requests_of_qdrant_rerank_by_the_whole():
    with qdrant.filled(Z, M, K, 10) as (_, ways):
        (way,) = (way for way in ways if way.name == PREFIX)
        found = torch.tensor([way.search(query) for query in QUERIES])
    alike = torch.nn.functional.cosine_similarity(torch.from_numpy(Z)[found], torch.from_numpy(QUERIES)[:, None], dim=2)
    assert (alike.diff(dim=1) <= 1e-6).all(), "in order of the whole vectors' cosine"


@pytest.mark.slow
def test_the_plan_beyond_one_machine_counts_with_what_was_measured(table):
    said = databases.beyond(table, N, 100_000_000)
    row = table[(table["way"] == PREFIX)].iloc[0]
    for words in (
        f"{row['bytes'] / N:,.0f} bytes and {1e3 * row['build'] / N:.2f} ms a row",
        f"an index on the prefix of {1e8 * row['bytes'] / N / 1e9:,.0f} GB",
        f"{1e8 * row['build'] / N / 3600:,.1f} hours",
        "PARTITION BY HASH",
        "Milvus",
    ):
        assert words in said


# ----------------------------------------------------------------------------------------------- refused


def without(change):
    z = Z.copy()
    z[7] = change
    return z


WRONG = {
    "zeros": ((without(0), QUERIES, M, K), "vectors, row 7: its first 16 dims are zeros"),
    "a prefix of zeros": ((Z, np.where(np.arange(D) < M, 0, QUERIES).astype("f4"), M, K), "queries, row 0: its first"),
    "NaN": ((without(np.nan), QUERIES, M, K), "row 7: NaN"),
    "another width": ((Z, QUERIES[:, :9], M, K), "tables of the same width"),
    "too wide a prefix": ((Z, QUERIES, 65, K), "size 65 is larger"),
    "K below k": ((Z, QUERIES, M, 9), "length = 9: a whole number from 10"),
    "K above all": ((Z, QUERIES, M, 2001), "to 2000"),
    "no queries": ((Z, QUERIES[:0], M, K), "queries: none given"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_compared_is_refused_before_a_database_starts(monkeypatch, name):
    monkeypatch.setattr(postgres, "started", lambda: pytest.fail("it was started"))
    given, words = WRONG[name]
    with pytest.raises(RequestError, match=words):
        databases.compare(*given)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((17_000, 96, 100), "16,000 dims, got 17,000"),
        ((3072, 2001, 100), "2,000 dims of the prefix, got 2,001"),
        ((384, 96, 1001), "1,000 K, got 1,001"),
    ],
)
def test_sizes_that_pgvector_does_not_take_are_refused(sizes, words):
    with pytest.raises(RequestError, match=words):
        postgres.script(*sizes)


@pytest.mark.slow
def test_vectors_above_its_limit_are_indexed_by_their_prefix():
    wide = np.random.default_rng(0).normal(size=(60, 2100)).astype(np.float32)
    table = databases.compare(wide, wide[:5], 8, 40, engines=["postgres"]).set_index("way")
    assert table.loc[PREFIX, "uses"] == "items_prefix"
    assert table.loc[WHOLE, "note"] == "pgvector indexes at most 2,000 dims"
    assert "nan" not in databases.beyond(table.reset_index(), 60)


def test_an_engine_that_is_not_installed_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(
        "mrl_lab.databases.measure.find_spec", lambda name: None if name == "psycopg" else sys.modules["sys"].__spec__
    )
    with pytest.raises(RequestError, match=r"psycopg: not installed.*pip install 'mrl-lab\[databases\]'"):
        databases.compare(Z, QUERIES, M, K)
    databases.ready(["qdrant"])
    with pytest.raises(RequestError, match="Did you mean 'qdrant'"):
        databases.ready(["quadrant"])
