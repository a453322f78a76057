"""Run folders: atomic tables of fixed columns, noted facts, results that are computed once."""

import json
import multiprocessing
import os
import time
from dataclasses import dataclass

import pandas as pd
import pytest
import torch

from mrl_lab import runs
from mrl_lab.errors import RequestError

ROW = {"method": "MRL", "seed": 0, "dim": 8, "metric": "top-1", "value": 81.25, "n": 100}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_RUN", str(tmp_path / "run"))
    return runs.start("01_mrl")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runs, "WORTH_TELLING", 0)
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
    assert lines == ["id,claim,paper,ours,low,high,seeds,verdict,note", "c1,a,1.5,2.0,,,,shown,"]


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


def test_without_a_runner_the_folder_is_a_scratch_one_without_old_tables(tmp_path, monkeypatch):
    monkeypatch.delenv("MRL_LAB_RUN", raising=False)
    monkeypatch.setattr(runs.source, "checkout", lambda: tmp_path)
    runs.start("01_mrl").save_scores(pd.DataFrame([ROW]))
    again = runs.start("01_mrl")
    assert again.folder == tmp_path / "reports" / "scratch" / "01_mrl"
    assert list(again.folder.iterdir()) == []


def test_where_the_clone_cannot_be_written_the_scratch_folder_is_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("MRL_LAB_RUN", raising=False)
    (tmp_path / "reports").write_text("a file in the way")
    monkeypatch.setattr(runs.source, "checkout", lambda: tmp_path)
    assert runs.start("01_mrl").folder.is_dir()


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


def test_a_table_is_made_once_and_read_back_as_it_was(cache, capsys):
    make, calls = counted(TABLE)
    first = runs.remember({"dim": 8}, make)
    again = runs.remember({"dim": 8}, make)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert again["value"][0] == 1 / 3
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["made", "reused"]


def test_tensors_are_kept_bit_by_bit_views_too(cache):
    z = torch.randn(4, 8)
    make, calls = counted({"z": z, "prefix": z[:, :2], "n": torch.tensor(3)})
    runs.remember({"what": "states"}, make)
    found = runs.remember({"what": "states"}, make)
    assert len(calls) == 1
    assert torch.equal(found["z"], z)
    assert torch.equal(found["prefix"], z[:, :2])
    assert found["n"].item() == 3


def test_short_results_are_made_and_reused_without_a_word(cache, monkeypatch, capsys):
    monkeypatch.setattr(runs, "WORTH_TELLING", 20)
    for _ in range(2):
        runs.remember({"a": 1}, lambda: pd.DataFrame({"x": [1.0]}))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: {"dim": 9},
        lambda patch: patch.setenv("MRL_LAB_FRESH", "1") or patch.setattr(runs, "MADE", set()) or {"dim": 8},
        lambda patch: patch.setenv("MRL_LAB_DEVICE", "cpu") or {"dim": 8},
        lambda patch: patch.setattr(runs.source, "digest", lambda without: "other source") or {"dim": 8},
    ],
    ids=["settings", "fresh", "device", "source"],
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
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["the", "made", "reused"]
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
