"""Keys: what changes a result changes its key, and nothing else does."""

import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mrl_lab import keys
from mrl_lab.cuts import Cut
from mrl_lab.errors import RequestError
from mrl_lab.report import notebooks
from mrl_lab.study.models import Model


def typed(source: str, name: str = "f") -> object:
    """What a notebook's cell defines: a thing of ``__main__``."""
    made = {"__name__": "__main__", "torch": torch}
    exec(textwrap.dedent(source), made)
    return made[name]


def differ(a: object, b: object) -> bool:
    return keys.digest(a) != keys.digest(b)


SAME = "def f(x, c=2):\n    return c * x.sum()"


@pytest.mark.parametrize(
    "changed",
    [
        "def f(x, c=3):\n    return c * x.sum()",
        "def f(x, c=2):\n    return c * x.mean()",
        "def f(x, c=2):\n    return c * x.sum() + 1",
        "def f(x, *, c=2):\n    return c * x.sum()",
    ],
    ids=["default", "name", "constant", "keyword"],
)
def test_a_function_typed_in_a_notebook_counts_by_what_it_does(changed):
    assert differ(typed(SAME), typed(changed))
    assert not differ(typed(SAME), typed("\n\n" + SAME.replace("x.sum()", "x.sum()  # as before")))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("w = 1\ndef f(x): return w * x", "w = 100\ndef f(x): return w * x"),
        ("w = [1, 2]\ndef f(x): return w[0] * x", "w = [1, 3]\ndef f(x): return w[0] * x"),
        ("def g(x): return x\ndef f(x): return g(x)", "def g(x): return -x\ndef f(x): return g(x)"),
        ("def f(x): return (lambda y: y + 1)(x)", "def f(x): return (lambda y: y + 2)(x)"),
        ("def f(x): return x in {'a', 'b'}", "def f(x): return x in {'a', 'c'}"),
        ("w = torch.zeros(2)\ndef f(x): return w + x", "w = torch.ones(2)\ndef f(x): return w + x"),
    ],
    ids=["number", "list", "function", "inner function", "set", "tensor"],
)
def test_what_a_function_reads_of_its_notebook_counts_too(before, after):
    assert differ(typed(before), typed(after))
    assert not differ(typed(before), typed(before))


CLASS = """
    from dataclasses import dataclass
    @dataclass(frozen=True)
    class f:
        weight: float = 1.0
        def build(self, task, seed): return torch.nn.Linear(2, 2)
        def loss(self, z): return self.weight * z.sum()
"""


@pytest.mark.parametrize("edit", [("weight: float = 1.0", "weight: float = 100.0"), ("z.sum()", "z.mean()")])
def test_a_class_of_the_same_name_with_another_loss_is_another_method(edit):
    one, other = typed(CLASS)(weight=1.0), typed(CLASS.replace(*edit))(weight=1.0)
    assert differ(one, other)
    assert not differ(one, typed(CLASS)(weight=1.0))
    assert differ(one, typed(CLASS)(weight=2.0))


def test_a_base_class_and_a_class_that_names_itself_are_followed():
    source = "class A:\n    def g(self): return {n}\nclass f(A):\n    def h(self): return super().g() + len(f.__name__)"
    assert differ(typed(source.format(n=1)), typed(source.format(n=2)))
    assert not differ(typed(source.format(n=1)), typed(source.format(n=1)))


def test_a_function_that_keeps_what_it_gave_counts_as_that_function():
    once = "from functools import cache\n@cache\ndef f(x, c=2):\n    return c * x.sum()"
    assert not differ(typed(once), typed(SAME))
    assert differ(typed(once), typed(once.replace("sum", "mean")))


def test_values_count_by_content():
    a = torch.arange(4.0)
    assert not differ(a, a.clone())
    assert differ(a, a.double())
    assert differ(a, a.view(2, 2))
    assert differ(a.bfloat16(), -a.bfloat16())
    assert differ(np.zeros(3), np.ones(3))
    assert not differ({"a": 1, "b": (2, 3)}, {"b": [2, 3], "a": 1})
    assert differ(Model((2, 4), 4), replace(Model((2, 4), 4), efficient=True))
    assert differ(pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]}))
    assert not differ({"x", "y", "z"}, {"z", "y", "x"})
    assert differ(Cut(dim=2), Cut(layer=2))


def test_data_count_by_their_key():
    @dataclass
    class Rows:
        key: dict
        big: object = None

    assert not differ(Rows({"sha": "a"}, object()), Rows({"sha": "a"}, object()))
    assert differ(Rows({"sha": "a"}), Rows({"sha": "b"}))


def test_a_folder_counts_by_the_files_in_it(tmp_path):
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "weights"
    file.write_bytes(b"one")
    before = keys.digest(tmp_path)
    file.write_bytes(b"two")
    assert keys.digest(tmp_path) != before
    file.write_bytes(b"one")
    assert keys.digest(tmp_path) == before
    file.rename(file.with_name("other"))
    assert keys.digest(tmp_path) != before
    with pytest.raises(RequestError, match="there is no file or folder"):
        keys.digest(tmp_path / "nothing")


@pytest.mark.parametrize("value", [torch.relu, len, np.max, np.add, torch.nn.functional.softmax, torch.nn.Linear])
def test_what_is_installed_counts_by_its_name(value):
    assert not differ(value, value)
    assert differ(value, torch.tanh)
    assert isinstance(keys.describe(value), str)


