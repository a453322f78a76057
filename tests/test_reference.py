"""The page of reference tells of the whole face, as the docstrings have it, and its examples run."""

import ast
from pathlib import Path

import pytest

import mrl_lab
from mrl_lab.report import reference

PAGE = Path(__file__).parent.parent / "reports" / reference.PAGE


def test_every_name_of_the_face_has_its_example_and_uses_it():
    assert set(reference.EXAMPLES) == set(mrl_lab.FACE)
    for name, example in reference.EXAMPLES.items():
        assert f"lab.{name}" in example
        assert len(example.splitlines()) <= 6


@pytest.mark.parametrize("name", mrl_lab.FACE)
def test_every_name_of_the_face_is_there_and_is_told(name):
    assert getattr(mrl_lab, name).__doc__


def test_the_published_page_is_the_one_that_is_made():
    assert PAGE.read_text(encoding="utf-8") == reference.page(), "run make readme"


@pytest.mark.slow
def test_the_examples_run_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_RUN", str(tmp_path))
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    world = {"__name__": "__main__"}
    *before, last = ast.parse(reference.program()).body
    exec(compile(ast.Module(before, []), "<reference>", "exec"), world)
    page = eval(compile(ast.Expression(last.value), "<reference>", "eval"), world)
    assert "Nested is as good as separate" in page.data
    assert (tmp_path / "scores.csv").is_file()
    assert world["z"].shape == (200, 16)
    assert world["sizes"] == (4, 8, 16)
    assert {m: ids.shape for m, ids in world["ids"].items()} == dict.fromkeys((4, 8, 16), (200, 10))
    assert world["recipes"].keys() == {"MRL"}
