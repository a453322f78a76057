"""Exact search against a plain sort and faiss, the indexes of faiss against exact search."""

import sys

import pytest
import torch

from mrl_lab import search
from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.search import flat, running


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


@pytest.fixture(params=["a block at once", "many blocks"])
def blocks(request, monkeypatch):
    """Everything in one block, or blocks of 64 rows, of which the last is short."""
    if request.param == "many blocks":
        monkeypatch.setattr(flat, "BLOCK", 64 * 40)


ORDERS = {
    "as drawn": lambda database, best: torch.arange(len(database)),
    "the best last": lambda database, best: best,
    "the best first": lambda database, best: best.flip(0),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("k", [1, 3, 40, 333])
def test_blocks_of_any_order_give_what_a_plain_sort_gives(blocks, order, k):
    """Rising scores let every row in, falling ones none: both ends of what the running best has to sift."""
    queries, database = (t.double() for t in tables(n=333))
    database = database[ORDERS[order](database, (database @ queries[0]).argsort())]
    assert torch.equal(search.exact(queries, database, k)[1], slow(queries, database, k))


def test_many_ties_across_blocks(blocks):
    """Eleven different rows, thirty of each: almost every score is tied, at the bar and everywhere else."""
    queries, rows = (t.double().round() for t in tables(n=11))
    database = rows[torch.randint(11, (330,), generator=torch.Generator().manual_seed(0))]
    for k in (1, 7, 29, 31, 100):
        assert torch.equal(search.exact(queries, database, k)[1], slow(queries, database, k))


def test_a_group_that_is_all_below_zero_wins_over_what_fills_the_last_group(blocks):
    database = -torch.rand(70, 4).double() - 0.1  # 70 rows are two groups and a bit
    queries = torch.rand(40, 4).double()
    assert torch.equal(search.exact(queries, database, 70)[1], slow(queries, database, 70))


def test_left_out_rows_are_left_out_in_every_block(blocks):
    _, database = tables(n=333)
    itself = torch.arange(333)
    _, ids = search.exact(database, database, 332, exclude=itself)
    assert torch.equal(ids.sort(1).values, torch.stack([itself[itself != i] for i in range(333)]))


def test_the_table_of_all_scores_never_exists(monkeypatch):
    """Blocks are as large as BLOCK says, whatever Q and N are."""
    sizes = []
    offer = running.RunningBest.offer
    monkeypatch.setattr(
        running.RunningBest, "offer", lambda self, s, start: sizes.append(s.numel()) or offer(self, s, start)
    )
    monkeypatch.setattr(flat, "BLOCK", 2**14)
    queries, database = tables(n=3000, q=700)
    search.exact(queries, database, 5, rows=256)
    assert max(sizes) <= 2**14 + 32 * 256
    assert len(sizes) > 2 * 3000 * 700 / 2**15


def test_most_rows_are_never_looked_at_one_by_one(monkeypatch):
    """Of 100,000 rows in random order k (1 + log(N / first block)), about 45 a query, come through, in few groups."""
    kept, waiting = [], []
    keep = running.RunningBest._keep

    def counted(self, groups, group, *where):
        kept.append(len(group))
        waiting.append(self.count)
        keep(self, groups, group, *where)

    monkeypatch.setattr(running.RunningBest, "_keep", counted)
    monkeypatch.setattr(flat, "BLOCK", 2**15)
    queries, database = tables(n=100_000, q=8)
    _, ids = search.exact(queries, database, 10)
    assert torch.equal(ids, (queries @ database.T).topk(10).indices)
    assert 8 * 10 <= sum(kept) < 8 * 100
    assert max(waiting) <= 8 * 10 / 2


def test_the_smallest_of_differences_counts(monkeypatch):
    """Scores that differ by 1e-7, in blocks that each bring a few better ones."""
    monkeypatch.setattr(flat, "BLOCK", 64)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    database = 1 + 1e-7 * order[:, None].double()
    assert torch.equal(search.exact(torch.ones(1, 1).double(), database, 5)[1][0], order.argsort(descending=True)[:5])


def test_equals_from_a_block_with_little_news_stay_before_those_of_a_block_full_of_it(monkeypatch):
    monkeypatch.setattr(flat, "BLOCK", 64)
    database = torch.zeros(192, 1)
    database[[70, 130, 170, 171]] = 1.0
    assert search.exact(torch.ones(1, 1), database, 3)[1].tolist() == [[70, 130, 170]]


def test_unnormalised_rows_are_searched_by_inner_product_and_at_size_by_cosine():
    queries, database = tables()
    longer = database * torch.linspace(0.1, 10, 300)[:, None]
    inner, cosine = search.exact(queries, longer, 10)[1], search.at_size(queries, longer, 8, 10)[1]
    assert torch.equal(inner, slow(queries, longer, 10))
    assert torch.equal(cosine, search.at_size(queries, database, 8, 10)[1])
    assert not torch.equal(inner, cosine)


def test_no_queries_find_nothing():
    scores, ids = search.exact(torch.zeros(0, 8), tables()[1], 3)
    assert scores.shape == ids.shape == (0, 3)
    assert ids.dtype == torch.int64


def test_ties_are_broken_by_id():
    database = torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 0], [0, 1], [1, 0]])
    queries = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    _, ids = search.exact(queries, database, 3)
    assert ids.tolist() == [[0, 2, 3], [1, 4, 0], [0, 1, 2]]


