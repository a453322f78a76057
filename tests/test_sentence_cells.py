"""What 03 and 04 show of their methods: the cells do what the tested code does, and a reader's own are trained too."""

import ast
import json
import re
from pathlib import Path

import pytest
import torch
from small_texts import ROWS, TEXTS, encoder, stand_in, tokenizer

from mrl_lab import lab, score, workers
from mrl_lab.agree import same
from mrl_lab.encoders.tokens import TextRows
from mrl_lab.lab import Recipe
from mrl_lab.study.sentences.objectives import Objective
from mrl_lab.study.sentences.pretraining import Pretraining
from mrl_lab.study.sentences.task import Sentences

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
TASK = Sentences(layers=3, d=32, triplets=36, words=60)
PAIRS = [(cut.layer, cut.dim) for cut in TASK.pairs]
RECIPE = Recipe(steps=2, batch=4, lr=1e-3, clip=1.0)


def cells(name: str) -> list[tuple[str, list[str]]]:
    found = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in found]


def typed(name: str, *more: str, **known: object) -> dict:
    """What a kernel knows after the imports, the cells of the method, and those in which one of ``more`` stands."""
    made = {"__name__": "__main__"} | known
    for source, tags in cells(name):
        if "import mrl_lab as lab" in source or "method" in tags or any(part in source for part in more):
            tree = ast.parse(source)  # classes and functions alone: what is computed with them is not asked here
            tree.body = [
                one
                for one in tree.body
                if isinstance(one, ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef)
            ]
            exec(compile(tree, name, "exec"), made)
    return made


@pytest.fixture
def snli(monkeypatch, tmp_path):
    """SNLI is 36 rows."""
    stand_in(monkeypatch, tmp_path)


def test_cells_of_the_methods_are_the_tested_methods(snli):
    two, star = typed("03_2dmse")["TwoD"], typed("04_starbucks")
    batch, sizes = TASK.rows()[torch.arange(8)], TASK.sizes[:-1]
    assert "same loss" in same(two(TASK.encoder(0), sizes), Objective("2DMSE").build(TASK, 0), *batch)
    assert "same loss" in same(star["Starbucks"](TASK.encoder(0), PAIRS), Objective("Starbucks").build(TASK, 0), *batch)
    reading = Pretraining("SMAE", RECIPE)
    mine, tested = star["Reader"](reading.build(TASK, 0).model, PAIRS).eval(), reading.build(TASK, 0).eval()
    assert "same loss" in same(mine, tested, *reading.rows(TASK)[torch.arange(8)])


@pytest.mark.parametrize(
    ("change", "name"),
    [({"c": (1, 1, 1, 1, 0)}, "03_2dmse"), ({"kl": 0.2}, "04_starbucks")],
    ids=["2DMSE", "Starbucks"],
)
def test_a_cell_that_was_changed_is_not_the_tested_method(snli, change, name):
    batch, made = TASK.rows()[torch.arange(8)], typed(name)
    mine = {
        "03_2dmse": lambda: made["TwoD"](TASK.encoder(0), TASK.sizes[:-1], **change),
        "04_starbucks": lambda: made["Starbucks"](TASK.encoder(0), PAIRS, **change),
    }[name]()
    tested = Objective("2DMSE" if name == "03_2dmse" else "Starbucks").build(TASK, 0)
    with pytest.raises(AssertionError, match="not the same"):
        same(mine, tested, *batch)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (
            "03_2dmse",
            "def cosine_of_cut(x, y, m):\n"
            "    x, y = normalize(x, dim=1), normalize(y, dim=1)\n"
            "    return (x[:, :m] * y[:, :m]).sum(1)",
        ),
        ("04_starbucks", "def nested(pairs):\n    return pairs == sorted(pairs)"),
    ],
)
def test_an_exercise_says_what_is_right_and_what_is_not(name, wrong):
    (exercise,) = (source for source, _ in cells(name) if "lab.answer(" in source)
    (folded,) = (found[1] for source, _ in cells(name) if (found := re.search(r"```python\n(.*?)```", source, re.S)))
    stub = re.search(r"^def .*\.\.\.  # your lines.*$", exercise, re.M)[0]
    for lines, said in ((stub, "Not yet: the function returns nothing"), (wrong, "Not yet: on"), (folded, "Right")):
        made = typed(name, pairs=PAIRS)
        *before, last = ast.parse(exercise.replace(stub, lines)).body
        exec(compile(ast.Module(before, []), name, "exec"), made)
        assert eval(compile(ast.Expression(last.value), name, "eval"), made).startswith(said)


class Few:
    """36 rows and an encoder that need nothing of this process."""

    key, layers, d, sizes = "36 rows", 3, 32, TASK.sizes

    def encoder(self, seed):
        return encoder(layers=3, d=32, seed=seed)

    def rows(self):
        return TextRows(tokenizer(), ROWS, leave_out_copies=True)

    def ask(self, module, split, seed):
        value = module.encoder.encode(TEXTS[:2])[:, -1].sum().item()
        return score.table([{"method": "", "metric": "sum", "value": value}])


@pytest.fixture
def two_workers(monkeypatch, tmp_path):
    """Two processes of this test's own, which know its cache."""
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("MRL_LAB_WORKERS", "2")
    monkeypatch.setattr(workers, "_pays", lambda seconds: True)
    workers._pool.cache_clear()
    yield
    workers._pool(2).shutdown()
    workers._pool.cache_clear()


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("name", ["03_2dmse", "04_starbucks"])
def test_a_readers_own_method_is_trained_in_two_workers(name, monkeypatch):
    here, fit = [], lab.fit
    monkeypatch.setattr(lab, "fit", lambda *args, **how: here.append(how) or fit(*args, **how))
    yours = typed(name, "class Yours", pairs=PAIRS)["Yours"]()
    found = lab.sweep({"yours": yours}, Few(), RECIPE, [0, 1])
    assert not here, "trained elsewhere"
    again = lab.trained(yours, Few(), RECIPE, 1)
    assert not here, "and found here by the same key"
    assert found.value[1] == Few().ask(again, "test", 1).value.item()
    assert found.value[0] != found.value[1]
