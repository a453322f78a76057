"""Claims of 2DMSE and Starbucks on sentence encoders that are cut in layers and in dims, as data.

Points are Spearman's rho x 100 on STS-B's test pairs, the papers' own; :func:`on` asks another test in its place, where
STS-B is not at hand. Layer N and width D are the whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from mrl_lab.contrasts import Contrast, average, cell, difference
from mrl_lab.verdicts import TIMES, Claim, Condition

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
    names = {METRIC: f"{test} spearman"}

    def moved(condition: Condition) -> Condition:
        parts = {name: part.renamed("metric", names) for name, part in condition.parts.items()}
        return replace(condition, of=parts[""] if isinstance(condition.of, Contrast) else parts)

    def asked(claim: Claim) -> Claim:
        there = replace(claim, what=moved(claim.what), sides=[moved(side) for side in claim.sides])
        if there == replace(claim, sides=list(claim.sides)):
            return claim
        return replace(there, text=f"{claim.text} (asked of {test}, not of the paper's STS-B)")

    return [asked(claim) for claim in claims]


def variants(layers: int, sizes: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[Claim]:
    """Claims C11, C15 and C6b, on sentence-transformers' own form of 2DMSE and its changes; arguments as above."""

    def shallow(of: str, minus: str) -> Contrast:
        return average(difference(of, minus, METRIC, layer=n, dim=sizes[-1]) for n in range(1, layers))

    weighed = [f"2DMSE, all layers, {name}" for name in ("uniform", "log", "linear")]
    ahead = {f"{a} − {b}".replace("2DMSE, all layers, ", ""): shallow(a, b) for a, b in pairwise(weighed)}
    return [
        Claim(
            "C11",
            "Equal weights of all depths beat 1 / (1 + ln n), and that beats 1 / n, below the last layer at full width",
            "equal weights won at every depth (a commit of sentence-transformers; no figures)",
            Condition(ahead, "mean of the layers below the last", above=0.0, delta=0.25),
        ),
        Claim(
            "C15a",
            "A teacher that KL does not move is better for shallow layers",
            "changed in sentence-transformers 5.7; no figures",
            Condition(
                shallow("2DMSE, detached", "2DMSE"),
                "detached − not, mean of layers below the last",
                above=0.0,
                delta=0.5,
            ),
        ),
        *_releases(pairs),
    ]


def _listed(pairs: Sequence[tuple[int, int]], of: str, minus: str) -> Contrast:
    """``of`` less ``minus``, mean over Starbucks' pairs."""
    return average(difference(of, minus, METRIC, layer=n, dim=m) for n, m in pairs)


def _releases(pairs: Sequence[tuple[int, int]]) -> list[Claim]:
    def ahead(of: str, minus: str, above: float = 0.0) -> Condition:
        return Condition(_listed(pairs, of, minus), f"{of} − {minus}, mean of pairs", above=above)

    return [
        Claim(
            "C6b",
            "Starbucks beats the 2DMSE of its own tables, sentence-transformers' before 5.2, by 1 point",
            ".7682 against .7338",
            ahead("Starbucks", "2DMSE, ST 5.1", 1.0),
            figure=3.44,
        ),
        Claim(
            "C15b",
            "Training the full width in every step is better than one drawn width, mean of Starbucks' pairs",
            "the paper's form against sentence-transformers'; no table",
            ahead("2DMSE", "2DMSE, one width"),
        ),
        Claim(
            "C15c",
            "The paper's form is better than sentence-transformers' own before 5.2, mean of Starbucks' pairs",
            "that form is the 2DMSE of Starbucks' tables; not compared",
            ahead("2DMSE", "2DMSE, ST 5.1"),
        ),
        Claim(
            "C15d",
            "What sentence-transformers has changed since makes its form better",
            "shallow layers gained in 5.7 (a commit; no figures)",
            ahead("2DMSE, ST 6", "2DMSE, ST 5.1"),
        ),
    ]


