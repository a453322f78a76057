"""Reports on a cluster whose scheduler and workers are processes of their own: what dies, who is refused. No mock."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import KilledWorker
from small_notebooks import PATIENCE, alive, command, wait_until, write

from mrl_lab import cli, source
from mrl_lab.report import cluster

# Each report appends "dim pid of the kernel, pid of its parent" to a file, and sleeps.
MARK = """\
import os, time
with open(os.environ["MRL_LAB_TEST_MARKS"], "a") as marks:
    marks.write(f"{dim} {os.getpid()} {os.getppid()}\\n")
time.sleep(SECONDS)"""


# A shell's background job ignores Ctrl-C, and so would all that it starts, these tests among them.
ATTENTIVE = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}


class Ring:
    """A folder that holds all of a request, and a cluster beside it."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder, self.started = folder, []
        monkeypatch.setenv("MRL_LAB_TEST_MARKS", str(folder / "marks.txt"))
        monkeypatch.setenv("MRL_LAB_NOTEBOOKS", str(folder / "notebooks"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"

    def dask(self, *words: str, **more) -> subprocess.Popen:
        log = (self.folder / f"{len(self.started)}.log").open("w")
        of_its_own = {"stdout": log, "stderr": log, "cwd": self.folder} | more
        self.started.append(subprocess.Popen([sys.executable, "-m", "dask", *words, "--no-dashboard"], **of_its_own))
        return self.started[-1]

    def scheduler(self) -> subprocess.Popen:
        return self.dask("scheduler", "--host", self.address)

    def worker(self, **more) -> subprocess.Popen:
        """Start a worker without the nanny that would start it anew: what dies is a machine."""
        alone = ("--no-nanny", "--nthreads", "1", "--local-directory", str(self.folder / "dask"))
        return self.dask("worker", self.address, *alone, **more)

    def ask(self, *words: object, out: object = None) -> list[str]:
        return ["run", *map(str, words), "--scheduler", self.address, "--out", str(out or self.folder / "out")]

    def start(self, *words: object) -> subprocess.Popen:
        with (self.folder / "said.txt").open("w") as said:
            self.started.append(subprocess.Popen(command(*self.ask(*words)), stdout=said, stderr=said, **ATTENTIVE))
        return self.started[-1]

    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def marks(self) -> list[list[str]]:
        file = self.folder / "marks.txt"
        return [line.split() for line in file.read_text().splitlines()] if file.is_file() else []

    def done(self) -> set[str]:
        return {file.parent.name.partition("=")[2] for file in self.folder.glob("out/*/*/run.json")}

    def alive(self) -> list[str]:
        """The kernels, and the processes that had started them, which still are."""
        return [pid for _, *pids in self.marks() for pid in pids if alive(pid)]

    def half_written(self) -> list[Path]:
        return [file for file in (self.folder / "out" / ".running").iterdir() if file.suffix != ".lock"]


@pytest.fixture
def ring(tmp_path, monkeypatch):
    """A cluster without workers yet, and a notebook that sleeps."""
    made = Ring(tmp_path, monkeypatch)
    write(tmp_path / "notebooks", "00_sleep", "SECONDS = 1", MARK)
    made.scheduler()
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def other_package(folder: Path) -> dict[str, str]:
    """An environment in which the package differs by one line of one file."""
    shutil.copytree(source.PACKAGE, folder / "mrl_lab", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "mrl_lab" / "cuts.py").open("a") as file:
        file.write("# changed\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.slow
def test_a_worker_and_a_scheduler_are_killed_and_nothing_is_lost_repeated_or_half_written(ring):
    first, *_ = [ring.worker() for _ in range(3)]
    run = ring.start("00", "--grid", "dim=2,3,4,5,6,7")
    wait_until(lambda: len(ring.marks()) >= 2)
    kill(first)
    wait_until(lambda: len(ring.done()) >= 3)
    kill(ring.started[0])
    done, before = ring.done(), Counter(dim for dim, *_ in ring.marks())
    ring.scheduler()
    for _ in range(2):
        ring.worker()

    assert run.wait(PATIENCE) == 0, ring.said()
    assert "is lost, waiting for it to come back" in ring.said()
    assert "6 done, 0 failed" in ring.said()
    assert ring.done() == set("234567")
    after = Counter(dim for dim, *_ in ring.marks())
    assert {dim: after[dim] for dim in done} == {dim: before[dim] for dim in done}, "what was done is not done again"
    assert after.total() <= 6 + 1 + 2, "once more: what the worker had, and what two had when the scheduler died"
    assert ring.half_written() == []
    assert not ring.alive()


@pytest.mark.slow
def test_workers_may_come_later_another_version_gets_no_job_and_a_failing_cell_is_not_retried(ring, tmp_path):
    write(ring.folder / "notebooks", "01_fails", "SECONDS = 0", MARK, "1 / 0")
    run = ring.start("00", "01")
    wait_until(lambda: "has no workers yet" in ring.said())
    ring.worker(env=other_package(tmp_path / "other"))
    wait_until(lambda: "has another version of this package" in ring.said())
    ring.worker()
    assert run.wait(PATIENCE) == 1
    assert "ZeroDivisionError" in ring.said()
    assert "1 done, 1 failed" in ring.said()
    assert len(ring.marks()) == 2
    assert (ring.folder / "out" / "01_fails" / "seconds.failed" / "page.html").is_file()


@pytest.mark.slow
def test_ctrl_c_ends_what_a_worker_has_and_leaves_nothing(ring):
    write(ring.folder / "notebooks", "01_long", "SECONDS = 60", MARK)
    ring.worker()
    run = ring.start("01", "--grid", "dim=2,3")
    wait_until(ring.marks)
    run.send_signal(signal.SIGINT)
    assert run.wait(PATIENCE) == 130, ring.said()
    assert len(ring.marks()) == 1
    assert not ring.alive()
    assert ring.half_written() == []


@pytest.mark.slow
def test_a_scheduler_that_ends_takes_workers_and_their_jobs_along_and_the_request_waits_until_ctrl_c(ring):
    write(ring.folder / "notebooks", "01_long", "SECONDS = 60", MARK)
    worker = ring.worker()
    run = ring.start("01")
    wait_until(ring.marks)
    ring.started[0].terminate()
    worker.wait(PATIENCE)
    wait_until(lambda: "is lost, waiting for it to come back" in ring.said() and not ring.alive(), 50)
    run.send_signal(signal.SIGINT)
    assert run.wait(PATIENCE) == 130, ring.said()
    assert ring.half_written() == []


def test_a_worker_of_another_version_is_refused_before_work(ring, tmp_path, capsys):
    ring.worker(env=other_package(tmp_path / "other"))
    with cluster._client(1, ring.address) as client:
        client.wait_for_workers(1, timeout=PATIENCE)
    assert cli.main(ring.ask("00")) == 2
    assert "has another version of this package" in capsys.readouterr().err
    assert ring.marks() == []


def test_a_folder_that_a_worker_does_not_share_is_found_before_work(ring, capsys):
    """Its path is the same in both processes, and leads to two folders."""
    elsewhere = ring.folder / "elsewhere"
    elsewhere.mkdir()
    ring.worker(cwd=elsewhere)
    with cluster._client(1, ring.address) as client:
        client.wait_for_workers(1, timeout=PATIENCE)
    assert cli.main(ring.ask("00", out="/proc/self/cwd/out-of-a-test")) == 2
    assert "must be on a disk that all workers share" in capsys.readouterr().err
    assert ring.marks() == []


# ------------------------------------------------------------------------------------------ whoever does not answer


@pytest.fixture
def silent():
    """The address of a port that accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def refused(scheduler: str, capsys, folder: Path) -> str:
    write(folder / "notebooks", "00_sleep", "1")
    assert cli.main(["run", "00", "--scheduler", scheduler, "--out", str(folder / "out")]) == 2
    text = capsys.readouterr().err
    assert scheduler in text
    return text


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nobody", "tcp://host:a", "http://127.0.0.1:9", "tcp://", ""])
def test_a_cluster_that_is_not_there_is_an_error(address, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", str(tmp_path / "notebooks"))
    monkeypatch.setattr(cluster, "ANSWER", 1)
    assert "Give the address that `dask scheduler` prints" in refused(address, capsys, tmp_path)


@pytest.mark.timeout(60)
def test_a_cluster_that_accepts_and_stays_silent_is_an_error_in_time(silent, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", str(tmp_path / "notebooks"))
    assert "does not answer (10 s)" in refused(silent, capsys, tmp_path)


def test_a_scheduler_that_does_not_come_back_leaves_failures_that_say_so(monkeypatch):
    monkeypatch.setattr(cluster, "_handed_out", lambda *_: iter(()))  # what is lost at once
    monkeypatch.setattr(cluster, "BACK", 0.5)
    told = []
    lasts = list(cluster.performed([{"number": 0}, {"number": 1}], 1, "tcp://127.0.0.1:9", told.append))
    assert "is lost, waiting for it to come back; reports left: 2" in told[0]["why"]
    assert [last["number"] for last in lasts if last["event"] == "failed"] == [0, 1]
    assert "does not answer (0.5 s)" in lasts[0]["error"]
    assert "the same command continues" in lasts[0]["error"]


class Spent:
    """The future of a job that took one worker after another with it."""

    def result(self):
        raise KilledWorker("a job", SimpleNamespace(address="tcp://last"), 3)


def test_a_job_that_kills_its_workers_is_given_up_with_the_reason():
    last = cluster._last(Spent(), 4)
    assert (last["event"], last["number"]) == ("failed", 4)
    assert "the cluster lost this job (KilledWorker: " in last["error"]
