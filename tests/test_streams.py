"""The command line where its output goes nowhere or its docstrings are gone: no traceback, no lost run."""

import subprocess
import sys

import pytest
from small_notebooks import environment, write


@pytest.fixture
def folder(tmp_path):
    for n in range(40):
        write(tmp_path, f"{n:02}_quiet", "x = 1")
    return tmp_path


def shell(folder, line: str, **more: str) -> subprocess.CompletedProcess:
    """Run a line of bash in which ``lab`` is this command line."""
    lab = f'lab() {{ {sys.executable} -m mrl_lab "$@"; }}; set -o pipefail; '
    own = environment(folder) | more
    return subprocess.run(["bash", "-c", lab + line], env=own, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "line",
    [
        "lab list 2>&-",
        "lab list >&-",
        "lab list <&- >&- 2>&-",
        "lab list | head -1",
        "lab --help | true",
        "lab list |&:",
    ],
)
def test_output_that_nobody_takes_is_no_error(folder, line):
    done = shell(folder, line)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("line", ["lab run nowhere 2>&-", "lab run nowhere |& true"])
def test_the_exit_status_holds_when_nobody_hears_why(folder, line):
    assert shell(folder, line).returncode == 2


@pytest.mark.parametrize("line", ["lab list", "lab --help", "lab bench nothing"])
def test_without_docstrings(folder, line):
    plain, optimised = (shell(folder, line, PYTHONOPTIMIZE=level) for level in ("", "2"))
    assert (optimised.returncode, optimised.stdout) == (plain.returncode, plain.stdout)
    assert "Traceback" not in optimised.stderr


@pytest.mark.slow
@pytest.mark.parametrize("line", ["| head -1", "2>&-"])
def test_a_closed_pipe_ends_the_output_and_not_the_run(folder, line, tmp_path):
    done = shell(folder, f"lab run 00 01 --out {tmp_path}/out --jobs 2 {line}", PYTHONOPTIMIZE="2")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("00_quiet", "01_quiet", "."):
        assert any((tmp_path / "out" / name).rglob("*.html"))


def test_what_else_took_the_place_of_a_stream_stays(capsys):
    from mrl_lab.report import streams

    before = sys.stdout, sys.stderr
    streams.steady()
    assert (sys.stdout, sys.stderr) == before


def test_a_file_opened_later_does_not_get_the_number_of_a_closed_stream(folder):
    code = (
        "from mrl_lab.report import streams; streams.steady(); f = open('/dev/null'); assert f.fileno() > 2, f.fileno()"
    )
    assert shell(folder, f'{sys.executable} -c "{code}" 2>&- >&-').returncode == 0
