"""Tables as pandas writes them, made fit to be read."""

import re

import pandas as pd

from mrl_lab.report import tables

FRAME = pd.DataFrame({"id": [1, 2], "claim": ["a <b>", "c"], "ours": [-1.5, float("nan")]})


def kinds(html: str) -> list[list[str]]:
    """Return for each row which cells are set as text."""
    return [re.findall(r'<(t[hd](?: class="text")?)', row) for row in html.split("<tr")[1:]]


def test_a_column_with_text_is_set_to_the_left_with_its_heading_and_numbers_are_not():
    text, head = 'td class="text"', 'th class="text"'
    assert kinds(tables.polish(FRAME.to_html())) == [
        ["th", "th", head, "th"],
        ["th", "td", text, "td"],
        ["th", "td", text, "td"],
    ]


def test_a_dash_in_the_place_of_a_missing_number_is_no_text():
    html = FRAME.style.format(na_rep="–", precision=1).to_html()
    assert "–" in html
    assert "text" not in kinds(tables.polish(html))[2][-1]


def test_columns_keep_their_place_below_headings_that_span_rows():
    frame = FRAME.assign(a=["x", "x"], b=["y", "z"]).set_index(["a", "b"])
    assert [row[-2:] for row in kinds(tables.polish(frame.to_html()))[2:]] == [['td class="text"', "td"]] * 2


def test_verdicts_get_a_word_and_a_symbol_and_mark_their_table():
    html = tables.polish(pd.DataFrame({"verdict": ["shown", "not shown", "inconclusive"]}).to_html())
    assert re.findall(r'class="verdict ([\w-]+)">(\S)&nbsp;([\w ]+)<', html) == [
        ("shown", "✓", "shown"),
        ("not-shown", "✗", "not shown"),
        ("inconclusive", "?", "inconclusive"),
    ]
    assert html.startswith('<div class="scroll claims" tabindex="0"><table')


def test_data_stays_escaped_and_the_style_of_pandas_goes():
    html = tables.polish(f"<p>before</p>{FRAME._repr_html_()}<p>after</p>")
    assert "a &lt;b&gt;" in html
    assert "<style" not in html
    assert html.count('<div class="scroll" tabindex="0"><table') == 1
    assert html.endswith("<p>after</p>")
