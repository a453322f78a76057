"""Finished runs of a few cells, written straight to disk, for tests of what is made from them."""

import json
from collections.abc import Sequence
from pathlib import Path

import nbformat
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mrl_lab import explore, plots, schema

CLAIMS = "id,claim,paper,ours,low,high,seeds,verdict,note\n"  # the columns that pages and indexes read
LEDGER = ",".join(schema.CLAIMS) + "\n"
SCORES = "method,seed,layer,dim,tokens,metric,value,n,bytes,flops,seconds\n"


def write(out: Path, name: str, tag: str, cells: Sequence = (), *, shows: str = "what it shows", **run: object) -> Path:
    """Write ``out/name/tag`` with an executed notebook and run.json, and return it; ``run`` sets facts of the run."""
    folder = out / name / tag
    folder.mkdir(parents=True)
    notebook = new_notebook(cells=[new_markdown_cell(f"# Learn `{name}`"), *cells])
    notebook.metadata.mrl_lab = {"shows": shows, "minutes": {}, "needs": []}
    nbformat.write(notebook, folder / "notebook.ipynb")
    facts = {
        "notebook": name,
        "tag": tag,
        "status": "done",
        "parameters": {"budget": tag.split("-")[0], "dim": 64},
        "command": f"mrl-lab run {name}",
        "start": "2026-11-25T08:30:00+00:00",
        "duration": 250.4,
        "device": "cpu: x86_64, float32, 2 threads (best of what torch sees: cpu)",
        "threads": 2,
        "data": [{"name": "clothes", "sha256": "ab" * 32, "licence": "MIT"}],
        "weights": [],
        "python": "3.11.2",
        "platform": "Linux",
        "versions": {"mrl-lab": "0.1.0", "torch": "2.13.0"},
        "git": {"id": "c0ffee", "dirty": False},
    }
    (folder / "run.json").write_text(json.dumps(facts | run))
    return folder


def code(source: str, *outputs: object, count: int = 1):
    """Return an executed code cell; an output is a mime bundle, text that was printed, or an exception."""
    return new_code_cell(source, execution_count=count, outputs=[_output(o) for o in outputs])


def _output(output: object):
    if isinstance(output, str):
        return new_output("stream", name="stdout", text=output)
    if isinstance(output, Exception):
        name, text = type(output).__name__, str(output)
        return new_output("error", ename=name, evalue=text, traceback=[f"\x1b[31m{name}\x1b[0m: {text}"])
    return new_output("display_data", output)


def figure(n: int = 3) -> Figure:
    """Return a figure with text, a grid and something cut off by its frame, in the package's style."""
    plots.use_style()
    fig = Figure(figsize=(4, 2))
    ax = fig.subplots()
    ax.plot(range(n + 1), clip_on=True)
    ax.set(xlim=(0, 2), title=f"up to {n}")
    return fig


def slider(start: dict | None = None, **axes: Sequence) -> explore.Slider:
    """Return a slider of figures over these axes."""
    return explore.slider(lambda **at: figure(sum(at.values())), start=start, **axes)
