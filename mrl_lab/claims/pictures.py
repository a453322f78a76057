"""Claims 1 to 6, 11, 13 to 17 and 19 of the MRL paper, on what nested embeddings of pictures are worth, as data.

"pairs " marks the scores of the set with many classes, where width matters. Numbers are points of per cent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from mrl_lab.errors import RequestError
from mrl_lab.stats import Claim, Condition, average, cell, difference, off_the_line

SETS = {"": "single pictures", "pairs ": "pairs", "omniglot ": "characters"}  # prefix of the metrics -> in words


def claims(sizes: Sequence[int], classes_of_pairs: int = 100, sets: Sequence[str] = ("", "pairs ")) -> list[Claim]:
    """Claims 1 to 6, 11, 13 to 17 and 19 of the MRL study for sizes M, rising, the last one d.

    ``classes_of_pairs`` sets which sizes count as small: m <= (C - 1) / 4. Claims 1, 3, 4, 5 and 6 are judged on each
    of ``sets`` alone, since what holds for ten classes may not hold for many.

    Raises:
        RequestError: no size is small, so that most of the claims could not be decided.
    """
    small = [m for m in sizes if m <= (classes_of_pairs - 1) / 4]
    if not small:
        raise RequestError(
            f"sizes {list(sizes)} are all large for {classes_of_pairs} classes, where any cut is nearly free: "
            f"add one of at most {(classes_of_pairs - 1) // 4}."
        )
    return [
        *(claim for where in sets for claim in _on_each_set(sizes, where)),
        *_against_cutting(sizes, small),
        _robust(sizes),
        *_coarse_first(),
        _headroom(),
        *_spacing_and_weights(sizes),
        _nested_later(sizes),
        _contrastive(sizes),
    ]


def _on_each_set(sizes: Sequence[int], where: str) -> list[Claim]:
    """Claims 1, 3, 4, 5 and 6, each with the name of the set behind its number."""

    def claim(number: int, text: str, paper: str, conditions: list[Condition]) -> Claim:
        return Claim(f"{number} {where}".strip(), f"{text} ({SETS[where]})", paper, conditions)

    first, third, d = sizes[0], sizes[min(2, len(sizes) - 1)], sizes[-1]
    mean = average(difference("MRL", "FF", where + "top1", dim=m) for m in sizes)
    one_nn = {m: difference("MRL", "FF", where + "1nn", dim=m) for m in (first, d)}
    gap = {m: difference("MRL", "MRL-E", where + "top1", dim=m) for m in sizes}
    return [
        claim(
            1,
            "One MRL model is as accurate as a model trained for each size alone (within 1 point; mean within 0.3)",
            "+1.3 at 8 dims … −0.07 at 2048, ImageNet",
            [difference("MRL", "FF", where + "top1", dim=m).must(above=-1.0, name=f"MRL − FF, {m} dims") for m in sizes]
            + [mean.must(above=-0.3, name="MRL − FF, mean over sizes")],
        ),
        claim(
            3,
            "1-NN: better than FF at the smallest size, equal at full (within 1 point)",
            "+3.3 at 8, −0.2 at 2048",
            [
                one_nn[first].must(above=0.0, name=f"MRL − FF, {first} dims"),
                one_nn[d].must(above=-1.0, below=1.0, name=f"MRL − FF, {d} dims"),
            ],
        ),
        claim(
            4,
            "MRL-E is close to MRL (within 1.5 points) except at the smallest size",
            "gap 10.0 at 8, 0.6 at 32, 0.3 at 2048",
            [gap[m].must(below=1.5, name=f"MRL − MRL-E, {m} dims") for m in sizes[2:]]
            + [(gap[first] - gap[third]).must(above=0.0, name=f"gap at {first} dims minus gap at {third}")],
        ),
        _interpolates(claim, sizes, where),
        claim(
            6,
            "Nesting improves retrieval even at full size (mAP@10 at d)",
            "+2.3 at 2048",
            [difference("MRL", "FF", where + "map@10", dim=d).must(above=0.0, name=f"MRL − FF, {d} dims")],
        ),
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


def _interpolates(claim: Callable[..., Claim], sizes: Sequence[int], where: str) -> Claim:
    between = [(m, m + m // 2, following) for m, following in pairwise(sizes) if m + m // 2 < following]
    conditions = [
        off_the_line("MRL", where + "1nn", middle, left, right).must(above=-1.0, name=f"{middle} dims")
        for left, middle, right in between
    ]
    text = "Sizes that were never trained fall in line (1-NN, at most 1 point below)"
    return claim(5, text, "12: 65.89, between 62.19 (8) and 67.91 (16)", conditions)


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
