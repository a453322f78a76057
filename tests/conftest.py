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
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        # Containers often lack the rights for its sandbox and have little shared memory; only our own pages are opened.
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
        )
        yield started
        started.close()


@pytest.fixture
def shared(monkeypatch):
    """The folder of real data: the one that MRL_LAB_DATA names, which must be there, or else the shared one if any."""
    named = os.environ.get("MRL_LAB_DATA")
    folder = Path(named or SHARED)
    assert folder.is_dir() or not named, f"MRL_LAB_DATA names {named}, which is no folder"
    if not folder.is_dir():
        pytest.skip("no shared data here: set MRL_LAB_DATA to the folder")
    monkeypatch.setenv("MRL_LAB_DATA", str(folder))
    return folder


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache of a module's own, so that its tests see what is computed and what is reused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRL_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
