"""The digest of the code decides whether a result is used again, so it must notice every change that matters."""

import shutil

import pytest
from packaging.requirements import Requirement

from mrl_lab import source


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package that may be changed; digests are taken over it."""
    folder = tmp_path / "mrl_lab"
    shutil.copytree(source.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source, "PACKAGE", folder)
    return folder


def digests() -> tuple[str, str]:
    source.digest.cache_clear()
    found = source.digest(), source.digest(source.AROUND | source.SHOWING)
    source.digest.cache_clear()
    return found


@pytest.mark.parametrize(
    ("file", "a_run_is_new", "a_result_is_new"),
    [
        ("methods/mrl.py", True, True),
        ("plots.py", True, False),
        ("claims/sentences.py", True, False),
        ("cli.py", False, False),
        ("report/page.py",) + (False,) * 2,
    ],
)
def test_a_change_counts_where_numbers_depend_on_it(copy, file, a_run_is_new, a_result_is_new):
    before = digests()
    with (copy / file).open("a") as code:
        code.write("\n# changed\n")
    run, result = digests()
    assert (run != before[0], result != before[1]) == (a_run_is_new, a_result_is_new)


def test_a_new_module_counts(copy):
    before = digests()
    (copy / "methods" / "another.py").write_text('"""Another."""\n')
    assert digests() != before


def test_versions_name_this_package_and_what_it_needs():
    found = source.versions()
    assert {"mrl-lab", "torch", "papermill", "ipywidgets", "jupyterlab"} <= set(found)
    assert "pytest" not in found


def test_what_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(source, "requirements", lambda: [Requirement("never-heard-of")])
    assert set(source.versions()) == {"mrl-lab"}


def test_the_commit_is_that_of_this_clone():
    found = source.commit()
    assert found is None or len(found["id"]) == 40
