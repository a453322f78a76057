"""How far the jobs are: one bar over all cells of all jobs on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from mrl_lab.report.jobs import Job


class Progress:
    """Shows what happens to each job; on a terminal the bar stays below the lines."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.cells: Counter[Job] = Counter()
        self.number = {job: f"[{i}/{len(jobs)}]" for i, job in enumerate(jobs, 1)}
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=sum(job.cells for job in jobs), unit="cell", dynamic_ncols=True)

    def note(self, line: str) -> None:
        """Print one line."""
        if self.bar is None:
            print(f"{line}\n", end="", flush=True)  # in one piece: events of a cluster come in a thread of their own
        else:
            self.bar.write(line)

    def say(self, job: Job, text: str) -> None:
        """Print one line about a job."""
        self.note(f"{self.number[job]} {job}: {text}")

    def begin(self, job: Job) -> None:
        """A job starts, or starts again because the machine that had it was lost."""
        again = job in self.cells
        if self.bar is not None:
            self.bar.update(-self.cells[job])
        self.cells[job] = 0
        self.say(job, f"started{' again' if again else ''}, {job.cells} cells")

    def cell(self, job: Job) -> None:
        """One more cell has run: move the bar, or print a line at each quarter."""
        self.cells[job] += 1
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix_str(str(job))
            return
        before, now = (4 * n // job.cells for n in (self.cells[job] - 1, self.cells[job]))
        if before < now < 4:
            self.say(job, f"{25 * now} %")

    def end(self, job: Job) -> None:
        """Count the cells that were not run: those of a job that failed, or was done already."""
        if self.bar is not None:
            self.bar.update(max(0, job.cells - self.cells[job]))

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
