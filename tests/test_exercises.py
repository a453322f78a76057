"""The exercises that check themselves: each folded answer is right, the empty function and a slip are not."""

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mrl_lab import data

FOLDER = Path(__file__).parent.parent / "notebooks"
HEAD = "An exercise that checks itself."
# What a check reads of its notebook, small: the name of the notebook -> its variables at that place.
AT_HAND = {
    "00_start_here": {"z": torch.rand(6, 64)},
    "01_mrl": {"d": 8, "first": SimpleNamespace(logits=lambda z: {m: z[:, :m] @ torch.rand(m, 9) for m in (2, 8)})},
    "02_adaptive_search": {"n": 1_000, "dims": [16, 64], "d": 256},
    "04_starbucks": {"pairs": [(1, 16), (2, 32), (3, 48)]},
    "05_m3": {"SCALES": (1, 4, 16)},
}


def cells(name: str) -> list[tuple[str, str]]:
    found = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in found]


def exercises() -> list[tuple[str, int]]:
    """(notebook, the place of the cell that checks), of every exercise."""
    names = sorted(file.stem for file in FOLDER.glob("*.ipynb"))
    return [(name, i + 1) for name in names for i, (_, text) in enumerate(cells(name)) if HEAD in text]


EXERCISES = pytest.mark.parametrize(("name", "place"), exercises(), ids=lambda v: v if isinstance(v, str) else "")


def answered(name: str, place: int) -> str:
    """The cell that checks, with the folded answer in the place of the empty function."""
    check, folded = cells(name)[place][1], cells(name)[place + 1][1]
    (answer,) = re.findall(r"<details><summary>Answer</summary>\s*```python\n(.*?)```", folded, re.DOTALL)
    (empty,) = (node for node in ast.parse(check).body if isinstance(node, ast.FunctionDef))
    (whole,) = (node for node in ast.parse(answer).body if isinstance(node, ast.FunctionDef))
    assert (empty.name, ast.unparse(empty.args)) == (whole.name, ast.unparse(whole.args))
    assert ast.unparse(empty.body) == "...", "the function that a reader finds is empty"
    return "\n".join([answer, *check.splitlines()[empty.end_lineno :]])


def said(code: str, world: dict) -> str:
    """What the last line of a cell gives."""
    *before, last = ast.parse(code).body
    exec(compile(ast.Module(before, []), "<cell>", "exec"), world)
    return eval(compile(ast.Expression(last.value), "<check>", "eval"), world)


def imports(name: str) -> str:
    nodes = [node for kind, text in cells(name) if kind == "code" for node in ast.parse(text).body]
    return "\n".join(ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


@EXERCISES
def test_the_folded_answer_is_right_and_the_empty_function_is_not(name, place):
    world = dict(AT_HAND.get(name, {}))
    exec(imports(name), world)
    assert said(answered(name, place), world).startswith("Right, on ")
    assert said(cells(name)[place][1], world).startswith("Not yet: the function returns nothing.")


@EXERCISES
def test_an_answer_with_a_slip_is_told_where_it_is_wrong(name, place):
    world = AT_HAND.get(name, {}) | {"slip": lambda v: [not one for one in v] if isinstance(v, list) else v * 1.01}
    exec(imports(name), world)
    slipped = re.sub(r"^(\s+return )(.*)$", r"\1slip(\2)", answered(name, place), count=1, flags=re.MULTILINE)
    assert said(slipped, world).startswith("Not yet: on ")


@pytest.mark.slow
def test_in_00_the_answer_is_right_where_a_reader_types_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_RUN", str(tmp_path))
    few = data.load("fashion_mnist", train=500, test=200)
    monkeypatch.setattr(data, "load", lambda *_, **__: few)
    ((name, place),) = (one for one in exercises() if one[0] == "00_start_here")
    world: dict = {"__name__": "__main__"}
    for kind, text in cells(name)[:place]:
        if kind == "code":
            exec(text, world)
    assert said(answered(name, place), world).startswith("Right, on ")
