"""Planning: its table is that of trying every setting alone, its choice the fastest that is good enough."""

import time

import pytest
import torch
from scipy.stats import norm, sem

from mrl_lab import score, search
from mrl_lab.errors import RequestError
from mrl_lab.search import planning

DIMS, LENGTHS, D = (2, 8, 16), (10, 30, 100), 32


@pytest.fixture(scope="module")
def made():
    """Queries, rows and their labels: 20 classes told apart by early dims, neighbours by late ones too."""
    draw = torch.Generator().manual_seed(0)
    scale = 0.9 ** torch.arange(D)
    centres = 2 * torch.randn(20, D, generator=draw)
    y, database_y = (torch.randint(20, (n,), generator=draw) for n in (80, 1500))
    noise = [torch.randn(n, D, generator=draw) for n in (80, 1500)]
    return (centres[y] + noise[0]) * scale, (centres[database_y] + noise[1]) * scale, y, database_y


@pytest.fixture(scope="module")
def quality(made):
    queries, database, _, _ = made
    return search.recall(search.at_size(queries, database, D, 10)[1])


@pytest.fixture(scope="module")
def planned(made, quality):
    """Planned with a clock by which later settings are faster, and the exact search, the last, is slowest."""
    queries, database, _, _ = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "_in_turn", lambda ways, *_: {i: 99.0 - i for i in ways} | {max(ways): 999.0})
        return _planned(database, queries, quality)


def _planned(database, queries, quality):
    return search.plan(database, queries, quality, shortlist_dims=DIMS, lengths=LENGTHS, rerank_dims=(8, D), target=90)


def test_every_setting_is_scored_as_if_it_were_tried_alone(made, quality, planned):
    queries, database, _, _ = made
    table = planned.table.iloc[:-1]
    assert len(table) == 3 * 3 * 2 - 3  # D_s = 16 is not reranked by 8
    for row in table.itertuples():
        index = search.nested(database, int(row.shortlist_dim), rerank_dim=int(row.rerank_dim))
        found = quality(index.search(queries, 10, length=int(row.length))[1], torch.arange(80)) * 100
        assert row.chosen_on == pytest.approx(found[::2].mean().item())
        assert row.held_out == pytest.approx(found[1::2].mean().item())
        assert row.flops == search.cost.reranked(1500, row.shortlist_dim, row.length, row.rerank_dim)


@pytest.mark.parametrize(
    ("engine", "effort", "efforts", "build"), [("ivf", "probes", (1, 3), {}), ("hnsw", "ef", (10, 40), {"links": 4})]
)
def test_a_short_list_of_an_index_is_not_the_head_of_a_long_one(made, quality, engine, effort, efforts, build):
    """Asked for 300 rows, one list of 50 and a walk of ef = 10 look farther than what is timed later."""
    queries, database, _, _ = made
    how = {"shortlist_dims": (8,), "lengths": (10, 300), "efforts": efforts, "engine": engine, "target": 0, **build}
    table = search.plan(database, queries, quality, repeats=1, **how).table.iloc[:-1]
    index = search.nested(database, 8, engine=engine, **build)
    for row in table.itertuples():
        found = index.search(queries, 10, length=int(row.length), **{effort: int(row.effort)})[1]
        of = quality(found, torch.arange(80)) * 100
        assert (row.chosen_on, row.held_out) == pytest.approx((of[::2].mean().item(), of[1::2].mean().item()))
    least = {effort: efforts[0]}
    assert not torch.equal(index.shortlist(queries, 300, **least)[:, :10], index.shortlist(queries, 10, **least))


def test_the_frontier_is_what_nothing_as_cheap_equals(planned):
    table = planned.table.iloc[:-1]
    for row in table.itertuples():
        others = table[(table.flops <= row.flops) & (table.index != row.Index)]
        as_good = others[others.chosen_on >= row.chosen_on]
        ahead = as_good[(as_good.flops < row.flops) | (as_good.chosen_on > row.chosen_on) | (as_good.index < row.Index)]
        assert row.frontier == ahead.empty


def test_timed_are_the_frontier_and_the_shortest_list_of_each_kind_that_is_enough(planned):
    table = planned.table.iloc[:-1]
    enough = table[table.margin >= 0]
    shortest = enough.loc[enough.groupby(["shortlist_dim", "rerank_dim"]).length.idxmin()]
    assert len(shortest) > 1
    timed = set(table[table.frontier].index) | set(shortest.index)
    assert set(table[table.seconds.notna()].index) == timed


