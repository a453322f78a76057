"""Wrong requests: one clear message with the fix, exit status 2, and nothing run or written."""

import os
from pathlib import Path

import numpy as np
import pytest
from small_notebooks import run, write

from mrl_lab.cli import main

FORM = """\
budget: str = "seconds"  # how much work; one of seconds, minutes, gpu
dataset: str = "digits"  # pictures; one of digits, fashion_mnist, or a path to your own .npz
dim: int = 64  # width d; from 2 to 4096
sizes: list[int] = []  # sizes M, rising; each from 1 to dim
lr: float = 0.1  # peak learning rate; above 0
cosine: bool = True  # fall to zero
"""
IMAGES = np.zeros((20, 1, 8, 8), np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder; three notebooks, of which one has fewer parameters."""
    notebooks = tmp_path / "notebooks"
    write(notebooks, "00_start", "print(1)", form=FORM.splitlines()[0])
    write(notebooks, "01_train", "print(1)", form=FORM)
    write(notebooks, "01_tune", "print(1)", form=FORM)
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", str(notebooks))
    monkeypatch.delenv("MRL_LAB_DATA", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def refused(arguments: list[str], words: list[str], capsys, out: str = "out") -> None:
    before = {file: file.stat().st_mtime_ns for file in Path().rglob("*")}
    assert main([*arguments, "--out", out]) == 2
    message = capsys.readouterr()
    assert message.out == ""
    assert message.err.startswith("mrl-lab: ")
    assert len(message.err.strip().splitlines()) == 1
    missing = [word for word in words if word not in message.err]
    assert not missing, message.err
    assert {file: file.stat().st_mtime_ns for file in Path().rglob("*")} == before, "something was written"


TRAIN = "run 01_train "
WRONG = [
    ("run", "--all 00_start 01_train 01_tune"),
    ("run 01_trian", "unknown notebook '01_trian' Did you mean '01_train'?"),
    ("run 01", "01_train, 01_tune more"),
    ("run 01_train --all", "leave"),
    (TRAIN + "--budget minuts", "unknown budget Did you mean 'minutes' gpu"),
    (TRAIN + "--budget gpu", "01_train 'gpu' Allowed: seconds, minutes"),
    (TRAIN + "--budget seconds -p budget minutes", "'budget' twice once"),
    (TRAIN + "-p dmi 8", "unknown parameter 'dmi' Did you mean 'dim'?"),
    ("run --all -p dim 8", "'dim' 01_train, 01_tune not in 00_start"),
    (TRAIN + "-p dim", "expected 2 arguments"),
    (TRAIN + "-p dim x", "'dim' a whole number 'x' 64"),
    (TRAIN + "-p dim 8.5", "'dim' a whole number '8.5'"),
    (TRAIN + "-p lr fast", "'lr' a number 'fast'"),
    (TRAIN + "-p lr nan", "'lr' a number 'nan'"),
    (TRAIN + "-p lr 0", "'lr' above 0 0.0"),
    (TRAIN + "-p lr -1", "'lr' above 0 -1.0"),
    (TRAIN + "-p cosine maybe", "'cosine' true or false 'maybe'"),
    (TRAIN + "-p dim 1", "'dim' from 2 to 4096 got 1"),
    (TRAIN + "-p dim 8 -p dim 16", "'dim' twice once"),
    (TRAIN + "-p sizes 8;16", "'sizes' a list such as 8,16,32"),
    (TRAIN + "-p sizes 0,8", "'sizes' from 1 to dim [0, 8]"),
    (TRAIN + "-p sizes 16,8", "'sizes' rise [8, 16]"),
    (TRAIN + "-p sizes 8,8,16", "'sizes' not repeat [8, 16]"),
    (TRAIN + "-p sizes 8,128", "'sizes' dim is 64 [8, 128]"),
    (TRAIN + "-p dim 32 -p sizes 8,64", "'sizes' dim is 32"),
    (TRAIN + "--grid dim=8,16 -p sizes 16", "'sizes' dim is 8"),
    (TRAIN + "--grid dim=", "grid of 'dim' empty --grid dim="),
    (TRAIN + "--grid dim", "NAME=V1,V2 'dim'"),
    (TRAIN + "--grid dim=8,,16", "grid of 'dim' empty"),
    (TRAIN + "--grid dim=8,16,8", "grid of 'dim' repeats 8"),
    (TRAIN + "--grid dim=8,x", "'dim' a whole number 'x'"),
    (TRAIN + "--grid dim=8 --grid dim=16", "'dim' twice"),
    (TRAIN + "--grid dim=8,16 -p dim 8", "'dim' grid once"),
    (TRAIN + "--grid dmi=8,16", "unknown parameter 'dmi' Did you mean 'dim'?"),
    (TRAIN + "-p dataset digts", "unknown dataset 'digts' Did you mean 'digits'? path"),
    (TRAIN + "-p dataset mine.npz", "no file 'mine.npz'"),
    (TRAIN + "--jobs 0", "--jobs from 1, got 0"),
    (TRAIN + "--jobs two", "--jobs 'two' --help"),
    (TRAIN + "--fast", "--fast --help"),
    ("rnu 01_train", "'rnu' run --help"),
    ("pages", "no runs in out"),
]
OF_DATA = [
    ("data", "what --help"),
    ("data fetch", "'fetch' list get --help"),
    ("data get", "--all fashion_mnist"),
    ("data get digits --all", "--all"),
    ("data get digts", "unknown dataset 'digts' Did you mean 'digits'?"),
    ("data list digits", "leave out"),
]


@pytest.mark.parametrize(("line", "words"), OF_DATA, ids=[line for line, _ in OF_DATA])
def test_data_is_refused(line, words, capsys):
    assert main(line.split()) == 2
    message = capsys.readouterr()
    assert message.out == ""
    assert [word for word in words.split() if word not in message.err] == [], message.err


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[line for line, _ in WRONG])
def test_refused(line, words, capsys):
    refused(line.split(), words.split(), capsys)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES}, ["labels"]),
        ({"images": IMAGES, "labels": np.arange(19) % 2}, ["labels", "19", "20"]),
        ({"images": np.full((20, 1, 8, 8), np.nan, np.float32), "labels": np.arange(20) % 2}, ["NaN"]),
    ],
    ids=["labels missing", "labels of another length", "NaN"],
)
def test_own_data_is_refused(arrays, words, capsys):
    np.savez("mine.npz", **arrays)
    refused(["run", "01_train", "-p", "dataset", "mine.npz"], ["mine.npz", *words], capsys)


def test_a_file_of_ones_own_that_is_damaged_is_refused(capsys):
    Path("mine.npz").write_bytes(b"PK\3\4 and then nothing")
    refused(["run", "01_train", "-p", "dataset", "mine.npz"], ["mine.npz"], capsys)


def test_a_damaged_data_file_is_refused(here, monkeypatch, capsys):
    damaged = here.parent / "data" / "fashion_mnist"
    damaged.mkdir(parents=True)
    for part in ("train", "t10k"):
        (damaged / f"{part}-images-idx3-ubyte.gz").write_bytes(b"half a download")
        (damaged / f"{part}-labels-idx1-ubyte.gz").write_bytes(b"half a download")
    monkeypatch.setenv("MRL_LAB_DATA", str(damaged.parent))
    refused(["run", "01_train", "-p", "dataset", "fashion_mnist"], ["ubyte.gz", "SHA-256"], capsys)


@pytest.mark.parametrize("out", ["a_file", "a_file/below", "/proc/nowhere"])
def test_an_output_folder_that_cannot_be_is_refused(out, capsys):
    Path("a_file").touch()
    refused(["run", "01_train"], ["--out", out, "another"], capsys, out)


def test_an_output_folder_without_the_right_to_write_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # the superuser has every right
    refused(["run", "01_train"], ["--out", "rights"], capsys)


def test_a_folder_without_notebooks_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("MRL_LAB_NOTEBOOKS", "nowhere")
    refused(["run", "--all"], ["no notebooks in nowhere", "MRL_LAB_NOTEBOOKS"], capsys)


def test_a_damaged_notebook_is_refused(here, capsys):
    (here.parent / "notebooks" / "02_half.ipynb").write_text('{"cells": [')
    refused(["run", "02_half"], ["02_half.ipynb", "restore"], capsys)


def test_a_parameter_without_a_kind_is_refused(here, capsys):
    write(here.parent / "notebooks", "02_odd", form="dim = 64  # width")
    refused(["run", "02_odd"], ["02_odd.ipynb", "annotated"], capsys)


@pytest.mark.parametrize("line", ["run 01_trian", "run 01_train -p dim 1", "frobnicate", ""])
def test_in_a_process_of_its_own(line, here):
    done = run(here.parent / "notebooks", *line.split())
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("usage") if not line else done.stderr.startswith("mrl-lab: ")
    assert list(here.iterdir()) == []
