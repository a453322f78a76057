"""Tables of a page: text to the left, numbers to the right, verdicts in colour, each in a box that scrolls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

SYMBOLS = {"shown": "✓", "not shown": "✗", "inconclusive": "?"}
ROW = re.compile(r"<tr\b.*?</tr>", re.DOTALL)
CELL = re.compile(r"<(?P<tag>t[hd])\b(?P<attributes>[^>]*)>(?P<content>.*?)</(?P=tag)>", re.DOTALL)
NUMBER = re.compile(r"\s*([-−+]?[\d.,]+(e[-+]?\d+)?\s*%?|nan|NaN|None|<NA>|–)?\s*")


def polish(html: str) -> str:
    """Return HTML with each of its tables made fit to be read."""
    html = re.sub(r"<style scoped[^>]*>.*?</style>\s*", "", html, flags=re.DOTALL)  # pandas' own; the page has its
    return re.sub(r"<table\b.*?</table>", _table, html, flags=re.DOTALL)


def verdict(text: str) -> str:
    """Return a verdict as HTML: a word and a symbol, coloured, so that colour is not the only cue."""
    return f'<span class="verdict {text.replace(" ", "-")}">{SYMBOLS[text]}&nbsp;{text}</span>'


def _table(found: re.Match) -> str:
    table = found[0].replace(' border="1"', "")
    columns = {place for row in ROW.findall(table) for place, cell in _cells(row) if _is_text(cell)}
    table = ROW.sub(lambda row: _row(row[0], columns), table)
    kind = "scroll claims" if 'class="verdict' in table else "scroll"
    return f'<div class="{kind}" tabindex="0">{table}</div>'


def _cells(row: str) -> Iterator[tuple[int, re.Match]]:
    """Number a row's cells from its end: where a heading spans rows, those below lack their first cells."""
    return enumerate(reversed(list(CELL.finditer(row))))


def _is_text(cell: re.Match) -> bool:
    return cell["tag"] == "td" and not NUMBER.fullmatch(unescape(cell["content"]))


def _row(row: str, columns: set[int]) -> str:
    for place, cell in _cells(row):  # from the end, so that the places of those before stay true
        content = verdict(cell["content"]) if cell["content"] in SYMBOLS else cell["content"]
        kind = ' class="text"' if place in columns else ""
        made = f"<{cell['tag']}{kind}{cell['attributes']}>{content}</{cell['tag']}>"
        row = row[: cell.start()] + made + row[cell.end() :]
    return row
