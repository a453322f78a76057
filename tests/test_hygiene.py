"""The tree as its next reader finds it: clean notebooks, honest sizes, arrows one way, no traces of a machine."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from mrl_lab.data import catalogue
from mrl_lab.report import notebooks

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = sorted((ROOT / "mrl_lab").rglob("*.py"))


def committed() -> list[Path]:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def code_cells(file: Path) -> list[tuple[int, str, dict]]:
    cells = json.loads(file.read_text())["cells"]
    return [(i, "".join(c["source"]), c) for i, c in enumerate(cells) if c["cell_type"] == "code"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_notebooks_hold_no_outputs_and_no_stray_metadata(file):
    for i, _, cell in code_cells(file):
        assert not cell["outputs"], f"cell {i} has outputs"
        assert cell["execution_count"] is None, f"cell {i} has a count"
    notebook = json.loads(file.read_text())
    assert set(notebook["metadata"]) == {"kernelspec", "language_info", "mrl_lab"}
    about = set(notebook["metadata"]["mrl_lab"])
    assert {"shows", "minutes", "needs"} <= about <= {"shows", "minutes", "needs", "adds", "instead", "untried"}
    strays = [i for i, c in enumerate(notebook["cells"]) if set(c["metadata"]) - {"tags"}]
    assert not strays, f"cells {strays} carry metadata"


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_notebook_cells_are_short_and_long_functions_stand_in_cells_of_the_method_alone(file):
    for i, source, cell in code_cells(file):
        own = "method" in cell["metadata"].get("tags", [])
        lines, most = len(source.splitlines()), 30 if own else 15
        assert lines <= most, f"cell {i} has {lines} lines"
        for node in () if own else ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 8, f"cell {i}: {node.name} belongs into the package"


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_every_budget_has_its_minutes(file):
    notebook = notebooks.read(file)
    (budget,) = (p for p in notebook.parameters if p.name == "budget")
    assert set(notebook.minutes) == set(budget.rule.names)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_needs_are_told_by_budget_and_a_laptop_s_come_from_package_indexes(file):
    notebook = notebooks.read(file)
    assert set(notebook.needs) == set(notebook.minutes)
    assert set(notebook.adds) <= set(notebook.minutes)
    for budget, needed in notebook.needs.items():
        assert not set(needed) & set(notebook.adds.get(budget, ())), budget
        for name in (*needed, *notebook.adds.get(budget, ())):
            source = catalogue.SOURCES[name]
            carried = source.debian or (source.package and (source.package.sha256 or source.package.inside))
            assert carried or name not in needed or budget not in ("seconds", "minutes"), name
    defaults = [catalogue.DERIVED.get(p.default, p.default) for p in notebook.parameters if p.name == "dataset"]
    assert all(name in needed for name in defaults for needed in notebook.needs.values())
    known = {name for names in (*notebook.needs.values(), *notebook.adds.values()) for name in names}
    for parameter, unused in notebook.instead.items():
        assert parameter in {p.name for p in notebook.parameters}
        assert set(unused) <= known


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_parameters_are_annotated_literals_with_a_comment(file):
    tagged = [s for _, s, c in code_cells(file) if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    lines = [line for line in tagged[0].splitlines() if line and not line.startswith("#")]
    for line, node in zip(lines, ast.parse(tagged[0]).body, strict=True):
        assert isinstance(node, ast.AnnAssign), line
        ast.literal_eval(node.value)
        assert "  # " in line, line


def functions() -> list[tuple[str, ast.FunctionDef]]:
    found = []
    for file in MODULES:
        nodes = ast.walk(ast.parse(file.read_text()))
        found += [(f"{file.stem}.{n.name}", n) for n in nodes if isinstance(n, ast.FunctionDef)]
    return found


def test_functions_are_short():
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node in functions()}
    assert {name: n for name, n in lengths.items() if n > 50} == {}, "with the docstring"
    bodies = []
    for _, node in functions():
        body = node.body[1:] if ast.get_docstring(node) else node.body
        bodies.append(body[-1].end_lineno - body[0].lineno + 1 if body else 0)
    assert max(bodies) <= 50
    assert sorted(bodies)[len(bodies) // 2] <= 10


def test_public_things_have_docstrings():
    missing = [str(f.relative_to(ROOT)) for f in MODULES if not ast.get_docstring(ast.parse(f.read_text()))]
    for file in MODULES:
        for node in ast.parse(file.read_text()).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(f"{file.stem}.{node.name}")
    assert missing == []


LAYERS = {  # from the ground up: what a module, or all in a package, may import of ours besides itself and errors
    "errors": set(),
    "files": set(),
    "schema": set(),
    "source": set(),
    "clock": set(),
    "device": set(),
    "cuts": set(),
    "cost": set(),
    "losses": set(),
    "shares": set(),
    "distil": {"shares"},
    "agree": set(),
    "explore": set(),
    "oracle": set(),
    "parameters": {"cuts"},
    "data": {"files"},
    "encoders": {"cuts"},
    "methods": {"cuts", "distil", "losses", "shares"},
    "search": {"cuts"},
    "databases": {"clock", "cuts", "search"},
    "export": {"cuts", "encoders", "files"},
    "score": {"cuts", "schema", "search"},
    "cascade": {"cuts", "score"},
    "contrasts": set(),
    "stats": {"contrasts"},
    "verdicts": {"contrasts", "schema", "stats"},
    "plots": {"schema", "stats"},
    "claims": {"contrasts", "verdicts"},
    "keys": {"files"},
    "runs": {"files", "schema", "source"},
    "memory": set(),
    "train": {"device", "files", "memory"},
    "workers": {"device"},
    "lab": {"device", "keys", "runs", "score", "train", "workers"},
    "study": {"cascade", "clock", "cost", "cuts", "data", "device", "distil", "encoders", "export", "files", "lab"}
    | {"memory", "methods", "oracle", "runs", "schema", "score", "search", "source", "stats", "train", "workers"},
    "bench": {"clock", "cuts", "data", "encoders", "methods", "score", "search", "study"},
    "protocol": {"files", "lab", "runs", "source", "stats", "verdicts"},
    "report": {"contrasts", "data", "files", "keys", "parameters", "plots", "protocol", "runs", "schema", "source"},
    "desk": {"device", "explore", "plots", "protocol", "report", "runs", "verdicts"},
    "check": {"data", "device", "files", "report", "source"},
    "cli": {"bench", "check", "data", "report", "source"},
    "__main__": {"cli"},
}


def layer_of(file: Path) -> str:
    return file.relative_to(ROOT / "mrl_lab").parts[0].removesuffix(".py")


def imported(file: Path) -> set[str]:
    """The names in ``mrl_lab`` that a module imports something of."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in found if name.startswith("mrl_lab.")} - {"FACE"}


