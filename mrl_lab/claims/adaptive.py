"""Claims 7 to 10 and 12 of the MRL paper, on what nested embeddings cost where they are used, as data.

Claim 11, robustness, is judged with claims 1 to 6.
Points are per cent. "At equal quality" is mAP@10 within 0.2 points of exact search at all dims.
"""

from __future__ import annotations

from collections.abc import Sequence

from mrl_lab.stats import Claim, Condition, Contrast, cell, difference

PREFIX = "exact prefix + rerank"


def claims(dims: Sequence[int], d: int, sizes: Sequence[int], n: int, control_n: int) -> list[Claim]:
    """Claims 7 to 10 and 12.

    Args:
        dims: D_s that funnels start from. d: width of what is searched. sizes: M of the few-shot model, rising.
        n: rows of the database that is timed. control_n: rows of the smaller one, for graphs and FF.
    """
    searched = [*_shortlists(n, control_n), *_clock(n, control_n), _funnels(dims, d, n)]
    return [*_cascades(), *searched, *_few_shot(sizes)]


def _cascades() -> list[Claim]:
    def times(other: str, word: str = "") -> Condition:
        ratio = cell("MRL cascade", f"{word}ratio to {other}")
        return ratio.must(above=4.0, name=f"smallest {other} size of equal accuracy / {word or 'expected '}dims")

    gain = difference("MRL cascade", "FF cascade", "cumulative ratio to FF")
    paper = "76.3 % at 37 expected dims against FF-512: 14 times, of which 4 are plain MRL's"
    return [
        Claim(
            "7",
            "A cascade of sizes needs a quarter of the dims of the smallest plain MRL size, and of the smallest FF",
            paper,
            [times("MRL"), times("FF")],
        ),
        Claim(
            "7b",
            "So it does when every size that was tried is paid for (separate heads)",
            "62 cumulative dims: 8.2 times",
            [times("FF", "cumulative ")],
        ),
        Claim("7c", "A cascade of separate FF models saves less", "no such control", [gain.must(above=0.0)]),
    ]


def _equal(way: str, n: int, method: str = "MRL") -> Condition:
    return cell(f"{method}, {way}", "planned gap", n=n).must(above=-0.2, name=f"mAP@10 above exact, {method}, {way}")


def _shortlists(n: int, control_n: int) -> list[Claim]:
    fewer = cell(f"MRL, {PREFIX}", "MACs ratio", n=n).must(above=8.0, name="times fewer multiply-adds", exact=True)
    mine, ff = (cell(f"{method}, {PREFIX}", "MACs ratio", n=control_n) for method in ("MRL", "FF"))
    return [
        Claim(
            "8",
            "Shortlist and rerank finds what exact search at full size finds, for 8 times fewer multiply-adds",
            "16 → 2048 dims, K = 200: 65.27 against 65.20, 125 times fewer",
            [_equal(PREFIX, n), fewer],
        ),
        Claim(
            "8b",
            "Cutting FF-d to a prefix for the shortlist saves less",
            "no such control",
            [(mine - ff).must(above=0.0, name="MRL's factor less FF's")],
        ),
    ]


def _clock(n: int, control_n: int) -> list[Claim]:
    def faster(way: str, times: float, rows: int, metric: str = "speedup") -> list[Condition]:
        ratio = cell(f"MRL, {way}", metric, n=rows).must(above=times, name=f"times as fast, {way}")
        return [ratio, _equal(way, rows)]

    graph, lists = "HNSW32, prefix + rerank", "IVF, prefix + rerank"
    return [
        Claim(
            "9",
            "By the clock, exact shortlist and rerank is 14 times as fast as exact search at full size",
            "14 times on HNSW32; their own GPU log of exact search: 3.6",
            faster(PREFIX, 14.0, n),
        ),
        Claim(
            "9b",
            "HNSW32 on the prefix, with rerank, is 14 times as fast as HNSW32 at full size",
            "14 times (1K, 16 dims), 6 times (4K, 64 dims)",
            faster(graph, 14.0, control_n, "speedup over HNSW32"),
        ),
        Claim(
            "9c",
            "An index on the prefix, with rerank, is 50 times as fast as the best exact search at full size",
            "not in the paper: what a user gets in the end, the index's own gain included",
            faster(lists, 50.0, n),
        ),
    ]


def _funnels(dims: Sequence[int], d: int, n: int) -> Claim:
    full = cell("MRL, single-shot", "map@10", dim=d, n=n)
    as_good = [
        (cell("MRL, funnel", "map@10", dim=m, n=n) - full).must(above=-0.3, name=f"mAP@10 above exact, from {m} dims")
        for m in dims
    ]
    cheaper = [
        cell("MRL, funnel", "MACs saved", dim=m, n=n).must(
            above=0.0, name=f"multiply-adds saved, from {m} dims", exact=True
        )
        for m in dims
    ]
    text = "A funnel finds what exact search at full size finds, for no more than one rerank costs"
    return Claim("10", text, "65.19 to 65.21 against 65.20", as_good + cheaper)


def _few_shot(sizes: Sequence[int]) -> list[Claim]:
    first, d = sizes[0], sizes[-1]
    grows = cell("MRL", "9-shot unseen log2 dims") - cell("MRL", "1-shot unseen log2 dims")
    same = [
        difference("MRL", "FF", f"{n}-shot unseen", dim=d).must(
            above=-1.0, below=1.0, name=f"MRL − FF, {n} shots, {d} dims"
        )
        for n in (1, 3, 5, 9)
    ]

    def drop(word: str) -> Contrast:
        return cell("MRL", f"9-shot {word}", dim=d) - cell("MRL", f"9-shot {word}", dim=first)

    wider = (drop("unseen") - drop("seen")).must(above=0.0, name=f"drop from {d} to {first} dims, unseen less seen")
    paper = "1 shot, 1000 classes: 41.40 at 32 dims, 41.16 at 2048"
    return [
        Claim(
            "12",
            "Fewer shots are content with fewer dims, and MRL is as good as FF (classes never trained on)",
            paper,
            [grows.must(above=0.0, name="log2 of the dims needed, 9 shots less 1 shot"), *same],
        ),
        Claim(
            "12b", "Small sizes lose more on classes never trained on", "novel tail: 6.2 at 64, 12.9 at 2048", [wider]
        ),
    ]
