"""One notebook through papermill: start a kernel, run the cells, keep what a reader needs of the result."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_client import KernelManager

KERNEL = "python3"
START_SECONDS = 60  # a busy machine may take that long
QUIET_SECONDS = 60  # how long the last outputs of a cell may take to arrive
WIDGET = "application/vnd.jupyter.widget-view+json"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Failure:
    """The cell that failed: its number as in ``In [cell]``, the head of its source, the end of its error."""

    cell: int
    source: str
    error: str


def start() -> KernelManager:
    """Start a kernel that answers; once more when it does not, since another program can take its ports first.

    Raises:
        RuntimeError: the second one did not answer either.
    """
    try:
        return _answering(_launch())
    except RuntimeError:
        return _answering(_launch())


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


def _launch() -> KernelManager:
    from jupyter_client import AsyncKernelClient, KernelManager

    kernel = KernelManager(kernel_name=KERNEL, client_factory=AsyncKernelClient)  # papermill talks asynchronously
    # Kernels that run side by side would wait for each other's history file.
    kernel.start_kernel(extra_arguments=["--HistoryManager.hist_file=:memory:"])
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
    import papermill
    from nbclient.exceptions import DeadKernelError

    begun: list[str] = []  # sources of the cells that have started
    hooks = {
        "on_cell_execute": lambda cell, **_: begun.append(cell.source),
        "on_cell_executed": lambda **_: on_cell(),
    }
    try:
        papermill.execute_notebook(
            *(_no_template(notebook), _no_template(to), parameters),
            kernel_name=KERNEL,
            km=kernel,
            progress_bar=False,
            store_widget_state=False,
            iopub_timeout=QUIET_SECONDS,
            **hooks,
        )
    except papermill.PapermillExecutionError as error:
        return Failure(error.exec_count or len(begun), _head(error.source), _tail("\n".join(error.traceback)))
    except DeadKernelError:
        return Failure(
            len(begun), _head(begun[-1]), "The kernel died. Was there too little memory? Try a smaller budget."
        )
    finally:
        if to.is_file():
            tidy(to)
    return None


def _no_template(path: Path) -> str:
    """Papermill fills braces in file names; these are plain names."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _head(source: str) -> str:
    return "\n".join(source.strip().splitlines()[:3])


def _tail(traceback: str) -> str:
    return "\n".join(COLOUR.sub("", traceback).strip().splitlines()[-6:])


def tidy(file: Path) -> None:
    """Drop what holds for this machine or this moment only: paths, and views of widgets that have no kernel now.

    A slider has a second face in HTML, which stays.
    """
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    for name in ("input_path", "output_path"):
        notebook.metadata.papermill.pop(name, None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if len(output.get("data", {})) > 1:
                output.data.pop(WIDGET, None)
    nbformat.write(notebook, file)
