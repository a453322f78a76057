"""What several test files share."""

import os
from pathlib import Path

import pytest
from browser import chromium

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    program = chromium()
    assert program, 'no Chromium here: apt-get install chromium, or leave these tests out by pytest -m "not browser"'
    with sync_playwright() as playwright:
        # Containers often lack the rights for its sandbox and have little shared memory; only our own pages are opened.
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
        )
        yield started
        started.close()


def pytest_collection_modifyitems(items):
    """Mark the tests that read the shared data, so that whoever has none leaves them out by name."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("data")


@pytest.fixture
def shared(monkeypatch):
    """The folder of real data: the one that MRL_LAB_DATA names, or else the one beside the repository."""
    folder = Path(os.environ.get("MRL_LAB_DATA") or SHARED)
    assert folder.is_dir(), f'no data at {folder}: set MRL_LAB_DATA, or leave these tests out by pytest -m "not data"'
    monkeypatch.setenv("MRL_LAB_DATA", str(folder))
    return folder


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache of a module's own, so that its tests see what is computed and what is reused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRL_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
