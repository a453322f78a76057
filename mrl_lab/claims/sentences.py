"""Claims of 2DMSE and Starbucks on sentence encoders that are cut in layers and in dims, as data.

Points are Spearman's rho x 100 on STS-B's test pairs, the papers' own; :func:`on` asks another test in its place, where
STS-B is not at hand. Layer N and width D are the whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from mrl_lab.stats import Claim, Condition, average, cell, difference

METRIC = "STS-B spearman"


def claims(layers: int, sizes: Sequence[int], pairs: Sequence[tuple[int, int]], whole: str = "plain") -> list[Claim]:
    """Claims C1 to C14, as far as they are judged here.

    Args:
        layers: N. sizes: the grid's widths, rising to D. pairs: Starbucks' list (n, m), from small to whole.
        whole: the method whose whole model 2DMSE's is compared with.
    """
    return [*_depth(layers, sizes, whole), *_separate(pairs), *_pairs(pairs), *_use(layers, sizes)]


def on(test: str, claims: Iterable[Claim]) -> list[Claim]:
    """Return the claims as asked of ``test``. If it is not STS-B, those that ask for scores say so in their text."""
    metrics = {METRIC: f"{test} spearman"}

    def moved(condition: Condition) -> Condition:
        terms = ((f, where | {"metric": metrics.get(where["metric"], where["metric"])}) for f, where in condition.terms)
        return replace(condition, terms=tuple(terms))

    def asked(claim: Claim) -> Claim:
        conditions = [moved(condition) for condition in claim.conditions]
        if conditions == claim.conditions:
            return claim
        return replace(claim, text=f"{claim.text} (asked of {test}, not of the paper's STS-B)", conditions=conditions)

    return [asked(claim) for claim in claims]


def variants(layers: int, sizes: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[Claim]:
    """Claims C11, C15 and C6b, on sentence-transformers' own form of 2DMSE and its changes; arguments as above."""

    def shallow(of: str, minus: str):
        return average(difference(of, minus, METRIC, layer=n, dim=sizes[-1]) for n in range(1, layers))

    weighed = [f"2DMSE, all layers, {name}" for name in ("uniform", "log", "linear")]

    return [
        Claim(
            "C11",
            "Equal weights of all depths beat 1 / (1 + ln n), and that beats 1 / n, below the last layer at full width",
            "equal weights won at every depth (a commit of sentence-transformers; no figures)",
            [
                shallow(of, minus).must(above=0.0, name=f"{of} − {minus}".replace("2DMSE, all layers, ", ""))
                for of, minus in pairwise(weighed)
            ],
        ),
        Claim(
            "C15a",
            "A teacher that KL does not move is better for shallow layers",
            "changed in sentence-transformers 5.7; no figures",
            [shallow("2DMSE, detached", "2DMSE").must(above=0.0, name="detached − not, layers below the last")],
        ),
        *_releases(pairs),
    ]


def _releases(pairs: Sequence[tuple[int, int]]) -> list[Claim]:
    def listed(of: str, minus: str):
        return average(difference(of, minus, METRIC, layer=n, dim=m) for n, m in pairs)

    return [
        Claim(
            "C6b",
            "Starbucks beats the 2DMSE of its own tables, sentence-transformers' before 5.2, by a point",
            ".7682 against .7338",
            [listed("Starbucks", "2DMSE, ST 5.1").must(above=1.0, name="Starbucks − ST 5.1, mean of pairs")],
        ),
        Claim(
            "C15b",
            "Training the full width in every step is better than one drawn width, mean of Starbucks' pairs",
            "the paper's form against sentence-transformers'; no table",
            [listed("2DMSE", "2DMSE, one width").must(above=0.0, name="2DMSE − one width a step, mean of pairs")],
        ),
        Claim(
            "C15c",
            "The paper's form is better than sentence-transformers' own before 5.2, mean of Starbucks' pairs",
            "that form is the 2DMSE of Starbucks' tables; not compared",
            [listed("2DMSE", "2DMSE, ST 5.1").must(above=0.0, name="2DMSE − ST 5.1, mean of pairs")],
        ),
        Claim(
            "C15d",
            "What sentence-transformers has changed since makes its form better",
            "shallow layers gained in 5.7 (a commit; no figures)",
            [listed("2DMSE, ST 6", "2DMSE, ST 5.1").must(above=0.0, name="ST 6 − ST 5.1, mean of pairs")],
        ),
    ]


