"""Texts beside one another: what was found for a question, list by list, as HTML that a slider can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

LONGEST = 160  # characters of a text that are shown


def lists(question: str, found: Mapping[str, Sequence[tuple[str, str, bool]]], caption: str = "") -> str:
    """Return a question and, side by side, lists of what was found for it.

    Args:
        found: {heading: (text, remark, whether it is an answer)}, best first; an answer has a tick and bold type.
    """
    columns = "".join(
        f'<td style="vertical-align:top;text-align:left;width:{100 // len(found)}%"><b>{escape(heading)}</b>'
        f"<ol>{''.join(map(_item, items))}</ol></td>"
        for heading, items in found.items()
    )
    told = f"<p>{escape(caption)}</p>" if caption else ""
    return f'<p><b>Asked:</b> {escape(_short(question))}</p>{told}<table style="width:100%"><tr>{columns}</tr></table>'


def _item(item: tuple[str, str, bool]) -> str:
    text, remark, right = item
    said = escape(_short(text)) + (f" <small>({escape(remark)})</small>" if remark else "")
    return f"<li>{f'<b>✓ {said}</b>' if right else said}</li>"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"
