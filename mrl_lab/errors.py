"""Errors that speak to a person: what was given, what is allowed, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class RequestError(ValueError):
    """Something that was asked for cannot be done; the message says why and how to mend it.

    Raised before any work begins, so nothing half-written is left behind. The command line prints the
    message alone (no traceback) and exits with status 2.
    """


def unknown(kind: str, given: object, allowed: Iterable[str]) -> RequestError:
    """Return the error for a name that does not exist: lists what does, and the nearest one first."""
    names = list(map(str, allowed))
    near = get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return RequestError(f"unknown {kind} {given!r}.{hint} Allowed: {', '.join(names)}.")
