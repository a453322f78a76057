"""What every search refuses and takes, the same for all of them."""

import numpy as np
import pytest
import torch

from mrl_lab import search
from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError

N, Q, D = 200, 12, 16
ALL = torch.arange(N).expand(Q, N)


def drawn(n, seed):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def index(build):
    return lambda queries, rows, k: build(search.unit_rows(rows, D)).search(queries, k)


def stored(form):
    return lambda queries, rows, k: search.exact(queries, search.store(rows, form), k)


def planned(queries, rows, k):
    truth = torch.arange(3).expand(len(queries), 3)
    how = {"shortlist_dims": [4], "lengths": [N], "k": k, "target": 0.0, "repeats": 1}
    return search.plan(rows, queries, search.recall(truth), **how).search(queries)


def funnelled(queries, rows, k):
    return search.funnel(queries, rows, ALL[: len(queries)], [8, D], [N, k])


SEARCHES = {
    "exact": search.exact,
    "at_size": lambda queries, rows, k: search.at_size(queries, rows, D, k),
    "at a small size": lambda queries, rows, k: search.at_size(queries, rows, 4, k),
    "brute_force": search.brute_force,
    "flat": lambda queries, rows, k: search.Flat(search.store(rows)).search(queries, k),
    "hnsw": index(search.hnsw),
    "ivf": index(lambda rows: search.ivf(rows, lists=1)),
    "nested": lambda queries, rows, k: search.nested(rows, 4).search(queries, k, length=N),
    "nested graph": lambda queries, rows, k: search.nested(rows, 4, engine="hnsw").search(queries, k, length=N),
    "shortlist": lambda queries, rows, k: (None, search.nested(rows, 4).shortlist(queries, k)),
    "rerank": lambda queries, rows, k: search.rerank(queries, rows, ALL[: len(queries)], D, k),
    "funnel": funnelled,
    "float16": stored("float16"),
    "int8": stored("int8"),
    "binary": stored("binary"),
    "plan": planned,
}
each_search = pytest.mark.parametrize("find", SEARCHES.values(), ids=SEARCHES)

UNSOUND = {"NaN": torch.nan, "infinite": torch.inf, "-infinite": -torch.inf, "1e20": 1e20, "1e25": 1e25}


@each_search
@pytest.mark.parametrize("value", UNSOUND.values(), ids=UNSOUND)
@pytest.mark.parametrize("side", ["queries", "database"])
def test_one_unsound_value_in_any_row_and_dim_is_refused_by_row(find, value, side):
    queries, rows = drawn(Q, 0), drawn(N, 1)
    dim = 0 if find is funnelled else D - 1  # its later dims are those of rows that it keeps
    (queries if side == "queries" else rows)[7, dim] = value
    with pytest.raises(RequestError, match=f"{side}, row 7: "):
        find(queries, rows, 3)


@pytest.mark.parametrize("value", [1e-14, 1e-30])
def test_rows_too_short_to_be_normalised_are_refused_and_zeros_are_not(value):
    rows = drawn(N, 1)
    rows[3] = 0
    rows[5] *= value / rows[5].norm()
    with pytest.raises(RequestError, match="database, row 5: a length of"):
        search.at_size(drawn(Q, 0), rows, 4, 3)


@each_search
@pytest.mark.parametrize("k", [0, -1, N + 1, 2.5, True, "3"])
def test_a_k_that_is_not_there_is_refused(find, k):
    with pytest.raises(RequestError):
        find(drawn(Q, 0), drawn(N, 1), k)


NOT_TABLES = {
    "a list": [[1.0] * D] * N,
    "whole numbers": torch.ones(N, D, dtype=torch.int64),
    "whole numbers of numpy": np.ones((N, D), np.int8),
    "text": np.full((N, D), "1.0"),
    "objects": np.full((N, D), 1.0, object),
    "complex": torch.ones(N, D, dtype=torch.complex64),
    "a masked array": np.ma.masked_invalid(np.full((N, D), np.nan)),
    "sparse": torch.eye(N, D).to_sparse(),
    "one axis": torch.ones(N),
    "three axes": torch.ones(N, D, 1),
    "no rows": torch.ones(0, D),
    "no dims": torch.ones(N, 0),
}


