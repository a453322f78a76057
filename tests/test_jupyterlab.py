"""In JupyterLab itself: a slider moves with a kernel and without one, and a live panel computes what is chosen."""

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from urllib.request import Request, urlopen

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from small_notebooks import PATIENCE, wait_until

TOKEN = "only-for-this-test"
CELL = """\
from mrl_lab import explore
def draw(layer, dim):
    from matplotlib.figure import Figure
    return Figure(figsize=(3, 1))
explore.slider(draw, layer=[1, 2], dim=[2, 4, 8], start={"layer": 1})"""
LIVE = """\
explore.live(lambda query, dim: f"<p class=found>query {query} by {dim}</p>", query=range(9), dim=[2, 4])"""


def ask(url: str, path: str, method: str = "GET") -> bytes:
    with urlopen(Request(url + path, method=method, headers={"Authorization": f"token {TOKEN}"}), timeout=10) as reply:
        return reply.read()


@pytest.fixture
def jupyterlab(tmp_path):
    """Start JupyterLab on a free port of this machine, in a folder with one notebook; give its address."""
    notebook = new_notebook(cells=[new_code_cell(CELL), new_code_cell(LIVE)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "slide.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", "--no-browser"]
    settings += [f"--ServerApp.root_dir={tmp_path}", "--allow-root"]
    own = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    with open(tmp_path / "log.txt", "w") as log:
        command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", *settings]
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_until(lambda: answers(url) or server.poll() is not None)
        assert server.poll() is None, (tmp_path / "log.txt").read_text()
        yield url
    finally:
        server.terminate()  # it ends its kernels
        server.wait(PATIENCE)


def answers(url: str) -> bool:
    with suppress(OSError):
        return bool(ask(url, "api/status"))
    return False


def kernels(url: str) -> list[str]:
    return [kernel["id"] for kernel in json.loads(ask(url, "api/kernels"))]


def run_all(page) -> None:
    """Choose Run All Cells until the first cell has run: JupyterLab drops a command that comes while it still loads."""
    prompt = page.locator(".jp-InputPrompt").first
    for _ in range(10):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator('li[data-command="runmenu:run-all"]').click()
        page.wait_for_timeout(2000)
        if prompt.inner_text() != "[ ]:":
            return
    pytest.fail("JupyterLab did not run the notebook")


@pytest.mark.slow
@pytest.mark.browser
def test_the_slider_moves_with_a_kernel_and_without(browser, jupyterlab):
    from playwright.sync_api import expect

    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    # Asked to run before it knows the kernel, JupyterLab opens a dialogue over everything: take what it offers.
    page.add_locator_handler(page.locator("dialog.jp-Dialog"), lambda asked: asked.locator(".jp-mod-accept").click())
    page.goto(f"{jupyterlab}lab/tree/slide.ipynb?token={TOKEN}")
    expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute(
        "data-status", "idle", timeout=PATIENCE * 1000
    )
    run_all(page)

    def expect_picture(layer: int, dim: int) -> None:
        picture = page.locator(".jp-OutputArea-output svg[role=img]:visible")
        name = f"layers kept, n = {layer}, dims kept, m = {dim}"
        expect(picture).to_have_attribute("aria-label", name, timeout=PATIENCE * 1000)  # exactly one is seen

    layer, dim = (page.locator(".widget-slider .noUi-handle").nth(i) for i in (0, 1))
    expect_picture(1, 8)
    dim.press("ArrowLeft")
    expect_picture(1, 4)
    layer.press("ArrowRight")
    expect_picture(2, 4)

    found = page.locator(".found")
    expect(found).to_have_text("query 0 by 4", timeout=PATIENCE * 1000)
    query = page.locator(".widget-slider .noUi-handle").nth(2)
    for _ in range(3):
        query.press("ArrowRight")
    expect(found).to_have_text("query 3 by 4", timeout=PATIENCE * 1000)

    (kernel,) = kernels(jupyterlab)
    ask(jupyterlab, f"api/kernels/{kernel}", "DELETE")
    wait_until(lambda: not kernels(jupyterlab))
    dim.press("ArrowLeft")
    expect_picture(2, 2)
    layer.press("ArrowLeft")
    expect_picture(1, 2)
    context.close()
