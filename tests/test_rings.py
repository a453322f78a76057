"""Before the tests: which of them run where, and how they come by a browser."""

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chromium
import pytest
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parent
pytest_plugins = ["pytester"]

THREE = """
import os
def test_inner(): pass
def test_outer(shared): assert shared.is_dir()
def test_outer_too(shared): pass
"""
LINE = "2 tests need the folder of data: set MRL_LAB_DATA"


# ---------------------------------------------------------------------------------------------------- rings


@pytest.fixture
def suite(pytester, monkeypatch):
    """Three tests under this folder's conftest.py, to be run in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    pytester.makeini("[pytest]\nmarkers =\n    data: reads the folder of real data\naddopts = --strict-markers")
    pytester.makeconftest((HERE / "conftest.py").read_text())
    pytester.makepyfile(THREE)
    return pytester


@pytest.mark.parametrize("how", [[], ["-n", "2"]])
def test_without_the_folder_of_data_its_ring_is_left_out_and_counted(suite, monkeypatch, how):
    monkeypatch.delenv("MRL_LAB_DATA", raising=False)
    done = suite.runpytest_subprocess(*how)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines([LINE])


def test_with_the_folder_of_data_both_rings_run(suite, monkeypatch):
    monkeypatch.setenv("MRL_LAB_DATA", str(suite.path))
    done = suite.runpytest_subprocess()
    done.assert_outcomes(passed=3)
    done.stdout.no_fnmatch_line("*MRL_LAB_DATA*")


def test_a_folder_that_is_not_there_fails_and_leaves_nothing_out(suite, monkeypatch):
    monkeypatch.setenv("MRL_LAB_DATA", str(suite.path / "nowhere"))
    suite.runpytest_subprocess().assert_outcomes(passed=1, errors=2)


# -------------------------------------------------------------------------------------------------- browser


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without a browser, whose programs are in one empty folder; Playwright has fetched nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "PLACES", ())
    monkeypatch.setattr(
        chromium, "programs", lambda playwright: filter(None, map(chromium.shutil.which, ("chromium",)))
    )
    return tmp_path


def apart(call: Callable[[], object]) -> object:
    """Call in a thread of its own: in this one Playwright may run already, for the tests of pages."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def program(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_a_stand_in_for_a_browser_is_passed_over(bare):
    program(bare / "chromium", "echo install the real one; exit 1")
    assert apart(chromium.found) is None


def test_installed_ones_come_before_the_one_that_playwright_fetches(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("msedge", "google-chrome"):
        program(tmp_path / name, "")
    (tmp_path / "Google Chrome").touch()
    monkeypatch.setattr(chromium, "PLACES", (str(tmp_path / "Google Chrome"), str(tmp_path / "not there")))

    def names() -> list[str]:
        with sync_playwright() as playwright:
            return [Path(found).name for found in chromium.programs(playwright)]

    assert apart(names)[:3] == ["google-chrome", "msedge", "Google Chrome"]


@pytest.mark.parametrize(
    ("root", "tools", "tried"),
    [
        (True, ("apt-get",), ["playwright install", "apt-get install"]),
        (True, (), ["playwright install"]),
        (False, ("apt-get",), ["playwright install"]),
    ],
)
def test_a_browser_is_fetched_by_playwright_and_else_by_root(bare, monkeypatch, root, tools, tried):
    for tool in tools:
        program(bare / tool, "")
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000, raising=False)
    last = [" ".join(commands[-1]) for commands in chromium.ways()]
    assert [next(text for text in tried if text in command) for command in last] == tried


def test_the_way_that_leaves_a_browser_is_the_last_that_is_tried(monkeypatch, capsys):
    """The first starts nothing, the second breaks off half-way, and the fourth is not needed."""
    ran = []
    monkeypatch.setattr(chromium, "ways", lambda: [[["one"]], [["two"], ["three"]], [["four"]], [["five"]]])
    monkeypatch.setattr(chromium, "succeeds", lambda command: ran.append(*command) or command != ["two"])
    monkeypatch.setattr(chromium, "found", lambda: "here" if "four" in ran else None)
    assert chromium.main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "no browser is here: trying one",
        "no browser is here: trying three",
        "no browser is here: trying four",
        "browser: here",
    ]


@pytest.mark.parametrize(
    ("tool", "typed"),
    [
        ("apt-get", "Type: sudo apt-get install --yes chromium; then"),
        ("brew", "Type: brew install --cask google-chrome; then"),
        ("", "Install Chromium, Chrome or Edge; then"),
    ],
)
def test_without_any_it_stops_with_the_one_command_to_type(bare, monkeypatch, capsys, tool, typed):
    monkeypatch.setattr(chromium, "ways", lambda: [[["no-such-installer"]]])
    if tool:
        program(bare / tool, "")
    assert apart(chromium.main) == 1
    assert typed in capsys.readouterr().err


def test_make_test_sees_to_the_browser_before_the_first_test():
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert recipe.index("chromium.py") < recipe.index("pytest")
