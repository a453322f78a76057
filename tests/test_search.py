"""Exact search against a plain sort and faiss."""

import pytest
import torch

from mrl_lab import search
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
