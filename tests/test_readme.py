"""README.md and the pages beside it say what the published files say, and nothing else."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from small_runs import LEDGER, SCORES, write

from mrl_lab import source
from mrl_lab.errors import RequestError
from mrl_lab.report import history, ledger, prose, readme

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
LINE = "1,a | b <c,at least 2,MRL − FF,points,1.234,0.5,3,0.5,5,True,shown,note,0,,2,0.001\n"


@pytest.fixture
def reports(tmp_path):
    """Two notebooks with published runs, one of them also with others, and one with a first look only."""
    tmp_path = tmp_path / "reports"
    for tag in ("minutes", "gpu", "hour", "seconds", "hour-dim=8"):
        folder = write(tmp_path, "01_mrl", tag)
        (folder / "claims.csv").write_text(LEDGER + LINE + f"2,{tag},,x,times,4,,,2,0,False,undecided,,3,,,\n")
        methods = ("MRL", "FF", '"FF, first dims"')
        rows = [f"{m},{s},,{d},,pairs 1nn,{d + s},,,,\n" for m in methods for s in range(3) for d in (2, 4, 8)]
        (folder / "scores.csv").write_text(SCORES + "".join(rows))
    write(tmp_path, "00_start_here", "minutes")
    write(tmp_path, "02_search", "seconds")
    return tmp_path


def test_published_are_the_defaults_at_the_budgets_that_are_committed(reports):
    assert [f.relative_to(reports).as_posix() for f in readme.published(reports)] == [
        *("00_start_here/minutes", "01_mrl/minutes", "01_mrl/hour", "01_mrl/gpu")
    ]


def test_no_published_run_judges_without_a_protocol_that_was_frozen_first():
    folders = readme.published(ROOT / "reports")
    judged = [f for f in folders if len((f / "claims.csv").read_text().splitlines()) > 1]
    assert len(judged) > 10
    assert [f for f in judged if not (f / "protocol.json").exists()] == []


def test_every_published_page_whose_code_is_the_notebook_s_has_its_words_too(tmp_path):
    """If not: ``mrl-lab pages --prose``."""
    for folder in readme.published(ROOT / "reports"):
        copy = tmp_path / folder.parent.name / folder.name
        copy.mkdir(parents=True)
        for name in ("notebook.ipynb", "run.json"):
            shutil.copy(folder / name, copy)
        assert not prose.renew(copy), folder


def test_a_run_whose_protocol_was_frozen_judges_before_a_stronger_one(reports):
    assert readme.judging(reports)["01_mrl"].name == readme.strongest(reports)["01_mrl"].name == "gpu"
    (reports / "01_mrl" / "minutes" / "protocol.json").touch()
    assert {name: folder.name for name, folder in readme.judging(reports).items()} == {
        "00_start_here": "minutes",
        "01_mrl": "minutes",
    }


def test_headlines_are_those_of_the_strongest_budget_safe_inside_a_table(reports):
    assert ledger.headlines(ledger.claims(readme.strongest(reports))).splitlines() == [
        "| claim | the paper's figure | ours [95 %] | seeds | verdict |",
        "| --- | --- | --- | --- | --- |",
        "| [01](reports/01_mrl/gpu/page.html) a \\| b &lt;c | at least 2 | 1.23 [0.50, 3.00] points | 5 | ✓ shown |",
        "",
        "1 headlines. Of the 1 that are *shown* or *contradicted* by an interval, 1 stay so where at most 5% of such "
        "verdicts may be false (Benjamini-Hochberg over all headlines).",
    ]


def test_speed_is_shown_as_it_was_saved(tmp_path):
    file = tmp_path / "bench.csv"
    assert readme.bench_table(file) == ""
    file.write_text("bench,way,milliseconds,ratio,n\nstep,plain,3.1,1.0,20\n")
    assert readme.bench_table(file).splitlines()[2:] == ["| step | plain | 3.1 | 1.0 | 20 |"]
    file.write_text("bench,way,milliseconds,ratio,n,megabytes\nsmae,a,3.1,1.0,20,9\nstep,b,1.1,1.0,20,\n")
    assert readme.bench_table(file).splitlines()[2:] == [
        "| smae | a | 3.1 | 1.0 | 20 | 9 |",
        "| step | b | 1.1 | 1.0 | 20 |  |",
    ]


def test_only_what_is_between_the_comments_is_replaced_and_twice_is_once():
    text = "a\n<!-- claims -->\nold\n<!-- /claims -->\nb"
    once = readme.fill(text, "claims", "| \\1 |")
    assert once == "a\n<!-- claims -->\n\n| \\1 |\n\n<!-- /claims -->\nb"
    assert readme.fill(once, "claims", "| \\1 |") == once
    assert readme.fill(once, "claims", "") == "a\n<!-- claims -->\n<!-- /claims -->\nb"
    with pytest.raises(RequestError, match="lost its comments"):
        readme.fill(text, "bench", "")


def test_the_picture_is_white_needs_no_font_and_is_the_same_each_time(reports, tmp_path):
    file = readme.draw_accuracy(reports)
    first = file.read_text()
    assert "<text" not in first
    assert "fill: #ffffff" in first
    assert "<dc:date>" not in first
    assert readme.draw_accuracy(reports).read_text() == first
    assert readme.draw_accuracy(tmp_path / "nothing") is None


def test_make_readme_writes_pages_picture_and_index_of_what_is_published(reports, monkeypatch):
    root = reports.parent / "clone"
    root.mkdir()
    reports.rename(root / "reports")
    (root / "README.md").write_text("<!-- headlines -->\n<!-- /headlines -->\n<!-- bench -->\n<!-- /bench -->\n")
    (root / "reports" / "bench.csv").write_text("bench,way,milliseconds,ratio,n\nstep,plain,3.1,1.0,20\n")
    monkeypatch.setattr(source, "checkout", lambda: root)
    readme.main()
    assert "| step | plain |" in (root / "README.md").read_text()
    assert "a \\| b &lt;c" in (root / "README.md").read_text()
    assert '<td class="text">gpu<br>' in (root / "reports" / "claims.html").read_text()
    assert len(history.read(root / "reports")) == 6, "two claims of three runs"
    assert (root / "reports" / "accuracy.svg").is_file()
    links = re.findall(r'<a href="([^"]+)"', (root / "reports" / "index.html").read_text())
    assert [link.removesuffix("/page.html") for link in links] == [
        *("00_start_here/minutes", "01_mrl/gpu", "01_mrl/hour", "01_mrl/minutes")
    ]


def test_without_a_clone_there_is_no_readme_to_write(monkeypatch):
    monkeypatch.setattr(source, "checkout", lambda: None)
    with pytest.raises(RequestError, match="from a clone"):
        readme.main()


# ------------------------------------------------------------------------------------- the committed files


def test_figures_in_the_sentences_below_the_headlines_are_those_of_the_pages_that_judge():
    told = re.findall(r"(−?[\d.]+) \[(−?[\d.]+), (−?[\d.]+)\]", TEXT.partition("<!-- /headlines -->")[2])
    tables = [pd.read_csv(folder / "claims.csv") for folder in readme.judging(ROOT / "reports").values()]
    known = pd.concat(tables)[["ours", "low", "high"]].itertuples(index=False)
    known = [tuple(row) for row in known]
    assert len(told) >= 12
    for figures in told:
        asked = [float(one.replace("−", "-")) for one in figures]
        digits = [len(one.partition(".")[2]) for one in figures]
        near = [all(abs(a - b) <= 0.51 * 10**-n for a, b, n in zip(asked, row, digits, strict=True)) for row in known]
        assert any(near), figures


def test_tables_pages_and_history_are_those_of_the_published_files():
    reports = ROOT / "reports"
    assert readme.fill(TEXT, "bench", readme.bench_table(reports / "bench.csv")) == TEXT, "run make readme"
    past = history.read(reports)
    assert history.grown(past, readme.published(reports)) == past, "run make readme"
    claims = ledger.claims(readme.judging(reports), past)
    assert readme.fill(TEXT, "headlines", ledger.headlines(claims)) == TEXT, "run make readme"
    assert ledger.page_of(claims) == (reports / ledger.PAGE).read_text(), "run make readme"


def test_the_committed_index_lists_the_published_runs():
    reports = ROOT / "reports"
    published = readme.published(reports)
    assert published
    listed = set(re.findall(r'<a href="([^"]+)/page.html">', (reports / "index.html").read_text()))
    assert {f.relative_to(reports).as_posix() for f in published} <= listed


def test_every_file_that_readme_links_is_there():
    links = set(re.findall(r"\]\(([^)#]+)\)", TEXT))
    assert [link for link in links if "://" not in link and not (ROOT / link).is_file()] == []


def test_every_published_run_is_linked_in_readme():
    for folder in readme.published(ROOT / "reports"):
        assert f"({folder.relative_to(ROOT).as_posix()}/page.html)" in TEXT


def test_the_first_screen_holds_a_picture_the_two_commands_and_the_pages():
    screen = "\n".join(TEXT.splitlines()[:45])
    for part in ("](reports/accuracy.svg)", "\nmake reports", "\nmake test", "](reports/index.html)"):
        assert part in screen
