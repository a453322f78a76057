"""The index names every run of a folder, says how it went, and links its page."""

import re

import pytest
from browser import assert_page_works, opened
from small_runs import CLAIMS, SCORES, write

from mrl_lab.report import index, page
from mrl_lab.report.spark import spark

ROWS = "MRL,0,,2,,1nn,40,,,,\nMRL,1,,2,,1nn,60,,,,\nMRL,0,,8,,1nn,90,,,,\nFF,0,,2,,1nn,30,,,,\nFF,0,,8,,1nn,90,,,,\n"


@pytest.fixture
def out(tmp_path):
    """Runs of two notebooks: two budgets, a point of a grid, a failure, and a folder that is no run."""
    folder = write(tmp_path, "01_mrl", "minutes")
    (folder / "claims.csv").write_text(CLAIMS + "1,a,b,1,0,2,3,undecided,\n2,a,b,1,0,2,3,shown,\n")
    (folder / "scores.csv").write_text(SCORES + ROWS)
    write(tmp_path, "01_mrl", "gpu", shows="a claim & its test", device="one <large> GPU")
    write(tmp_path, "00_start_here", "seconds-note=a_b~12#3")
    write(tmp_path, "00_start_here", "minutes.failed", status="failed", failure={"cell": 4})
    (tmp_path / "scratch" / "01_mrl").mkdir(parents=True)
    return tmp_path


def text(out) -> str:
    return index.write_index(out).read_text()


def test_notebooks_are_in_order_and_their_runs_from_strong_to_weak_evidence(out):
    links = re.findall(r'<a href="([^"]+)/page.html">', text(out))
    assert links == [
        "00_start_here/minutes.failed",
        "00_start_here/seconds-note%3Da_b~12%233",
        "01_mrl/gpu",
        "01_mrl/minutes",
    ]


def test_it_says_what_a_notebook_shows_and_how_each_run_went(out):
    html = text(out)
    assert "<h2>Learn 01_mrl</h2>" in html
    assert "A claim &amp; its test" in html
    assert "one &lt;large&gt; GPU" in html
    runs = [re.sub(r"<[^>]*>|\s+", " ", run) for run in re.findall(r"<li.*?</li>", html, re.DOTALL)]
    assert "failed in cell [4]" in runs[0]
    assert "a first look, judges no claim" in runs[1]
    assert re.search("1 +✓&nbsp;shown +1 +. ?&nbsp;undecided", runs[3])
    assert "25 November 2026 4 min 10 s CPU, 2 threads" in re.sub(" +", " ", runs[3])


def test_only_the_folders_that_are_named(out):
    html = index.write_index(out, [out / "01_mrl" / "gpu"]).read_text()
    assert re.findall(r'<a href="([^"]+)"', html) == ["01_mrl/gpu/page.html"]


def test_a_damaged_run_is_left_out_and_an_empty_folder_has_an_index_too(out, tmp_path):
    (out / "01_mrl" / "gpu" / "run.json").write_text('{"notebook": "01')
    (out / "01_mrl" / "minutes" / "notebook.ipynb").write_text("{")
    html = text(out)
    assert "01_mrl/gpu" not in html
    assert "<h2>01_mrl</h2>" in html
    (tmp_path / "empty").mkdir()
    assert "No run yet" in text(tmp_path / "empty")


def test_the_same_runs_give_the_same_bytes_and_no_half_file_is_left(out):
    assert text(out) == text(out)
    assert [f.name for f in out.iterdir() if f.is_file()] == ["index.html"]


def test_the_small_picture_shows_means_over_seeds_of_the_first_metric_with_two_sizes(out):
    made = spark(out / "01_mrl" / "minutes" / "scores.csv")
    assert made.words == "1nn by dims: MRL 50.0 at 2, 90.0 at 8"
    assert made.lines == ("3.0,20.3 117.0,3.0", "3.0,29.0 117.0,3.0")


def test_no_picture_without_sizes_or_scores(tmp_path):
    file = tmp_path / "scores.csv"
    assert spark(file) is None
    file.write_text(SCORES + "MRL,0,,2,,1nn,40,,,,\n")
    assert spark(file) is None
    file.write_text(SCORES + "MRL,0,,2,,1nn,40,,,,\nMRL,0,,4,,1nn,40,,,,\n")
    assert spark(file).lines == ("3.0,29.0 117.0,29.0",)


@pytest.mark.browser
def test_the_index_works_and_leads_to_each_page(browser, out):
    for run in out.glob("*/*/run.json"):
        page.render(run.parent)
    file = index.write_index(out)
    assert_page_works(browser, file)
    with opened(browser, file) as shown:
        targets = [link.evaluate("a => a.href") for link in shown.get_by_role("link").all()]
    assert len(targets) == 4
    context = browser.new_context()
    for target in targets:
        tab = context.new_page()
        assert tab.goto(target).ok
        assert tab.title().startswith("Learn")
    context.close()
