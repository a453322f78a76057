"""Exact search against a plain sort and faiss, graph search against exact."""

import sys

import pytest
import torch

from mrl_lab import search
from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError


def tables(n=300, q=40, m=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(q, m, generator=draw), torch.randn(n, m, generator=draw)


def slow(queries, database, k):
    """Sort by falling score, then rising id, one query at a time."""
    found = []
    for query in queries:
        scores = (database @ query).tolist()
        found.append(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k])
    return torch.tensor(found)


@pytest.mark.parametrize("k", [1, 5, 299, 300])
@pytest.mark.parametrize("rows", [1, 7, 512])
def test_equals_a_plain_sort(k, rows):
    queries, database = tables()
    queries, database = queries.double(), database.double()
    scores, ids = search.exact(queries, database, k, rows=rows)
    assert torch.equal(ids, slow(queries, database, k))
    assert torch.allclose(scores, (queries @ database.T).gather(1, ids))


def test_ties_are_broken_by_id():
    database = torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 0], [0, 1], [1, 0]])
    queries = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    _, ids = search.exact(queries, database, 3)
    assert ids.tolist() == [[0, 2, 3], [1, 4, 0], [0, 1, 2]]


def test_faiss_agrees():
    faiss = pytest.importorskip("faiss")
    queries, database = tables(n=2000, m=16)
    index = faiss.IndexFlatIP(16)
    index.add(database.numpy())
    scores, ids = index.search(queries.numpy(), 10)
    ours = search.exact(queries, database, 10)
    assert torch.equal(ours[1], torch.from_numpy(ids))
    assert torch.allclose(ours[0], torch.from_numpy(scores), atol=1e-5)


def test_17_l2_order_on_unit_vectors_is_cosine_order():
    queries, database = tables()
    unit = torch.nn.functional.normalize(database, dim=1)
    _, ids = search.at_size(queries, database, 8, 10)
    l2 = torch.cdist(queries, unit).double()  # the query's own length does not change the order
    assert torch.equal(ids, l2.argsort(1)[:, :10])


def test_26_same_answer_twice_and_inputs_untouched():
    queries, database = tables()
    copies = queries.clone(), database.clone()
    first, second = search.at_size(queries, database, 3, 5), search.at_size(queries, database, 3, 5)
    assert torch.equal(first[1], second[1])
    assert torch.equal(queries, copies[0])
    assert torch.equal(database, copies[1])


def test_a_row_can_leave_itself_out():
    _, database = tables()
    _, with_itself = search.at_size(database, database, 8, 1)
    assert torch.equal(with_itself[:, 0], torch.arange(300))
    _, ids = search.at_size(database, database, 8, 4, exclude=torch.arange(300))
    assert not (ids == torch.arange(300)[:, None]).any()


@pytest.fixture(scope="module")
def graph():
    """An HNSW index over 3000 unit rows, the rows, and 100 unit queries."""
    queries, database = (unit_prefix(t, 16) for t in tables(n=3000, q=100, m=16))
    return search.hnsw(database, links=16), database, queries


def recall(ids, true):
    return (ids[:, :, None] == true[:, None]).any(2).double().mean().item()


def test_39_hnsw_with_a_large_ef_finds_what_exact_search_finds(graph):
    index, database, queries = graph
    true_scores, true = search.exact(queries, database, 10)
    scores, ids = index.search(queries, 10, ef=500)
    assert recall(ids, true) >= 0.99
    assert recall(index.search(queries, 10, ef=10)[1], true) < recall(ids, true)
    assert (scores.diff(dim=1) <= 0).all()
    assert torch.allclose(scores, (queries @ database.T).gather(1, ids), atol=1e-5)
    assert (scores <= true_scores + 1e-5).all()


def test_39_hnsw_says_what_its_time_depends_on(graph):
    line = graph[0].describe(k=10, ef=5, batch=100)
    for words in ("HNSW16", "3000 vectors of 16 dims", "k = 10", "ef = 10", "1 thread(s)", "100 queries"):
        assert words in line


def test_39_one_thread_builds_the_same_graph_again_and_the_count_is_put_back(graph):
    faiss = pytest.importorskip("faiss")
    index, database, queries = graph
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    again = search.hnsw(database, links=16).search(queries, 10, ef=10)
    assert faiss.omp_get_max_threads() == 3
    faiss.omp_set_num_threads(before)
    assert torch.equal(again[1], index.search(queries, 10, ef=10)[1])


@pytest.mark.parametrize(
    ("queries", "k", "words"),
    [(torch.zeros(2, 3), 1, "same width"), (torch.zeros(2, 16), 3001, "1 to 3000"), (torch.zeros(2, 16), 0, "k = 0")],
)
def test_39_wrong_requests_of_a_graph(graph, queries, k, words):
    with pytest.raises(RequestError, match=words):
        graph[0].search(queries, k, ef=10)


@pytest.mark.parametrize("rows", [torch.ones(5, 3), torch.full((5, 3), torch.nan)])
def test_39_a_graph_is_built_over_unit_rows_only(rows):
    with pytest.raises(RequestError, match="unit_prefix"):
        search.hnsw(rows)


def test_39_without_faiss_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RequestError, match="pip install"):
        search.hnsw(torch.eye(3))


@pytest.mark.parametrize(
    ("queries", "database", "k", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(5, 4), 1, "same width"),
        (torch.zeros(2, 3), torch.zeros(5, 3), 6, "1 to 5"),
        (torch.zeros(2, 3), torch.zeros(0, 3), 1, "of 0 rows"),
        (torch.zeros(2, 3), torch.zeros(5, 3), 0, "k = 0"),
        (torch.full((2, 3), torch.nan), torch.zeros(5, 3), 1, "NaN"),
    ],
)
def test_wrong_requests(queries, database, k, words):
    with pytest.raises(RequestError, match=words):
        search.exact(queries, database, k)
