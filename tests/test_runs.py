"""Run folders: atomic tables of fixed columns, noted facts, results that are computed once."""

import json
import multiprocessing
import os
import re
import resource
import time
from dataclasses import dataclass

import pandas as pd
import pytest
import small_notebooks
import torch

from mrl_lab import files, runs, schema, score, source
from mrl_lab.errors import RequestError
from mrl_lab.report import notebooks

ROW = {"method": "MRL", "seed": 0, "dim": 8, "metric": "top-1", "value": 81.25, "n": 100}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_RUN", str(tmp_path / "run"))
    return runs.start("01_mrl")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ------------------------------------------------------------------------------------------------ run folders


def test_scores_have_the_contract_s_columns_in_order_and_whole_numbers_stay_whole(run):
    run.save_scores(pd.DataFrame([ROW, ROW | {"dim": None, "seed": 1}]))
    lines = (run.folder / "scores.csv").read_text().splitlines()
    assert lines[0] == "method,seed,layer,dim,tokens,metric,value,n,bytes,flops,seconds"
    assert lines[1] == "MRL,0,,8,,top-1,81.25,100,,,"
    assert lines[2] == "MRL,1,,,,top-1,81.25,100,,,"


def test_claims_have_the_contract_s_columns_in_order(run):
    run.save_claims(pd.DataFrame([{"id": "c1", "claim": "a", "paper": 1.5, "ours": 2, "verdict": "shown"}]))
    lines = (run.folder / "claims.csv").read_text().splitlines()
    assert lines == [",".join(schema.CLAIMS), "c1,a,1.5,,,2.0,,,,,,shown,,,,,"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW | {"acuracy": 1}, "unknown column of scores.csv: 'acuracy'"),
        ({"method": "MRL", "value": 1.0}, "needs the columns metric"),
        (ROW | {"value": "high"}, "column 'value'"),
        (ROW | {"dim": 8.5}, "column 'dim'"),
    ],
)
def test_a_table_that_is_no_score_table_is_refused_and_nothing_is_written(run, row, words):
    with pytest.raises(RequestError, match=words):
        run.save_scores(pd.DataFrame([row]))
    assert list(run.folder.iterdir()) == []


def test_a_verdict_that_no_rule_gives_is_refused(run):
    with pytest.raises(RequestError, match="Did you mean 'shown'"):
        run.save_claims(pd.DataFrame([{"id": "c1", "claim": "a", "verdict": "show"}]))


def test_facts_grow_and_are_kept_once(run):
    @dataclass
    class Provenance:
        file: str
        sha256: str

    run.note(data=[Provenance("a.gz", "00")], device="cpu")
    run.note(data=[Provenance("a.gz", "00"), Provenance("b.gz", "11")], threads=2)
    facts = json.loads((run.folder / "facts.json").read_text())
    assert facts["data"] == [{"file": "a.gz", "sha256": "00"}, {"file": "b.gz", "sha256": "11"}]
    assert (facts["device"], facts["threads"]) == ("cpu", 2)


@pytest.fixture
def no_runner(tmp_path, monkeypatch):
    """As in JupyterLab, with a clone of its own; each call of what it gives is as a new kernel."""
    monkeypatch.delenv("MRL_LAB_RUN", raising=False)
    monkeypatch.setattr(runs.source, "checkout", lambda: tmp_path)
    runs._own_folder.cache_clear()
    yield runs._own_folder.cache_clear
    runs._own_folder.cache_clear()


def test_without_a_runner_a_kernel_has_a_folder_of_its_own_that_it_names_and_empties(
    tmp_path, monkeypatch, no_runner, capsys
):
    first = runs.start("01_mrl")
    assert capsys.readouterr().out == f"tables of this run: {first.folder}\n"
    assert first.folder.parent == tmp_path / "reports" / "scratch"
    first.save_scores(pd.DataFrame([ROW]))
    assert runs.start("01_mrl") == first
    assert list(first.folder.iterdir()) == []
    no_runner()
    monkeypatch.setattr(runs.os, "getpid", lambda: 7)
    assert runs.start("01_mrl").folder != first.folder


def test_where_the_clone_cannot_be_written_the_scratch_folder_is_elsewhere(tmp_path, no_runner):
    (tmp_path / "reports").write_text("a file in the way")
    assert runs.start("01_mrl").folder.is_dir()


