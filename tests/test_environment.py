"""pyproject.toml, constraints.txt, environment.yml and what is installed agree."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from clock import least
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch", "huggingface-hub": "huggingface_hub"}


def requirements(*extras: str) -> dict[str, Requirement]:
    lines = [line for name in extras for line in PROJECT["optional-dependencies"][name]] or PROJECT["dependencies"]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): pinned for name, pinned in pairs}


def test_every_requirement_has_a_lower_bound_only():
    for requirement in (requirements() | requirements("test", "databases")).values():
        assert re.fullmatch(r">=[\d.]+", str(requirement.specifier)), requirement


def test_every_requirement_is_pinned_inside_its_bound():
    pinned = constraints()
    for name, requirement in (requirements() | requirements("test", "databases")).items():
        assert Version(pinned[name]) in requirement.specifier, name


def test_the_owners_packages_are_there():
    owners = {"jupyterlab", "torch", "transformers", "matplotlib", "seaborn", "pandas", "ipywidgets", "papermill"}
    assert owners <= set(requirements())


def test_conda_environment_says_the_same():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert listed[-1] == {"pip": ["-e ."]}
    conda = set(listed[:-1]) - {"pip"}
    expected = {CONDA_NAMES.get(n, n) + str(r.specifier) for n, r in requirements().items()}
    assert conda == expected | {f"python{PROJECT['requires-python']}"}


@pytest.mark.parametrize("name", sorted(requirements() | requirements("test", "databases")))
def test_installed_version_is_inside_the_bound(name):
    assert Version(version(name)) in (requirements() | requirements("test", "databases"))[name].specifier


def test_importing_the_package_is_light():
    """At most 0.15 s over a bare interpreter, and nothing heavy comes along."""
    assert least("import mrl_lab") - least("pass") < 0.15
    loaded = "import sys, mrl_lab.cli; print(*(m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout == "\n"
