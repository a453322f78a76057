"""Asking: questions about a grid of things, and their answers, such that no answer is likelier than another.

Three levels need ever more of the visual tokens (M3, section 4: coarse questions need few, dense ones many):

* coarse: "how many items are there?", "is there any bag?"
* medium: "is there any bag in row 1?" (if not, there often is one elsewhere), "are there more items in row 1 than in
  row 2?"
* dense: "what is at row 1 column 2?", "list the items in row 1"

Whoever asks settles beforehand whether the answer is to be yes, half of the time; numbers of items are dealt out
uniformly and classes drawn independently of all else. So each answer is equally likely **given the words** of its
question, and guessing gets ``KINDS[kind].chance`` right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

Grid = list[list[int]]  # class of each cell, EMPTY where there is nothing
EMPTY = -1


class Asking(NamedTuple):
    """What a question is made of: the grid, the names of classes, whether the answer is to be yes, and a stream."""

    grid: Grid
    names: Sequence[str]
    yes: bool
    draw: Random

    def among(self, rows: Sequence[int]) -> set[int]:
        """Return the classes in some rows of the grid."""
        return {c for r in rows for c in self.grid[r] if c != EMPTY}

    def say(self) -> str:
        """Return the answer to a question of yes or no."""
        return "yes" if self.yes else "no"


Asked = tuple[str, str] | None  # question and answer; None where the scene does not allow the question


def _count(a: Asking) -> Asked:
    return "how many items are there?", str(sum(c != EMPTY for row in a.grid for c in row))


def _any(a: Asking) -> Asked:
    here = a.among(range(len(a.grid)))
    absent = set(range(len(a.names))) - here
    if not absent:  # left out whatever the answer was to be: else "no" would be rarer than "yes"
        return None
    return f"is there any {a.names[_choose(here if a.yes else absent, a.draw)]}?", a.say()


def _any_in_row(a: Asking) -> Asked:
    r = a.draw.choice([r for r in range(len(a.grid)) if a.among([r])])
    here = a.among([r])
    elsewhere = a.among(range(len(a.grid))) - here or set(range(len(a.names))) - here
    if not elsewhere:
        return None
    return f"is there any {a.names[_choose(here if a.yes else elsewhere, a.draw)]} in row {r + 1}?", a.say()


def _more(a: Asking) -> Asked:
    counts = [sum(c != EMPTY for c in row) for row in a.grid]
    rows = range(len(counts))
    unequal = [(more, less) for more in rows for less in rows if counts[more] > counts[less]]
    if not unequal:
        return None
    more, less = a.draw.choice(unequal)
    left, right = (more, less) if a.yes else (less, more)
    return f"are there more items in row {left + 1} than in row {right + 1}?", a.say()


def _cell(a: Asking) -> Asked:
    side = range(len(a.grid))
    r, c = a.draw.choice([(r, c) for r in side for c in side if a.grid[r][c] != EMPTY])
    return f"what is at row {r + 1} column {c + 1}?", a.names[a.grid[r][c]]


def _list(a: Asking) -> Asked:
    full = [r for r, row in enumerate(a.grid) if EMPTY not in row]
    if not full:
        return None
    r = a.draw.choice(full)
    return f"list the items in row {r + 1}", " ".join(a.names[c] for c in a.grid[r])


def _choose(classes: set[int], draw: Random) -> int:
    return draw.choice(sorted(classes))


class Kind(NamedTuple):
    """A kind of question: how dense it is, how it is asked, and what guessing gets right, 0..1."""

    level: str
    ask: Callable[[Asking], Asked]
    chance: Callable[[int, int], float]  # (cells a side, classes)


KINDS = {
    "count": Kind("coarse", _count, lambda cells, _: 1 / cells**2),
    "any": Kind("coarse", _any, lambda *_: 0.5),
    "any in row": Kind("medium", _any_in_row, lambda *_: 0.5),
    "more": Kind("medium", _more, lambda *_: 0.5),
    "cell": Kind("dense", _cell, lambda _, classes: 1 / classes),
    "list": Kind("dense", _list, lambda cells, classes: 1 / classes**cells),
}
