"""What CI and ``make fresh`` try, in its order, on a machine that has nothing else; ``make`` is a stand-in here."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKE = """#!/bin/sh
echo "make $* data=${MRL_LAB_DATA-none} cache=${MRL_LAB_CACHE-none} hub=${HF_ENDPOINT-any}" >> "$NOTES"
pwd >> "$PLACES"
ls "$HOME" | wc -l >> "$PLACES"
test "$*" != "$FAILS"
"""
NOTHING = "data=none cache=none hub=http://127.0.0.1:9"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a script of this repository with the stand-in; return its end, what make was asked, and where."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "make").write_text(MAKE)
    (tmp_path / "bin" / "make").chmod(0o755)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("PLACES", str(tmp_path / "places"))
    monkeypatch.setenv("MRL_LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("KEEP", raising=False)

    def run(script: str, *arguments: str, fails: str = "") -> tuple[subprocess.CompletedProcess, list[str], list[str]]:
        monkeypatch.setenv("FAILS", fails)
        done = subprocess.run([ROOT / script, *arguments], capture_output=True, text=True)
        notes, places = (tmp_path / name for name in ("notes", "places"))
        if not notes.is_file():
            return done, [], []
        return done, notes.read_text().splitlines(), places.read_text().split()

    return run


def test_both_commands_run_in_a_clone_with_a_new_home_and_nothing_else(run):
    done, asked, places = run("tests/fresh_machine.sh")
    assert done.returncode == 0, done.stderr
    assert asked == [f"make {what} {NOTHING}" for what in (".venv/.ready", "reports", "test")]
    (clone,) = set(places[::2])
    assert not Path(clone).exists(), "it leaves nothing"
    assert set(places[1::2]) == {"0"}, "HOME is empty"
    told = [line.split()[:-2] for line in done.stdout.splitlines() if line.endswith(" min")]
    assert told == [["install"], ["make", "reports"], ["make", "test"]]


def test_the_first_that_fails_ends_it_with_its_status(run):
    done, asked, _ = run("tests/fresh_machine.sh", fails="reports")
    assert done.returncode == 1
    assert len(asked) == 2
    assert "the stage after these failed" in done.stdout


def test_ci_tries_the_fresh_machine_and_then_both_rings_in_this_checkout(run, tmp_path):
    done, asked, places = run(".ci/run")
    assert done.returncode == 0, done.stderr
    both_rings = f"make test data={tmp_path / 'data'} cache={tmp_path / 'cache'} hub=any"
    assert asked == [f"make .venv/.ready {NOTHING}", f"make reports {NOTHING}", both_rings]
    assert Path(places[-2]) == ROOT


@pytest.mark.parametrize("fails", [".venv/.ready", "reports", "test"])
def test_ci_fails_with_each_of_its_parts(run, fails):
    assert run(".ci/run", fails=fails)[0].returncode == 1


def test_ci_without_the_folder_of_data_leaves_no_ring_out(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MRL_LAB_DATA", str(tmp_path / "nowhere"))
    done, asked, _ = run(".ci/run")
    assert (done.returncode, asked) == (1, [])
    assert "outer ring" in done.stderr
