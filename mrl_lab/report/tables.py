"""Tables of a page: text to the left, numbers to the right, verdicts in colour, each in a box that scrolls.

What pandas adds and nobody reads goes: an index that only counts the rows, the zeros of "14.0000" and "0.010000".
What does not apply, "nan" to pandas, is a dash.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from html import unescape

from mrl_lab.schema import VERDICTS

ROW = re.compile(r"<tr\b.*?</tr>", re.DOTALL)
CELL = re.compile(r"<(?P<tag>t[hd])\b(?P<attributes>[^>]*)>(?P<content>.*?)</(?P=tag)>", re.DOTALL)
WHOLE = re.compile(r"([-−]?\d+)\.0{2,}")  # as pandas writes a column of floats
BIG = re.compile(r"([-−]?\d{4,})\.0+")
NOTHING = ("nan", "NaN", "None", "&lt;NA&gt;")
TAIL = re.compile(r"([-−]?\d+)(?:\.0+|(\.\d*[1-9])0+)")
NUMBER = re.compile(r"\s*([-−+]?[\d.,]+(e[-+]?\d+)?\s*%?|nan|NaN|None|<NA>|–)?\s*")


def polish(html: str) -> str:
    """Return HTML with each of its tables made fit to be read."""
    html = re.sub(r"<style scoped[^>]*>.*?</style>\s*", "", html, flags=re.DOTALL)  # pandas' own; the page has its
    return re.sub(r"<table\b.*?</table>", _table, html, flags=re.DOTALL)


def verdict(text: str) -> str:
    """Return a verdict as HTML: a word and a symbol, coloured, so that colour is not the only cue."""
    return f'<span class="verdict {text.replace(" ", "-")}">{VERDICTS[text]}&nbsp;{text}</span>'


def _table(found: re.Match) -> str:
    table = _without_count(found[0].replace(' border="1"', ""))
    rows = ROW.findall(table)
    columns = {place for row in rows for place, cell in _cells(row) if _is_text(cell)}
    whole = _whole(rows)
    table = ROW.sub(lambda row: _row(row[0], columns, whole), table)
    kind = "scroll claims" if 'class="verdict' in table else "scroll"
    return f'<div class="{kind}" tabindex="0">{table}</div>'


def _cells(row: str) -> Iterator[tuple[int, re.Match]]:
    """Number a row's cells from its end: where a heading spans rows, those below lack their first cells."""
    return enumerate(reversed(list(CELL.finditer(row))))


def _is_text(cell: re.Match) -> bool:
    return cell["tag"] == "td" and not NUMBER.fullmatch(unescape(cell["content"]))


def _without_count(table: str) -> str:
    """Return the table without its index where that has no name and counts 0, 1, 2, ...: the rows are seen anyway."""
    rows = ROW.findall(table)
    firsts = [next(CELL.finditer(row), None) for row in rows]
    if not rows or None in firsts or [cell["tag"] for cell in firsts] != ["th"] * len(rows):
        return table
    head, *names = (cell["content"] for cell in firsts)
    if unescape(head).strip() or names != [str(i) for i in range(len(rows) - 1)]:
        return table
    return ROW.sub(lambda row: CELL.sub("", row[0], count=1), table)


def _whole(rows: list[str]) -> set[int]:
    """Return the columns whose numbers are all whole, though written as floats; one of them is 10 or more."""
    columns = defaultdict(list)
    for row in rows:
        for place, cell in _cells(row):
            if cell["tag"] == "td" and any(letter.isdigit() for letter in cell["content"]):
                columns[place].append(WHOLE.fullmatch(cell["content"]))
    return {p for p, found in columns.items() if all(found) and any(len(one[1].strip("-−")) > 1 for one in found)}


def _short(cell: re.Match, whole: bool) -> str:
    """Return what a cell says, without idle zeros: in a heading, a column of whole numbers, or beyond a thousand."""
    if cell["content"] in NOTHING:
        return "–"
    idle = TAIL if cell["tag"] == "th" else WHOLE if whole else BIG
    found = idle.fullmatch(cell["content"])
    return "".join(filter(None, found.groups())) if found else cell["content"]


def _row(row: str, columns: set[int], whole: set[int]) -> str:
    for place, cell in _cells(row):  # from the end, so that the places of those before stay true
        content = verdict(cell["content"]) if cell["content"] in VERDICTS else _short(cell, place in whole)
        kind = ' class="text"' if place in columns else ""
        made = f"<{cell['tag']}{kind}{cell['attributes']}>{content}</{cell['tag']}>"
        row = row[: cell.start()] + made + row[cell.end() :]
    return row
