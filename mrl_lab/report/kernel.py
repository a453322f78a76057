"""One notebook through papermill: start a kernel, run the cells, keep what a reader needs of the result."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_client import KernelManager

KERNEL = "python3"
STARTING = Path(tempfile.gettempdir(), f"mrl-lab-{os.getuid() if hasattr(os, 'getuid') else 'kernel'}.lock")
START_SECONDS = 60  # a busy machine may take that long
QUIET_SECONDS = 60  # how long the last outputs of a cell may take to arrive
# A user's startup files are no part of a run (its profile is left out too: see _launch), and kernels side by side
# would wait for each other's history file.
ALONE = ["--InteractiveShellApp.exec_PYTHONSTARTUP=False", "--HistoryManager.hist_file=:memory:"]
EXIT = "ask_exit"  # what a kernel replies to a cell that calls exit() or quit()
EARLY = "The cell ended the run: what comes after it was not run. Leave out sys.exit(), exit() and quit()."
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Failure:
    """The cell that failed: its number as in ``In [cell]``, the head of its source, the end of its error."""

    cell: int
    source: str
    error: str


class Left(Exception):
    """A cell asked the kernel to end."""


def start(home: Path) -> KernelManager:
    """Start a kernel that answers; once more when it does not, since another program can take its ports first.

    This lab's own start one at a time on a machine, because kernels that start at the same moment do just that.

    Args:
        home: a folder for IPython's files, made here, in the place of the user's own, whose profile is not read.

    Raises:
        RuntimeError: the second one did not answer either.
    """
    from filelock import FileLock

    home.mkdir(exist_ok=True)
    with FileLock(STARTING):
        try:
            return _answering(_launch(home))
        except RuntimeError:
            return _answering(_launch(home))


def _answering(kernel: KernelManager) -> KernelManager:
    client = kernel.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_SECONDS)
    except RuntimeError:
        kernel.shutdown_kernel(now=True)
        raise
    finally:
        client.stop_channels()
    return kernel


def _launch(home: Path) -> KernelManager:
    from jupyter_client import AsyncKernelClient, KernelManager

    kernel = KernelManager(kernel_name=KERNEL, client_factory=AsyncKernelClient)  # papermill talks asynchronously
    kernel.start_kernel(extra_arguments=[f"--ipython-dir={home}", *ALONE])
    return kernel


def kill(kernel: KernelManager) -> None:
    """End the kernel at once, with all that it has started: it leads a process group of its own."""
    with suppress(OSError, AttributeError):
        os.killpg(kernel.provisioner.pgid, signal.SIGKILL)
    kernel.cleanup_connection_file()


def run(
    kernel: KernelManager, notebook: Path, parameters: dict, to: Path, on_cell: Callable[[], None]
) -> Failure | None:
    """Run ``notebook`` with ``parameters`` into the file ``to``; return what failed, None when nothing did.

    The file is written in either case. ``on_cell`` is called after each code cell.
    """
    begun: list[str] = []  # sources of the cells that have started

    def executed(execute_reply: dict, **_: object) -> None:
        on_cell()
        if any(told["source"] == EXIT for told in execute_reply["content"].get("payload", [])):
            raise Left

    failure = _execute(kernel, notebook, parameters, to, begun, executed)
    tidy(to, notebook.parent)
    return failure or _stopped(to)


def _execute(
    kernel: KernelManager, notebook: Path, parameters: dict, to: Path, begun: list, executed
) -> Failure | None:
    import papermill
    from nbclient.exceptions import DeadKernelError

    try:
        papermill.execute_notebook(
            *(_no_template(notebook), _no_template(to), parameters),
            kernel_name=KERNEL,
            km=kernel,
            progress_bar=False,
            iopub_timeout=QUIET_SECONDS,
            on_cell_execute=lambda cell, **_: begun.append(cell.source),
            on_cell_executed=executed,
        )
    except papermill.PapermillExecutionError as error:
        return Failure(error.exec_count or len(begun), _head(error.source), _tail("\n".join(error.traceback)))
    except Left:
        return Failure(len(begun), _head(begun[-1]), EARLY)
    except DeadKernelError:
        return Failure(
            len(begun), _head(begun[-1]), "The kernel died. Was there too little memory? Try a smaller budget."
        )
    return None


def _stopped(file: Path) -> Failure | None:
    """Find the cell that ended the run by ``sys.exit(0)``, which papermill takes for success."""
    import nbformat

    for cell in nbformat.read(file, as_version=4).cells:
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return Failure(cell.execution_count, _head(cell.source), EARLY)
    return None


def _no_template(path: Path) -> str:
    """Papermill fills braces in file names; these are plain names."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _head(source: str) -> str:
    return "\n".join(source.strip().splitlines()[:3])


def _tail(traceback: str) -> str:
    return "\n".join(COLOUR.sub("", traceback).strip().splitlines()[-6:])


def tidy(file: Path, beside: Path) -> None:
    """Take in what an executed notebook shows, from the folder ``beside`` it; drop what holds here and now only.

    That is paths of this machine, and views of widgets that have no kernel now. A slider's face in HTML stays.
    """
    import nbformat

    from mrl_lab.report import faces

    notebook = nbformat.read(file, as_version=4)
    for name in ("input_path", "output_path"):
        notebook.metadata.papermill.pop(name, None)
    states = notebook.metadata.pop("widgets", {}).get(faces.STATES, {}).get("state", {})
    for cell in notebook.cells:
        faces.settle(cell, beside, states)
    nbformat.write(notebook, file)
