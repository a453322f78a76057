"""Claims of Starbucks on a model that people have, and of its pre-training on one made from scratch, as data.

Points are Spearman's rho x 100 on STS-B's test pairs; :func:`mrl_lab.claims.sentences.on` asks another test. Those
that 2DMSE's page judges on a small new encoder are judged again here: text encoders differ in how far their shallow
layers are behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mrl_lab.claims import sentences
from mrl_lab.claims.sentences import METRIC
from mrl_lab.stats import Claim, average, cell, difference

BEST_WHOLE = "plain, best whole"  # plain training at the rate that is best for its whole model, not along the list
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
            compares them must hold there too.
    """
    again = [claim for claim in sentences.claims(layers, sizes, pairs, BEST_WHOLE) if claim.id in AGAIN]
    compared = [_at_equal_rates(claim, chosen or {}) for claim in [*_gain(pairs), *again]]
    return [*compared, *_pretraining(small), _training(len(pairs))]


def at(method: str, lr: float) -> str:
    """Return what a method is called where all are trained at one rate."""
    return f"{'plain' if method == BEST_WHOLE else method} at {lr:g}"


def _at_equal_rates(claim: Claim, chosen: Mapping[str, float]) -> Claim:
    """Return a claim with its comparisons of ``chosen`` methods asked again at each rate that one of them has."""
    more = []
    for condition in claim.conditions:
        methods = {where["method"] for _, where in condition.terms}
        if len(methods) < 2 or not methods <= set(chosen):
            continue
        for lr in sorted(set(chosen.values())):
            if any(chosen[method] != lr for method in methods):  # else it is the same comparison
                terms = tuple((f, {**where, "method": at(where["method"], lr)}) for f, where in condition.terms)
                more.append(replace(condition, terms=terms, name=f"{condition.name}, both at {lr:g}"))
    return replace(claim, conditions=[*claim.conditions, *more])


def _gain(pairs: Pairs) -> list[Claim]:
    below = [difference("Starbucks", "plain", METRIC, layer=n, dim=m) for n, m in pairs[:-1]]
    n, m = pairs[-1]
    price = difference("Starbucks", BEST_WHOLE, METRIC, layer=n, dim=m)
    return [
        Claim(
            "S1",
            "Below the last layer Starbucks' pairs beat cuts of a model trained at its last layer alone by 5 points",
            "+14.1 on average (.7617 against .6207)",
            [average(below).must(above=5.0, name="Starbucks − plain, mean of pairs below the whole")],
        ),
        Claim(
            "S2",
            "The whole model pays less than a point for it",
            "−0.9 (.8010 against .8095)",
            [price.must(above=-1.0, name=f"Starbucks − {BEST_WHOLE}, whole model")],
        ),
    ]


def _pretraining(small: Pairs) -> list[Claim]:
    def mean(of: str, minus: str):
        three = [(f"Starbucks after {of}", f"Starbucks after {minus}", n, m) for n, m in small[:3]]
        return average(difference(a, b, METRIC, layer=n, dim=m) for a, b, n, m in three)

    return [
        Claim(
            "C10",
            "SMAE helps small sizes by half a point more than as many steps of other pre-training on the same texts",
            "+1.5, +3.0, +3.0 at the three smallest, against no further pre-training: no such control",
            [
                mean("SMAE", other).must(above=0.5, name=f"SMAE − {other}, mean of the three smallest pairs")
                for other in ("MLM", "MAE")
            ],
        ),
        Claim(
            "C10a",
            "SMAE helps them by half a point more than MLM with as much time, stopped early or not",
            "no such control",
            [
                mean("SMAE", other).must(above=0.5, name=f"SMAE − {other}, mean of the three smallest pairs")
                for other in ("MLM", "MLM for longer")
            ],
        ),
        Claim(
            "C10b",
            "SMAE helps small sizes by half a point over no pre-training",
            "+1.5, +3.0, +3.0 at the three smallest",
            [mean("SMAE", "nothing").must(above=0.5, name="SMAE − nothing, mean of the three smallest pairs")],
        ),
    ]


def _training(count: int) -> Claim:
    whole = sum(range(1, count + 1)) / count  # steps of the whole model that separate models of even depths take
    ratio = cell("Starbucks", "training time over all separate", layer=None, dim=None)
    return Claim(
        "C13",
        f"One model replaces {count} at 1.1 / {whole:g} of their training time (within a quarter)",
        "one training in the place of six; no times",
        [
            ratio.must(
                above=0.75 * 1.1 / whole, below=1.25 * 1.1 / whole, name="training time, Starbucks / all separate"
            )
        ],
    )
