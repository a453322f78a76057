"""Has this machine the memory for a database? Said before anything is trained, not by the system an hour later."""

from __future__ import annotations

import psutil

from mrl_lab.errors import RequestError

NUMBER = 4  # bytes of a float32
COPIES = 1.5  # the table, and for a moment the unit rows of half its numbers: 13.2 GB were measured at 1,000,000 x 2048
SPARE = 1e9  # bytes for Python, pictures, models and the prefixes of an index


def check(n: int, d: int) -> None:
    """Refuse a database of n vectors of d numbers that memory cannot hold while it is searched.

    Raises:
        RequestError: says what is needed, what is free, and the most numbers (a power of 2) that there is room for.
    """
    free, wanted = psutil.virtual_memory().available, needed(n, d)
    if wanted <= free:
        return
    able = [m for m in (2**i for i in range(6, 12)) if m < d and needed(n, m) <= free]
    advice = f"`-p dim {able[-1]}` takes {needed(n, able[-1]) / 1e9:.1f} GB; or " if able else ""
    raise RequestError(
        f"{n:,} vectors of {d} numbers take {wanted / 1e9:.1f} GB of memory while they are searched, and this machine "
        f"has {free / 1e9:.1f} GB free: {advice}close what else runs, or choose a smaller budget."
    )


def needed(n: int, d: int) -> float:
    """Return the bytes of memory that n vectors of d numbers need at the most."""
    return COPIES * NUMBER * n * d + SPARE
