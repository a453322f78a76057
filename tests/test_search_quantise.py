"""Rows in fewer bytes: each form against its own definition, then against float32."""

import pytest
import torch

from mrl_lab import search
from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.search import flat, quantise


@pytest.fixture(params=["one block", "blocks of 64 rows"])
def made(request, monkeypatch):
    """Queries (30, 13) and rows (500, 13), not negative, like features after a ReLU; 13 dims are not whole bytes."""
    if request.param != "one block":
        monkeypatch.setattr(flat, "BLOCK", 64 * 30)
    draw = torch.Generator().manual_seed(0)
    scale = torch.linspace(3, 0.1, 13)
    return [torch.randn(n, 13, generator=draw).relu() * scale for n in (30, 500)]


def by_definition(scores, k):
    """Falling score, then rising id."""
    return torch.tensor([sorted(range(len(s)), key=lambda i: (-s[i], i))[:k] for s in scores.tolist()])


def slow_int8(queries, rows):
    """Divide each dim by its step, largest ** 0.75 in a unit that makes the largest code 127; queries the other way."""
    largest = [max(abs(x) for x in column) for column in rows.T.tolist()]
    unit = max(x**0.25 for x in largest) / 127
    steps = torch.tensor([x**0.75 * unit for x in largest])
    codes, asked = (rows / steps).round(), queries * steps
    assert codes.abs().max() == 127
    unit = torch.tensor([max(abs(x) for x in row) / 127 for row in asked.tolist()])[:, None]
    return (asked / unit).round() @ codes.T * unit


def slow_binary(queries, rows):
    """Agreeing less disagreeing signs about the rows' means, as a share of the dims."""
    mean = rows.mean(0)
    signs = [
        [[1 if x > m else -1 for x, m in zip(row, mean.tolist(), strict=True)] for row in t.tolist()]
        for t in (queries, rows)
    ]
    return torch.tensor(signs[0]).float() @ torch.tensor(signs[1]).float().T / rows.shape[1]


@pytest.mark.parametrize(("form", "slow"), [("int8", slow_int8), ("binary", slow_binary)])
@pytest.mark.parametrize("k", [1, 10, 500])
def test_a_form_finds_what_its_definition_says(made, form, slow, k):
    queries, rows = made
    scores, ids = search.exact(queries, search.store(rows, form), k)
    by_hand = slow(queries, rows)
    assert torch.equal(ids, by_definition(by_hand, k))
    assert torch.allclose(scores, by_hand.gather(1, ids), rtol=1e-4, atol=1e-6)


def test_float16_is_what_half_precision_rows_give(made):
    queries, rows = made
    found = search.exact(queries, search.store(rows, "float16"), 10)
    expected = search.exact(queries, rows.half().float(), 10)
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize(("form", "bytes_"), [("float32", 52), ("float16", 26), ("int8", 13), ("binary", 2)])
def test_bytes_are_those_of_a_stored_row(made, form, bytes_):
    stored = search.store(made[1], form)
    assert stored.bytes == bytes_ == stored.rows.element_size() * stored.rows.shape[1]
    assert stored.shape == (500, 13)


@pytest.mark.parametrize(("form", "least"), [("float16", 0.99), ("int8", 0.95), ("binary", 0.1)])
def test_coarser_forms_lose_more_but_find_far_more_than_chance(form, least):
    draw = torch.Generator().manual_seed(0)
    queries, rows = (unit_prefix(torch.randn(n, 64, generator=draw), 64) for n in (100, 5000))
    true = search.exact(queries, rows, 10)[1]
    found = search.exact(queries, search.store(rows, form), 10)[1]
    recall = search.recall(true)(found, torch.arange(100)).mean()
    assert least < recall <= 1


def test_scores_of_int8_are_close_to_inner_products():
    draw = torch.Generator().manual_seed(0)
    queries, rows = (unit_prefix(torch.randn(n, 32, generator=draw), 32) for n in (20, 400))
    scores, ids = search.exact(queries, search.store(rows, "int8"), 10)
    assert torch.allclose(scores, (queries @ rows.T).gather(1, ids), atol=0.01)


