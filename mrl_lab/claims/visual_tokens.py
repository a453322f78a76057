"""Claims C1 to C8 on nested visual tokens (M3), and E1, E2 on other pictures, as data; numbers as in the study's list.

Points are per cent of answers that are right, word for word. Scales are 1, 4 and 16 tokens of a 4 x 4 grid.
"""

from __future__ import annotations

from mrl_lab.stats import Claim, Condition, Contrast, cell, difference


def claims() -> list[Claim]:
    """All of them; a way that was not trained at this budget leaves its claim inconclusive."""
    return [*_pooling(), *_separate(), _density(), *_choosing(), *_training(), _frozen(), _unseen(), *_elsewhere()]


def _pooling() -> list[Claim]:
    lead = {(k, t): difference("M3", "all tokens, pooled", k, tokens=t) for k in ("cell", "list") for t in (1, 4)}
    grows = [
        (lead[k, 1] - lead[k, 4]).must(above=0.0, name=f"lead at 1 token less lead at 4, {k}") for k in ("cell", "list")
    ]
    return [
        Claim(
            "C1",
            "One M3 model beats pooling the full-token model at inference at every scale below full; the lead grows",
            "MMBench: +7.8 at 144, +21.9 at 9, +43.6 at 1 token",
            [*(c.must(above=0.0, name=f"M3 − pooled, {k}, {t} tokens") for (k, t), c in lead.items()), *grows],
        ),
        Claim(
            "C1b",
            "At 4 tokens the lead on dense questions is at least 40 points",
            "not in the paper: our own bar",
            [lead["cell", 4].must(above=40.0, name="M3 − pooled, cell, 4 tokens")],
        ),
        _other_start("C1c", "told where", "M3's lead stays where the tower was told where things lie"),
        _other_start("C1d", "in talks", "M3's lead stays where all began with talks of many questions"),
    ]


def _other_start(name: str, start: str, text: str) -> Claim:
    ways = f"M3, {start}", f"all tokens, pooled, {start}"
    leads = {(k, t): difference(*ways, k, tokens=t) for k in ("cell", "list") for t in (1, 4)}
    conditions = [c.must(above=0.0, name=f"M3 − pooled, {k}, {t} tokens, {start}") for (k, t), c in leads.items()]
    return Claim(name, text, "no such control", conditions)


def _separate() -> list[Claim]:
    kinds = ("count", "cell", "list")
    rivals = {1: "separate, 1", 4: "separate, 4", 16: "all tokens"}
    equal = {
        t: [difference("M3", r, k, tokens=t).must(above=-2.0, name=f"M3 − {r}, {k}, {t} tokens") for k in kinds]
        for t, r in rivals.items()
    }
    paper = "ChartQA +4.8 at 36, DocVQA −2.8 at 576 tokens"
    text = "M3 is as good as a model of its own for each number of tokens (at most 2 points below)"
    return [
        Claim("C2", text, paper, equal[1] + equal[4]),
        Claim("C2b", "At all tokens, M3 loses at most 2 points", paper, equal[16]),
    ]


def _density() -> Claim:
    def loss(kind: str) -> Contrast:
        return cell("M3", kind, tokens=16) - cell("M3", kind, tokens=1)

    dense = [loss(k).must(above=20.0, name=f"16 − 1 tokens, {k}") for k in ("cell", "list")]
    coarse = loss("count").must(below=5.0, name="16 − 1 tokens, count")
    text = "From all tokens to 1, dense questions lose 20 points or more, coarse ones 5 or less"
    return Claim("C3", text, "DocVQA −41, MMBench −5 from 576 to 1", [*dense, coarse])


