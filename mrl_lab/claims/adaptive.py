"""Claims 7 to 10 and 12 of the MRL paper, on what nested embeddings cost where they are used, as data.

Claim 11, robustness, is judged with claims 1 to 6.
Points are per cent. "At equal quality" is mAP@10 within 0.2 points of exact search at all dims. "At equal recall" is
said of two graphs that are each set to the same share of the true ten neighbours (:mod:`mrl_lab.study.graphs`).
"""

from __future__ import annotations

from collections.abc import Sequence

from mrl_lab.contrasts import Contrast, cell, difference
from mrl_lab.verdicts import TIMES, Claim, Condition

PREFIX = "exact prefix + rerank"


def claims(dims: Sequence[int], d: int, sizes: Sequence[int], n: int, control_n: int) -> list[Claim]:
    """Claims 7 to 10 and 12.

    Args:
        dims: D_s that funnels start from. d: width of what is searched. sizes: M of the few-shot model, rising.
        n: rows of the database that is timed. control_n: rows of the smaller one, for graphs and FF.
    """
    searched = [*_shortlists(n, control_n), *_clock(n, control_n), _funnels(dims, d, n)]
    return [*_cascades(), *searched, *_few_shot(sizes)]


def _times(of: Contrast, name: str, above: float, delta: float = 1.3, **how: bool) -> Condition:
    return Condition(of, name, above=above, unit=TIMES, delta=delta, **how)


def _cascades() -> list[Claim]:
    def smaller(other: str, word: str, above: float) -> Condition:
        ratio = cell("MRL cascade", f"{word}ratio to {other}")
        return _times(ratio, f"{other}'s dims of equal accuracy / {word or 'expected '}dims of MRL's cascade", above)

    gain = cell("MRL cascade", "cumulative ratio to FF") - cell("FF cascade", "cumulative ratio to FF")
    return [
        Claim(
            "7",
            "A cascade of sizes needs 4 times fewer dims than the FF model of equal accuracy",
            "76.3 % at 37 expected dims against FF-512: 14 times, of which 4 are plain MRL's",
            smaller("FF", "", 4.0),
            [smaller("MRL", "", 2.0)],
            figure=512 / 37,
            headline=True,
        ),
        Claim(
            "7b",
            "So it does (4 times) when every size that was tried is paid for (separate heads)",
            "62 cumulative dims: 8.2 times",
            smaller("FF", "cumulative ", 4.0),
            figure=512 / 62,
        ),
        Claim(
            "7c",
            "A cascade of separate FF models saves less (MRL's saves at least 1 times as much)",
            "no such control",
            _times(gain, "saved by MRL's cascade / saved by FF's, cumulative dims", 1.0),
        ),
    ]


def _equal(way: str, n: int, method: str = "MRL") -> Condition:
    gap = cell(f"{method}, {way}", "planned gap", n=n)
    return Condition(gap, f"mAP@10 above exact search, {method}, {way}", above=-0.2, delta=0.2)


def _shortlists(n: int, control_n: int) -> list[Claim]:
    fewer = cell(f"MRL, {PREFIX}", "MACs ratio", n=n)
    mine, ff = (cell(f"{method}, {PREFIX}", "MACs ratio", n=control_n) for method in ("MRL", "FF"))
    return [
        Claim(
            "8",
            "Shortlist and rerank finds what exact search at full size finds (within 0.2 points)",
            "16 → 2048 dims, K = 200: 65.27 against 65.20, 125 times fewer multiply-adds",
            _equal(PREFIX, n),
            [_times(fewer, "times fewer multiply-adds", 8.0, exact=True)],
            figure=0.07,
        ),
        Claim(
            "8b",
            "Cutting FF-d to a prefix for the shortlist saves less (MRL's prefix saves at least 2 times as much)",
            "no such control",
            _times(mine - ff, "multiply-adds saved by MRL's prefix / by FF's", 2.0),
        ),
    ]


