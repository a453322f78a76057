"""The shelf: all data sets and weights at a glance, and getting them before they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from mrl_lab.data import catalogue, places
from mrl_lab.errors import RequestError

HEADS = ("name", "MB", "licence", "where it is, or how it will be had")


def table() -> str:
    """Return a row a source: its name, megabytes, licence, and where it is now or how it will be had."""
    with ThreadPoolExecutor() as pool:  # each may wait for an answer of its own
        rows = [HEADS, *pool.map(_row, catalogue.SOURCES)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS) - 1)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)


def _row(name: str) -> tuple[str, ...]:
    source = catalogue.find(name)
    try:
        state = places.status(name)
    except RequestError as error:  # a damaged file
        return name, f"{source.megabytes:.1f}", source.licence, f"NOT USABLE: {error}"
    files = state.found.files.values() if state.found else ()
    size = sum(file.stat().st_size for file in files) / 1e6 or source.megabytes
    ways = "; ".join(f"{how} ({why})" for how, why in (state.lacking or {}).items())
    return (
        name,
        f"{size:.1f}",
        source.licence,
        state.where if state.fine else f"NOT HERE, and not to be had now: {ways}",
    )


def get(names: Sequence[str], everything: bool) -> bool:
    """Fetch sources that are not here yet, saying of each where it is; True when all can be used now.

    Raises:
        RequestError: no name and not all, both, or an unknown name.
    """
    if bool(names) == everything:
        raise RequestError(f"name what to get, or give --all. There are: {', '.join(catalogue.NAMES)}.")
    for name in names:
        catalogue.find(name)
    got = [_got(name) for name in names or catalogue.SOURCES]  # each of them, whatever became of the one before
    return all(got)


def _got(name: str) -> bool:
    try:
        state = places.status(name)
        if state.fine and not state.found:
            print(
                f"{name}: about {catalogue.find(name).megabytes:g} MB, {state.where.partition(', ')[2]} ...", flush=True
            )
        found = state.found or places.ensure(name)
    except RequestError as error:
        print(f"{name}: {error}", flush=True)
        return False
    print(f"{name}: {found.place}, {found.folder}", flush=True)
    return True
