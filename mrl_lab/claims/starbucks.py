"""Claims of Starbucks on a model that people have, and of its pre-training on one made from scratch, as data.

Points are Spearman's rho x 100 on STS-B's test pairs; :func:`mrl_lab.claims.sentences.on` asks another test. Those
that 2DMSE's page judges on a small new encoder are judged again here: text encoders differ in how far their shallow
layers are behind. The headlines of both papers are these, on a model that was trained before, as theirs was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mrl_lab.claims import sentences
from mrl_lab.claims.sentences import METRIC
from mrl_lab.contrasts import Contrast, average, cell, difference
from mrl_lab.verdicts import TIMES, Claim, Condition

BEST_WHOLE = "plain, best whole"  # plain training at the rate that is best for its whole model, not along the list
HEADLINES = ("C1", "C2", "C5", "C6", "C7", "C8", "C10")
AGAIN = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C12", "C14")
Pairs = Sequence[tuple[int, int]]


def claims(
    layers: int, sizes: Sequence[int], pairs: Pairs, small: Pairs, chosen: Mapping[str, float] | None = None
) -> list[Claim]:
    """Claims S1 and S2, C1 to C14 as far as they are judged here.

    Args:
        layers: N. sizes: the grid's widths, rising to D. pairs: Starbucks' list (n, m), from small to whole.
        small: the list of the encoder that is pre-trained here.
        chosen: each method's own rate, if all of them were trained at each of these rates as well (:func:`at`); what
            compares them is told there too, beside the verdict.
    """
    again = [claim for claim in sentences.claims(layers, sizes, pairs, BEST_WHOLE) if claim.id in AGAIN]
    compared = [_at_equal_rates(claim, chosen or {}) for claim in [*_gain(pairs), *again]]
    found = [*compared, *_pretraining(small), _training(len(pairs))]
    return [replace(claim, headline=claim.id in HEADLINES) for claim in found]


def at(method: str, lr: float) -> str:
    """Return what a method is called where all are trained at one rate."""
    return f"{'plain' if method == BEST_WHOLE else method} at {lr:g}"


def _at_equal_rates(claim: Claim, chosen: Mapping[str, float]) -> Claim:
    """Return a claim with its comparison of ``chosen`` methods asked again at each rate that one of them has."""
    what = claim.what
    if not isinstance(what.of, Contrast) or len(what.of.methods) < 2 or not what.of.methods <= set(chosen):
        return claim
    more = []
    for lr in sorted(set(chosen.values())):
        if any(chosen[method] != lr for method in what.of.methods):  # else it is the same comparison
            there = what.of.renamed("method", {method: at(method, lr) for method in what.of.methods})
            more.append(replace(what, of=there, name=f"{what.name}, both at {lr:g}"))
    return replace(claim, sides=[*claim.sides, *more])


def _gain(pairs: Pairs) -> list[Claim]:
    below = [difference("Starbucks", "plain", METRIC, layer=n, dim=m) for n, m in pairs[:-1]]
    n, m = pairs[-1]
    price = difference("Starbucks", BEST_WHOLE, METRIC, layer=n, dim=m)
    return [
        Claim(
            "S1",
            "Below the last layer Starbucks' pairs beat cuts of a model trained at its last layer alone by 5 points",
            "+14.1 on average (.7617 against .6207)",
            Condition(average(below), "Starbucks − plain, mean of pairs below the whole", above=5.0),
            figure=14.1,
        ),
        Claim(
            "S2",
            "The whole model pays less than 1 point for it",
            "−0.9 (.8010 against .8095)",
            Condition(price, f"Starbucks − {BEST_WHOLE}, whole model", above=-1.0),
            figure=-0.85,
        ),
    ]


def _pretraining(small: Pairs) -> list[Claim]:
    def ahead(other: str) -> Condition:
        three = [(n, m) for n, m in small[:3]]
        lead = average(
            difference("Starbucks after SMAE", f"Starbucks after {other}", METRIC, layer=n, dim=m) for n, m in three
        )
        return Condition(lead, f"SMAE − {other}, mean of the three smallest pairs", above=0.5)

    return [
        Claim(
            "C10",
            "SMAE helps small sizes by 0.5 points more than as many steps of MLM on the same texts",
            "+1.5, +3.0, +3.0 at the three smallest, against no further pre-training: no such control",
            ahead("MLM"),
            [ahead("MAE")],
        ),
        Claim(
            "C10a",
            "SMAE helps them by 0.5 points more than MLM with as much time",
            "no such control",
            ahead("MLM for longer"),
        ),
        Claim(
            "C10b",
            "SMAE helps small sizes by 0.5 points over no pre-training",
            "+1.5, +3.0, +3.0 at the three smallest",
            ahead("nothing"),
            figure=2.5,
        ),
    ]


def _training(count: int) -> Claim:
    whole = sum(range(1, count + 1)) / count  # steps of the whole model that separate models of even depths take
    ratio = cell("Starbucks", "training time over all separate", layer=None, dim=None)
    low, high = (share * 1.1 / whole for share in (0.75, 1.25))
    return Claim(
        "C13",
        f"One model replaces {count} at 1.1 / {whole:g} of their training time (from 0.75 to 1.25 times that)",
        "one training in the place of six; no times",
        Condition(ratio, "training time, Starbucks / all separate", above=low, below=high, unit=TIMES, delta=1.1),
    )
