"""Tables as pandas writes them, made fit to be read."""

import re

import pandas as pd
import pytest

from mrl_lab.report import tables

FRAME = pd.DataFrame({"id": [1, 2], "claim": ["a <b>", "c"], "ours": [-1.5, float("nan")]})


def kinds(html: str) -> list[list[str]]:
    """Return for each row which cells are set as text."""
    return [re.findall(r'<(t[hd](?: class="text")?)', row) for row in html.split("<tr")[1:]]


def texts(html: str) -> list[list[str]]:
    """Return what each row says."""
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in html.split("<tr")[1:]]


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (None, False),
        (pd.Index([0, 1], name="layer"), True),
        ([1, 2], True),
        (["0", "b"], True),
    ],
    ids=["a count", "with a name", "no count", "text"],
)
@pytest.mark.parametrize(
    "write",
    [
        pd.DataFrame.to_html,
        lambda frame: frame.style.to_html(),
        lambda frame: frame.style.to_html().replace("&nbsp;", "\xa0"),  # as it is once a notebook became a page
    ],
    ids=["frame", "style", "page"],
)
def test_an_index_that_only_counts_the_rows_goes(index, kept, write):
    rows = texts(tables.polish(write(FRAME if index is None else FRAME.set_axis(index))))
    assert {len(row) for row in rows} == {4 if kept else 3}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["14.0000", "8.0000"], ["14", "8"]),
        (["14.00", "nan"], ["14", "–"]),
        (["1.5", "NaN", "None", "&lt;NA&gt;"], ["1.5", "–", "–", "–"]),
        (["14.0", "8.0"], ["14.0", "8.0"]),
        (["14.0000", "8.2500"], ["14.0000", "8.2500"]),
        (["0.000", "1.000"], ["0.000", "1.000"]),
        (["286720.000", "0.574"], ["286720", "0.574"]),
        (["−14.00", "&lt;14.00"], ["−14.00", "&lt;14.00"]),
    ],
    ids=", ".join,
)
def test_whole_numbers_are_written_as_such_measured_ones_keep_their_digits_and_a_missing_one_is_a_dash(written, read):
    rows = "".join(f"<tr><td>{number}</td></tr>" for number in written)
    assert [
        row[0] for row in texts(tables.polish(f"<table><thead><tr><th>x</th></tr></thead>{rows}</table>"))[1:]
    ] == read


def test_numbers_that_are_names_have_no_idle_zeros():
    frame = pd.DataFrame([[1, 2, 3]], ["a"], [0.01, 2.0, 0.3]).style.to_html()
    assert texts(tables.polish(frame))[0] == ["&nbsp;", "0.01", "2", "0.3"]


def test_a_column_with_text_is_set_to_the_left_with_its_heading_and_numbers_are_not():
    text, head = 'td class="text"', 'th class="text"'
    assert kinds(tables.polish(FRAME.to_html())) == [["th", head, "th"], ["td", text, "td"], ["td", text, "td"]]


def test_a_dash_in_the_place_of_a_missing_number_is_no_text():
    html = FRAME.style.format(na_rep="–", precision=1).to_html()
    assert "–" in html
    assert "text" not in kinds(tables.polish(html))[2][-1]


def test_columns_keep_their_place_below_headings_that_span_rows():
    frame = FRAME.assign(a=["x", "x"], b=["y", "z"]).set_index(["a", "b"])
    assert [row[-2:] for row in kinds(tables.polish(frame.to_html()))[2:]] == [['td class="text"', "td"]] * 2


def test_verdicts_get_a_word_and_a_symbol_and_mark_their_table():
    html = tables.polish(pd.DataFrame({"verdict": ["shown", "at the bound", "contradicted", "undecided"]}).to_html())
    assert re.findall(r'class="verdict ([\w-]+)">(\S)&nbsp;([\w ]+)<', html) == [
        ("shown", "✓", "shown"),
        ("at-the-bound", "=", "at the bound"),
        ("contradicted", "✗", "contradicted"),
        ("undecided", "?", "undecided"),
    ]
    assert html.startswith('<div class="scroll claims" tabindex="0"><table')


def test_data_stays_escaped_and_the_style_of_pandas_goes():
    html = tables.polish(f"<p>before</p>{FRAME._repr_html_()}<p>after</p>")
    assert "a &lt;b&gt;" in html
    assert "<style" not in html
    assert html.count('<div class="scroll" tabindex="0"><table') == 1
    assert html.endswith("<p>after</p>")


def test_a_table_without_anything_in_it_is_left_as_it_is():
    assert "<table" in tables.polish(pd.DataFrame().style.to_html())
    assert "<table" in tables.polish(pd.DataFrame().to_html())