def _depth(layers: int, sizes: Sequence[int], whole: str) -> list[Claim]:
    d, shallow = sizes[-1], range(1, max(2, layers - 1))
    gains = {n: difference("2DMSE", "plain", METRIC, layer=n, dim=d) for n in shallow}
    mrl = average(difference("MRL", "plain", METRIC, layer=n, dim=d) for n in range(1, layers // 2 + 1))
    narrow = difference("MRL", "plain", METRIC, layer=layers, dim=sizes[0])
    kl = average(difference("2DMSE", "2DMSE, no KL", METRIC, layer=n, dim=d) for n in range(1, layers))
    each = [Condition(gain, f"2DMSE − plain, layer {n}", above=0.0) for n, gain in gains.items()]
    return [
        Claim(
            "C1",
            "Training the last layer alone leaves shallow layers poor: 2DMSE gains 3 points there at full width",
            "+3.5 to +35 in a reproduction",
            Condition(average(gains.values()), "2DMSE − plain, mean of layers 1 to N − 2", above=3.0),
            each,
            figure=3.5,
        ),
        Claim(
            "C2",
            "2DMSE costs less than 2.5 points at full size",
            "−2.1 and −0.1 in a reproduction",
            Condition(
                difference("2DMSE", whole, METRIC, layer=layers, dim=d), f"2DMSE − {whole}, whole model", above=-2.5
            ),
            figure=-2.1,
        ),
        Claim(
            "C3",
            f"MRL at the last layer helps narrow widths ({sizes[0]} dims) by 1 point",
            "+5.0 at 8 dims; ±1 at most shallow layers",
            Condition(narrow, f"MRL − plain, last layer, {sizes[0]} dims", above=1.0),
            [Condition(mrl, "MRL − plain, mean of the lower half of the layers", above=-1.0, below=1.0)],
            figure=5.0,
        ),
        Claim(
            "C4",
            "Alignment (KL) helps shallow layers",
            "part of the objective; no table at hand",
            Condition(kl, "2DMSE − without KL, mean of layers below the last", above=0.0, delta=0.5),
        ),
    ]


def _separate(pairs: Sequence[tuple[int, int]]) -> list[Claim]:
    def gaps(method: str) -> dict[str, Contrast]:
        return {f"({n}, {m})": difference(method, "separate", METRIC, layer=n, dim=m) for n, m in pairs[:-1]}

    def sides(method: str, **bound: float) -> list[Condition]:
        return [Condition(gap, f"{method} − separate, {pair}", **bound) for pair, gap in gaps(method).items()]

    def mean(method: str, **bound: float) -> Condition:
        return Condition(average(gaps(method).values()), f"{method} − separate, mean of pairs below the whole", **bound)

    return [
        Claim(
            "C5",
            "2DMSE stays below models trained separately, each at its own depth and width (by 1 point on average)",
            "1.4 to 8.6 points below (trained at their own depth only)",
            mean("2DMSE", below=-1.0),
            sides("2DMSE", below=0.0),
            figure=-1.4,
        ),
        Claim(
            "C8",
            "Starbucks is on par with models trained separately (at most 1 point below, mean of pairs)",
            ".7682 against .7644 on average (trained at their own depth only)",
            mean("Starbucks", above=-1.0),
            sides("Starbucks", above=-1.0),
            figure=0.38,
        ),
    ]


def _pairs(pairs: Sequence[tuple[int, int]]) -> list[Claim]:
    def ahead(other: str, above: float = 0.0) -> Condition:
        return Condition(_listed(pairs, "Starbucks", other), f"Starbucks − {other}, mean of pairs", above=above)

    return [
        Claim(
            "C6",
            "Starbucks beats 2DMSE by 1 point, averaged over its pairs",
            ".7682 against .7338",
            ahead("2DMSE", 1.0),
            figure=3.44,
        ),
        Claim(
            "C7",
            "It is the fixed list that does it: as many pairs, drawn at random in each step, are worse",
            "no such control",
            ahead("random pairs"),
        ),
        Claim(
            "C7b",
            "It needs the whole list in each step: one of its pairs, drawn anew in each, and the last are worse",
            "no such control",
            ahead("one of the list"),
        ),
    ]


def _use(layers: int, sizes: Sequence[int]) -> list[Claim]:
    d = sizes[-1]
    small = min(sizes, key=lambda m: abs(m - d / 12))
    n, m = layers // 2, d
    fair = {f"n = {n}": cell("2DMSE", "speed-up over N / n", layer=n) for n in range(1, layers)}
    kept = cell("MRL", METRIC, layer=layers, dim=small) - 0.98 * cell("MRL", METRIC, layer=layers, dim=d)
    wins = difference("2DMSE", "Starbucks", METRIC, layer=n, dim=m)
    return [
        Claim(
            "C9",
            "Off its list Starbucks pays: half the layers at full width are better in 2DMSE",
            "not reported",
            Condition(wins, f"2DMSE − Starbucks, ({n}, {m})", above=0.0),
        ),
        Claim(
            "C12",
            "Stopping after n of N layers is N / n times as fast (from 0.75 to 1.25 times that)",
            "about 2 at half",
            Condition(fair, "speed-up / (N / n)", above=0.75, below=1.25, unit=TIMES, delta=1.1),
            figure=1.0,
        ),
        Claim(
            "C14",
            f"{small} of {d} dims keep 98 % of MRL's full score",
            "98.37 % at 8.3 % of the dims",
            Condition(kept, f"MRL at {small} dims less 98 % of its full score", above=0.0),
            figure=0.3,
        ),
    ]
