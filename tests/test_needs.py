"""What a notebook needs and what only adds to it: by budget, by what parameters name, and what is said of a lack."""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from small_notebooks import FORM, setting, write

from mrl_lab import cli
from mrl_lab.data import fetch
from mrl_lab.errors import RequestError
from mrl_lab.report import execute, jobs, needs, notebooks

MODEL = (
    'model: str = "none"  # to begin with; one of none, all-minilm, someone/small, or a path to a folder or a hub name'
)
DATA = 'dataset: str = "digits"  # pictures; one of digits, cifar10, or a path to your own .npz'


@pytest.fixture(autouse=True)
def lacking(tmp_path, monkeypatch):
    """Only what comes with the packages is here, and nothing can be fetched."""
    monkeypatch.delenv("MRL_LAB_DATA", raising=False)
    monkeypatch.setenv("MRL_LAB_OFFLINE", "1")
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", str(tmp_path / "notebooks"))
    monkeypatch.setattr(fetch, "SILENT", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path / "notebooks"


@pytest.fixture
def ran(monkeypatch):
    """Names of the notebooks that would have been run."""
    names = []

    def run(planned, *_):
        names.extend(job.name for job in planned)
        return [execute.Outcome(job, "done") for job in planned]

    monkeypatch.setattr(execute, "run", run)
    return names


def notebook(folder: Path, name: str, *parameters: str, **more) -> notebooks.Notebook:
    return notebooks.read(write(folder, name, "print(1)", form="\n".join([FORM.strip(), *parameters]), **more))


def model(folder: Path, *files: str) -> str:
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_text("{}")
    return str(folder)


# ------------------------------------------------------------------------------------------ which are wanted


@pytest.mark.parametrize(
    ("given", "needed", "adding"),
    [
        ({}, ["digits", "all-minilm"], []),
        ({"budget": "minutes"}, ["digits", "all-minilm", "snli"], ["stsb"]),
        ({"dataset": "cifar10"}, ["all-minilm", "cifar10"], []),
        ({"model": "./mine"}, ["digits"], []),
        ({"model": "./mine", "budget": "minutes"}, ["digits", "snli"], ["stsb"]),
        ({"model": "all-minilm"}, ["digits", "all-minilm"], []),
    ],
)
def test_what_is_used_is_wanted_and_nothing_else(lacking, given, needed, adding):
    by_budget = {"seconds": ["digits", "all-minilm"], "minutes": ["digits", "all-minilm", "snli"]}
    instead = {"model": ["all-minilm"], "dataset": ["digits"]}
    about = notebook(lacking, "00_both", DATA, MODEL, adds={"minutes": ["stsb"]}, instead=instead)
    about.needs.update(by_budget)
    whole = setting(about, **given)
    assert needs.sources_of(about, whole) == (needed, adding)


# ------------------------------------------------------------------------------------------ what is not there


def lab(*words: str) -> int:
    return cli.main([*words, "--out", "out"])


def test_all_notebooks_but_one_run_and_that_one_is_named_before_and_after(lacking, capfd):
    notebook(lacking, "00_can", needs=("digits",))
    notebook(lacking, "01_cannot", needs=("digits", "stsb"))
    assert lab("run", "--all") == 1
    said = capfd.readouterr()
    assert Path("out", "00_can", "seconds", "page.html").is_file()
    assert not Path("out", "01_cannot").exists()
    assert said.err.count("01_cannot is not run: stsb is not here. Looked in") == 2
    assert said.err.count("To get it: mrl-lab data get stsb") == 2
    assert "1 done, 0 failed, 1 not run." in said.out


@pytest.mark.parametrize("asked", [("01_cannot",), ("00_can", "01_cannot")])
def test_asked_for_by_name_it_is_refused_before_anything_runs(lacking, ran, capsys, asked):
    notebook(lacking, "00_can", needs=("digits",))
    notebook(lacking, "01_cannot", needs=("stsb",))
    assert lab("run", *asked) == 2
    assert "mrl-lab data get stsb" in capsys.readouterr().err
    assert ran == []
    assert not Path("out").exists()


def test_when_none_can_run_that_is_an_error(lacking, capsys):
    notebook(lacking, "01_cannot", needs=("stsb",))
    assert lab("run", "--all") == 2
    assert "stsb is not here" in capsys.readouterr().err


def test_what_only_adds_is_left_out_with_one_line(lacking, ran, capsys):
    notebook(lacking, "00_can", needs=("digits",), adds={"seconds": ["stsb", "digits"]})
    notebook(lacking, "01_can", needs=("digits",), adds={"seconds": ["stsb"], "minutes": ["sick"]})
    assert lab("run", "--all") == 0
    assert ran == ["00_can", "01_can"]
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if "left out" in line]
    assert line.startswith("left out: stsb is not here (")
    assert line.endswith("To get it: mrl-lab data get stsb (adds to 00_can, 01_can)")
    assert said.err == ""


def test_list_tells_both(lacking, capsys):
    notebook(lacking, "00_both", needs=("digits",), adds={"minutes": ["stsb", "sick"]})
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    assert "  needs digits\n" in text
    assert "  takes where found: stsb, sick (minutes)\n" in text
    assert "never tried" not in text


def test_list_tells_what_was_never_tried(lacking, capsys):
    notebook(lacking, "00_some", needs=("digits",), untried="weights at real size")
    assert cli.main(["list"]) == 0
    assert "  never tried: weights at real size\n" in capsys.readouterr().out
    assert cli.main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["untried"] == "weights at real size"