def test_a_function_that_remembers_counts_by_the_one_that_it_calls():
    one, same, other = (cache(typed(f"def f(): return {n}")) for n in (1, 1, 2))
    assert not differ(one, same)
    assert differ(one, other)


@pytest.mark.parametrize("value", [object(), torch.nn.Linear(2, 2), (i for i in range(2))])
def test_what_nothing_tells_apart_is_refused(value):
    with pytest.raises(RequestError, match="nothing tells whether"):
        keys.digest(value)


def test_a_key_is_the_same_in_another_process():
    code = (
        "import torch\nfrom mrl_lab import keys\nw = {'a', 'b', 'c'}\n"
        "def f(x):\n    return x in {'p', 'q', 'r'} and w\n"
        "class A:\n    def g(self): return f(1)\nprint(keys.digest([A, f]))"
    )
    run = [sys.executable, "-c", code]
    found = {subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(3)}
    assert len(found) == 1


# ------------------------------------------------------------------------------------------------ closures


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A package of four rooms: a imports b (b imports c) and, for type checkers alone, d."""
    text = {
        "a": "from typing import TYPE_CHECKING\nfrom house.b import x\nif TYPE_CHECKING:\n    import house.d",
        "b": "def x():\n    from house import c, runs",
        "c": "y = 1",
        "d": "z = 1",
        "runs": "",
        "report": "",
    }
    for name, lines in text.items():
        (tmp_path / f"{name}.py").write_text(lines)
    monkeypatch.setattr(keys, "PACKAGE", tmp_path)
    monkeypatch.setattr(keys, "NAME", "house")
    monkeypatch.setattr(keys, "FACE", {"sum": "c", "a": "a"})
    monkeypatch.setattr(keys, "AROUND", frozenset({"house", "house.report"}))
    monkeypatch.setattr(keys, "ASIDE", frozenset({"house", "house.runs"}))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Read the package's files anew, as another process does."""
    for cached in (keys.closure, keys.reached, keys._imports):
        cached.cache_clear()


@pytest.mark.parametrize(("room", "counts"), [("a", True), ("b", True), ("c", True), ("d", False), ("runs", False)])
def test_a_commit_counts_where_the_module_is_reached(house, room, counts):
    assert keys.reached(frozenset({"house.a"})) == {"house.a", "house.b", "house.c"}
    before = keys.closure("house.a")
    (house / f"{room}.py").write_text((house / f"{room}.py").read_text() + "\nmore = 1")
    forget()
    assert (keys.closure("house.a") != before) == counts


@pytest.mark.parametrize(
    ("cells", "rooms"),
    [
        (["from house.b import x", "x()"], "b c runs"),
        (["from house import b"], "b c runs"),
        (["import house as lab", "lab.sum(1)"], "c"),
        (["import house as lab", "lab.a.x"], "a b c runs"),
        (["from house import sum"], "c"),
        (["import house.d\n%matplotlib inline\n!ls"], "d"),
        (["import torch", "1 + 1"], ""),
        (["from house import report, d"], "d"),
        (["a = 1", "no python"], "a b c d runs"),
    ],
    ids=["from", "module", "face", "module of the face", "from the face", "magics", "nothing", "around", "unreadable"],
)
def test_what_a_notebook_s_page_stands_on_is_what_its_cells_import(house, cells, rooms):
    before, counted = keys.behind(cells), []
    for file in sorted(house.glob("*.py")):
        text = file.read_text()
        file.write_text(text + "\nmore = 1")
        forget()
        counted += [file.stem] * (keys.behind(cells) != before)
        file.write_text(text)
    assert counted == rooms.split()


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("methods/mrl.py", True),
        ("study/models.py", True),
        ("plots/curves.py", True),
        ("claims/pictures.py", True),
        ("stats.py", True),
        ("desk.py", True),
        ("methods/m3.py", False),
        ("claims/sentences.py", False),
        ("report/page.py", False),
        ("report/template/style.css", False),
        ("cli.py", False),
        ("data/catalogue.py", False),
    ],
)
def test_of_01_a_finished_run_stays_valid_where_it_does_not_import(tmp_path, monkeypatch, file, counts):
    (cells,) = (notebook.code for name, notebook in notebooks.find().items() if name == "01_mrl")
    shutil.copytree(keys.PACKAGE, tmp_path / "mrl_lab", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(keys, "PACKAGE", tmp_path / "mrl_lab")
    forget()
    before = keys.behind(cells)
    with (tmp_path / "mrl_lab" / file).open("a") as code:
        code.write("\n# changed\n")
    forget()
    assert (keys.behind(cells) != before) == counts
    forget()


def test_of_this_package_mrl_stands_on_its_own_rooms_alone():
    reached = keys.reached(frozenset({"mrl_lab.study.models"}))
    assert {"mrl_lab.methods.mrl", "mrl_lab.encoders.pictures", "mrl_lab.cuts"} <= reached
    of_others = {"m3", "starbucks", "franca", "tokens", "clusters", "sentences", "search", "score", "plots", "report"}
    assert not {name for name in reached if set(name.split(".")) & of_others}


def test_every_module_that_is_set_aside_exists():
    for name in keys.ASIDE - {"mrl_lab"}:
        assert keys._file(name) or (Path(keys.PACKAGE) / name.split(".")[1]).is_dir(), name
