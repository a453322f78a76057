"""A text and those that were found for it, as HTML: what a slider or a live panel shows of sentences."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def listed(asked: str, found: Iterable[tuple[str, float]]) -> str:
    """Return as HTML a text and, below it, the texts ``found`` for it with their values, all escaped."""
    items = "".join(f"<li>{escape(text)} <small>({value:.2f})</small></li>" for text, value in found)
    return f"<p><b>{escape(asked)}</b></p><ol>{items}</ol>"
