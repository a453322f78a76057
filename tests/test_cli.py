"""The command line from a request to pages: what is run, where it goes, what is printed, what is not repeated."""

import json
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from clock import least
from small_notebooks import PATIENCE, alive, command, environment, setting, wait_until, write

from mrl_lab import check, cli
from mrl_lab.data import catalogue
from mrl_lab.report import attend, execute, faces, foreman, jobs, kernel, notebooks, record, worker

NOTES = """\
from mrl_lab import runs
import pandas as pd
run = runs.start("00_hello")
run.note(device="cpu: test", data=[{"file": "a.gz", "sha256": "00"}])
run.save_scores(pd.DataFrame([{"method": "MRL", "dim": dim, "metric": "top-1", "value": 1.0}]))"""

WAIT = """\
import os, pathlib, time
file = f"{os.environ['PID']}-{dim}"
pathlib.Path(f"{file}.part").write_text(str(os.getpid()))
os.rename(f"{file}.part", file)
time.sleep(60)"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three notebooks: one that saves, one that fails in its second cell when asked to, one that is quick."""
    write(tmp_path / "notebooks", "00_hello", NOTES, "print(dim, sizes, budget)")
    write(tmp_path / "notebooks", "01_train", "x = 1", "rows = []\nif dim == 13:\n    rows[3]\n")
    write(tmp_path / "notebooks", "02_quick", "import os\nprint(os.environ['OMP_NUM_THREADS'])")
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", str(tmp_path / "notebooks"))
    return tmp_path


def lab(folder: Path, *arguments: object) -> int:
    return cli.main([*map(str, arguments), "--out", str(folder / "out")])


# ------------------------------------------------------------------------------------------- list, help, check


def test_list_says_what_is_there(folder, capsys):
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    assert "00_hello  What 00_hello shows." in text
    assert "minutes expected: seconds 1, minutes 9" in text
    assert "width d of the embedding [from 2 to 4096]" in text


