"""``mrl-lab check``: one line a requirement, a fix beside every failure, and an exit status that says which."""

import os
import re

import pytest

from mrl_lab import check, source
from mrl_lab.data import catalogue, shelf
from mrl_lab.errors import RequestError


def test_everything_is_looked_at_and_one_failure_is_enough(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check, "data", lambda: iter([(True, "fashion_mnist found")]))
    assert check.main(tmp_path) is True
    lines = capsys.readouterr().out.splitlines()
    assert all(re.match(r"\[OK\]   ", line) for line in lines[:-1])
    text = "\n".join(lines)
    for word in (
        "Python 3",
        "torch ",
        "kernel python3",
        "notebooks in",
        "runs go to",
        "results are kept in",
        "GB free",
        "device cpu",
        "cores",
    ):
        assert word in text, word
    monkeypatch.setattr(check, "data", lambda: iter([(False, "cifar10 is missing: get it so")]))
    assert check.main(tmp_path) is False
    assert "[FAIL] cifar10 is missing: get it so" in capsys.readouterr().out


def test_a_package_that_is_too_old_or_missing_has_its_fix(monkeypatch):
    from packaging.requirements import Requirement

    monkeypatch.setattr(source, "requirements", lambda: [Requirement("torch>=99"), Requirement("no-such-thing>=1")])
    old, missing = check.packages()
    assert not old[0]
    assert 'python -m pip install "torch>=99"' in old[1]
    assert not missing[0]
    assert "no-such-thing is missing" in missing[1]


def test_a_check_that_breaks_is_a_failure_and_not_a_crash():
    def broken():
        raise RequestError("nothing there: mend it")

    assert check.guarded("notebooks", broken) == (False, "notebooks: nothing there: mend it")


def test_too_little_room_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "DISK", 1e18)
    monkeypatch.setattr(check, "MEMORY", 1e18)
    assert not check.disk(tmp_path)[0]
    assert "are needed" in check.disk(tmp_path / "not" / "yet")[1]
    assert not check.memory()[0]


@pytest.mark.parametrize("place", ["", "data", "results"])
def test_a_cache_that_cannot_be_written_to_is_a_failure_with_its_fix(tmp_path, monkeypatch, place):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    assert check.cache() == (True, f"data and results are kept in {tmp_path / 'cache'}")
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache" / "data").mkdir(parents=True)
    (tmp_path / "cache" / "results").mkdir()
    shut = tmp_path / "cache" / place
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != shut)  # the superuser has every right
    fine, line = check.cache()
    assert not fine
    assert f"{shut} cannot be written to" in line
    assert "MRL_LAB_CACHE" in line


def test_check_and_list_say_the_same_of_what_is_there(monkeypatch):
    monkeypatch.setattr(check, "_wanted", lambda: ({"digits": ["00"]}, {}))
    monkeypatch.setattr(catalogue, "SOURCES", {"digits": catalogue.SOURCES["digits"]})
    ((fine, line),) = check.data()
    row = next(row for row in shelf.table().splitlines() if row.startswith("digits"))
    assert fine
    assert line.removeprefix("digits: ") in row