def test_dims_of_zeros_and_constant_dims_are_harmless():
    rows = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0], [0.0, 1.0, -3.0]])
    for form in ("float16", "int8"):
        assert search.exact(torch.tensor([[5.0, 0.0, 1.0]]), search.store(rows, form), 3)[1].tolist() == [[1, 0, 2]]
    scores, ids = search.exact(rows, search.store(rows, "binary"), 3)
    assert scores.isfinite().all()
    assert ids[0].tolist() == [0, 1, 2]


def test_rows_are_not_changed(made):
    queries, rows = made
    before = rows.clone()
    for form in ("float32", "float16", "int8", "binary"):
        search.exact(queries, search.store(rows, form), 3)
    assert torch.equal(rows, before)


@pytest.mark.parametrize("form", ["float32", "float16", "int8", "binary"])
@pytest.mark.parametrize("length", [10, 50])
def test_a_stored_shortlist_serves_nested_search(made, form, length):
    queries, rows = made
    index = search.nested(rows, 5, form=form)
    listed = index.shortlist(queries, length)
    assert torch.equal(index.search(queries, 5, length=length)[1], search.rerank(queries, rows, listed, 13, 5)[1])


@pytest.mark.parametrize(
    ("rows", "form", "words"),
    [
        (torch.zeros(3, 2), "int9", "Did you mean 'int8'"),
        (torch.zeros(3), "int8", "a table"),
        (torch.zeros(3, 2, dtype=torch.int64), "int8", "floating point"),
        (torch.tensor([[torch.nan]]), "binary", "NaN"),
    ],
)
def test_wrong_requests(rows, form, words):
    with pytest.raises(RequestError, match=words):
        search.store(rows, form)


@pytest.mark.parametrize("form", [*search.FORMS, "signs"])
def test_parts_of_one_database_are_stored_alike(form):
    rows = search.unit_rows(torch.randn(400, 16, generator=torch.Generator().manual_seed(5)), 16)
    whole = search.store(rows, form)
    parts = [search.store(part, form, like=whole) for part in rows.split(150)]
    assert torch.cat([part.rows for part in parts]).equal(whole.rows)


def test_what_is_larger_than_the_steps_it_is_stored_in_is_cut_off():
    small = search.store(torch.full((3, 8), 0.1), "int8")
    assert search.store(torch.full((3, 8), 9.0), "int8", like=small).rows.unique().tolist() == [127]


def test_signs_are_asked_by_the_numbers_of_a_query(made):
    queries, rows = made
    means = rows.mean(0)
    expected = []
    for q in queries:
        scores = [sum(float(a - b) * (1 if x > b else -1) for a, b, x in zip(q, means, r, strict=True)) for r in rows]
        expected.append(scores)
    found, ids = search.exact(queries, search.store(rows, "signs"), 5)
    table = torch.tensor(expected) / 13**0.5
    assert torch.allclose(found, table.sort(descending=True).values[:, :5], atol=1e-5)
    assert torch.allclose(table.gather(1, ids), found, atol=1e-5)
    assert search.store(rows, "signs").bytes == 2


@pytest.mark.parametrize("instructions", [True, False])
@pytest.mark.parametrize("value", [127, -127, "random"])
def test_products_of_whole_numbers_are_exact_with_and_without_instructions_for_them(instructions, value, monkeypatch):
    """2,100 dims of the largest numbers pass what float32 counts to the unit, so parts have to be added as integers."""
    monkeypatch.setattr(quantise, "_has_int8_products", lambda: instructions)
    draw = torch.Generator().manual_seed(0)
    rows, asked = (torch.randint(-127, 128, shape, generator=draw).to(torch.int8) for shape in ((24, 2100), (2100, 8)))
    if value != "random":
        rows, asked = rows.fill_(value), asked.fill_(127)
        asked[0] = 126  # an odd sum
    out = torch.full((24, 8), 5, dtype=torch.int32)
    quantise._integers(rows, asked, out)
    assert out.equal((rows.long() @ asked.long()).int())
    assert value == "random" or out[0, 0].abs() > 2**25


def test_parts_are_as_wide_as_float32_allows():
    assert quantise.EXACT * 127**2 <= 2**24 < (quantise.EXACT + 1) * 127**2