def _choosing() -> list[Claim]:
    beyond = (cell("M3", "oracle gain") - cell("M3", "luck gain")).must(above=0.0, name="oracle's gain less luck's")
    few = [cell("M3", f"oracle tokens, wrong as {t}").must(below=8.0, name=f"tokens, wrong as {t}") for t in (1, 16)]
    gain = (cell("M3", "cascade") - cell("M3", "best scale")).must(above=-1.0, name="cascade − best scale")
    return [
        Claim(
            "C4",
            "Choosing the scale for each question gains more than as many re-runs at all tokens, with half the tokens",
            "+4.9 over the best scale with 8.9 tokens (MMBench); no such control",
            [beyond, *few],
        ),
        Claim(
            "C4b",
            "A cascade by confidence loses at most 1 point on the best scale and reads fewer tokens than all",
            "not in the paper",
            [gain, cell("M3", "cascade tokens").must(below=16.0, name="tokens read")],
        ),
    ]


def _training() -> list[Claim]:
    def beats(rival: str, bound: float) -> list[Condition]:
        cells = [(k, t) for k in ("cell", "list") for t in (1, 4, 16)]
        return [
            difference("M3", rival, k, tokens=t).must(above=bound, name=f"M3 − {rival}, {k}, {t}") for k, t in cells
        ]

    few = ("cell", "list")
    selects = [
        difference("M3", r, k, tokens=t).must(above=0.0, name=f"M3 − {r}, {k}, {t} tokens")
        for r in ("M3, spatial", "M3, first")
        for k in few
        for t in (1, 4)
    ]
    return [
        Claim(
            "C5",
            "All scales in each step beat one random scale a step, at equal steps",
            "+2.8 at 576, +5.1 at 1 (TextVQA), but over a random scale from another start",
            beats("random scale", 0.0),
            note="Not equal in cost: three passes of the language model a step against one.",
        ),
        Claim(
            "C5b",
            "So they do at equal tokens of the language model (at most 1 point below)",
            "no such control",
            beats("random scale, equal tokens", -1.0),
        ),
        Claim(
            "C6",
            "Trained with it, averaging beats sampling of tokens",
            "+10.9 over sequential, +9.0 over spatial at 1 token (TextVQA)",
            selects,
        ),
    ]


def _frozen() -> Claim:
    hurt = [
        difference("M3", f"frozen {part}", k, tokens=t).must(above=0.0, name=f"M3 − frozen {part}, {k}, {t} tokens")
        for part in ("tower", "language")
        for k in ("cell", "list")
        for t in (1, 4)
    ]
    return Claim("C7", "Freezing the tower, or the language model, hurts at few tokens", "LM: −19.2 at 1 token", hurt)


def _unseen() -> Claim:
    way = "M3 without 4"
    between = [
        (cell(way, k, tokens=4) - cell(way, k, tokens=1)).must(above=0.0, name=f"4 − 1 tokens, {k}")
        for k in ("cell", "list")
    ]
    between += [
        (cell(way, k, tokens=16) - cell(way, k, tokens=4)).must(above=-1.0, name=f"16 − 4 tokens, {k}")
        for k in ("cell", "list")
    ]
    return Claim("C8", "A scale that was never trained (4) falls between its neighbours", "not in the paper", between)


def _elsewhere() -> list[Claim]:
    shapes = {t: difference("M3", "all tokens, pooled", "easy-VQA, open", tokens=t) for t in (1, 4)}
    blind = cell("blind", "NLVR, closed", tokens=0)
    sees = {t: cell("M3", "NLVR, closed", tokens=t) - blind for t in (1, 4, 16)}
    return [
        Claim(
            "E1",
            "On shapes that nobody here drew, M3 beats pooling at inference (easy-VQA)",
            "not in the paper",
            [c.must(above=0.0, name=f"M3 − pooled, open, {t} tokens") for t, c in shapes.items()],
        ),
        Claim(
            "E2",
            "Of sentences that people wrote, M3 gets more right than a blind model (NLVR)",
            "not in the paper",
            [c.must(above=0.0, name=f"M3 − blind, {t} tokens") for t, c in sees.items()],
        ),
    ]
