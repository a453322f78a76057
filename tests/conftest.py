"""What several test files share, and the two rings of tests.

The inner ring runs on a machine that has nothing but its package indexes. The outer one reads the folder of data that
``MRL_LAB_DATA`` names; without it those tests are left out, and the last line of the run says how many.
"""

import os
from pathlib import Path

import chromium
import pytest

LONGEST = ("test_notebooks.py", "test_gpu_budget.py")  # begin first: of two workers none is left with them at the end
LEFT_OUT = pytest.StashKey[int]()  # tests of the outer ring that were not run


@pytest.fixture(scope="module")
def browser():
    """A browser without a window. Its driver keeps a loop running in this thread, so no other module's tests get it."""
    from playwright.sync_api import sync_playwright

    program = chromium.found()
    assert program, chromium.advice()
    with sync_playwright() as playwright:
        started = chromium.launched(playwright, program)
        yield started
        started.close()


def pytest_collection_modifyitems(config, items):
    """Mark the tests that read the folder of data; take them out, counted, where there is none.

    Those of a card's path through long notebooks run where they are asked for: ``-m card``.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if "card" not in config.option.markexpr:
        cards = [item for item in items if item.get_closest_marker("card")]
        items[:] = [item for item in items if item not in cards]
        config.hook.pytest_deselected(items=cards)
    outer = [item for item in items if "shared" in getattr(item, "fixturenames", ())]
    for item in outer:
        item.add_marker("data")
    if outer and not os.environ.get("MRL_LAB_DATA"):
        items[:] = [item for item in items if item not in outer]
        config.stash[LEFT_OUT] = len(outer)
        config.hook.pytest_deselected(items=outer)


def pytest_sessionfinish(session):
    """Under ``-n``, a worker tells what it left out: each of them collects all tests."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Hear what a worker tells."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left out", 0)


def pytest_terminal_summary(terminalreporter, config):
    """Say in one line how many tests the outer ring has, when it was not run."""
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.section("the outer ring was not run")
        terminalreporter.line(f"{left_out} tests need the folder of data: set MRL_LAB_DATA")


@pytest.fixture
def shared():
    """The folder of real data that MRL_LAB_DATA names."""
    folder = Path(os.environ["MRL_LAB_DATA"])
    assert folder.is_dir(), f"MRL_LAB_DATA names {folder}, which is no folder"
    return folder


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache of a module's own, so that its tests see what is computed and what is reused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRL_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
