"""Standard streams that hold: whoever closes them ends the output, not the work."""

from __future__ import annotations

import io
import os
import sys


def steady() -> None:
    """Open what the caller had closed (``2>&-``), and let a closed pipe (``| head -1``) swallow the rest in silence.

    A stream that some other program has put in the place of the process's own is left as it is.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stdout is sys.__stdout__:
        sys.stdout = sys.__stdout__ = _text(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = sys.__stderr__ = _text(2, sys.stderr)


def _text(number: int, before: io.TextIOWrapper | None) -> io.TextIOWrapper:
    encoding, errors = (before.encoding, before.errors) if before else ("utf-8", "backslashreplace")
    raw = _Pipe(number, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)


class _Pipe(io.FileIO):
    """What nobody reads any more is written to nowhere."""

    def write(self, content: bytes) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(content)
