"""What run.json says of the code: its commit, and the versions of what it stands on."""

from packaging.requirements import Requirement

from mrl_lab import source


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