@each_search
@pytest.mark.parametrize("rows", NOT_TABLES.values(), ids=NOT_TABLES)
def test_what_is_no_table_of_numbers_is_refused(find, rows):
    with pytest.raises(RequestError):
        find(drawn(Q, 0), rows, 3)


@each_search
@pytest.mark.parametrize("queries", [[[1.0] * D], np.ones((Q, D), int), torch.ones(D), torch.ones(Q, D + 1)])
def test_queries_that_are_no_table_of_that_width_are_refused(find, queries):
    with pytest.raises(RequestError, match="queries"):
        find(queries, drawn(N, 1), 3)


def read_only(rows):
    array = rows.numpy().copy()
    array.flags.writeable = False
    return array


TAKEN = {
    "numpy": lambda rows: rows.numpy(),
    "read-only": read_only,
    "Fortran's order": lambda rows: np.asfortranarray(rows.numpy()),
    "another byte order": lambda rows: rows.numpy().astype(">f4"),
    "backwards": lambda rows: rows.numpy()[::-1].copy()[::-1],
    "extended precision": lambda rows: rows.numpy().astype(np.longdouble),
    "float64": lambda rows: rows.double(),
    "float16": lambda rows: rows.half(),
    "float16 of numpy": lambda rows: rows.half().numpy(),
    "bfloat16": lambda rows: rows.bfloat16(),
    "a parameter": lambda rows: torch.nn.Parameter(rows),
    "every other row": lambda rows: rows.repeat_interleave(2, 0)[::2],
}


@pytest.mark.filterwarnings("error")
@each_search
@pytest.mark.parametrize("kind", TAKEN)
def test_every_kind_of_floating_point_rows_is_taken_and_gives_what_float32_gives(find, kind):
    """Values are such as bfloat16 can hold, one row is of zeros."""
    queries, rows = drawn(Q, 0).bfloat16().float(), drawn(N, 1).bfloat16().float()
    rows[9] = 0
    ids = find(queries, rows, 3)[1]
    assert torch.equal(find(queries, TAKEN[kind](rows), 3)[1], ids)
    assert torch.equal(find(TAKEN[kind](queries), TAKEN[kind](rows), 3)[1], ids)