def test_the_check_fails_for_what_is_needed_and_not_for_what_adds(lacking):
    from mrl_lab import check

    notebook(lacking, "00_both", needs=("snli",), adds={"seconds": ["stsb"]})
    lines = {line.split()[0]: (fine, line) for fine, line in check.data()}
    assert not lines["snli"][0]
    assert lines["stsb"][0]
    assert lines["stsb"][1] == "stsb is not here and only adds to 00_both. To get it: mrl-lab data get stsb"


# --------------------------------------------------------------------------------------------- models of one's own


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), "has no config.json"),
        (("model.safetensors",), "has no config.json"),
        (("config.json", "pytorch_model.bin"), "no weights as .safetensors"),
        (("modules.json", "pytorch_model.bin"), "no weights as .safetensors"),
        (("config.json", "model.safetensors"), ""),
        (("modules.json", "model.safetensors"), ""),
    ],
)
def test_a_folder_without_a_model_is_refused_before_anything_runs(lacking, ran, tmp_path, capsys, files, words):
    notebook(lacking, "00_model", MODEL)
    status = lab("run", "00_model", "-p", "model", model(tmp_path / "mine", *files))
    assert status == (2 if words else 0)
    assert words in capsys.readouterr().err
    assert bool(ran) == (not words)


def test_several_models_are_each_seen_to_and_a_file_of_tensors_is_one(lacking, ran, tmp_path, capsys):
    form = (
        "weights: list[str] = []  # models; each one of someone/small, or a path to a folder, a .pth file or a hub name"
    )
    notebook(lacking, "00_models", form)
    mine = model(tmp_path / "mine", "config.json", "model.safetensors")
    (tmp_path / "franca.pth").write_bytes(b"0")
    (tmp_path / "notes.md").write_text("none")
    for given, words in ((f"{mine},franca.pth", ""), (f"{mine},notes.md", "notes.md is no file of weights")):
        assert lab("run", "00_models", "-p", "weights", given) == (2 if words else 0)
        assert words in capsys.readouterr().err
    read, keys = notebooks.find()["00_models"], set()
    for content in (b"1", b"2"):
        (tmp_path / "franca.pth").write_bytes(content)
        keys.add(jobs.key(read, setting(read, weights=["franca.pth"])))
    assert len(keys) == 2, "a run depends on what is in the file"


def test_a_folder_is_looked_at_for_what_it_should_hold(lacking, ran, tmp_path, capsys):
    runs = 'runs: str = "none"  # finished; one of none, or a path to a folder'
    asked = 'pictures: str = "none"  # yours; one of none, or a path to a folder with questions'
    notebook(lacking, "00_folders", f"{runs}\n{asked}")
    (tmp_path / "some").mkdir()
    assert lab("run", "00_folders", "-p", "runs", str(tmp_path / "some")) == 0, "no model is looked for"
    assert lab("run", "00_folders", "-p", "pictures", str(tmp_path / "some")) == 2
    assert "some has 0 files .jsonl" in capsys.readouterr().err


def test_with_a_model_of_one_s_own_the_usual_one_is_not_demanded(lacking, ran, tmp_path):
    write(
        lacking, "00_model", "print(1)", form=f"{FORM}{MODEL}", needs=("all-minilm",), instead={"model": ["all-minilm"]}
    )
    assert lab("run", "00_model") == 2
    mine = model(tmp_path / "mine", "config.json", "model.safetensors")
    assert lab("run", "00_model", "-p", "model", mine) == 0
    assert ran == ["00_model"]


def test_a_hub_that_does_not_answer_is_said_before_anything_runs(lacking, monkeypatch, capsys):
    from huggingface_hub import constants

    notebook(lacking, "00_model", MODEL)
    assert lab("run", "00_model", "-p", "model", "someone/small") == 2
    assert "MRL_LAB_OFFLINE or HF_HUB_OFFLINE is set" in capsys.readouterr().err
    monkeypatch.delenv("MRL_LAB_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert lab("run", "00_model", "-p", "model", "someone/small") == 2
        silent.setblocking(False)
        asked = 0
        with suppress(BlockingIOError):
            while silent.accept():
                asked += 1
    assert 1 <= asked <= 2, "each time takes as long as the patience, and twice that is less than 15 s"
    assert "someone/small cannot be reached" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- the key


def test_the_key_follows_what_a_folder_of_one_s_own_holds(lacking, tmp_path):
    about = notebook(lacking, "00_model", MODEL)
    mine = Path(model(tmp_path / "mine", "config.json", "model.safetensors"))

    def key(folder: Path = mine) -> str:
        return jobs.key(about, setting(about, model=str(folder)))

    first = key()
    assert key() == first
    (mine / ".cache").mkdir()
    (mine / ".cache" / "note").write_text("of a client")
    assert key() == first
    os.utime(mine / "config.json", (1, 1))
    assert key() == first, "it is by contents"
    seen = {first}
    (mine / "model.safetensors").write_text("[]")  # as long as before
    seen.add(key())
    (mine / "1_Pooling").mkdir()
    (mine / "1_Pooling" / "config.json").write_text("{}")
    seen.add(key())
    (mine / "1_Pooling").rename(mine / "2_Dense")
    seen.add(key())
    assert len(seen) == 4


def test_a_word_that_is_the_name_of_a_folder_by_chance_is_a_word(lacking):
    about = notebook(lacking, "00_word", 'note: str = "a"  # any text', MODEL)
    before = jobs.key(about, setting(about, note="word", model="none"))
    Path("word").mkdir()
    assert jobs.key(about, setting(about, note="word", model="none")) == before


def test_one_s_own_file_is_read_before_anything_runs(lacking):
    about = notebook(lacking, "00_file", DATA)
    Path("mine.npz").write_bytes(b"nothing")
    with pytest.raises(RequestError, match=r"mine\.npz"):
        jobs.plan([about], {"dataset": "mine.npz"}, {}, Path("out"))