def _clock(n: int, control_n: int) -> list[Claim]:
    def faster(way: str, times: float) -> Condition:
        return _times(cell(f"MRL, {way}", "speedup", n=n), f"time of the whole / time of {way}", times)

    def walk(word: str) -> Condition:
        ratio = cell("MRL, graph on the prefix", f"speedup, {word}", n=control_n)
        return _times(ratio, f"time of the graph at all dims / on the prefix with rerank, {word}", 6.0)

    lists, found = "IVF, prefix + rerank", "recall@10"
    recall = cell("MRL, graph on the prefix", found, n=control_n) - cell("MRL, graph at all dims", found, n=control_n)
    return [
        Claim(
            "9",
            "By the clock, exact shortlist and rerank is 14 times as fast as exact search at full size",
            "14 times on HNSW32; their own GPU log of exact search: 3.6",
            faster(PREFIX, 14.0),
            [_equal(PREFIX, n)],
            figure=14.0,
            headline=True,
        ),
        Claim(
            "9b",
            "At equal recall, HNSW on the prefix, with rerank, is 6 times as fast as HNSW at full size",
            "HNSW32, 200 neighbours on both sides: 14 times (1K, 16 dims), 6 times (4K, 64 dims)",
            walk("1 thread"),
            [walk("2 threads"), Condition(recall, "recall@10 above the graph's at all dims", above=-1.0)],
            figure=14.0,
            headline=True,
        ),
        Claim(
            "9c",
            "An index on the prefix, with rerank, is 50 times as fast as the best exact search at full size",
            "not in the paper: what a user gets in the end, the index's own gain included",
            faster(lists, 50.0),
            [_equal(lists, n)],
        ),
    ]


def _funnels(dims: Sequence[int], d: int, n: int) -> Claim:
    full = cell("MRL, single-shot", "map@10", dim=d, n=n)
    as_good = {f"from {m} dims": cell("MRL, funnel", "map@10", dim=m, n=n) - full for m in dims}
    cheaper = {f"from {m} dims": cell("MRL, funnel", "MACs saved", dim=m, n=n) for m in dims}
    return Claim(
        "10",
        "A funnel finds what exact search at full size finds (within 0.3 points)",
        "65.19 to 65.21 against 65.20",
        Condition(as_good, "mAP@10 above exact search", above=-0.3, delta=0.3),
        [Condition(cheaper, "multiply-adds saved over one rerank", above=0.0, unit="multiply-adds", exact=True)],
        figure=-0.01,
    )


def _few_shot(sizes: Sequence[int]) -> list[Claim]:
    first, d = sizes[0], sizes[-1]
    grows = cell("MRL", "9-shot unseen log2 dims") - cell("MRL", "1-shot unseen log2 dims")
    fewer = Condition(grows, "log2 of the dims needed, 9 shots less 1 shot", above=0.0, unit="doublings", delta=0.5)
    same = {f"{n} shots": difference("MRL", "FF", f"{n}-shot unseen", dim=d) for n in (1, 3, 5, 9)}

    def drop(word: str) -> Contrast:
        return cell("MRL", f"9-shot {word}", dim=d) - cell("MRL", f"9-shot {word}", dim=first)

    wider = Condition(drop("unseen") - drop("seen"), f"drop from {d} to {first} dims, unseen less seen", above=0.0)
    return [
        Claim(
            "12",
            "With few shots MRL is as good as FF on classes never trained on (within 1 point at full size)",
            "1 shot, 1000 classes: 41.40 at 32 dims, 41.16 at 2048; on a par with FF",
            Condition(same, f"MRL − FF, accuracy, {d} dims", above=-1.0),
            [fewer],
            headline=True,
        ),
        Claim(
            "12b",
            "Small sizes lose more on classes never trained on",
            "novel tail: 6.2 at 64, 12.9 at 2048",
            wider,
            headline=True,
        ),
    ]