@pytest.mark.parametrize("build", [search.hnsw, search.ivf])
@pytest.mark.parametrize("kind", TAKEN)
def test_an_index_takes_unit_rows_of_every_kind(build, kind):
    unit = unit_prefix(drawn(N, 1), D)
    assert torch.equal(build(TAKEN[kind](unit)).search(unit[:5], 1)[1][:, 0], torch.arange(5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_half_precision_is_normalised_as_float32(dtype, scale):
    """The squares of the one underflow, those of the other overflow in half precision."""
    rows = (scale * drawn(N, 1)).to(dtype)
    rows[2] = 0
    expected = unit_prefix(rows.float(), D)
    assert torch.equal(unit_prefix(rows, D), expected)
    assert torch.equal(search.unit_rows(rows, D), expected)
    assert torch.equal(search.unit_rows(rows.float().numpy(), D), expected)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_rows_that_float16_cannot_hold_are_not_stored_in_it(scale):
    rows = drawn(N, 1)
    rows[4] *= scale
    with pytest.raises(RequestError, match="row 4 of database does not fit float16"):
        search.store(rows, "float16")


def test_rows_of_zeros_can_be_stored_in_float16():
    assert search.store(torch.zeros(2, 3), "float16").rows.dtype == torch.float16


UNIT = unit_prefix(drawn(N, 1), D)
ASKED = UNIT[:Q]
BOUNDS = {
    "links 1, by which faiss ends the process": lambda: search.hnsw(UNIT, links=1),
    "links 0": lambda: search.hnsw(UNIT, links=0),
    "links": lambda: search.hnsw(UNIT, links=513),
    "links 2.5": lambda: search.hnsw(UNIT, links=2.5),
    "build_ef": lambda: search.hnsw(UNIT, build_ef=0),
    "threads 0": lambda: search.hnsw(UNIT, threads=0),
    "threads": lambda: search.ivf(UNIT, threads=10**6),
    "threads -1": lambda: search.brute_force(ASKED, UNIT, 3, threads=-1),
    "lists": lambda: search.ivf(UNIT, lists=N + 1),
    "lists 2.5": lambda: search.ivf(UNIT, lists=2.5),
    "ef": lambda: search.hnsw(UNIT).search(ASKED, 3, ef=0),
    "probes": lambda: search.ivf(UNIT).search(ASKED, 3, probes=0),
    "rows": lambda: search.exact(ASKED, UNIT, 3, rows=0),
    "exclude (11,)": lambda: search.exact(ASKED, UNIT, 3, exclude=torch.arange(Q - 1)),
    "exclude": lambda: search.exact(ASKED, UNIT, 3, exclude=torch.arange(Q) + N),
    "exclude of": lambda: search.exact(ASKED, UNIT, 3, exclude=torch.arange(Q) / 2),
    "candidates": lambda: search.rerank(ASKED, UNIT, ALL[:Q] / 1.0, D),
    "candidates of query 0 name a row twice": lambda: search.rerank(ASKED, UNIT, ALL[:Q] // 2, D),
    "not Int8": lambda: search.brute_force(ASKED, search.store(UNIT, "int8"), 3),
    "cannot keep 2.5": lambda: search.at_size(ASKED, UNIT, 2.5, 3),
    "k = 3 neighbours": lambda: search.rerank(ASKED, UNIT, ALL[:Q, :2], D, 3),
    "length": lambda: search.nested(UNIT, 4).search(ASKED, 3, length=3.5),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_numbers_out_of_bounds_are_refused(name):
    with pytest.raises(RequestError, match=name.split(" ")[0]):
        BOUNDS[name]()


def test_more_effort_than_there_is_looks_at_everything():
    exact = search.exact(ASKED, UNIT, 5)[1]
    assert torch.equal(search.hnsw(UNIT).search(ASKED, 5, ef=10**12)[1], exact)
    assert torch.equal(search.ivf(UNIT).search(ASKED, 5, probes=10**12)[1], exact)


def test_what_is_stored_is_searched_by_faiss_too():
    assert torch.equal(search.brute_force(ASKED, search.store(UNIT), 5)[1], search.exact(ASKED, UNIT, 5)[1])


@pytest.mark.parametrize(("copies", "others"), [(1500, 1500), (2000, 400), (300, 2700), (5, 0), (0, 50)])
def test_a_graph_over_many_copies_of_a_row_finds_what_exact_search_finds(copies, others):
    """Built over all rows, faiss's graph finds the nearest of none of the queries in the first two."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.randn(others, D, generator=draw), drawn(1, 3).expand(copies, D)])
    unit = unit_prefix(rows[torch.randperm(len(rows), generator=draw)], D)
    index, queries = search.hnsw(unit), unit_prefix(drawn(100, 2), D)
    assert len(index) == len(unit)
    assert (f"{copies - 1} of them copies" in index.describe(1, 64, 1)) == (copies > 1)
    for k in (1, 4, len(unit) // 2, len(unit)):
        scores, ids = index.search(queries, k)
        assert torch.allclose(scores, search.exact(queries, unit, k)[0], atol=1e-5)
        assert torch.allclose((queries[:, None] * unit[ids]).sum(2), scores, atol=1e-5)
        assert (ids.sort(1).values.diff(dim=1) > 0).all()


def test_copies_are_named_in_the_order_of_ids_and_zeros_have_no_sign():
    rows = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0], [1.0, -0.0], [-1.0, 0.0]])
    index = search.hnsw(rows)
    assert index.index.ntotal == 3
    assert index.search(torch.tensor([[2.0, 1.0]]), 5)[1].tolist() == [[1, 3, 0, 2, 4]]
