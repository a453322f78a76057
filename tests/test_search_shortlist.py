"""Shortlist and rerank, funnels and their costs against the plainest way (numbers are those of mrl.md, section 6)."""

import pytest
import torch

from mrl_lab import search
from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.search import cost, shortlist

N, D = 120, 16


@pytest.fixture
def made():
    """Queries and database rows whose later dims matter less, of many lengths."""
    draw = torch.Generator().manual_seed(0)
    scale = 0.8 ** torch.arange(D)
    lengths = torch.rand(N, 1, generator=draw).double() + 0.1
    queries, database = (torch.randn(n, D, generator=draw).double() * scale for n in (25, N))
    return queries, database * lengths


def cosine(a, b):
    return float(sum(x * y for x, y in zip(a, b, strict=True)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5)


def slow_rerank(queries, database, ids, m, k):
    """One query and one candidate at a time."""
    found = []
    for query, row in zip(queries.tolist(), ids.tolist(), strict=True):
        scores = {i: cosine(query[:m], database[i, :m].tolist()) for i in row}
        found.append(sorted(row, key=lambda i: (-scores[i], i))[:k])
    return torch.tensor(found)


def slow_exact(queries, database, m, k):
    everything = torch.arange(len(database)).expand(len(queries), -1)
    return slow_rerank(queries, database, everything, m, k)


@pytest.mark.parametrize("m", [2, 3, 16])
@pytest.mark.parametrize("buffer", [1, 100, 2**19])
def test_rerank_equals_one_candidate_at_a_time(made, m, buffer, monkeypatch):
    monkeypatch.setattr(shortlist, "BUFFER", buffer)
    queries, database = made
    ids = torch.stack([torch.randperm(N)[:30] for _ in queries])
    scores, found = search.rerank(queries, database, ids, m, 7)
    assert torch.equal(found, slow_rerank(queries, database, ids, m, 7))
    units = (torch.nn.functional.normalize(t[:, :m]) for t in made)
    assert torch.allclose(scores, torch.matmul(*(u if i == 0 else u.T for i, u in enumerate(units))).gather(1, found))


def test_equal_candidates_are_in_the_order_of_ids(made):
    queries, database = made
    same = database[:1].repeat(9, 1)
    ids = torch.tensor([[7, 0, 3, 8, 1]]).repeat(len(queries), 1)
    assert search.rerank(queries, same, ids, 4)[1].tolist() == [[0, 1, 3, 7, 8]] * len(queries)


def test_a_row_of_zeros_is_nobodys_neighbour_and_not_nan(made):
    queries, database = made
    scores, ids = search.rerank(
        queries, torch.cat([0 * database[:1], database[1:]]), torch.tensor([[0, 1, 2]] * 25), 16
    )
    assert scores.isfinite().all()
    assert (scores[ids == 0] == 0).all()


@pytest.mark.parametrize("m", [1, 2, 5, 16])
@pytest.mark.parametrize("rerank_dim", [4, 16])
def test_18_a_shortlist_of_everything_is_exact_search_at_the_rerank_dims(made, m, rerank_dim):
    queries, database = made
    found = search.nested(database, m, rerank_dim=rerank_dim).search(queries, 10, length=N)[1]
    assert torch.equal(found, slow_exact(queries, database, rerank_dim, 10))
    assert torch.equal(found, search.at_size(queries, database, rerank_dim, 10)[1])


@pytest.mark.parametrize("m", [2, 8, 16])
@pytest.mark.parametrize("length", [10, 40])
def test_18_reranking_by_the_shortlists_own_dims_changes_nothing(made, m, length):
    queries, database = made
    found = search.nested(database, m, rerank_dim=m).search(queries, 10, length=length)[1]
    assert torch.equal(found, search.at_size(queries, database, m, 10)[1])


def test_19_results_are_of_the_shortlist_and_recall_never_falls_with_its_length(made):
    queries, database = made
    index = search.nested(database, 3)
    true = search.at_size(queries, database, D, 10)[1]
    recalls = []
    for length in range(10, N + 1, 5):
        found = index.search(queries, 10, length=length)[1]
        listed = index.shortlist(queries, length)
        assert (found[:, :, None] == listed[:, None]).any(2).all()
        assert torch.equal(found, slow_rerank(queries, database, listed, D, 10))
        recalls.append(search.recall(true)(found, torch.arange(25)))
    rises = torch.stack(recalls).diff(dim=0)
    assert (rises >= 0).all()
    assert recalls[0].mean() < 0.7
    assert (recalls[-1] == 1).all()


def slow_funnel(queries, database, ids, dims, lists):
    for m, length in zip(dims, lists, strict=True):
        ids = slow_rerank(queries, database, ids[:, :length], m, length)
    return ids


def test_20_a_funnel_equals_its_stages_one_by_one(made):
    queries, database = made
    ids = search.at_size(queries, database, 2, 80)[1]
    dims, lists = (4, 8, 16), (60, 30, 10)
    scores, found = search.funnel(queries, database, ids, dims, lists)
    assert found.shape == scores.shape == (25, 10)
    assert torch.equal(found, slow_funnel(queries, database, ids, dims, lists))
    for stage in (1, 2):
        before = search.funnel(queries, database, ids, dims[:stage], lists[:stage])[1]
        after = search.funnel(queries, database, ids, dims[: stage + 1], lists[: stage + 1])[1]
        assert (after[:, :, None] == before[:, None]).any(2).all()
        assert after.shape[1] < before.shape[1]


def test_20_one_stage_is_shortlist_and_rerank_and_full_lists_are_exact_search(made):
    queries, database = made
    index = search.nested(database, 2)
    one = search.funnel(queries, database, index.shortlist(queries, 40), [16], [40])
    assert torch.equal(one[1][:, :10], index.search(queries, 10, length=40)[1])
    full = search.funnel(queries, database, index.shortlist(queries, N), [4, 8, 16], [N, N, N])[1]
    assert torch.equal(full, slow_exact(queries, database, 16, N))


def test_21_nothing_is_changed_and_the_order_of_settings_does_not_matter(made):
    """The official code re-orders a view of the shortlist, so that each setting finds what the one before refined."""
    queries, database = made
    ids = search.at_size(queries, database, 2, 80)[1]
    kept = [t.clone() for t in (queries, database, ids)]
    settings = [((4, 16), (80, 10)), ((8, 16), (40, 10)), ((16,), (20,))]
    once = [search.funnel(queries, database, ids, *s)[1] for s in settings]
    again = [search.funnel(queries, database, ids, *s)[1] for s in reversed(settings)]
    assert all(torch.equal(a, b) for a, b in zip(once, reversed(again), strict=True))
    index = search.nested(database, 2)
    first = [index.search(queries, 5, length=k)[1] for k in (5, 50, 9)]
    assert all(torch.equal(a, index.search(queries, 5, length=k)[1]) for a, k in zip(first, (5, 50, 9), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(kept, (queries, database, ids), strict=True))


def test_22_costs_are_the_papers():
    n = 1_281_167
    assert cost.reranked(n, 8, 200, 8) == n * 8 + 1600
    assert cost.reranked(n, 8, 200, 2048) - 200 * 2048 + 200 * 8 == 10_250_936
    assert cost.reranked(n, 16, 200, 2048) == 20_908_272
    assert cost.exact(n, 2048) + 200 * 2048 == 2_624_239_616
    assert cost.funnelled(n, 16, [32, 64, 128, 256, 2048], [200, 100, 50, 25, 10]) == 20_544_752


def test_22_probing_every_list_costs_all_rows_and_the_centroids():
    assert cost.probed(1000, 8, 10, 10) == cost.probed(1000, 8, 10, 99) == 8 * 1010
    assert cost.probed(1000, 8, 10, 1) == 8 * 110


@pytest.mark.parametrize("engine", ["hnsw", "ivf"])
def test_an_index_on_the_prefix_with_a_rerank_finds_what_exact_search_finds(engine):
    draw = torch.Generator().manual_seed(1)
    scale = 0.9 ** torch.arange(32)
    queries, database = (torch.randn(n, 32, generator=draw) * scale for n in (50, 3000))
    index = search.nested(database, 16, engine=engine)
    effort = {"hnsw": {"ef": 300}, "ivf": {"probes": 1000}}[engine]
    found = index.search(queries, 10, length=200, **effort)[1]
    plain = search.nested(database, 16).search(queries, 10, length=200)[1]
    assert search.recall(plain)(found, torch.arange(50)).mean() > 0.99


def test_rows_of_length_1_are_reranked_where_they_lie_and_as_all_others(made, monkeypatch):
    queries, database = (rows.float() for rows in made)
    unit = unit_prefix(database, D)
    ids = search.at_size(queries, unit, 4, 40)[1]
    plain = search.rerank(queries, unit, ids, D)
    monkeypatch.setattr(shortlist, "_cosines", lambda *_: pytest.fail("gathered"))
    there = search.rerank(queries, unit, ids, D, unit=True)
    assert torch.allclose(plain[0], there[0], atol=1e-6)
    assert torch.equal(plain[1], there[1])
    assert search.nested(unit, 4).search(queries, 10, length=40)[1].equal(there[1][:, :10])
    for given, m in ((database, D), (unit, D - 1), (unit.half(), D)):
        with pytest.raises(pytest.fail.Exception, match="gathered"):
            search.nested(given, 4, rerank_dim=m).search(queries, 10, length=40)


def test_half_precision_vectors_are_reranked_too(made):
    queries, database = made
    ids = search.at_size(queries, database, 4, 40)[1]
    half = search.rerank(queries, database.half(), ids, 16)[1]
    assert (half == search.rerank(queries, database, ids, 16)[1]).double().mean() > 0.9


DATA, QUERIES, IDS = torch.eye(6, 4), torch.eye(2, 4), torch.tensor([[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: search.rerank(QUERIES, DATA, IDS, 4, 4), "1 to 3"),
        (lambda: search.rerank(QUERIES, DATA, IDS, 5), "cannot keep 5 dims"),
        (lambda: search.rerank(QUERIES[:, :3], DATA, IDS, 3), "same width"),
        (lambda: search.rerank(QUERIES, DATA, IDS + 1, 4), "from 0 to 5"),
        (lambda: search.rerank(QUERIES, DATA, IDS - 1, 4), "from 0 to 5"),
        (lambda: search.rerank(QUERIES, DATA, IDS[:1], 4), "each of 2 queries"),
        (lambda: search.rerank(QUERIES * torch.nan, DATA, IDS, 4), "NaN"),
        (lambda: search.funnel(QUERIES, DATA, IDS, [2, 4], [3]), "one list length for each"),
        (lambda: search.funnel(QUERIES, DATA, IDS, [2, 4], [2, 3]), "falling"),
        (lambda: search.funnel(QUERIES, DATA, IDS, [2, 4], [4, 1]), "at most 3"),
        (lambda: search.funnel(QUERIES, DATA, IDS, [4, 2], [3, 1]), "rise"),
        (lambda: search.funnel(QUERIES, DATA, IDS, [2, 4], [3, 0]), "list length = 0"),
        (lambda: search.nested(DATA, 5), "at most 4"),
        (lambda: search.nested(DATA, 2, rerank_dim=5), "at most 4"),
        (lambda: search.nested(DATA, 2, engine="hsnw"), "Did you mean 'hnsw'"),
        (lambda: search.nested(DATA, 2, form="int4"), "Did you mean 'int8'"),
        (lambda: search.nested(DATA, 2, lists=3), "takes no lists"),
        (lambda: search.nested(DATA, 2, engine="ivf", form="int8"), "takes no form"),
        (lambda: search.nested(DATA * torch.nan, 2), "NaN"),
        (lambda: search.nested(DATA, 2).search(QUERIES, 3, length=2), "shortlist of 2"),
        (lambda: search.nested(DATA, 2).search(QUERIES, 3, length=7), "1 to 6"),
        (lambda: search.nested(DATA, 2).search(QUERIES[:, :3], 3, length=5), "same width"),
        (lambda: search.nested(DATA[:0], 2).search(QUERIES, 1, length=1), "of 0 rows"),
    ],
)
def test_wrong_requests(ask, words):
    with pytest.raises(RequestError, match=words):
        ask()
