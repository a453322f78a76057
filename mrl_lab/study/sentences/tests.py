"""Tests: the judged sentences that models are scored on, which of them are here, and which one judges claims.

| test | what people said | how it comes |
|---|---|---|
| STS-B | how similar two sentences are, 0 to 5 | by itself |
| graded SNLI | whether one follows from the other, five people each: a grade from 0 to 1 | with what is trained on |
| SICK-R | how related two sentences are, 1 to 5 | by itself |
| STS12 to STS16 | how similar two sentences are, 0 to 5: SemEval's tasks by year | by themselves |
| SciFact, Cranfield | which texts answer a query | by themselves |

STS-B judges where it is here: what is published is of it. Where it is not, graded SNLI judges, and claims say so. A
test that is not here is left out, and :func:`said` says which, and how to get it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mrl_lab.data import places, texts
from mrl_lab.data.rows import first
from mrl_lab.data.texts import Pairs

STSB, SNLI, SICK = "STS-B", "graded SNLI", "SICK-R"
PAIRS = (STSB, SNLI, SICK)  # the first that is here judges
YEARS = tuple(f"STS{year}" for year in range(12, 17))  # have no dev pairs
SEARCHED = ("SciFact", "Cranfield")
FURTHER = ("STS12-16", *SEARCHED)
SOURCES = {STSB: "stsb", SNLI: "snli", SICK: "sick"} | {test: test.lower() for test in FURTHER}
SOURCES |= dict.fromkeys(YEARS, "sts12-16")
ABOUT = {
    STSB: "STS-B, sentence pairs and how similar people find them, from 0 to 5",
    SNLI: "graded SNLI: SNLI's own test pairs, each labelled by five people, whose labels are averaged (entailment 1, "
    "neutral 1/2, contradiction 0). Models here are trained in its domain, and it is no test of similarity proper: "
    "what contradicts may be much alike",
}


def here(among: Sequence[str] = PAIRS) -> tuple[str, ...]:
    """Return those of the tests that are on this machine; graded SNLI always is, with the triplets to train on."""
    return tuple(test for test in among if test == SNLI or places.here(SOURCES[test]))


def said(among: Sequence[str] = PAIRS, lacking: Sequence[str] = ()) -> str:
    """Return as Markdown which test judges, which stand beside it, and what is left out and how to get it.

    ``lacking``: other sets that are left out, by their names among the sources.
    """
    judge, *beside = here(among)
    absent = [test for test in among if test not in (judge, *beside)]
    lines = [f"Judged on {ABOUT[judge]}." + (f" Beside it: {', '.join(beside)}." if beside else "")]
    if absent or lacking:
        get = " ".join(dict.fromkeys([*(SOURCES[test] for test in absent), *lacking]))
        left_out = f"**Left out**, since not on this machine: {', '.join([*absent, *lacking])}."
        lines.append(f"{left_out} To have it here: `mrl-lab data get {get}`.")
    return "\n\n".join(lines)


def metric(test: str, part: str = "test") -> str:
    """Return what Spearman's rho on a part of a test is called in the tidy table."""
    return f"{name(test, part)} spearman"


def name(test: str, part: str) -> str:
    """Return what a part of a test is called: "STS-B", "STS-B dev"."""
    return test if part == "test" else f"{test} {part}"


def pairs(test: str, part: str = "test") -> Pairs:
    """Return the pairs of a test's part, dev or test.

    A year of SemEval is in the "all" setting: its subsets put together, for one correlation of all pairs. The mean of
    the subsets' own correlations is another number, and usually a higher one.
    """
    found = texts.pairs(SOURCES[test])
    if test not in YEARS:
        return found[part]
    subsets = [some for name, some in found.items() if name.startswith(f"20{test.removeprefix('STS')}")]
    columns = ("sentence1", "sentence2", "score")
    return Pairs(*([value for some in subsets for value in getattr(some, column)] for column in columns))


def sentences(test: str, n: int) -> list[str]:
    """Return the first ``n`` sentences that a test's pairs begin with, each once.

    Raises:
        RequestError: there are not as many.
    """
    return list(first(list(dict.fromkeys(pairs(test).sentence1)), n, f"sentences of {test}"))
