"""The ledger of all claims: sorted, filtered, with what was said before; and the history that it reads."""

import re

import pytest
from browser import assert_page_works, opened
from small_runs import LEDGER, write

from mrl_lab.report import history, ledger

ROWS = """\
1,"first, of <two>",at least 2,MRL − FF,points,10,8,12,1,5,True,shown,note,9,,11,0.0001
2,second,1.5,cost,times,9,7,11,1.2,5,False,undecided,,0.5,2,,0.2
10,third,,x,points,-1,-2,-0.5,1,3,True,contradicted,,0,,,0.04
"""


def published(out, verdict="shown", start="2026-11-25T08:30:00+00:00"):
    folder = out / "01_mrl" / "hour"
    if not folder.exists():
        write(out, "01_mrl", "hour", start=start)
    (folder / "claims.csv").write_text(LEDGER + ROWS.replace(",shown,", f",{verdict},"))
    return folder


def test_only_what_is_said_anew_is_added_and_nothing_is_taken_out(tmp_path):
    once = history.grown([], [published(tmp_path)])
    assert [row["id"] for row in once] == ["1", "2", "10"]
    assert history.grown(once, [published(tmp_path)]) == once
    twice = history.grown(once, [published(tmp_path, "undecided")])
    assert twice[:3] == once
    assert [(row["id"], row["verdict"]) for row in twice[3:]] == [("1", "undecided")]
    history.write(tmp_path, twice)
    assert history.read(tmp_path) == twice
    where = {"notebook": "01_mrl", "budget": "hour"}
    assert [row["verdict"] for row in history.earlier(twice, **where, id="1")] == ["shown"]
    assert history.earlier(twice, **where, id="2") == []


def test_numbers_bounds_and_earlier_verdicts_are_told(tmp_path):
    past = history.grown(history.grown([], [published(tmp_path)]), [published(tmp_path, "undecided")])
    first, second, third = ledger.claims({"01_mrl": published(tmp_path, "undecided")}, past)
    assert (first["ours"], first["bound"], first["headline"]) == ("10.00 [8.00, 12.00]", "≥ 9", True)
    assert (second["bound"], third["bound"], third["estimate"]) == ("0.5 to 2", "≥ 0", -1.0)
    assert [old["verdict"] for old in first["earlier"]] == ["shown"]
    html = ledger.page_of([first, second, third])
    assert "first, of &lt;two&gt;" in html
    assert html == ledger.page_of([first, second, third])


def test_a_headline_that_its_budget_does_not_measure_says_so(tmp_path):
    entries = ledger.claims({"01_mrl": published(tmp_path)})
    (line,) = (line for line in ledger.headlines([entries[0] | {"headline": True, "ours": ""}]).splitlines()[2:3])
    assert "| not measured at hour |" in line


def test_of_many_headlines_fewer_are_believed(tmp_path):
    text = ledger.headlines(ledger.claims({"01_mrl": published(tmp_path)}))
    assert "2 headlines. Of the 2 that are *shown* or *contradicted* by an interval, 2 stay so" in text
    many = [{**one, "p": "0.04", "verdict": "shown"} for one in ledger.claims({"a": published(tmp_path)})] * 5
    many += [{**many[0], "p": "0.9", "verdict": "undecided"}] * 10
    assert re.search("Of the 10 that .* 0 stay so", ledger.headlines([one | {"headline": True} for one in many[5:]]))


@pytest.mark.browser
def test_it_filters_and_sorts_without_a_network(browser, tmp_path):
    past = history.grown(history.grown([], [published(tmp_path)]), [published(tmp_path, "undecided")])
    file = tmp_path / ledger.PAGE
    file.write_text(ledger.page_of(ledger.claims({"01_mrl": published(tmp_path, "undecided")}, past)))
    assert_page_works(browser, file)
    with opened(browser, file) as shown:

        def ids():
            return [row.locator("td").nth(1).inner_text() for row in shown.locator("tbody tr:visible").all()]

        assert ids() == ["1 ★", "2", "10 ★"]
        shown.get_by_role("button", name="ours").click()
        assert ids() == ["10 ★", "2", "1 ★"], "by the number, not by its letters"
        shown.get_by_role("button", name="ours").click()
        assert ids() == ["1 ★", "2", "10 ★"]
        shown.get_by_role("button", name="id").click()
        assert ids() == ["1 ★", "2", "10 ★"], "ids by their number"
        shown.get_by_label("headlines only").check()
        assert ids() == ["1 ★", "10 ★"]
        shown.get_by_label("verdict").select_option("contradicted")
        assert ids() == ["10 ★"]
        assert shown.locator("output").inner_text() == "1 of 3"
        shown.get_by_label("verdict").select_option("")
        shown.get_by_label("find").fill("FIRST two")
        assert ids() == ["1 ★"]