def test_a_table_that_does_not_fit_leaves_no_half_of_it(tmp_path):
    """The system takes ten bytes of it and no more."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, most[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            files.write(tmp_path / "a.csv", b"a" * 99)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert list(tmp_path.iterdir()) == []


def test_load_reads_the_finished_runs_only(tmp_path, monkeypatch):
    for tag, status in (("seconds", "done"), ("minutes", "done"), ("minutes.failed", "failed")):
        monkeypatch.setenv("MRL_LAB_RUN", str(tmp_path / "01_mrl" / tag))
        run = runs.start("01_mrl")
        run.save_scores(pd.DataFrame([ROW]))
        (run.folder / "run.json").write_text(json.dumps({"notebook": "01_mrl", "tag": tag, "status": status}))
    table = runs.load(tmp_path)
    assert list(table.columns[:2]) == ["notebook", "tag"]
    assert sorted(table["tag"]) == ["minutes", "seconds"]
    assert table["dim"].tolist() == [8, 8]
    assert table["layer"].isna().all()
    with pytest.raises(RequestError, match="no finished runs"):
        runs.load(tmp_path / "elsewhere")


# ------------------------------------------------------------------------------------------------ parameters


GIVEN = {"budget": "seconds", "dim": 64, "sizes": [8, 16]}


@pytest.mark.parametrize(
    ("given", "cells", "words"),
    [
        ({"budget": "minuts"}, [], "unknown budget 'minuts'. Did you mean 'minutes'"),
        ({"dim": "64"}, [], "'dim' is a whole number"),
        ({"dim": 1}, [], "'dim' is from 2 to 4096, got 1"),
        ({"sizes": [16, 8]}, [], "parameter 'sizes'"),
        ({"sizes": [8, 128]}, [], "dim is 64"),
        ({"budget": None}, [], "'budget' is a text"),
        ({}, ["# Parameters\nbudgte = 'minutes'\n"], "unknown parameter 'budgte'. Did you mean 'budget'"),
        ({}, ["# Parameters\ndim = 32\nseed = 3\n"], "unknown parameter 'seed'"),
        (None, [], "parameter 'budget' of 01_mrl is not set: run the parameters cell first"),
    ],
)
def test_wrong_parameters_of_a_kernel_are_one_clear_error(given, cells, words, tmp_path):
    notebook = notebooks.read(small_notebooks.write(tmp_path, "01_mrl"))
    with pytest.raises(RequestError, match=re.escape(words)):
        notebook.check({} if given is None else GIVEN | given, ["", "%time 1", *cells])


@pytest.mark.parametrize(
    ("given", "cells"),
    [
        ({}, []),
        ({"dim": 32, "other": object()}, ["# Parameters\ndim = 32\n"]),
        ({}, ["seed: int = 0  # mine", "# Parameters\nseed = 3\n", "x.y: int = 1"]),  # a copy with more of its own
    ],
)
def test_right_parameters_of_a_kernel_pass(given, cells, tmp_path):
    notebooks.read(small_notebooks.write(tmp_path, "01_mrl")).check(GIVEN | given, ["%time 1", *cells])


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [{"budgte": "minutes"}, {"budget": "minuts"}])
def test_plain_papermill_stops_at_the_first_call_with_that_error(wrong, tmp_path, monkeypatch):
    import papermill

    file = small_notebooks.write(tmp_path, "01_mrl", "import mrl_lab as lab\nrun = lab.start('01_mrl')", "1/0")
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", str(tmp_path))
    monkeypatch.delenv("MRL_LAB_RUN", raising=False)
    with pytest.raises(papermill.PapermillExecutionError, match=r"RequestError: unknown .*Did you mean"):
        papermill.execute_notebook(file, tmp_path / "out.ipynb", wrong, progress_bar=False)


def test_a_notebook_whose_file_is_not_at_hand_is_not_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", str(tmp_path))
    assert notebooks.original("01_mrl") is None


# ------------------------------------------------------------------------------------------ computing once


def counted(result):
    calls = []

    def make():
        calls.append(1)
        return result

    return make, calls


TABLE = pd.DataFrame(
    {"method": ["MRL", None], "dim": pd.array([8, None], dtype="Int64"), "value": [1 / 3, float("nan")]}
)


def test_a_table_is_made_once_without_a_word_and_read_back_as_it_was(cache, capsys):
    make, calls = counted(TABLE)
    first = runs.remember({"dim": 8}, make)
    again = runs.remember({"dim": 8}, make)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert again["value"][0] == 1 / 3
    assert capsys.readouterr().out == ""


def test_tensors_are_kept_bit_by_bit_views_too(cache):
    z = torch.randn(4, 8)
    make, calls = counted({"z": z, "prefix": z[:, :2], "n": torch.tensor(3)})
    runs.remember({"what": "states"}, make)
    found = runs.remember({"what": "states"}, make)
    assert len(calls) == 1
    assert torch.equal(found["z"], z)
    assert torch.equal(found["prefix"], z[:, :2])
    assert found["n"].item() == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: {"dim": 9},
        lambda patch: patch.setenv("MRL_LAB_FRESH", "1") or patch.setattr(runs, "MADE", set()) or {"dim": 8},
        lambda patch: patch.setenv("MRL_LAB_DEVICE", "cpu") or {"dim": 8},
    ],
    ids=["settings", "fresh", "device"],
)
def test_it_is_made_again_for(change, cache, monkeypatch):
    monkeypatch.delenv("MRL_LAB_DEVICE", raising=False)
    make, calls = counted(TABLE)
    runs.remember({"dim": 8}, make)
    runs.remember(change(monkeypatch), make)
    assert len(calls) == 2


def test_a_fresh_process_makes_each_result_once(cache, monkeypatch):
    monkeypatch.setenv("MRL_LAB_FRESH", "1")
    make, calls = counted(TABLE)
    for _ in range(3):
        runs.remember({"dim": 8}, make)
    assert len(calls) == 1


def test_the_order_of_the_settings_does_not_matter(cache):
    make, calls = counted(TABLE)
    runs.remember({"a": 1, "b": (2, 3)}, make)
    runs.remember({"b": [2, 3], "a": 1}, make)
    assert len(calls) == 1


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_a_damaged_entry_is_made_again_and_says_so(suffix, cache, capsys):
    make, calls = counted(TABLE)
    runs.remember({"dim": 8}, make)
    (file,) = (f for f in cache.rglob(f"*{suffix}"))
    file.write_bytes(b"?" + file.read_bytes()[1:])
    capsys.readouterr()
    runs.remember({"dim": 8}, make)
    runs.remember({"dim": 8}, make)
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["again"]
    assert len(calls) == 2


def test_a_make_that_fails_leaves_nothing_to_reuse(cache):
    def fails():
        raise ZeroDivisionError

    make, calls = counted(TABLE)
    with pytest.raises(ZeroDivisionError):
        runs.remember({"dim": 8}, fails)
    runs.remember({"dim": 8}, make)
    assert len(calls) == 1


@pytest.mark.parametrize("result", [[1, 2], {"z": [1, 2]}, None])
def test_a_result_of_another_kind_is_refused(result, cache):
    with pytest.raises(RequestError, match="DataFrame or a dict of tensors"):
        runs.remember({"dim": 8}, lambda: result)


@pytest.fixture
def refused(monkeypatch):
    """Let the system refuse what is written into any cache, as it does for another user's; locks are written too."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    def begin() -> None:
        monkeypatch.setattr("filelock.FileLock.acquire", refuse)
        monkeypatch.setattr(runs.files, "write", refuse)

    return begin