def test_faiss_agrees():
    import faiss

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


@pytest.mark.parametrize("m", [1, 3, 8])
def test_16_scores_at_a_size_are_the_cosines_of_the_prefixes(m):
    queries, database = tables()
    scores, ids = search.at_size(queries, database, m, 300)
    cosines = torch.nn.functional.cosine_similarity(queries[:, None, :m], database[None, :, :m], dim=2)  # (Q, N)
    assert torch.allclose(scores, cosines.gather(1, ids), atol=1e-5)


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
    import faiss

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


@pytest.mark.parametrize("build", [search.hnsw, search.ivf])
def test_39_an_index_is_built_over_unit_rows_only(build):
    with pytest.raises(RequestError, match="unit_rows"):
        build(torch.ones(5, 3))


@pytest.mark.parametrize("build", [search.hnsw, search.ivf])
def test_39_rows_of_zeros_may_stand_in_an_index(build):
    """The first dims of a feature after a ReLU can all be zero; such a row is like nothing, and breaks nothing."""
    rows = unit_prefix(torch.cat([torch.zeros(1, 4), tables(n=50, m=4)[1].abs()]), 4)
    _, ids = build(rows).search(rows[1:4], 51)
    assert ids[:, 0].tolist() == [1, 2, 3]
    assert ids[:, -1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("build", [search.hnsw, search.ivf])
def test_39_without_faiss_the_error_says_what_to_install(monkeypatch, build):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RequestError, match="pip install"):
        build(torch.eye(3))


def test_39_a_graph_in_pieces_is_refused():
    """Two links a vertex and 500 equal rows: the graph falls apart."""
    rows = unit_prefix(torch.cat([torch.ones(500, 4), tables(n=500, m=4)[1]]), 4)
    with pytest.raises(RequestError, match="more links"):
        search.hnsw(rows, links=2, build_ef=1).search(rows[-3:], 900, ef=1)


@pytest.fixture(scope="module")
def lists(graph):
    return search.ivf(graph[1], lists=30)


def test_39_probing_all_lists_is_exact_search(graph, lists):
    _, database, queries = graph
    scores, ids = search.exact(queries, database, 10)
    found = lists.search(queries, 10, probes=99)
    assert torch.equal(found[1], ids)
    assert torch.allclose(found[0], scores, atol=1e-5)
    recalls = [recall(lists.search(queries, 10, probes=p)[1], ids) for p in (1, 3, 9, 30)]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9 < recalls[2]


def test_39_a_query_whose_lists_are_short_looks_everywhere(graph, lists):
    _, database, queries = graph
    found = lists.search(queries, 900, probes=1)[1]
    assert found.min() >= 0
    assert recall(found, search.exact(queries, database, 900)[1]) > 0.999  # the two products round differently


def test_39_lists_say_what_their_time_depends_on(lists):
    line = lists.describe(k=10, probes=99, batch=7)
    for words in ("IVF30", "3000 vectors of 16 dims", "k = 10", "30 probes", "1 thread(s)", "7 queries", "built in"):
        assert words in line


def test_39_the_same_rows_give_the_same_lists(graph, lists):
    _, database, queries = graph
    again = search.ivf(database, lists=30).search(queries, 10, probes=2)
    assert torch.equal(again[1], lists.search(queries, 10, probes=2)[1])


@pytest.mark.parametrize("number", [0, 6])
def test_39_wrong_numbers_of_lists(number):
    with pytest.raises(RequestError, match="1 to 5"):
        search.ivf(torch.eye(5), lists=number)


@pytest.mark.parametrize(
    ("queries", "database", "k", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(5, 4), 1, "same width"),
        (torch.zeros(2, 3), torch.zeros(5, 3), 6, "1 to 5"),
        (torch.zeros(2, 3), torch.zeros(0, 3), 1, "of 0 rows"),
        (torch.zeros(2, 3), torch.zeros(5, 3), 0, "k = 0"),
        (torch.full((2, 3), torch.nan), torch.zeros(5, 3), 1, "NaN"),
        (torch.zeros(2, 3), torch.tensor([[0.0] * 3] * 4 + [[0.0, torch.nan, 0.0]]), 1, "row 4: NaN"),
        (torch.ones(2, 3), torch.tensor([[0.0] * 3] * 4 + [[0.0, torch.inf, 0.0]]), 1, "infinite"),
        (torch.zeros(2, 3), torch.zeros(5, 3, dtype=torch.int64), 1, "floating point"),
        (torch.zeros(2, 3, 1), torch.zeros(5, 3), 1, "same width"),
    ],
)
def test_wrong_requests(queries, database, k, words):
    with pytest.raises(RequestError, match=words):
        search.exact(queries, database, k)