def test_every_module_has_its_layer_and_arrows_go_down_alone():
    assert set(LAYERS) == {layer_of(file) for file in MODULES} - {"__init__"}
    order = list(LAYERS)
    assert [(a, b) for a in order for b in LAYERS[a] if order.index(b) >= order.index(a)] == []


@pytest.mark.parametrize("layer", LAYERS)
def test_a_module_imports_what_its_layer_may(layer):
    for file in (file for file in MODULES if layer_of(file) == layer):
        strays = imported(file) - LAYERS[layer] - {layer, "errors"}
        assert not strays, f"{file.name} imports {strays}"


def test_no_method_imports_another_and_nothing_a_notebook():
    for file in MODULES:
        assert not re.search(r"mrl_lab\.notebooks|^(from|import) notebooks", file.read_text(), re.MULTILINE), file.name
        if layer_of(file) == "methods":
            assert not re.search(r"from mrl_lab\.methods|import methods", file.read_text()), file.name


def test_nothing_heavy_secret_or_local_is_committed():
    local = re.compile(r"/work/|/opt/|/root/|/tmp/\w|/home/\w")
    for file in committed():
        assert file.stat().st_size < 2_000_000, file
        assert file.suffix not in {".pt", ".pth", ".npy", ".npz", ".pkl", ".bin", ".safetensors"}, file
        if file != Path(__file__):
            found = local.search(file.read_text(errors="ignore"))
            assert not found, f"{file}: {found}"


def test_no_pickle_and_no_remote_code():
    text = "\n".join(f.read_text() for f in MODULES)
    for forbidden in ("import pickle", "allow_pickle=True", "weights_only=False", "trust_remote_code=True", "eval("):
        assert not re.search(rf"(?<![\w.]){re.escape(forbidden)}", text), forbidden


def test_no_test_measures_by_the_clock_on_the_wall():
    """It would fail where the machine is shared: see clock.py for the CPU's own."""
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        assert not re.search(r"\b(perf_counter|monotonic|time\.time)\(", file.read_text()), file.name
