"""Run jobs and collect what became of them: one after the other here, side by side by Dask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mrl_lab.errors import RequestError
from mrl_lab.report.attend import Tell, attend, cores, order
from mrl_lab.report.jobs import Job, check_writable
from mrl_lab.report.progress import Progress
from mrl_lab.report.worker import sweep


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``done``, ``already`` done, or ``failed`` (in a cell; None: outside the notebook)."""

    job: Job
    event: str
    seconds: float = 0.0
    took: str = ""
    cell: int | None = None
    source: str = ""
    error: str = ""

    @property
    def page(self) -> Path:
        """The page of what ran."""
        folder = self.job.folder
        return (folder.with_name(folder.name + ".failed") if self.event == "failed" else folder) / "page.html"


def run(jobs: Sequence[Job], side_by_side: int = 1, fresh: bool = False, scheduler: str | None = None) -> list[Outcome]:
    """Run all jobs, at most ``side_by_side`` at once or on a cluster; a job that fails does not stop the others.

    Raises:
        RequestError: the output folder cannot be made, or the cluster cannot do these jobs.
        KeyboardInterrupt: after all that was started has ended.
    """
    for out in {job.out for job in jobs}:
        _prepare(out)
        sweep(out)
    orders = [order(job, number, fresh) for number, job in enumerate(jobs)]
    progress = Progress(jobs)
    tell = partial(_show, progress, jobs)
    try:
        return [_ended(progress, jobs, **last) for last in _performed(orders, side_by_side, scheduler, tell)]
    finally:
        progress.close()


def _performed(orders: Sequence[dict], side_by_side: int, scheduler: str | None, tell: Tell) -> Iterator[dict]:
    """Yield each job's last event; ``tell`` the others."""
    if scheduler is not None or min(side_by_side, len(orders)) > 1:
        from mrl_lab.report import cluster  # 0.6 s, and most requests are of one job

        return cluster.performed(orders, min(side_by_side, len(orders)), scheduler, tell)
    return (attend(one, cores(), tell) for one in orders)


def _prepare(out: Path) -> None:
    check_writable(out)
    try:
        (out / ".running").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"--out {out} cannot be written to ({error.strerror}): give another --out.") from None


def _show(progress: Progress, jobs: Sequence[Job], event: dict) -> None:
    kind = event["event"]
    if kind == "cell":
        progress.cell(jobs[event["number"]])
    elif kind == "started":
        progress.begin(jobs[event["number"]])
    elif kind == "waiting":
        progress.say(jobs[event["number"]], "another run is at it, waiting for that one")
    else:
        progress.note(event["why"])


def _ended(progress: Progress, jobs: Sequence[Job], number: int, **last) -> Outcome:
    outcome = Outcome(jobs[number], **last)
    progress.say(outcome.job, _ending(outcome))
    progress.end(outcome.job)
    return outcome


def _ending(outcome: Outcome) -> str:
    if outcome.event == "already":
        return f"done already: {outcome.page}"
    if outcome.event == "done":
        return f"done, {outcome.took}: {outcome.page}"
    return f"failed after {outcome.seconds:.0f} s"


def write_index(out: Path) -> Path:
    """Write the index of all runs in ``out``; runs that end at the same moment take turns."""
    from filelock import FileLock

    from mrl_lab.report import index

    _prepare(out)
    with FileLock(out / ".running" / "index.lock"):
        return index.write_index(out)
