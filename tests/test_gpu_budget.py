"""Budget ``gpu`` without a GPU: every notebook goes through every cell by its path, with the sizes of ``seconds``.

In a copy of the notebook the tables' row ``gpu`` is replaced by the row ``seconds``; all else is as it stands, so that
each condition on the budget falls as it would on a card. What the real rows build takes a step on four rows, and what
such a step would hold on a card is said in the README.
"""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.utils.data import TensorDataset

from mrl_lab import lab, memory, train
from mrl_lab.data import load, places
from mrl_lab.methods.adaptor import Adaptor
from mrl_lab.report import notebooks
from mrl_lab.schema import CLAIMS, SCORES
from mrl_lab.study.clusters import canvases, students
from mrl_lab.study.models import Model
from mrl_lab.study.pictures import Pictures
from mrl_lab.study.sentences.objectives import Objective
from mrl_lab.study.sentences.task import Sentences
from mrl_lab.study.tokens import training
from mrl_lab.study.tokens.world import world

ROOT = Path(__file__).parent.parent
NAMES = [file.stem for file in sorted((ROOT / "notebooks").glob("*.ipynb")) if "gpu" in notebooks.read(file).minutes]
QUICK = ("00_start_here", "03_2dmse", "08_your_embeddings")  # the others take minutes each: pytest -m card


def rows(source: str) -> list[tuple[ast.expr, ast.expr]]:
    """The values of ``gpu`` and of ``seconds`` of each table by budget in a cell."""
    tables = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Dict)]
    by_name = [{getattr(k, "value", None): v for k, v in zip(t.keys, t.values, strict=True)} for t in tables]
    return [(table["gpu"], table["seconds"]) for table in by_name if {"gpu", "seconds"} <= set(table)]


def cut(source: str) -> str:
    """A cell with the sizes of ``seconds`` at budget ``gpu``."""
    lines = source.splitlines(keepends=True)
    begins = [sum(len(line.encode()) for line in lines[:i]) for i in range(len(lines))]
    text = source.encode()
    for large, small in sorted(rows(source), key=lambda pair: -pair[0].lineno):
        start, end = begins[large.lineno - 1] + large.col_offset, begins[large.end_lineno - 1] + large.end_col_offset
        text = text[:start] + ast.get_source_segment(source, small).encode() + text[end:]
    return text.decode()


def code(name: str) -> list[dict]:
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def test_a_row_is_replaced_and_nothing_else():
    large, other = '(10,\n        {"é": 1})', 'U = {"gpu": 1, "hour": 2}\nx = T["gpu"]\n'
    source = f'T = {{  # é\n    "seconds": (1, [2]),\n    "gpu": {large},\n}}\n{other}'
    assert cut(source) == source.replace(large, "(1, [2])")
    assert cut("x = 1\n") == "x = 1\n"


def needed(folder: Path) -> dict[str, str]:
    """Where notebooks find what they must have at ``gpu``, and nothing that only adds to them and takes minutes."""
    if "MRL_LAB_DATA" not in os.environ:
        return {}
    asked = {one for name in NAMES for one in notebooks.read(ROOT / "notebooks" / f"{name}.ipynb").needs["gpu"]}
    for found in map(places.ensure, sorted(asked)):  # from the folder of data, or into the lab's cache
        if found.place == places.GIVEN:
            (folder / found.folder.name).symlink_to(found.folder.absolute())
    return {"MRL_LAB_DATA": str(folder), "MRL_LAB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def out(request, tmp_path_factory):
    """The runs of all notebooks that are asked for, by one command, on copies with small sizes."""
    copies, out = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("runs")
    here = [item for item in request.session.items if item.path == request.path and "out" in item.fixturenames]
    for name in (item.callspec.params["name"] for item in here):
        notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
        cells = [cell for cell in code(name) if cell["cell_type"] != "code" or cell["source"]]
        changed = [{**c, "source": cut(c["source"])} if c["cell_type"] == "code" else c for c in cells]
        assert changed != cells, f"{name} has no table with a row gpu"
        (copies / f"{name}.ipynb").write_text(json.dumps({**notebook, "cells": changed}))
    environment = os.environ | {"MRL_LAB_NOTEBOOKS": str(copies)} | needed(tmp_path_factory.mktemp("data"))
    command = [sys.executable, "-m", "mrl_lab", "run", "--all", "--budget", "gpu", "--jobs", "2", "--out", str(out)]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    (out / "log").write_text(ran.stdout + ran.stderr)
    return out


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.card) for n in NAMES])
def test_every_cell_runs_by_the_path_of_a_card(out, name):
    log = (out / "log").read_text()
    (folder,) = (out / name).iterdir()
    run = json.loads((folder / "run.json").read_text())
    assert run["status"] == "done", log
    assert run["parameters"]["budget"] == "gpu"
    scores, claims = pd.read_csv(folder / "scores.csv"), pd.read_csv(folder / "claims.csv")
    assert list(scores.columns) == list(SCORES)
    assert list(claims.columns) == list(CLAIMS)
    assert len(scores)
    assert scores.value.notna().all()