def test_the_choice_is_the_fastest_that_surely_meets_the_target(planned):
    table = planned.table
    enough = table[(table.margin >= 0) & table.seconds.notna()]
    assert planned.choice["seconds"] == enough.seconds.min() < table.seconds.max()
    assert planned.choice["chosen_on"] >= planned.target == 90
    assert planned.choice["held_out"] > 80  # on queries that chose nothing


def test_the_margin_is_the_lower_bound_of_the_paired_points_above_the_target(made):
    queries, database, y, database_y = made

    def quality(ids, which):
        return score.average_precision(database_y[ids] == y[which, None])

    found = search.plan(database, queries, quality, shortlist_dims=(8,), lengths=(20, 60), drop=1.0, repeats=1)
    exact = quality(search.at_size(queries, database, D, 10)[1], torch.arange(80)).numpy() * 100
    for row in found.table.iloc[:-1].itertuples():
        index = search.nested(database, 8, rerank_dim=D)
        of = quality(index.search(queries, 10, length=int(row.length))[1], torch.arange(80)).numpy() * 100
        above = (of - exact + 1.0)[::2]
        assert row.margin == pytest.approx(above.mean() - norm.ppf(0.95) * sem(above), abs=1e-3)
    assert found.table.margin.iloc[-1] == pytest.approx(1.0)  # exact search against itself


def test_a_mean_that_luck_may_have_made_does_not_choose():
    """Two settings with the same mean: the one whose queries differ widely from exact search is not sure."""
    goal = torch.full((80,), 50.0)
    steady, lucky = goal + 0.1, goal + 0.1 + 20 * torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(20)
    rows = [planning._row(None, of, goal, 1) | {"seconds": s} for of, s in ((steady, 2.0), (lucky, 1.0))]
    assert rows[0]["chosen_on"] == pytest.approx(rows[1]["chosen_on"])
    assert planning._choose(rows, 50.0)[1] == 0


def test_the_choice_is_ready_to_search(made, planned):
    queries, database, _, _ = made
    choice = planned.choice
    index = search.nested(database, choice["shortlist_dim"], rerank_dim=choice["rerank_dim"])
    found = index.search(queries[:7], 10, length=choice["length"])
    assert torch.equal(planned.search(queries[:7])[1], found[1])


def test_where_nothing_less_is_enough_the_choice_is_exact_search(made, quality):
    queries, database, _, _ = made
    found = search.plan(database, queries, quality, shortlist_dims=(2,), lengths=(10,), target=100, repeats=1)
    assert found.choice["length"] is None
    assert torch.equal(found.search(queries)[1], search.at_size(queries, database, D, 10)[1])


def test_the_last_row_is_exact_search_and_sets_the_default_target(made):
    queries, database, y, database_y = made

    def quality(ids, which):
        return score.average_precision(database_y[ids] == y[which, None])

    found = search.plan(database, queries, quality, shortlist_dims=(4, 8), lengths=(20, 60), drop=0.5)
    exact = found.table.iloc[-1]
    everything = quality(search.at_size(queries, database, D, 10)[1], torch.arange(80)) * 100
    assert exact.chosen_on == pytest.approx(everything[::2].mean().item())
    assert exact.flops == 1500 * D
    assert found.target == pytest.approx(exact.chosen_on - 0.5)


def test_what_is_known_of_exact_search_is_used_and_not_run_again(made, quality, monkeypatch):
    queries, database, _, _ = made
    ids, clocked = search.at_size(queries, database, D, 10)[1], []
    monkeypatch.setattr(planning, "_in_turn", lambda ways, *_: clocked.extend(ways) or dict.fromkeys(ways, 2.0))
    how = {"shortlist_dims": DIMS, "lengths": LENGTHS}
    fast = search.plan(database, queries, quality, **how, known=search.Known(ids, 1.0))
    last = fast.table.iloc[-1]
    assert (last.seconds, last.chosen_on, last.held_out) == (1.0, 100.0, 100.0)
    assert clocked
    assert len(fast.table) - 1 not in clocked
    assert fast.choice["shortlist_dim"] is None  # all others take 2 seconds
    assert torch.equal(fast.search(queries)[1], ids)
    slow = search.plan(database, queries, quality, **how, known=search.Known(ids, 3.0))
    assert slow.choice["shortlist_dim"] is not None


