"""Every budget that a notebook has can begin: its settings are there for all tables that it reads, and so are its data.

The long ones are not run in tests, so that a slip in them would show after hours.
"""

import ast
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from mrl_lab.report import notebooks
from mrl_lab.study import room

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
BUDGETS = {
    file: notebooks.read(file).minutes
    for file in NOTEBOOKS
    if any(p.name == "budget" for p in notebooks.read(file).parameters)
}
CELLS = {file: [c for c in json.loads(file.read_text())["cells"] if c["cell_type"] == "code"] for file in NOTEBOOKS}
TABLED = {
    file: next(i for i, c in enumerate(CELLS[file]) if "lab.load(" in "".join(c["source"]))
    for file in BUDGETS
    if any("lab.load(" in "".join(c["source"]) for c in CELLS[file])
}


@pytest.mark.parametrize("file", [f for f in BUDGETS if "[budget]" in f.read_text()], ids=lambda f: f.stem)
def test_what_is_looked_up_by_the_budget_is_there_for_each(file):
    tables, looked_up = {}, []
    for cell in CELLS[file]:
        tree = ast.parse("".join(cell["source"]))
        tables |= {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        looked_up += [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name) and node.slice.id == "budget"
        ]
    assert looked_up
    for table in looked_up:
        literal = tables[table.id] if isinstance(table, ast.Name) else table
        assert {key.value for key in literal.keys} == set(BUDGETS[file])


@pytest.mark.parametrize(
    ("file", "budget"), [(f, b) for f in TABLED for b in BUDGETS[f]], ids=lambda value: getattr(value, "stem", value)
)
def test_its_first_data_can_be_had_in_the_amounts_it_asks_for(file, budget, tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_RUN", str(tmp_path))
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: SimpleNamespace(available=1e12))  # whatever runs beside
    space = {"__name__": "__main__"}
    for cell in CELLS[file][: TABLED[file] + 1]:
        exec("".join(cell["source"]), space)
        if "parameters" in cell["metadata"].get("tags", []):
            space["budget"] = budget