def _depth(layers: int, sizes: Sequence[int], whole: str) -> list[Claim]:
    d, shallow = sizes[-1], range(1, max(2, layers - 1))
    by_layer = [difference("2DMSE", "plain", METRIC, layer=n, dim=d) for n in shallow]
    mrl = [difference("MRL", "plain", METRIC, layer=n, dim=d) for n in range(1, layers // 2 + 1)]
    narrow = difference("MRL", "plain", METRIC, layer=layers, dim=sizes[0])
    full = difference("2DMSE", whole, METRIC, layer=layers, dim=d)
    kl = [difference("2DMSE", "2DMSE, no KL", METRIC, layer=n, dim=d) for n in range(1, layers)]
    return [
        Claim(
            "C1",
            "Training the last layer alone leaves shallow layers poor: 2DMSE gains 3 points there at full width",
            "+3.5 to +35 in a reproduction",
            [average(by_layer).must(above=3.0, name="2DMSE − plain, mean of layers 1 to N − 2")],
        ),
        Claim(
            "C2",
            "2DMSE costs less than a point at full size",
            "−2.1 and −0.1 in a reproduction",
            [full.must(above=-1.0, name=f"2DMSE − {whole}, whole model")],
        ),
        Claim(
            "C3",
            "MRL at the last layer helps narrow widths, not shallow layers",
            "±1 at most shallow layers, +5.0 at 8 dims",
            [
                average(mrl).must(above=-1.0, below=1.0, name="MRL − plain, lower half of the layers"),
                narrow.must(above=1.0, name=f"MRL − plain, last layer, {sizes[0]} dims"),
            ],
        ),
        Claim(
            "C4",
            "Alignment (KL) helps shallow layers",
            "part of the objective; no table at hand",
            [average(kl).must(above=0.0, name="2DMSE − without KL, layers below the last")],
        ),
    ]


def _separate(pairs: Sequence[tuple[int, int]]) -> list[Claim]:
    def gap(method: str, n: int, m: int):
        return difference(method, "separate", METRIC, layer=n, dim=m)

    small = pairs[:-1]
    behind = [gap("2DMSE", n, m).must(below=0.0, name=f"2DMSE − separate, ({n}, {m})") for n, m in small]
    par = [
        gap("Starbucks", n, m).must(above=-1.0, below=1.0, name=f"Starbucks − separate, ({n}, {m})") for n, m in small
    ]
    return [
        Claim(
            "C5",
            "2DMSE stays below models trained separately, each at its own depth and width",
            "1.4 to 8.6 points below (trained at their own depth only)",
            behind,
        ),
        Claim(
            "C8",
            "Starbucks is on par (within 1 point) with models trained separately, at each pair",
            ".7682 against .7644 on average (trained at their own depth only)",
            par,
        ),
    ]


def _pairs(pairs: Sequence[tuple[int, int]]) -> list[Claim]:
    def mean(other: str):
        return average(difference("Starbucks", other, METRIC, layer=n, dim=m) for n, m in pairs)

    return [
        Claim(
            "C6",
            "Starbucks beats 2DMSE by a point, averaged over its pairs",
            ".7682 against .7338",
            [mean("2DMSE").must(above=1.0, name="Starbucks − 2DMSE, mean of pairs")],
        ),
        Claim(
            "C7",
            "It is the fixed list that does it: as many pairs, drawn at random in each step, are worse",
            "no such control",
            [mean("random pairs").must(above=0.0, name="Starbucks − random pairs, mean of pairs")],
        ),
        Claim(
            "C7b",
            "It needs the whole list in each step: one of its pairs, drawn anew in each, and the last are worse",
            "no such control",
            [mean("one of the list").must(above=0.0, name="Starbucks − one of the list, mean of pairs")],
        ),
    ]


def _use(layers: int, sizes: Sequence[int]) -> list[Claim]:
    d = sizes[-1]
    small = min(sizes, key=lambda m: abs(m - d / 12))
    n, m = layers // 2, d
    fair = [
        cell("2DMSE", "speed-up over N / n", layer=n).must(above=0.75, below=1.25, name=f"speed-up / (N / n), n = {n}")
        for n in range(1, layers)
    ]
    kept = cell("MRL", METRIC, layer=layers, dim=small) - 0.98 * cell("MRL", METRIC, layer=layers, dim=d)
    wins = difference("2DMSE", "Starbucks", METRIC, layer=n, dim=m)
    return [
        Claim(
            "C9",
            "Off its list Starbucks pays: half the layers at full width are better in 2DMSE",
            "not reported",
            [wins.must(above=0.0, name=f"2DMSE − Starbucks, ({n}, {m})")],
        ),
        Claim("C12", "Stopping after n of N layers is N / n times as fast (within a quarter)", "about 2 at half", fair),
        Claim(
            "C14",
            f"{small} of {d} dims keep 98 % of MRL's full score",
            "98.37 % at 8.3 % of the dims",
            [kept.must(above=0.0, name=f"MRL at {small} dims less 98 % of its full score")],
        ),
    ]