@pytest.mark.parametrize(("engine", "efforts"), [("ivf", (1, 2, 30)), ("hnsw", (100, 300))])
def test_an_index_is_planned_with_its_effort(made, quality, engine, efforts):
    queries, database, _, _ = made
    build = {"ivf": {"lists": 30}, "hnsw": {"links": 16}}[engine]
    how = {"shortlist_dims": (8, 16), "lengths": (50, 100), "efforts": efforts, "engine": engine, "repeats": 1, **build}
    found = search.plan(database, queries, quality, target=60, **how)
    assert len(found.table) == 2 * 2 * len(efforts) + 1
    assert set(found.table.effort.dropna()) == set(efforts)
    if engine == "ivf":
        best = found.table[(found.table.effort == 30) & (found.table.shortlist_dim == 8) & (found.table.length == 50)]
        plain = search.nested(database, 8).search(queries, 10, length=50)[1]
        assert best.chosen_on.item() == pytest.approx(100 * quality(plain, torch.arange(80))[::2].mean().item())
        assert best.flops.item() == search.cost.probed(1500, 8, 30, 30) + 50 * D
    else:
        assert found.table.iloc[:-1].flops.isna().all()
        assert not found.table.frontier.any()  # nobody knows what a graph will cost
        enough = found.table.iloc[:-1].query("margin >= 0")
        assert found.table.iloc[:-1].seconds.notna().sum() == len(enough.groupby(["shortlist_dim", "effort"])) == 4


def test_recall_is_the_share_of_the_true_neighbours():
    quality = search.recall(torch.tensor([[1, 2], [3, 4], [5, 6]]))
    assert quality(torch.tensor([[2, 9, 1], [9, 8, 6]]), torch.tensor([0, 2])).tolist() == [1.0, 0.5]


def test_ways_are_timed_in_turn_after_a_warm_up():
    order = []

    def slow_at_first(queries):
        time.sleep(0 if order else 0.3)
        order.append("a")

    seconds = planning._in_turn({1: slow_at_first, 2: lambda queries: order.append("b")}, torch.eye(2), 1)
    assert order == ["a", "b"] * 2
    assert seconds.keys() == {1, 2}
    assert max(seconds.values()) < 0.3


def test_of_two_settings_that_cost_the_same_the_better_is_on_the_frontier():
    rows = [{"flops": f, "chosen_on": q} for f, q in ((5, 0.5), (5, 0.7), (5, 0.6), (4, 0.1), (9, 0.7), (8, 0.8))]
    assert planning._frontier(rows) == [3, 1, 5]


@pytest.mark.parametrize(
    ("lengths", "able"),
    [((20, 50, 100, 200, 500), [20, 50, 60]), ((5, 20, 60), [20, 60]), ((20, 60), None), ((60, 20), None)],
)
def test_lengths_that_cannot_be_are_cut_to_all_rows_or_left_out_and_that_is_said(made, quality, lengths, able, recwarn):
    queries, database, _, _ = made
    found = search.plan(database[:60], queries, quality, shortlist_dims=(2,), lengths=lengths, target=0, repeats=1)
    assert found.table.length.dropna().tolist() == (able or [20, 60])
    assert [str(w.message) for w in recwarn] == (
        [f"of the lengths {list(lengths)}, {able} are tried: k = 10, of 60 rows."] if able else []
    )


@pytest.mark.parametrize(("engine", "effort"), [("ivf", 8), ("hnsw", 64)])
def test_without_efforts_an_index_is_planned_with_its_own(made, quality, engine, effort):
    queries, database, _, _ = made
    found = search.plan(database, queries, quality, shortlist_dims=(8,), lengths=(50,), engine=engine, target=0)
    assert found.table.effort.dropna().tolist() == [effort]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"k": 1501}, "1 to 1500"),
        ({"repeats": 0}, "repeats = 0"),
        ({"batch": 0}, "batch = 0"),
        ({"efforts": (5,)}, "leave them out"),
        ({"lengths": (20.5,)}, "length = 20.5"),
        ({"target": 100.5}, "no setting surely reaches 100.50 %; the best has"),
        ({"lengths": (5,)}, r"lengths \[5\] must reach k = 10"),
        ({"shortlist_dims": (99,)}, "at most 32"),
        ({"engine": "hsnw"}, "Did you mean 'hnsw'"),
    ],
)
def test_wrong_requests(made, quality, how, words):
    queries, database, _, _ = made
    settings = {"shortlist_dims": (2,), "lengths": (20,), "repeats": 1} | how
    with pytest.raises(RequestError, match=words):
        search.plan(database, queries, quality, **settings)
