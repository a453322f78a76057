"""Runs that are killed or meet each other: nothing is repeated, lost, half-written, or left running. No mock."""

import os
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from small_notebooks import PATIENCE, alive, command, environment, wait_until, write

# Each cell run appends "name pid of the kernel, pid of the worker" to a file, then sleeps.
MARK = """\
import os, pathlib, time
with open(os.environ["MARKS"], "a") as marks:
    marks.write(f"{NAME} {os.getpid()} {os.getppid()}\\n")
time.sleep(SECONDS)
pathlib.Path(os.environ["MRL_LAB_RUN"], "end.txt").write_text(NAME)"""


def sleeper(folder: Path, name: str, seconds: float) -> None:
    write(folder / "notebooks", name, f"NAME, SECONDS = {name!r}, {seconds}", MARK)


def start(folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command("run", "--all", "--out", folder / "out"),
        env=environment(folder / "notebooks") | {"MARKS": str(folder / "marks.txt")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def marks(folder: Path) -> list[list[str]]:
    file = folder / "marks.txt"
    return [line.split() for line in file.read_text().splitlines()] if file.is_file() else []


def half_written(folder: Path) -> list[Path]:
    return [f for f in (folder / "out" / ".running").iterdir() if f.suffix != ".lock"]


@pytest.mark.slow
def test_kill_9_in_the_middle_then_the_same_command(tmp_path):
    for name, seconds in (("00_first", 0.0), ("01_second", 3.0), ("02_third", 0.0)):
        sleeper(tmp_path, name, seconds)
    killed = start(tmp_path)
    wait_until(lambda: len(marks(tmp_path)) == 2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    first = tmp_path / "out" / "00_first" / "seconds" / "run.json"
    before = first.stat().st_mtime_ns, first.read_text()
    assert {f.name for f in (tmp_path / "out").glob("0*")} == {"00_first"}, "only what was finished is seen"
    kernel, worker = marks(tmp_path)[1][1:]
    wait_until(lambda: not alive(kernel) and not alive(worker))
    assert half_written(tmp_path) == []

    again = start(tmp_path)
    text, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, text
    assert "00_first seconds: done already" in text
    assert (first.stat().st_mtime_ns, first.read_text()) == before
    assert [name for name, *_ in marks(tmp_path)] == ["00_first", "01_second", "01_second", "02_third"]
    for name in ("00_first", "01_second", "02_third"):
        assert (tmp_path / "out" / name / "seconds" / "end.txt").read_text() == name
    assert half_written(tmp_path) == []
    assert not [pid for _, *pids in marks(tmp_path) for pid in pids if alive(pid)]


@pytest.mark.slow
def test_kill_9_of_the_worker_is_a_failure_and_leaves_no_kernel(tmp_path):
    sleeper(tmp_path, "00_long", 60)
    process = start(tmp_path)
    wait_until(lambda: len(marks(tmp_path)) == 1)
    _, kernel, worker = marks(tmp_path)[0]
    os.kill(int(worker), signal.SIGKILL)
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "the worker ended with status -9" in text
    wait_until(lambda: not alive(kernel), 30)  # long before its cell would end


@pytest.mark.slow
def test_two_runs_into_one_folder_share_the_work(tmp_path):
    sleeper(tmp_path, "00_first", 0.0)
    sleeper(tmp_path, "01_second", 2.0)
    both = [start(tmp_path), start(tmp_path)]
    texts = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert sorted(name for name, *_ in marks(tmp_path)) == ["00_first", "01_second"]
    assert any("waiting for that one" in text for text in texts)
    assert sum(text.count("done already") for text in texts) == 2
    assert half_written(tmp_path) == []


# A table that took 700 seconds as a clock shows them, and another training that goes on.
LONG = """\
import json, os, pathlib, time
from mrl_lab import runs, score
table = score.table([{"method": "MRL", "seed": 100, "dim": 8, "metric": "top1", "value": 1 / 3}])
runs.remember({"a": NAME}, lambda: table)
used = pathlib.Path(os.environ["MRL_LAB_RUN"], runs.USED)
used.write_text(json.dumps(json.loads(used.read_text()) | {"made": [[0, LASTED]]}))
with open(os.environ["MARKS"], "a") as marks:
    marks.write(f"{NAME} {os.getpid()} {os.getppid()}\\n")
time.sleep(SECONDS)"""


@pytest.mark.slow
@pytest.mark.parametrize(("lasted", "kept"), [(700, [1 / 3]), (500, [])])
def test_a_long_run_that_is_stopped_leaves_what_it_has_come_to_until_it_is_done(tmp_path, lasted, kept):
    place = tmp_path / "out" / "00_long"

    def run(seconds: float) -> subprocess.Popen:
        said = f"NAME, SECONDS, LASTED = 'long', {seconds}, {lasted}"
        write(tmp_path / "notebooks", "00_long", said, LONG)
        return start(tmp_path)

    stopped = run(60)
    wait_until(lambda: len(marks(tmp_path)) == 1)
    stopped.send_signal(signal.SIGINT)
    stopped.communicate(timeout=PATIENCE)
    assert [value for file in place.glob("*.stopped/rows.csv") for value in pd.read_csv(file)["value"]] == kept
    assert half_written(tmp_path) == []
    assert run(0).wait(PATIENCE) == 0
    assert [f.name for f in place.iterdir()] == ["seconds"], "the finished run has these rows beside its page"
