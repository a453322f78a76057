"""The claims of the papers as data: what is said, the paper's own figure, and the conditions that decide.

Conditions name cells of the tidy table; ``stats.judge`` does the rest. "pairs " marks the scores of the set with
many classes, where width matters. Numbers are points of per cent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mrl_lab.stats import Claim, Condition, average, cell, difference, off_the_line

SETS = {"": "ten classes", "pairs ": "many classes"}


def mrl(sizes: Sequence[int], classes_of_pairs: int = 100) -> list[Claim]:
    """Claims 1 to 6, 11, 13 to 17 and 19 of the MRL study for sizes M, rising, the last one d.

    ``classes_of_pairs`` sets which sizes count as small: m <= (C - 1) / 4.
    """
    small = [m for m in sizes if m <= (classes_of_pairs - 1) / 4] or [sizes[0]]
    return [
        *_against_separate_models(sizes),
        *_against_cutting(sizes, small),
        _interpolates(sizes),
        _robust(sizes),
        *_coarse_first(),
        _headroom(),
        *_spacing_and_weights(sizes),
        _nested_later(sizes),
        _contrastive(sizes),
    ]


def _everywhere(of: str, minus: str, metric: str, sizes: Sequence[int], **bound: float) -> list[Condition]:
    """One condition a size and a set."""
    return [
        difference(of, minus, where + metric, dim=m).must(**bound, name=f"{of} − {minus}, {name}, {m} dims")
        for where, name in SETS.items()
        for m in sizes
    ]


def _against_separate_models(sizes: Sequence[int]) -> list[Claim]:
    first, d = sizes[0], sizes[-1]
    mean = [
        average(difference("MRL", "FF", where + "top1", dim=m) for m in sizes).must(
            above=-0.3, name=f"mean over sizes, {name}"
        )
        for where, name in SETS.items()
    ]
    low = [
        difference("MRL", "FF", where + "1nn", dim=first).must(above=0.0, name=f"1-NN at {first} dims, {name}")
        for where, name in SETS.items()
    ]
    high = [
        difference("MRL", "FF", where + "1nn", dim=d).must(above=-1.0, below=1.0, name=f"1-NN at {d} dims, {name}")
        for where, name in SETS.items()
    ]
    close = _everywhere("MRL", "MRL-E", "top1", sizes[2:], below=1.5)
    wider = [
        (
            difference("MRL", "MRL-E", where + "top1", dim=first)
            - difference("MRL", "MRL-E", where + "top1", dim=sizes[2])
        ).must(above=0.0, name=f"gap at {first} dims minus gap at {sizes[2]}, {name}")
        for where, name in SETS.items()
    ]
    full = _everywhere("MRL", "FF", "map@10", [d], above=0.0)
    return [
        Claim(
            "1",
            "One MRL model is as accurate as a model trained for each size alone (within 1 point; mean within 0.3)",
            "+1.3 at 8 dims … −0.07 at 2048, ImageNet",
            _everywhere("MRL", "FF", "top1", sizes, above=-1.0) + mean,
        ),
        Claim("3", "1-NN: better than FF at the smallest size, equal at full", "+3.3 at 8, −0.2 at 2048", low + high),
        Claim(
            "4",
            "MRL-E is close to MRL except at the smallest size",
            "gap 10.0 at 8, 0.6 at 32, 0.3 at 2048",
            close + wider,
        ),
        Claim("6", "Nesting improves retrieval even at full size (mAP@10 at d)", "+2.3 at 2048", full),
    ]


def _against_cutting(sizes: Sequence[int], small: Sequence[int]) -> list[Claim]:
    d = sizes[-1]
    cuts = {"FF, first dims": "1nn", "FF, random projection": "1nn", "FF, SVD of features": "1nn"}
    cuts |= {"FF, SVD of the classifier": "top1", "FF, probe on random dims": "top1"}
    ahead = [
        difference("MRL", other, f"pairs {metric}", dim=m).must(above=10.0, name=f"MRL − {other}, {m} dims")
        for other, metric in cuts.items()
        for m in small
    ]

    def lead(m: int) -> str:
        return f"MRL − FF cut to {m} of {d} dims, 1-NN"

    cut = {m: difference("MRL", "FF, first dims", "pairs 1nn", dim=m) for m in (d // 2, d // 4, d // 8)}
    spare = [cut[m].must(below=1.0, name=lead(m)) for m in (d // 2, d // 4)]
    return [
        Claim("2", "At small sizes MRL beats every way of shrinking FF by 10 points", "+60 at 8 (1-NN, cut)", ahead),
        Claim(
            "19",
            "MRL is needed only beyond 80 % truncation (it leads plain cutting by under 1 point before)",
            "text encoders: pays for ≥ 80 % (arXiv 2605.16608)",
            [*spare, cut[d // 8].must(above=1.0, name=lead(d // 8))],
        ),
    ]


def _interpolates(sizes: Sequence[int]) -> Claim:
    between = [(m, m + m // 2, 2 * m) for m in sizes[:-1] if 2 * m in sizes and m % 2 == 0]
    conditions = [
        off_the_line("MRL", where + "1nn", middle, left, right).must(above=-1.0, name=f"{middle} dims, {name}")
        for where, name in SETS.items()
        for left, middle, right in between
    ]
    paper = "12: 65.89, between 62.19 (8) and 67.91 (16)"
    return Claim("5", "Sizes that were never trained fall in line (1-NN, at most 1 point below)", paper, conditions)


def _robust(sizes: Sequence[int]) -> Claim:
    conditions = [
        average(
            difference("MRL", "FF", "top1", dim=m) - difference("MRL", "FF", f"{kind} {strength} top1", dim=m)
            for m in sizes
        ).must(above=-1.0, below=1.0, name=f"extra loss under {kind} {strength}")
        for kind in ("noise", "blur", "contrast", "rotation")
        for strength in (1, 2, 3)
    ]
    text = "MRL loses no more than FF under noise, blur, contrast and rotation (within 1 point, mean over sizes)"
    return Claim("11", text, "no loss on ImageNet-V2, R, Sketch; A +0.6", conditions)


def _coarse_first() -> list[Claim]:
    paper = "8 of 2048 dims: −4.6 on 31 superclasses, −10.2 on 1000 classes"
    plain = cell("MRL", "pairs fine drop") - cell("MRL", "pairs coarse drop")
    relative = cell("MRL", "pairs fine drop relative") - cell("MRL", "pairs coarse drop relative")
    return [
        Claim("13", "Coarse classes lose less than fine ones at the smallest size", paper, [plain.must(above=0.0)]),
        Claim(
            "13b",
            "Coarse classes lose less than fine ones, relative to their own error at full size",
            "0.47 against 0.44: the paper's own table says no",
            [relative.must(above=0.0)],
        ),
    ]


def _headroom() -> Claim:
    gain = difference("MRL", "FF, other seeds", "pairs oracle gain")
    text = "Sizes disagree usefully: an oracle over one model's sizes gains more than one over as many re-seeded models"
    return Claim("14", text, "+4.6 over the best size (no control)", [gain.must(above=0.0)])


def _spacing_and_weights(sizes: Sequence[int]) -> list[Claim]:
    first, second, d = sizes[0], sizes[1], sizes[-1]

    def spacing(m: int, above: float) -> Condition:
        return difference("MRL", "MRL, uniform sizes", "pairs 1nn", dim=m).must(above=above, name=f"{m} dims, 1-NN")

    def boost(m: int, above: float) -> Condition:
        return difference("MRL, c = 2 at first", "MRL", "pairs top1", dim=m).must(above=above, name=f"{m} dims, top-1")

    return [
        Claim(
            "15",
            "Halved sizes beat uniform ones at the two smallest, and lose at most 0.3 at full size",
            "8: 62.2 against 58.4, 16: 67.9 against 61.1 (1-NN)",
            [spacing(first, 0.0), spacing(second, 0.0), spacing(d, -0.3)],
        ),
        Claim(
            "15b",
            "A double weight on the smallest size helps there and costs at most 0.3 at full size",
            "+2.9 at 8, −0.1 at 2048",
            [boost(first, 0.0), boost(d, -0.3)],
        ),
    ]


def _nested_later(sizes: Sequence[int]) -> Claim:
    m = sizes[0]
    parts = ["head", "last block", "last two blocks", "all"]
    rises = [
        difference(f"nested later: {more}", f"nested later: {less}", "pairs top1", dim=m).must(
            above=0.0, name=f"{more} − {less}, {m} dims"
        )
        for less, more in pairwise(parts)
    ]
    half = cell("nested later: all", "pairs top1", dim=m) - 2 * cell("nested later: head", "pairs top1", dim=m)
    text = "Nesting a trained encoder needs its non-linear layers: the more is unfrozen, the better the smallest size"
    return Claim(
        "16",
        text,
        "5.2 (head), 36.1, 54.8, 60.0 (last block), 66.6 (from scratch) at 8",
        [*rises, half.must(above=0.0, name=f"head alone is below half of all, {m} dims")],
    )


def _contrastive(sizes: Sequence[int]) -> Claim:
    m, d = sizes[0], sizes[-1]
    others = ("InfoNCE, whole normalised", "InfoNCE, one side nested")
    gain = {(o, size): difference("InfoNCE, nested", o, "1nn", dim=size) for o in others for size in (m, d)}
    best = [gain[o, m].must(above=0.0, name=f"against {o}, {m} dims") for o in others]
    full = [gain[o, d].must(above=-0.5, below=0.5, name=f"against {o}, {d} dims") for o in others]
    text = "Contrastive: normalising each prefix, on both sides, is best at the smallest size and harmless at full size"
    return Claim("17", text, "the recipe of appendix C, without a table", best + full)
