"""Workers: the same results in the same order, however many processes there are, and none that outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mrl_lab import workers
from mrl_lab.errors import RequestError


def whose(_):
    return os.getpid()


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    """Two processes are allowed, and none has begun."""
    monkeypatch.setenv("MRL_LAB_DEVICE", "cpu")
    monkeypatch.setenv("MRL_LAB_WORKERS", "2")
    yield
    workers._pool.cache_clear()


def test_a_processor_carries_two_and_one_can_be_asked_for(monkeypatch):
    monkeypatch.delenv("MRL_LAB_WORKERS")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert workers.count() == 2
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert workers.count() == 1
    monkeypatch.setenv("MRL_LAB_WORKERS", "3")
    assert workers.count() == 3


def test_short_calls_are_made_here_and_long_ones_elsewhere(monkeypatch):
    assert workers.each(whose, [(1,), (2,), (3,)]) == [os.getpid()] * 3
    monkeypatch.setattr(workers, "PAYS", 0.2)
    first, *others = workers.each(slow, [(0.15,)] * 4)
    assert first == os.getpid()
    assert os.getpid() not in others, "the first says that the rest pays"
    assert os.getpid() not in workers.each(whose, [(1,), (2,)]), "processes that live are used"


def slow(seconds):
    time.sleep(seconds)
    return os.getpid()


def test_results_keep_their_order(monkeypatch):
    monkeypatch.setattr(workers, "PAYS", -1.0)
    assert workers.each(divmod, [(7, 2), (9, 4), (8, 3)]) == [(3, 1), (2, 1), (2, 2)]
    assert workers.each(pow, [(2, 3), (2, 3, 5)]) == [8, 3], "some may take the default"
    assert workers.each(pow, []) == []


def test_one_process_makes_all_calls_itself(monkeypatch):
    monkeypatch.setattr(workers, "PAYS", -1.0)
    monkeypatch.setenv("MRL_LAB_WORKERS", "1")
    assert workers.each(whose, [(1,), (2,)]) == [os.getpid()] * 2


def test_an_error_in_a_worker_reaches_the_caller_and_stops_the_rest(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "PAYS", -1.0)
    with pytest.raises(FileNotFoundError):
        workers.each(write, [(tmp_path / "none" / "file",)] + [(tmp_path / str(i), 0.2) for i in range(20)])
    assert workers.each(divmod, [(7, 2), (9, 4)]) == [(3, 1), (2, 1)], "and the others live on"
    assert len(list(tmp_path.iterdir())) < 20, "what had not begun is left undone"


def write(file, seconds=0.0):
    time.sleep(seconds)
    file.touch()


ENDLESS = """
from mrl_lab import workers
if __name__ == "__main__":
    workers.PAYS = -1.0
    print(*workers.each(workers.os.getpid, [()]), flush=True)
    __import__("time").sleep(60)
"""


def test_a_worker_ends_with_its_parent_however_that_ends(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    os.kill(worker, signal.SIGINT)  # an interrupt, which a notebook sends to the whole group, is left to the parent
    time.sleep(0.3)
    assert _lives(worker)
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not _lives(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def _lives(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("given", ["0", "-1", "many"])
def test_a_wrong_number_is_refused(monkeypatch, given):
    monkeypatch.setenv("MRL_LAB_WORKERS", given)
    with pytest.raises(RequestError, match="from 1 on"):
        workers.count()
