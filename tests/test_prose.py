"""Words that were written after a run come into its page; what was run and found stays to the letter."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from small_notebooks import write
from small_runs import code

from mrl_lab import cli
from mrl_lab.report import prose

INJECTED = code('# Parameters\nbudget = "minutes"\n', count=2)


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """A notebook, and a finished run of it as papermill leaves one."""
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", str(tmp_path / "notebooks"))
    file = write(tmp_path / "notebooks", "01_small", "1 + 1", "2 + 2")
    folder = tmp_path / "out" / "01_small" / "minutes"
    folder.mkdir(parents=True)
    notebook = nbformat.read(file, as_version=4)
    for cell in notebook.cells[2:]:
        cell.outputs, cell.execution_count = code("", "found").outputs, 7
    notebook.cells.insert(2, INJECTED)
    nbformat.write(notebook, folder / "notebook.ipynb")
    (folder / "run.json").write_text(json.dumps({"notebook": "01_small", "status": "done", "git": None}))
    return file, folder


def edit(file, change):
    notebook = nbformat.read(file, as_version=4)
    change(notebook.cells)
    nbformat.write(notebook, file)


def kept(folder):
    return nbformat.read(folder / "notebook.ipynb", as_version=4).cells


def test_words_are_todays_and_every_cell_of_code_is_the_one_that_ran(ran):
    file, folder = ran
    before = [cell for cell in kept(folder) if cell.cell_type == "code"]

    def other(cells):
        cells[0].source = "# Another title"
        cells.insert(3, new_markdown_cell("It found 2, not 3."))

    edit(file, other)
    assert prose.renew(folder)
    found = kept(folder)
    assert [cell for cell in found if cell.cell_type == "code"] == before
    assert [cell.cell_type for cell in found] == ["markdown", "code", "code", "code", "markdown", "code"]
    assert [cell.source for cell in found if cell.cell_type == "markdown"] == ["# Another title", "It found 2, not 3."]
    assert "prose" in json.loads((folder / "run.json").read_text())
    assert not prose.renew(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda cells: cells[2].update(source="1 + 2"),
        lambda cells: cells.insert(2, new_code_cell("a = 1")),
        lambda cells: cells.pop(),
        lambda cells: cells.insert(2, cells.pop(3)),
    ],
)
def test_a_run_of_other_code_keeps_its_words(ran, change):
    file, folder = ran
    edit(file, lambda cells: (cells[0].update(source="# Another title"), change(cells)))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert not prose.renew(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("run", [{"status": "failed"}, {"notebook": "09_gone"}])
def test_a_run_that_failed_or_has_no_notebook_now_keeps_its_words(ran, run):
    file, folder = ran
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | run))
    edit(file, lambda cells: cells[0].update(source="# Another title"))
    assert not prose.renew(folder)


def test_a_picture_beside_the_notebook_comes_in(ran):
    file, folder = ran
    (file.parent / "doll.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    edit(file, lambda cells: cells[0].update(source="# A doll\n\n![doll](doll.svg)"))
    assert prose.renew(folder)
    assert "data:image/svg+xml;base64," in kept(folder)[0].source
    assert not prose.renew(folder)


def test_pages_takes_todays_words_where_it_is_asked_to_and_says_so(ran, tmp_path, capsys):
    file, _ = ran
    assert cli.main(["run", "01", "--out", str(tmp_path / "made")]) == 0
    page = tmp_path / "made" / "01_small" / "seconds" / "page.html"
    edit(file, lambda cells: cells[0].update(source="# Another title"))
    assert cli.main(["pages", "--out", str(tmp_path / "made")]) == 0
    assert "Another title" not in page.read_text()
    assert cli.main(["pages", "--prose", "--out", str(tmp_path / "made")]) == 0
    assert capsys.readouterr().out.count("with new words") == 1
    assert "Another title" in page.read_text()
    assert "written after the run" in page.read_text()
