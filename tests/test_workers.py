"""Workers: the same results in the same order, however many processes there are."""

import os

import pytest

from mrl_lab import workers
from mrl_lab.errors import RequestError


def whose(_):
    return os.getpid()


def test_calls_are_made_here_by_default_and_elsewhere_when_asked(monkeypatch):
    monkeypatch.delenv("MRL_LAB_WORKERS", raising=False)
    monkeypatch.setenv("MRL_LAB_DEVICE", "cpu")
    assert workers.count() == 1
    assert workers.each(divmod, [(7, 2), (9, 4)]) == [(3, 1), (2, 1)]
    assert set(workers.each(whose, [(1,), (2,)])) == {os.getpid()}
    monkeypatch.setenv("MRL_LAB_WORKERS", "2")
    assert workers.each(divmod, [(7, 2), (9, 4), (8, 3)]) == [(3, 1), (2, 1), (2, 2)]
    assert workers.each(pow, [(2, 3), (2, 3, 5)]) == [8, 3], "some may take the default"
    assert os.getpid() not in workers.each(whose, [(1,), (2,)])


def test_an_error_in_a_worker_reaches_the_caller(monkeypatch):
    monkeypatch.setenv("MRL_LAB_WORKERS", "2")
    with pytest.raises(ZeroDivisionError):
        workers.each(divmod, [(7, 2), (1, 0)])
    assert workers.each(divmod, [(7, 2), (9, 4)]) == [(3, 1), (2, 1)], "and the others live on"


@pytest.mark.parametrize("given", ["0", "-1", "many"])
def test_a_wrong_number_is_refused(monkeypatch, given):
    monkeypatch.setenv("MRL_LAB_WORKERS", given)
    with pytest.raises(RequestError, match="from 1 on"):
        workers.count()
