"""The wheel is the whole lab: in an empty folder, far from any clone, it has its notebooks."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOURCE = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "mrl_lab", "notebooks")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what the wheel is made from: building leaves files behind."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    return tree


def build(tree: Path, into: Path, hook: str) -> Path:
    """Make a wheel as pip does, without a network."""
    code = f"import sys; from setuptools.build_meta import {hook} as build; build(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, into], cwd=tree, check=True, capture_output=True)
    (wheel,) = into.glob("*.whl")
    return wheel


def test_the_wheel_carries_the_notebooks_and_finds_them(tree, tmp_path):
    with zipfile.ZipFile(build(tree, tmp_path, "build_wheel")) as wheel:
        inside = {Path(name).name: wheel.read(name) for name in wheel.namelist() if name.endswith(".ipynb")}
        wheel.extractall(tmp_path / "site")
    assert inside == {file.name: file.read_bytes() for file in NOTEBOOKS}

    (tmp_path / "empty").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MRL_LAB_")}
    listed = subprocess.run(
        [sys.executable, "-m", "mrl_lab", "list", "--json"],
        cwd=tmp_path / "empty",
        env=environment | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [notebook["name"] for notebook in json.loads(listed.stdout)] == [file.stem for file in NOTEBOOKS]


def test_installed_as_it_lies_a_clone_keeps_one_copy(tree, tmp_path):
    wheel = build(tree, tmp_path, "build_editable")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".ipynb")]
    assert not (tree / "mrl_lab" / "notebooks").exists()
