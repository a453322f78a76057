"""Claims C1 to C8 on nested visual tokens (M3), and E1, E2 on other pictures, as data; numbers as in the study's list.

Points are per cent of answers that are right, word for word. Scales are 1, 4 and all tokens (16, of 4 x 4). "cell" and
"list" are dense questions, that ask where things are; "count" is coarse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mrl_lab.contrasts import Contrast, average, cell, difference
from mrl_lab.verdicts import Claim, Condition

DENSE = ("cell", "list")


def claims(whole: int = 16) -> list[Claim]:
    """All of them, of ``whole`` tokens; a way that was not trained at this budget leaves its claim undecided."""
    of_all = [*_separate(whole), _density(whole), *_choosing(whole), *_training(whole)]
    return [*_pooling(), *of_all, _frozen(), _unseen(whole), *_elsewhere(whole)]


def _each(of: Callable[[str, int], Contrast], kinds: Iterable[str], scales: Iterable[int]) -> dict[str, Contrast]:
    """A contrast for each kind of question and number of tokens, by name."""
    scales = list(scales)
    return {f"{kind}, {t} token{'s' if t > 1 else ''}": of(kind, t) for kind in kinds for t in scales}


def _over(rival: str, of: str = "M3") -> Callable[[str, int], Contrast]:
    return lambda kind, t: difference(of, rival, kind, tokens=t)


def _pooling() -> list[Claim]:
    lead = _over("all tokens, pooled")
    grows = {kind: lead(kind, 1) - lead(kind, 4) for kind in DENSE}
    return [
        Claim(
            "C1",
            "One M3 model beats pooling the full-token model at inference at every scale below full",
            "MMBench: +7.8 at 144, +21.9 at 9, +43.6 at 1 token",
            Condition(_each(lead, DENSE, (1, 4)), "M3 − pooled", above=0.0),
            [Condition(grows, "lead at 1 token less lead at 4", above=0.0)],
            figure=7.8,
            headline=True,
        ),
        Claim(
            "C1b",
            "At 4 tokens the lead on dense questions is at least 40 points",
            "not in the paper: our own bar",
            Condition(lead("cell", 4), "M3 − pooled, cell, 4 tokens", above=40.0, delta=5.0),
        ),
        _other_start("C1c", "told where", "M3's lead stays where the tower was told where things lie"),
        _other_start("C1d", "in talks", "M3's lead stays where all began with talks of many questions"),
    ]


def _other_start(name: str, start: str, text: str) -> Claim:
    lead = _over(f"all tokens, pooled, {start}", f"M3, {start}")
    what = Condition(_each(lead, DENSE, (1, 4)), f"M3 − pooled, {start}", above=0.0)
    return Claim(name, text, "no such control", what)


def _separate(whole: int) -> list[Claim]:
    kinds, rivals = ("count", *DENSE), {1: "separate, 1", 4: "separate, 4", whole: "all tokens"}
    paper = "ChartQA +4.8 at 36, DocVQA −2.8 at 576 tokens"
    mean = {f"{t} token{'s' if t > 1 else ''}": average(_over(rivals[t])(k, t) for k in kinds) for t in (1, 4)}

    def sides(*scales: int) -> list[Condition]:
        each = [(t, _each(_over(rivals[t]), kinds, [t])) for t in scales]
        return [Condition(one, f"M3 − {rivals[t]}, {n}", above=-3.0) for t, some in each for n, one in some.items()]

    return [
        Claim(
            "C2",
            "M3 is as good as a model of its own for each number of tokens (at most 3 points below, mean of questions)",
            paper,
            Condition(mean, "M3 − separate, mean of kinds of question", above=-3.0, delta=2.0),
            sides(1, 4),
            figure=-2.8,
            headline=True,
        ),
        Claim(
            "C2b",
            "At all tokens, M3 loses at most 3 points (mean of kinds of question)",
            paper,
            Condition(
                average(_over("all tokens")(k, whole) for k in kinds),
                f"M3 − all tokens, {whole} tokens",
                above=-3.0,
                delta=2.0,
            ),
            sides(whole),
            figure=-2.8,
        ),
    ]


def _density(whole: int) -> Claim:
    def loss(kind: str) -> Contrast:
        return cell("M3", kind, tokens=whole) - cell("M3", kind, tokens=1)

    return Claim(
        "C3",
        "How few tokens do depends on the question: from all to 1, dense ones lose 20 points more than coarse ones",
        "DocVQA −41, MMBench −5 from 576 to 1",
        Condition(
            {kind: loss(kind) - loss("count") for kind in DENSE},
            f"lost from {whole} to 1, less what count loses",
            above=20.0,
        ),
        [Condition(loss("count"), f"{whole} − 1 tokens, count", below=5.0, delta=0.5)],
        figure=36.0,
        headline=True,
    )


def _choosing(whole: int) -> list[Claim]:
    beyond = cell("M3", "oracle gain") - cell("M3", "luck gain")
    few = {f"wrong as {t}": cell("M3", f"oracle tokens, wrong as {t}") for t in (1, whole)}
    gain = cell("M3", "cascade") - cell("M3", "best scale")
    return [
        Claim(
            "C4",
            "Choosing the scale for each question gains more than as many re-runs at all tokens",
            "+4.9 over the best scale with 8.9 tokens (MMBench); no such control",
            Condition(beyond, "oracle's gain less luck's", above=0.0),
            [Condition(few, "tokens that the oracle reads", below=whole / 2, unit="tokens")],
            headline=True,
        ),
        Claim(
            "C4b",
            "A cascade by confidence loses at most 1 point on the best scale",
            "not in the paper",
            Condition(gain, "cascade − best scale", above=-1.0),
            [Condition(cell("M3", "cascade tokens"), "tokens that it reads", below=float(whole), unit="tokens")],
        ),
    ]


def _training(whole: int) -> list[Claim]:
    def mean(rival: str, above: float) -> Condition:
        ways = [_over(rival)(kind, t) for kind in DENSE for t in (1, 4, whole)]
        return Condition(average(ways), f"M3 − {rival}, mean of dense questions and scales", above=above)

    def each(rival: str, above: float) -> list[Condition]:
        found = _each(_over(rival), DENSE, (1, 4, whole))
        return [Condition(one, f"M3 − {rival}, {name}", above=above) for name, one in found.items()]

    selects = {
        f"{way}: {n}": c for way in ("spatial", "first") for n, c in _each(_over(f"M3, {way}"), DENSE, (1, 4)).items()
    }
    return [
        Claim(
            "C5",
            "All scales in each step beat one random scale a step, at equal steps",
            "+2.8 at 576, +5.1 at 1 (TextVQA), but over a random scale from another start",
            mean("random scale", 0.0),
            each("random scale", 0.0),
            figure=2.8,
            note="Not equal in cost: three passes of the language model a step against one.",
        ),
        Claim(
            "C5b",
            "So they do at equal tokens of the language model (at most 1 point below)",
            "no such control",
            mean("random scale, equal tokens", -1.0),
            each("random scale, equal tokens", -1.0),
        ),
        Claim(
            "C6",
            "Trained with it, averaging beats sampling of tokens",
            "+10.9 over sequential, +9.0 over spatial at 1 token (TextVQA)",
            Condition(selects, "averaging − sampling", above=0.0),
            figure=9.0,
        ),
    ]


def _frozen() -> Claim:
    def hurt(part: str) -> Condition:
        few = [_over(f"frozen {part}")(kind, t) for kind in DENSE for t in (1, 4)]
        return Condition(average(few), f"M3 − frozen {part}, mean of dense questions at 1 and 4 tokens", above=0.0)

    text = "Freezing the language model hurts at few tokens"
    return Claim("C7", text, "−19.2 at 1 token", hurt("language"), [hurt("tower")], figure=19.2)


def _unseen(whole: int) -> Claim:
    way = "M3 without 4"

    def step(more: int, less: int) -> dict[str, Contrast]:
        return {kind: cell(way, kind, tokens=more) - cell(way, kind, tokens=less) for kind in DENSE}

    return Claim(
        "C8",
        "A scale that was never trained (4) is better than the smaller one that was",
        "not in the paper",
        Condition(step(4, 1), "4 − 1 tokens, trained without 4", above=0.0),
        [Condition(step(whole, 4), f"{whole} − 4 tokens, trained without 4", above=-1.0)],
    )


def _elsewhere(whole: int) -> list[Claim]:
    shapes = {f"{t} tokens": difference("M3", "all tokens, pooled", "easy-VQA, open", tokens=t) for t in (1, 4)}
    blind = cell("blind", "NLVR, closed", tokens=0)
    sees = {f"{t} tokens": cell("M3", "NLVR, closed", tokens=t) - blind for t in (1, 4, whole)}
    return [
        Claim(
            "E1",
            "On shapes that nobody here drew, M3 beats pooling at inference (easy-VQA)",
            "not in the paper",
            Condition(shapes, "M3 − pooled, open questions", above=0.0),
        ),
        Claim(
            "E2",
            "Of sentences that people wrote, M3 gets more right than a blind model (NLVR)",
            "not in the paper",
            Condition(sees, "M3 − blind", above=0.0),
        ),
    ]
