"""Claims 1 to 6, 11, 13 to 17 and 19 of the MRL paper, on what nested embeddings of pictures are worth, as data.

"pairs " marks the scores of the set with many classes, where width matters. Numbers are points of per cent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from mrl_lab.contrasts import Contrast, average, cell, difference, off_the_line
from mrl_lab.errors import RequestError
from mrl_lab.verdicts import Claim, Condition

# prefix of the metrics -> in words
SETS = {"": "single pictures", "pairs ": "pairs", "omniglot ": "characters", "articles ": "texts"}
TRIED = 8  # the paper's smallest size: below it more classes are asked of fewer numbers than it ever tried
Lead = Callable[..., Callable[[int], Contrast]]  # metric (and rival) -> size -> what MRL leads by
CUTS = {"FF, first dims": "1nn", "FF, random projection": "1nn", "FF, SVD of features": "1nn"}
CUTS |= {"FF, SVD of the classifier": "top1", "FF, probe on random dims": "top1"}


def claims(sizes: Sequence[int], classes: Mapping[str, int]) -> list[Claim]:
    """Claims 1 to 6, 11, 13 to 17 and 19 of the MRL study for sizes M, rising, the last one d.

    Args:
        classes: {set: C}, the set as its metrics begin. Claims 1 to 6 are judged on each alone, since what holds for
            ten classes may not hold for many; claim 2, at small sizes, m <= (C - 1) / 4, where there are many. The
            last set's are the headlines.

    Raises:
        RequestError: no size is small, so that claim 2 could not be decided.
    """
    last = list(classes)[-1]
    judged = [(where, claim) for where in classes for claim in _on_each_set(sizes, where)]
    judged += [(where, _against_cutting(sizes, where, count)) for where, count in classes.items() if where]
    return [
        *(replace(claim, headline=claim.headline and where == last) for where, claim in judged),
        _enough(sizes),
        _robust(sizes),
        *_coarse_first(),
        _headroom(),
        *_spacing_and_weights(sizes),
        _nested_later(sizes),
        _contrastive(sizes),
    ]


def at(sizes: Sequence[int], contrast: Callable[[int], Contrast]) -> dict[str, Contrast]:
    """A contrast for each size, under the size's name."""
    return {f"{m} dims": contrast(m) for m in sizes}


def _on_each_set(sizes: Sequence[int], where: str) -> list[Claim]:
    """Claims 1, 3, 4, 5 and 6, each with the name of the set behind its number."""

    def lead(metric: str, minus: str = "FF") -> Callable[[int], Contrast]:
        return lambda m: difference("MRL", minus, where + metric, dim=m)

    found = [_separate(sizes, lead), _neighbours(sizes, lead), _efficient(sizes, lead), _between(sizes, where)]
    return [_named(claim, where) for claim in [*found, _whole(sizes[-1], lead)]]


def _named(claim: Claim, where: str) -> Claim:
    return replace(claim, id=f"{claim.id} {where}".strip(), text=f"{claim.text} ({SETS[where]})")


def _tried(sizes: Sequence[int]) -> list[int]:
    return [m for m in sizes if m >= TRIED] or list(sizes)


def _separate(sizes: Sequence[int], lead: Lead) -> Claim:
    tried, top1 = _tried(sizes), lead("top1")
    below = [Condition(top1(m), f"MRL − FF, top-1, {m} dims", above=-1.0) for m in sizes if m not in tried]
    return Claim(
        "1",
        "One MRL model is as accurate as a model trained for each size alone (within 1 point at every size)",
        "+1.3 at 8 dims … −0.07 at 2048, ImageNet",
        Condition(at(tried, top1), "MRL − FF, top-1", above=-1.0),
        [Condition(average(map(top1, sizes)), "MRL − FF, top-1, mean over sizes", above=-0.3, delta=0.3), *below],
        figure=-0.07,
        headline=True,
    )


def _neighbours(sizes: Sequence[int], lead: Lead) -> Claim:
    first, d = _tried(sizes)[0], sizes[-1]
    return Claim(
        "3",
        f"1-NN: better than FF at {first} dims",
        "+3.3 at 8, −0.2 at 2048",
        Condition(lead("1nn")(first), f"MRL − FF, 1-NN, {first} dims", above=0.0),
        [Condition(lead("1nn")(d), f"MRL − FF, 1-NN, {d} dims", above=-1.0)],
        figure=3.3,
    )