def test_a_cache_that_cannot_be_written_serves_what_it_has_and_says_what_to_do_for_the_rest(cache, refused):
    make, calls = counted(TABLE)
    runs.remember({"dim": 8}, make)
    refused()
    pd.testing.assert_frame_equal(runs.remember({"dim": 8}, make), runs.remember({"dim": 8}, make))
    with pytest.raises(RequestError, match=r"cannot be written to \(Permission denied\).*MRL_LAB_CACHE"):
        runs.remember({"dim": 9}, make)
    assert len(calls) == 1


def test_what_a_make_raises_is_its_own_and_not_the_cache_s(cache):
    def fails():
        raise FileNotFoundError("my file")

    with pytest.raises(FileNotFoundError, match="my file"):
        runs.remember({"dim": 8}, fails)


# ------------------------------------------------------------------------------------------------ time it took


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets; it gives the present time as a list of one number."""
    now = [0.0]
    monkeypatch.setattr(runs.time, "time", lambda: now[0])
    return now


def takes(clock: list, seconds: float, of=()):
    """A result that takes so long, of the results that ``of`` remembers."""

    def make():
        for one in of:
            one()
        clock[0] += seconds
        return TABLE

    return make


def test_time_made_and_time_reused_are_told_apart_and_nothing_counts_twice(cache, run, clock):
    def inner():
        return runs.remember({"a": "inner"}, takes(clock, 10))

    def outer():
        return runs.remember({"a": "outer"}, takes(clock, 5, of=[inner]))

    inner()
    clock[0] = 100
    outer()
    outer()
    assert runs.spent(run.folder, 100) == (5, 10)
    (run.folder / runs.USED).unlink()
    clock[0] = 200
    outer()  # which stands on the inner one, though that is not asked for now
    inner()
    runs.remember({"a": "new"}, takes(clock, 2))
    assert runs.spent(run.folder, 200) == (2, 15)


def test_results_made_side_by_side_count_once(run):
    (run.folder / runs.USED).write_text(
        "".join(json.dumps({"key": "k", "made": made}) + "\n" for made in ([[0, 10]], [[4, 12], [20, 21]], [[95, 103]]))
    )
    assert runs.spent(run.folder, 100) == (3, 18)


ROWS_OF_SEED = [
    {"method": name, "seed": 100, "dim": dim, "metric": "None", "value": value, "n": 3}
    for name, dim, value in (("none", 8, 1 / 3), ("", None, 2e-17), ("NA", 4, 70.0))
]


def test_tables_beside_a_page_are_used_where_the_cache_is_gone_with_the_time_they_took(
    cache, run, tmp_path, monkeypatch, clock
):
    table = score.table(ROWS_OF_SEED)
    tensors = {"z": torch.zeros(2)}
    made = runs.remember({"a": "table"}, lambda: clock.__setitem__(0, clock[0] + 10) or table)
    runs.remember({"a": "tensors"}, lambda: tensors)
    runs.remember({"a": "other table"}, lambda: pd.DataFrame({"x": [1]}))
    page = tmp_path / "clone" / "reports" / "01_mrl" / "hour"
    page.mkdir(parents=True)
    runs.keep_rows(run.folder)
    (run.folder / runs.ROWS).rename(page / runs.ROWS)
    (run.folder / runs.USED).unlink()
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "another cache"))
    monkeypatch.setattr(source, "checkout", lambda: tmp_path / "clone")
    monkeypatch.setattr(runs, "_beside_pages", runs._beside_pages.__wrapped__)
    again = runs.remember({"a": "table"}, lambda: pytest.fail("it lies beside the page"))
    pd.testing.assert_frame_equal(again, made, check_dtype=False)
    assert again["value"].tolist() == [1 / 3, 2e-17, 70.0]
    assert runs.spent(run.folder, clock[0] + 1) == (0, 10)
    assert runs.remember({"a": "another"}, lambda: table)["value"].tolist() == again["value"].tolist()
    monkeypatch.setenv("MRL_LAB_FRESH", "1")
    monkeypatch.setattr(runs, "MADE", set())
    fresh = runs.remember({"a": "table"}, lambda: score.table(ROWS_OF_SEED[:1]))
    assert len(fresh) == 1, "afresh nothing is taken from a page"


def test_a_run_that_remembers_nothing_has_spent_nothing_on_it(run):
    assert runs.spent(run.folder, 100) == (0, 0)


# ------------------------------------------------------------------------------------------ what is refused


def test_settings_that_are_no_plain_values_are_refused(cache):
    with pytest.raises(RequestError, match="plain values"):
        runs.remember({"model": torch.nn.Linear(1, 1)}, lambda: TABLE)


def _slow_table(mark):
    mark.with_name(str(os.getpid())).touch()
    time.sleep(0.3)
    return TABLE


def _remember(mark):
    runs.remember({"dim": 8}, lambda: _slow_table(mark))


def test_two_processes_make_it_once(cache, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=_remember, args=(marks / "x",)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [p.exitcode for p in both] == [0, 0]
    assert len(list(marks.iterdir())) == 1


def test_a_folder_of_a_run_is_made_anew_when_its_cell_runs_again(tmp_path):
    run = runs.Run("00_x", tmp_path)
    (run.anew("model") / "1_Pooling").mkdir(parents=True)
    (tmp_path / "scores.csv").write_text("kept")
    assert run.anew("model") == tmp_path / "model"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