def test_list_for_programs(folder, capsys):
    assert cli.main(["list", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert first["name"] == "00_hello"
    assert first["minutes"] == {"seconds": 1, "minutes": 9}
    assert first["parameters"][1] == {
        **{"name": "dim", "kind": "int", "default": 64},
        **{"help": "width d of the embedding", "rule": "from 2 to 4096"},
    }


def test_list_is_quick_and_loads_nothing_heavy(folder):
    heavy = "('torch', 'pandas', 'nbformat', 'papermill', 'matplotlib', 'packaging', 'dask')"
    code = f"import sys; from mrl_lab.cli import main; main(['list']); print(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
    assert least(code) < 0.3


def test_alone_it_prints_its_help(capsys):
    assert cli.main([]) == 2
    text = capsys.readouterr().out
    assert all(name in text for name in ("check", "data", "list", "run", "pages", "bench", "examples"))


def test_check_has_a_line_a_requirement_and_is_fine_here(folder, capsys):
    assert lab(folder, "check") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("[OK]") for line in lines[:-1])
    text = "\n".join(lines)
    assert all(part in text for part in ("Python 3", "torch ", "kernel", "3 notebooks", "GB free", "device", "cores"))
    assert not (folder / "out").exists()


def test_check_fails_with_the_fix(folder, capsys, monkeypatch):
    monkeypatch.setattr(check, "PYTHON", (9, 9))
    monkeypatch.setattr(check, "DISK", 1e18)
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", "nowhere")
    monkeypatch.setenv("MRL_LAB_DEVICE", "abacus")
    assert lab(folder, "check") == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[FAIL]")]
    names = ("GB free", "notebooks", "abacus", "9.9")  # the last one may be in the number of free GB as well
    assert [next(name for name in names if name in line) for line in failed] == [
        *("9.9", "notebooks", "GB free", "abacus")
    ]


# ------------------------------------------------------------------------------------------------------- run


def test_a_run_leaves_the_contract_s_files_and_facts(folder, capsys):
    assert lab(folder, "run", "00", "--budget", "minutes", "-p", "dim", "32") == 0
    done = folder / "out" / "00_hello" / "minutes-dim=32"
    assert {f.name for f in done.iterdir()} == {"page.html", "notebook.ipynb", "scores.csv", "run.json"}
    facts = json.loads((done / "run.json").read_text())
    assert facts["status"] == "done"
    assert facts["parameters"] == {"budget": "minutes", "dim": 32, "sizes": []}
    assert facts["command"] == "mrl-lab run 00_hello --budget minutes -p dim 32"
    assert (facts["device"], facts["data"]) == ("cpu: test", [{"file": "a.gz", "sha256": "00"}])
    assert facts["versions"]["torch"]
    assert facts["duration"] > 0
    text = capsys.readouterr().out
    assert str(done / "page.html") in text
    assert str(folder / "out" / "index.html") in text
    assert str(folder) not in (done / "notebook.ipynb").read_text()
    assert done.stat().st_mode & 0o777 == (folder / "out").stat().st_mode & 0o777


def test_finished_work_is_not_repeated_unless_asked_or_changed(folder, capsys):
    def started() -> bool:
        assert lab(folder, "run", "02") == 0
        return "started" in capsys.readouterr().out

    assert started()
    assert not started()
    assert lab(folder, "run", "02", "--fresh") == 0
    assert "started" in capsys.readouterr().out
    write(folder / "notebooks", "02_quick", "print('changed')")
    assert started()
    assert "changed" in (folder / "out" / "02_quick" / "seconds" / "notebook.ipynb").read_text()


def test_a_grid_runs_side_by_side_and_shares_the_cores(folder, monkeypatch):
    monkeypatch.setattr(foreman, "cores", lambda: 6)
    assert lab(folder, "run", "02", "--grid", "dim=8,16", "--jobs", "2") == 0
    for dim in (8, 16):
        notebook = nbformat.read(folder / "out" / "02_quick" / f"seconds-dim={dim}" / "notebook.ipynb", as_version=4)
        assert notebook.cells[-1].outputs[0].text == "3\n"
        assert notebook.cells[2].source.endswith(f"dim = {dim}\n")


def test_a_failing_cell_keeps_its_page_spares_the_others_and_says_how_to_repeat(folder, capsys):
    good = folder / "out" / "01_train" / "seconds-dim=13"
    good.mkdir(parents=True)
    (good / "page.html").write_text("an earlier good page")
    assert lab(folder, "run", "01", "02", "-p", "dim", "13") == 1
    text = capsys.readouterr()
    kept = folder / "out" / "01_train" / "seconds-dim=13.failed"
    for part in ("in cell [4]", "rows = []", "IndexError", f"{kept}/page.html"):
        assert part in text.err
    assert f"mrl-lab run 01_train -p dim 13 --out {folder}/out" in text.err
    assert json.loads((kept / "run.json").read_text())["failure"]["cell"] == 4
    assert (good / "page.html").read_text() == "an earlier good page"
    assert (folder / "out" / "02_quick" / "seconds-dim=13" / "page.html").is_file()


def test_a_kernel_that_dies_is_a_failure_with_a_page(folder, capsys):
    write(folder / "notebooks", "03_dies", "x = 1", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert lab(folder, "run", "03") == 1
    assert "The kernel died" in capsys.readouterr().err
    assert (folder / "out" / "03_dies" / "seconds.failed" / "page.html").is_file()


class NeverReady:
    """A kernel whose client waits in vain, as when another program took its ports."""

    stopped = False

    def blocking_client(self):
        return self

    def wait_for_ready(self, timeout):
        raise RuntimeError("Kernel did not answer")

    def shutdown_kernel(self, now):
        self.stopped = True

    def start_channels(self):
        pass

    stop_channels = start_channels


@pytest.mark.parametrize("call", ["sys.exit(0)", "raise SystemExit", "exit()", "quit()"])
def test_a_cell_that_ends_the_run_early_is_a_failure_and_named(folder, capsys, call):
    write(folder / "notebooks", "03_leaves", "x = 1", f"import sys\n{call}", "y = 2")
    assert lab(folder, "run", "03") == 1
    text = capsys.readouterr().err
    assert "failed in cell [3]" in text
    assert kernel.EARLY in text
    assert (folder / "out" / "03_leaves" / "seconds.failed" / "page.html").is_file()


def test_what_a_user_s_own_start_up_sets_is_no_part_of_a_run(folder, monkeypatch):
    profile = folder / "ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "ipython_config.py").write_text("c.InteractiveShellApp.exec_lines = ['by_profile = 1']")
    (profile / "startup" / "00.py").write_text("by_startup_file = 1")
    (folder / "startup.py").write_text("by_python = 1")
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(folder / "startup.py"))
    write(folder / "notebooks", "03_alone", "assert not [name for name in dir() if name.startswith('by_')], dir()")
    assert lab(folder, "run", "03") == 0


def test_a_folder_whose_name_begins_with_a_dash(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert cli.main(["run", "01", "-p", "dim", "13", "--out", "./-dash"]) == 1
    assert (folder / "-dash" / "01_train" / "seconds-dim=13.failed" / "page.html").is_file()
    assert "--out ./-dash" in capsys.readouterr().err


def test_a_kernel_that_does_not_answer_is_started_once_more_and_no_more(monkeypatch, tmp_path):
    launched = []
    monkeypatch.setattr(kernel, "_launch", lambda _: launched.append(NeverReady()) or launched[-1])
    with pytest.raises(RuntimeError):
        kernel.start(tmp_path)
    assert [k.stopped for k in launched] == [True, True]


def test_a_worker_that_ends_early_is_a_failure_that_tells_why(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert lab(folder, "run", "02") == 1
    assert "ended with status 1" in capsys.readouterr().err


def test_pages_renders_again_from_finished_runs(folder, capsys):
    assert lab(folder, "run", "02") == 0
    page = folder / "out" / "02_quick" / "seconds" / "page.html"
    first = page.read_text()
    page.unlink()
    (folder / "out" / "index.html").unlink()
    assert lab(folder, "pages") == 0
    assert page.read_text() == first
    assert (folder / "out" / "index.html").is_file()


@pytest.mark.parametrize("several", [("--grid", "dim=8"), ("--grid", "dim=8,16,32", "--jobs", "2")])
def test_ctrl_c_ends_everything_and_leaves_nothing(folder, several):
    write(folder / "notebooks", "04_long", WAIT)
    process = subprocess.Popen(
        command("run", "04", *several, "--out", folder / "out"),
        env=environment(folder / "notebooks") | {"PID": str(folder / "pid")},
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and so would all that it starts, these tests among them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pids = [folder / f"pid-{dim}" for dim in (8, 16)[: int(several[-1]) if "--jobs" in several else 1]]
    wait_until(lambda: all(pid.is_file() for pid in pids))
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert "same command again continues" in process.stderr.read()
    assert not [pid for pid in pids if alive(pid.read_text())]
    assert not (folder / "pid-32").exists()
    assert [f.name for f in (folder / "out").rglob("*") if f.suffix != ".lock"] == [".running"]


def test_one_job_goes_without_dask(folder):
    words = ["run", "02", "--out", str(folder / "out")]
    code = f"import sys; from mrl_lab.cli import main; sys.executable = '/bin/false'; main({words})"
    loaded = f"{code}; print('dask' in sys.modules, 'distributed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert "1 failed" in done.stdout, "a worker was started"
    assert done.stdout.splitlines()[-1] == "False False"


# -------------------------------------------------------------------------------------------------- a full disk


FULL = OSError(28, "No space left on device")


class Idle:
    """A kernel that does nothing."""

    def shutdown_kernel(self, now):
        pass


def perform(folder: Path, monkeypatch, failure: kernel.Failure | None, **broken: object) -> list[dict]:
    """Run a job in this process with a kernel that ends so; return what was told."""
    monkeypatch.setenv("MRL_LAB_RUN", "")
    monkeypatch.setattr(kernel, "start", lambda home: Idle())
    monkeypatch.setattr(kernel, "run", lambda *_: failure)
    for name, error in broken.items():
        monkeypatch.setattr(f"mrl_lab.report.{name}", raising(error))
    job = {"name": "a", "tag": "b", "out": str(folder / "out"), "notebook": "", "changed": {}, "key": "k"}
    (folder / "out" / ".running").mkdir(parents=True)
    told = []
    parent = SimpleNamespace(lock=nullcontext(), undo=[])
    worker.perform(job | {"outdated": ""}, parent, lambda event, **more: told.append({"event": event} | more))
    return told


def raising(error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "failure", [None, kernel.Failure(3, "1/0", "ZeroDivisionError")], ids=["all ran", "a cell failed"]
)
def test_a_full_disk_is_said_after_the_job_s_own_error_and_nothing_half_written_stays(tmp_path, monkeypatch, failure):
    (told,) = perform(tmp_path, monkeypatch, failure, **{"record.write": FULL})
    assert told["event"] == "failed"
    assert told["error"].startswith("Nothing of this run" if failure is None else "ZeroDivisionError\nIts page")
    assert "No space left on device. The disk is full: make room" in told["error"]
    assert told.get("cell") == (failure and 3)
    assert [f.name for f in (tmp_path / "out").rglob("*")] == [".running", "a--b.lock"]


def test_when_the_index_cannot_be_written_the_job_s_error_comes_first(folder, capsys, monkeypatch):
    (job,) = jobs.plan([notebooks.find()["02_quick"]], {}, {}, folder / "out").jobs
    monkeypatch.setattr(execute, "run", lambda *_: [execute.Outcome(job, "failed", error="its own error")])
    monkeypatch.setattr(execute, "write_index", raising(FULL))
    assert lab(folder, "run", "02") == 1
    text = capsys.readouterr().err
    assert text.index("its own error") < text.index("the index could not be written: [Errno 28] No space left")


def test_what_killed_runs_left_is_cleared_by_the_next_run_of_anything(tmp_path):
    from filelock import FileLock

    for name in ("a--b", "c--d=-1"):
        (tmp_path / ".running" / name / "123").mkdir(parents=True)
    with FileLock(tmp_path / ".running" / "a--b.lock"):  # under way
        worker.sweep(tmp_path)
        assert [f.name for f in tmp_path.glob(".running/*/")] == ["a--b"]
    worker.sweep(tmp_path)
    assert list(tmp_path.glob(".running/*/")) == []


# --------------------------------------------------------------------------------------------- broken notebooks


def form_of(source: str) -> bytes:
    """A notebook of nothing but this parameters cell."""
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source}
    return json.dumps({"metadata": {}, "cells": [cell]}).encode()


BROKEN = {
    "empty": b"",
    "byte order mark": b"\xef\xbb\xbf" + b'{"cells": [], "metadata": {}}',
    "merge conflict": b"<<<<<<< HEAD\n{}",
    "no notebook": b"[1, 2]",
    "no cells": b'{"metadata": {}}',
    "odd metadata": b'{"cells": [], "metadata": {"mrl_lab": {"minutes": 3}}}',
    **{form: form_of(form) for form in ("x = 0.1", "x: int = (", 'x: int = """', "x: int = 1 # \0", "x: what = 1")},
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_notebook_is_named_and_the_others_work(folder, capsys, content, monkeypatch):
    (folder / "notebooks" / "05_broken.ipynb").write_bytes(content)
    assert sorted(notebooks.find()) == ["00_hello", "01_train", "02_quick"]
    assert cli.main(["list", "--json"]) == 0
    text = capsys.readouterr()
    assert len(json.loads(text.out)) == 3
    assert "05_broken.ipynb" in text.err
    assert [ok for ok, line in check.broken_notebooks() if "05_broken.ipynb" in line] == [False]
    assert lab(folder, "run", "05") == 2
    assert "05_broken.ipynb" in capsys.readouterr().err
    ran = []
    monkeypatch.setattr(execute, "run", lambda planned, *_: ran.extend(planned) or [])
    assert lab(folder, "run", "00") == 0
    assert "05_broken" not in capsys.readouterr().err
    assert lab(folder, "run", "--all") == 1
    assert capsys.readouterr().err.count("05_broken.ipynb") == 2, "before and after"
    assert [job.name for job in ran] == ["00_hello", "00_hello", "01_train", "02_quick"]


# --------------------------------------------------------------------------------------------- tags and keys


@pytest.mark.parametrize(
    ("changed", "tag"),
    [
        ({}, "seconds"),
        ({"dim": 32}, "seconds-dim=32"),
        ({"budget": "minutes", "sizes": [8, 16], "lr": 1e-5}, "minutes-sizes=8,16-lr=1e-05"),
        ({"cosine": False}, "seconds-cosine=false"),
    ],
)
def test_a_tag_names_what_differs(changed, tag):
    assert jobs.tag({"budget": "seconds", **changed}, changed) == tag


def test_a_tag_is_safe_short_and_never_shared():
    texts = ["a/b", "a_b", "a b", "A_b", "a-b", "a.failed", "", "é", "x" * 300, "x" * 301, "../..", "1-dim=2"]
    changes = [{"note": text} for text in texts] + [{"note": "1", "dim": 2}, {}]
    changes += [{"sizes": list(range(1, n))} for n in (100, 101)] + [{"sizes": []}]
    changes += [{f"long_name_{i}": i + shift for i in range(20)} for shift in (0, 1)]
    tags = [jobs.tag({"budget": "seconds"}, changed) for changed in changes]
    assert len({t.lower() for t in tags}) == len(tags)
    assert all(len(t) <= 100 and "/" not in t and not t.endswith(".failed") for t in tags)


def test_the_key_follows_the_contents_of_ones_own_file(folder, tmp_path):
    notebook = notebooks.read(folder / "notebooks" / "00_hello.ipynb")
    mine = tmp_path / "mine.npz"
    keys = []
    for content in (b"a", b"b"):
        mine.write_bytes(content)
        keys.append(jobs.key(notebook, setting(notebook, dataset=str(mine))))
    assert keys[0] != keys[1]


def test_the_key_follows_the_recorded_checksums_of_the_data_that_is_used(folder, monkeypatch):
    file = write(folder / "notebooks", "01_data", "1", needs=("digits",))
    notebook, before = notebooks.read(file), dict(catalogue.SOURCES)
    found = jobs.key(notebook, setting(notebook))
    monkeypatch.setitem(catalogue.SOURCES, "cifar10", replace(before["cifar10"], files={"a": "0"}))
    assert jobs.key(notebook, setting(notebook)) == found
    monkeypatch.setitem(catalogue.SOURCES, "digits", replace(before["digits"], files={"a": "0"}))
    assert jobs.key(notebook, setting(notebook)) != found


def test_outputs_and_metadata_of_a_notebook_do_not_count_its_cells_do(folder):
    file = folder / "notebooks" / "00_hello.ipynb"
    before = notebooks.read(file).digest
    notebook = nbformat.read(file, as_version=4)
    notebook.cells[-1].execution_count = 7
    notebook.metadata.mrl_lab.shows = "Another sentence."
    nbformat.write(notebook, file)
    assert notebooks.read(file).digest == before
    notebook.cells[-1].source += " "
    nbformat.write(notebook, file)
    assert notebooks.read(file).digest != before


# --------------------------------------------------------------------------------------------------- places


def test_a_run_killed_between_its_two_moves_gives_the_previous_result_back(tmp_path):
    running, place = tmp_path / ".running" / "a--b", tmp_path / "a" / "b"
    (running / "previous").mkdir(parents=True)
    (running / "previous" / "page.html").write_text("good")
    (running / "123").mkdir()
    place.parent.mkdir()
    worker.restore(running, place)
    assert (place / "page.html").read_text() == "good"
    assert not running.exists()


def test_done_means_finished_with_this_key_and_a_page(tmp_path):
    def done(**run) -> bool:
        (tmp_path / "run.json").write_text(json.dumps({"status": "done", "key": "k"} | run))
        return record.is_done(tmp_path, "k")

    assert not done()
    (tmp_path / "page.html").touch()
    assert done()
    (tmp_path / "run.json").write_text(json.dumps({"status": "done", "key": "k", "start": "noon"}))
    assert [record.is_done(tmp_path, "k", outdated) for outdated in ("", None, "noon")] == [True, True, False]
    assert not done(status="failed")
    assert not done(key="other")
    (tmp_path / "run.json").write_text('{"status": "do')
    assert not record.is_done(tmp_path, "k")


def test_what_is_asked_for_afresh_is_done_once_however_often_it_is_handed_out(folder):
    (job,) = jobs.plan([notebooks.find()["02_quick"]], {}, {}, folder / "out").jobs
    job.folder.mkdir(parents=True)
    (job.folder / "page.html").touch()
    run = {"status": "done", "key": job.key, "start": "noon"}
    (job.folder / "run.json").write_text(json.dumps(run))
    asked = attend.order(job, 0, fresh=True)
    assert not record.is_done(job.folder, job.key, asked["outdated"])
    (job.folder / "run.json").write_text(json.dumps(run | {"start": "one"}))
    assert attend.attend(asked, 1, print) == {"event": "already", "number": 0}


def test_a_tidied_notebook_keeps_the_html_face_of_a_widget_only(tmp_path):
    file = write(tmp_path, "x", "1")
    notebook = nbformat.read(file, as_version=4)
    both = {faces.WIDGET: {"model_id": "1"}, "text/html": "<b>slider</b>"}
    notebook.cells[-1].outputs = [nbformat.v4.new_output("display_data", both)]
    notebook.metadata.papermill = {"input_path": "/somewhere", "output_path": "/else", "duration": 1.5}
    notebook.metadata.widgets = {"state": {}}
    nbformat.write(notebook, file)
    kernel.tidy(file, tmp_path)
    notebook = nbformat.read(file, as_version=4)
    assert notebook.cells[-1].outputs[0].data == {"text/html": "<b>slider</b>"}
    assert notebook.metadata.papermill == {"duration": 1.5}
    assert "widgets" not in notebook.metadata