def _efficient(sizes: Sequence[int], lead: Lead) -> Claim:
    gap, first, third = lead("top1", "MRL-E"), sizes[0], sizes[min(2, len(sizes) - 1)]
    grows = Condition(gap(first) - gap(third), f"gap at {first} dims less gap at {third}", above=0.0)
    return Claim(
        "4",
        "MRL-E is close to MRL (within 1.5 points) from the third size on",
        "gap 10.0 at 8, 0.6 at 32, 0.3 at 2048",
        Condition(at(sizes[2:] or sizes[-1:], gap), "MRL − MRL-E, top-1", below=1.5),
        [grows],
        figure=0.6,
    )


def _between(sizes: Sequence[int], where: str) -> Claim:
    sides = {m + m // 2: (m, following) for m, following in pairwise(sizes) if m + m // 2 < following}
    above = at(list(sides), lambda m: off_the_line("MRL", where + "1nn", m, *sides[m]))
    return Claim(
        "5",
        "Sizes that were never trained fall in line (1-NN, at most 1 point below)",
        "12: 65.89, where the line from 62.19 (8) to 67.91 (16) has 65.54",
        Condition(above, "1-NN above the line between trained sizes", above=-1.0),
        figure=0.35,
        headline=True,
    )


def _whole(d: int, lead: Lead) -> Claim:
    return Claim(
        "6",
        "Nesting improves retrieval even at full size",
        "+2.3 at 2048 (mAP@10)",
        Condition(lead("map@10")(d), f"MRL − FF, mAP@10, {d} dims", above=0.0),
        figure=2.3,
    )


def _against_cutting(sizes: Sequence[int], where: str, classes: int) -> Claim:
    small = [m for m in sizes if m <= (classes - 1) / 4]
    if not small:
        raise RequestError(
            f"sizes {list(sizes)} are all large for {classes} classes, where any cut is nearly free: "
            f"add one of at most {(classes - 1) // 4}."
        )
    ahead = {
        f"{other} at {m} dims": difference("MRL", other, where + metric, dim=m)
        for other, metric in CUTS.items()
        for m in small
    }
    claim = Claim(
        "2",
        "At small sizes MRL beats every way of shrinking FF",
        "1-NN: +60 at 8 (cut); over an SVD +8.7, +3.1, +0.9 at 32, 64, 128",
        Condition(ahead, "MRL − its rival", above=0.0),
        figure=0.9,
        headline=True,
    )
    return _named(claim, where)


def _enough(sizes: Sequence[int]) -> Claim:
    d = sizes[-1]

    def lead(m: int) -> Contrast:
        return difference("MRL", "FF, first dims", "pairs 1nn", dim=m)

    return Claim(
        "19",
        "Down to a quarter of the numbers plain cutting does as well (MRL leads by under 1 point)",
        "text encoders: nesting pays for ≥ 80 % truncation (arXiv 2605.16608)",
        Condition(at((d // 2, d // 4), lead), f"MRL − FF cut from {d} dims, 1-NN", below=1.0),
        [Condition(lead(d // 8), f"MRL − FF cut to {d // 8} of {d} dims, 1-NN", above=1.0)],
    )


def _robust(sizes: Sequence[int]) -> Claim:
    def extra(kinds: Sequence[str]) -> Contrast:
        return average(
            difference("MRL", "FF", "top1", dim=m) - difference("MRL", "FF", f"{kind} {strength} top1", dim=m)
            for kind in kinds
            for strength in (1, 2, 3)
            for m in sizes
        )

    kinds = ("noise", "blur", "contrast", "rotation")
    return Claim(
        "11",
        "MRL loses no more than FF where pictures get worse (within 1 point, mean over sizes and strengths)",
        "no loss on ImageNet-V2, R, Sketch; A +0.6",
        Condition(extra(kinds), "what MRL loses less what FF loses, top-1", below=1.0),
        [Condition(extra([kind]), f"the same under {kind}", below=1.0) for kind in kinds],
        figure=0.0,
        headline=True,
    )


def _coarse_first() -> list[Claim]:
    paper = "8 of 2048 dims: −4.6 on 31 superclasses, −10.2 on 1000 classes"
    plain = cell("MRL", "pairs fine drop") - cell("MRL", "pairs coarse drop")
    relative = cell("MRL", "pairs fine drop relative") - cell("MRL", "pairs coarse drop relative")
    unit = "errors at full size"
    return [
        Claim(
            "13",
            "Coarse classes lose less than fine ones at the smallest size",
            paper,
            Condition(plain, "drop of fine classes less drop of coarse ones, top-1", above=0.0),
            figure=5.6,
        ),
        Claim(
            "13b",
            "Coarse classes lose less than fine ones, relative to their own error at full size",
            "0.44 (fine) against 0.47 (coarse): the paper's own table says no",
            Condition(relative, "relative drop, fine less coarse", above=0.0, unit=unit, delta=0.2),
            figure=-0.03,
        ),
    ]


def _headroom() -> Claim:
    gain = difference("MRL", "FF, other seeds", "pairs oracle gain")
    return Claim(
        "14",
        "Sizes disagree usefully: an oracle over one model's sizes gains more than one over as many re-seeded models",
        "+4.6 over the best size (no control)",
        Condition(gain, "oracle's gain, sizes less re-seeded models, top-1", above=0.0),
    )


def _spacing_and_weights(sizes: Sequence[int]) -> list[Claim]:
    first, second, d = sizes[0], sizes[1], sizes[-1]

    def spacing(m: int, above: float = 0.0) -> Condition:
        lead = difference("MRL", "MRL, uniform sizes", "pairs 1nn", dim=m)
        return Condition(lead, f"halved − uniform sizes, 1-NN, {m} dims", above=above)

    def boost(m: int, above: float = 0.0) -> Condition:
        lead = difference("MRL, c = 2 at first", "MRL", "pairs top1", dim=m)
        return Condition(lead, f"doubled − equal weight, top-1, {m} dims", above=above)

    return [
        Claim(
            "15",
            "Halved sizes beat uniform ones at the smallest",
            "8: 62.2 against 58.4, 16: 67.9 against 61.1 (1-NN)",
            spacing(first),
            [spacing(second), spacing(d, -0.3)],
            figure=3.8,
        ),
        Claim(
            "15b",
            "A double weight on the smallest size helps there",
            "+2.9 at 8, −0.1 at 2048",
            boost(first),
            [boost(d, -0.3)],
            figure=2.9,
        ),
    ]


def _nested_later(sizes: Sequence[int]) -> Claim:
    m = sizes[0]
    parts = ["head", "last block", "last two blocks", "all"]
    rises = {
        f"{more} − {less}": difference(f"nested later: {more}", f"nested later: {less}", "pairs top1", dim=m)
        for less, more in pairwise(parts)
    }
    half = cell("nested later: all", "pairs top1", dim=m) - 2 * cell("nested later: head", "pairs top1", dim=m)
    return Claim(
        "16",
        "Nesting a trained encoder needs its non-linear layers: the more is unfrozen, the better the smallest size",
        "5.2 (head), 36.1, 54.8, 60.0 (last block), 66.6 (from scratch) at 8",
        Condition(rises, f"gain by unfreezing more, top-1, {m} dims", above=0.0),
        [Condition(half, f"all less twice the head alone, top-1, {m} dims", above=0.0)],
        figure=5.2,
    )


def _contrastive(sizes: Sequence[int]) -> Claim:
    m, d = sizes[0], sizes[-1]
    others = ("InfoNCE, whole normalised", "InfoNCE, one side nested")

    def gain(dim: int) -> dict[str, Contrast]:
        return {
            f"against {o.removeprefix('InfoNCE, ')}": difference("InfoNCE, nested", o, "1nn", dim=dim) for o in others
        }

    return Claim(
        "17",
        "Contrastive: normalising each prefix, on both sides, is best at the smallest size",
        "the recipe of appendix C, without a table",
        Condition(gain(m), f"nested, 1-NN, {m} dims", above=0.0),
        [Condition(gain(d), f"nested, 1-NN, {d} dims", above=-0.5, delta=0.5)],
    )
