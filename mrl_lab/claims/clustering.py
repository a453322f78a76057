"""Claims on Franca: F1 to F4 on nested clustering and its masks, R1 to R4 on the removal of position, as data.

Heads name the methods: "slice" is the paper's, "proj" that of the code as first released, "none" a single head, "many"
as many codebooks on the whole feature, "wide" one codebook as large as all. Points are per cent of weighted k-NN.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mrl_lab.stats import Claim, cell, difference

CLOSED = "cross-covariance"
RELEASED = "RASA, as released"


def claims(sizes: Sequence[int], places: int, random: str, masks: bool = True) -> list[Claim]:
    """All claims for levels M = ``sizes``, rising, the last one d.

    Args:
        places: patches of a canvas. random: the method that removes as many random dims as RASA.
        masks: judge F4 too.
    """
    found = [*_nested(sizes), *_levels(sizes), *_position(places, random)]
    return found + ([_masked()] if masks else [])


def _nested(sizes: Sequence[int]) -> list[Claim]:
    d = sizes[-1]
    short, half = [m for m in sizes if m <= d / 8], [m for m in sizes if m <= d / 4]

    def ahead(of: str, minus: str, dims: Sequence[int], by: float = 0.0) -> list:
        return [difference(of, minus, "knn", dim=m).must(above=by, name=f"{of} − {minus}, {m} dims") for m in dims]

    whole = difference("slice", "none", "knn", dim=d).must(above=-1.0, name=f"slice − none, all {d} dims")
    same = [
        difference("proj", "proj, random dims", "knn", dim=m).must(
            above=-2.0, below=2.0, name=f"first {m} dims − {m} at random"
        )
        for m in short
    ]
    return [
        Claim(
            "F1",
            "Sliced heads make prefixes better than a single head does, at no loss for the whole feature (1 point)",
            "a plot without numbers: above DINOv2-L from d to d/64 (k-NN, ImageNet-v2)",
            [*ahead("slice", "none", half), whole],
        ),
        Claim(
            "F1a",
            "… by 8 points at D/16 and D/8",
            "no figures; one small run before this study: +28 and +18",
            ahead("slice", "none", short, 8),
        ),
        Claim(
            "F1b",
            "… and better than PCA of the single head's feature",
            "no such control",
            ahead("slice", "none, PCA", half),
        ),
        Claim(
            "F1c",
            "It is the slicing that does it, not the number of codebooks or prototypes",
            "no such control",
            ahead("slice", "many", short) + ahead("slice", "wide", short),
        ),
        Claim(
            "F2",
            "Heads as first released project and do not slice: their first dims are like any other (within 2 points)",
            "the text slices; the code first projected, and slices in a later revision",
            same,
        ),
    ]


def _levels(sizes: Sequence[int]) -> list[Claim]:
    first = sizes[0]
    nests = [
        (cell("slice", "nesting", dim=m) - cell("slice", "nesting by chance", dim=m)).must(
            above=0.0, name=f"nesting above chance, {m} in {n} dims"
        )
        for m, n in pairwise(sizes)
    ]
    coarse = difference("slice", "none, k-means", "AMI", dim=first)
    return [
        Claim(
            "F3",
            "The coarsest level's clusters agree with the classes as well as k-means of a single head's whole feature",
            "clusters go from coarse to fine",
            [coarse.must(above=0.0, name=f"AMI at {first} dims, slice − k-means at the same K")],
        ),
        Claim("F3b", "Fine clusters lie inside coarse ones, more than by chance", "nested clustering", nests),
    ]


def _masked() -> Claim:
    better = difference("cyclic", "inverse block", "patch knn").must(
        above=0.0, name="cyclic − inverse block, patch k-NN"
    )
    return Claim(
        "F4",
        "CyclicMask makes better patches than inverse block masks",
        "VOC in context 69.8 with and without (version 1, by its reviews)",
        [better],
    )


def _position(places: int, random: str) -> list[Claim]:
    raw = cell("raw", "affine R2")
    same = difference(CLOSED, "raw", "patch knn")
    kept = cell(random, "affine R2")
    return [
        Claim(
            "R1",
            "One closed-form step removes what affine probes know of position (held-out R² at most 0.02)",
            "RASA: 8 learned steps",
            [
                raw.must(above=0.5, name="affine R², before"),
                cell(CLOSED, "affine R2").must(below=0.02, name="affine R², after"),
            ],
        ),
        _first_block(),
        Claim(
            "R2",
            "… and patches keep their content (k-NN within 1 point)",
            "in context 76.2 to 76.7 (VOC), 35.0 to 35.3 (ADE20K); linear unchanged",
            [same.must(above=-1.0, below=1.0, name="patch k-NN, after − before")],
        ),
        Claim(
            "R3",
            "RASA as released, taught at a higher rate, leaves no more position than the closed form (R² at most 0.02)",
            "loss at chance after 8 steps",
            [cell(RELEASED, "affine R2").must(below=0.02, name="affine R², RASA as released")],
        ),
        Claim(
            "R4",
            "What is not affine in (row, column) stays: the place is found well above chance after the closed form",
            "not examined",
            [cell(CLOSED, "place").must(above=2 * 100 / places, name="place found (%), twice chance")],
        ),
        Claim(
            "R5",
            "As many random dims take no position with them",
            "no such control",
            [
                (raw - kept).must(below=0.1, name="affine R², before − after random dims"),
            ],
        ),
    ]


def _first_block() -> Claim:
    return Claim(
        "R1b",
        "So it does after the first block, where position is stronger, and patches keep their content there",
        "not examined",
        [
            cell("raw", "affine R2 by layer", layer=1).must(above=0.5, name="affine R², before"),
            cell(CLOSED, "affine R2 by layer", layer=1).must(below=0.02, name="affine R², after"),
            difference(CLOSED, "raw", "patch knn by layer", layer=1).must(
                above=-1.0, below=1.0, name="patch k-NN, after − before"
            ),
        ],
    )