# ---------------------------------------------------------------------------------------- at the real sizes


@cache
def row(name: str) -> tuple:
    """The first table's row ``gpu`` of a notebook."""
    ((large, _), *_) = [pair for cell in code(name) if cell["cell_type"] == "code" for pair in rows(cell["source"])]
    return eval(ast.unparse(large), {"training": training})


@cache
def pictures(name: str = "fashion_mnist"):
    return load(name, train=200, validation=20, test=100)


def nested(name: str, d: int):
    task = Pictures(pictures("fashion_pairs"), channels=row(name)[-1])
    return lab.built(Model(four(d), d), task, 0), task.rows()


def four(d: int) -> tuple[int, ...]:
    return tuple(d // 2**i for i in reversed(range(4)))


def m3():
    grid, body = row("05_m3")[-1]
    task = world(pictures(), 40, 10, 10, grid=grid)
    begins = training.start(1, 1, knows="nothing", body=body)
    way = replace(training.ways(["M3"], begins, grid)["M3"], begins=None)
    return lab.built(way, task, 0), task.rows()


def vit():
    layers, width = row("06_franca")[-1]
    made = canvases.canvases(pictures(), train=40, test=10)
    viewer = students.Student(four(width), encoder="vit", layers=layers, prototypes=64, steps=10)
    return lab.built(viewer, made, 0), viewer.rows(made)


def student():
    task = Pictures(pictures())
    base = students.Student(four(64), prototypes=64, channels=row("06_franca")[-2], steps=10)
    return lab.built(base, task, 0), base.rows(task)


def sentences():
    task = Sentences(triplets=500, **row("03_2dmse")[-1])
    return lab.built(Objective("Starbucks"), task, 0), task.rows()


def adapted():
    task = Sentences.of("all-minilm", triplets=500)
    return lab.built(Objective("Starbucks"), task, 0), task.rows()


def adaptor():
    z = torch.randn(8_192, 384)
    return Adaptor(torch.eye(384), four(384), hidden=row("08_your_embeddings")[-2] * 384), TensorDataset(z)


LARGE = {  # what each notebook trains at gpu, and the rows of a step
    "01: MRL": (partial(nested, "01_mrl", 128), 256),
    "02: MRL, wide": (partial(nested, "02_adaptive_search", 2048), 64),
    "03: Starbucks": (sentences, 128),
    "04: Starbucks, MiniLM": (adapted, 128),
    "05: M3": (m3, 96),
    "06: Franca, ConvNet": (student, 128),
    "06: Franca, ViT-S": (vit, 64),
    "08: adaptor": (adaptor, 4_096),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", LARGE)
def test_what_the_real_row_builds_takes_a_step_and_the_readme_says_what_it_holds(what):
    build, batch = LARGE[what]
    model, data = build()
    torch.manual_seed(0)
    step = memory.step(model, data, batch)
    largest = step.largest(batch)
    most, whole = (f"{size / 1e9:.2f}" for size in (largest.bytes(batch), step.bytes(batch)))
    told = f"| {what} | {batch} | {largest.formula()} | {most} | {whole} |"
    assert told in (ROOT / "README.md").read_text(), told
    assert len(train.fit(model, data, steps=1, batch=4)) == 1
