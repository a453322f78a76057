"""Claims on Franca: F1 to F4 on nested clustering and its masks, R1 to R5 on the removal of position, as data.

Models that somebody else trained have claims of their own, P1a, P1b ... of the first one: :func:`elsewhere`.

Heads name the methods: "slice" is the paper's, "proj" that of the code as first released, "none" a single head, "many"
as many codebooks on the whole feature, "wide" one codebook as large as all. Points are per cent of weighted k-NN.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mrl_lab.contrasts import Contrast, cell, difference
from mrl_lab.verdicts import Claim, Condition

CLOSED = "cross-covariance"
RELEASED = "RASA, as released"
PLANES = "RASA, its own planes"
R2 = {"unit": "R²", "delta": 0.05}


def claims(sizes: Sequence[int], places: int, random: str, masks: bool = True) -> list[Claim]:
    """All claims for levels M = ``sizes``, rising, the last one d.

    Args:
        places: patches of a canvas. random: the method that removes as many random dims as RASA.
        masks: judge F4 too.
    """
    found = [*_nested(sizes), *_levels(sizes), *_position(places, random)]
    return found + ([_masked()] if masks else [])


def elsewhere(number: int, name: str, sizes: Sequence[int], planes: bool) -> list[Claim]:
    """Claims on a pretrained model of this ``name``, whose widths ``sizes`` rise to the whole.

    Args:
        number: tells its claims from another model's. planes: it came with planes of position, as Franca does.
    """
    raw, closed, own = (f"{name}, {way}" for way in ("raw", CLOSED, PLANES))
    ordered = {f"{m} dims": difference(name, f"{name}, random dims", "knn", dim=m) for m in sizes[:-1]}
    found = [
        Claim(
            f"P{number}a",
            f"{name}: its first dims are worth more than as many at random, at every size",
            "Franca: every prefix has heads of its own; DINOv2: nothing orders them",
            Condition(ordered, "prefix − random dims, k-NN", above=0.0),
        ),
        Claim(
            f"P{number}b",
            f"{name}: one closed-form step removes what affine probes know of position (held-out R² at most 0.02)",
            "RASA: 8 learned steps",
            _left(cell(closed, "affine R2")),
            [
                Condition(cell(raw, "affine R2"), "affine R², before", above=0.5, **R2),
                Condition(difference(closed, raw, "patch knn"), "patch k-NN, after − before", above=-1.0),
            ],
        ),
    ]
    more = difference(own, closed, "affine R2")
    released = Claim(
        f"P{number}c",
        f"{name}: its own planes leave no more position than the closed form does (R² at most 0.02 more)",
        "no such comparison",
        Condition(more, "affine R², its own planes − closed form", below=0.02, unit="R²", delta=0.01),
        [Condition(difference(own, closed, "patch knn"), "patch k-NN, its own planes − closed form", above=-1.0)],
    )
    return found + ([released] if planes else [])


def _nested(sizes: Sequence[int]) -> list[Claim]:
    d = sizes[-1]
    short, half = [m for m in sizes if m <= d / 8], [m for m in sizes if m <= d / 4]

    def ahead(of: str, minus: str, dims: Sequence[int], above: float = 0.0, **how: float) -> Condition:
        each = {f"{m} dims": difference(of, minus, "knn", dim=m) for m in dims}
        return Condition(each, f"{of} − {minus}, k-NN", above=above, **how)

    return [
        Claim(
            "F1",
            "Sliced heads make prefixes better than a single head does",
            "a plot without numbers: above DINOv2-L from d to d/64 (k-NN, ImageNet-v2)",
            ahead("slice", "none", half),
            [Condition(difference("slice", "none", "knn", dim=d), f"slice − none, k-NN, all {d} dims", above=-1.0)],
            headline=True,
        ),
        Claim(
            "F1a",
            "… by 8 points at D/16 and D/8",
            "no figures; one small run before this study: +28 and +18",
            ahead("slice", "none", short, 8.0),
        ),
        Claim(
            "F1b",
            "… and better than PCA of the single head's feature",
            "no such control",
            ahead("slice", "none, PCA", half),
        ),
        Claim(
            "F1c",
            "It is the slicing that does it, not as many codebooks on the whole feature",
            "no such control",
            ahead("slice", "many", short),
            [ahead("slice", "wide", short)],
        ),
        Claim(
            "F2",
            "Sliced heads (the text) make better prefixes than projections (the code as first released)",
            "no such comparison: the code slices in a later revision",
            ahead("slice", "proj", short),
            [ahead("proj", "proj, random dims", short, -2.0, below=2.0)],
            headline=True,
        ),
    ]


def _levels(sizes: Sequence[int]) -> list[Claim]:
    nests = {
        f"{m} in {n} dims": cell("slice", "nesting", dim=m) - cell("slice", "nesting by chance", dim=m)
        for m, n in pairwise(sizes)
    }
    coarse = difference("slice", "none, k-means", "AMI", dim=sizes[0])
    return [
        Claim(
            "F3",
            "The coarsest level's clusters agree with the classes as well as k-means of a single head's whole feature",
            "clusters go from coarse to fine",
            Condition(coarse, f"AMI at {sizes[0]} dims, slice − k-means at the same K", above=0.0),
        ),
        Claim(
            "F3b",
            "Fine clusters lie inside coarse ones, more than by chance",
            "nested clustering",
            Condition(nests, "nesting above chance", above=0.0),
            headline=True,
        ),
    ]


def _masked() -> Claim:
    return Claim(
        "F4",
        "CyclicMask makes better patches than inverse block masks",
        "VOC in context 69.8 with and without (version 1, by its reviews)",
        Condition(
            difference("cyclic", "inverse block", "patch knn"),
            "cyclic − inverse block, patch k-NN",
            above=0.0,
            delta=0.25,
        ),
    )


def _position(places: int, random: str) -> list[Claim]:
    raw = cell("raw", "affine R2")
    before = Condition(raw, "affine R², before", above=0.5, **R2)
    return [
        Claim(
            "R1",
            "One closed-form step removes what affine probes know of position (held-out R² at most 0.02)",
            "RASA: 8 learned steps, loss at chance",
            _left(cell(CLOSED, "affine R2")),
            [before],
            headline=True,
        ),
        _first_block(),
        Claim(
            "R2",
            "… and patches keep their content (k-NN loses at most 1 point)",
            "in context 76.2 to 76.7 (VOC), 35.0 to 35.3 (ADE20K); linear unchanged",
            Condition(difference(CLOSED, "raw", "patch knn"), "patch k-NN, after − before", above=-1.0),
            figure=0.5,
            headline=True,
        ),
        Claim(
            "R3",
            "RASA as released, taught at a higher rate, leaves no more position than the closed form (R² at most 0.02)",
            "loss at chance after 8 steps",
            _left(cell(RELEASED, "affine R2")),
        ),
        Claim(
            "R4",
            "What is not affine in (row, column) stays: the place is found well above chance after the closed form",
            "not examined",
            Condition(cell(CLOSED, "place"), "place found, against twice chance", above=2 * 100 / places),
        ),
        Claim(
            "R5",
            "As many random dims take little position with them (R² falls by at most 0.1)",
            "no such control",
            Condition(raw - cell(random, "affine R2"), "affine R², before − after random dims", below=0.1, **R2),
        ),
    ]


def _left(contrast: Contrast) -> Condition:
    return Condition(contrast, "affine R², after", below=0.02, unit="R²", delta=0.01)


def _first_block() -> Claim:
    same = difference(CLOSED, "raw", "patch knn by layer", layer=1)
    return Claim(
        "R1b",
        "So it does after the first block, where position is stronger (R² at most 0.02)",
        "not examined",
        _left(cell(CLOSED, "affine R2 by layer", layer=1)),
        [
            Condition(cell("raw", "affine R2 by layer", layer=1), "affine R², before", above=0.5, **R2),
            Condition(same, "patch k-NN, after − before", above=-1.0),
        ],
    )
