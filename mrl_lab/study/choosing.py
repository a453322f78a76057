"""Which size is small enough: a loss with its interval, a choice, and what it was worth on questions held out.

**Loss** is the whole vectors' criterion less that of a cut, question by question, in points, with a bootstrap interval
over questions (:func:`mrl_lab.stats.bootstrap`). **Choice**: from the largest size down, as long as the upper bound of
the loss on the *choosing* half stays within the tolerance; the first size that does not ends the walk, so that many
sizes are no more chances to err than one (a fixed sequence of tests: Maurer, Hothorn and Lehmacher, 1995). **Price**:
the loss of the chosen size on the *held-out* half, which no choice has seen. Ways and forms are chosen among as well:
of those that hold, the one with the fewest bytes; that choice is one among many, and held-out questions tell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mrl_lab import score, stats
from mrl_lab.study.shrinking import RERANKED, Shrinking, halves
from mrl_lab.study.vectors import Codes, Collection, Way

Cells = Mapping[tuple[str, str, int], Tensor]  # {(way, form, size): the criterion of each question (Q,)}
MOST = 10**6  # questions; what needs more is not settled by asking more
LEAST = 100  # questions that are asked of any collection
COLUMNS = ["way", "form", "dim", "bytes", "loses", "at most", "held out", "held out low", "held out high"]
COLUMNS += ["next", "next loses", "questions more"]
NESTED, PARTLY, NOT = "nested", "nested in part", "not nested"


def affordable(collection: Collection, asks: int, seeds: int, pairs: int) -> tuple[int, int]:
    """Return how many questions and seeds keep documents x questions x seeds of one way within ``pairs``.

    Seeds go first, down to one, then questions, down to :data:`LEAST`: what they say has an interval either way, and
    one over questions is asked for by whoever has to choose a size.
    """
    asks = min(asks, len(collection if collection.queries is None else collection.queries))
    seeds = max(1, min(seeds, pairs // (len(collection) * asks)))
    return min(asks, max(LEAST, pairs // (len(collection) * seeds))), seeds


def cells(found: Mapping[str, Mapping[str, Tensor]]) -> dict[tuple[str, str, int], Tensor]:
    """Return {(way, form, size): (Q,)} of {way: :func:`mrl_lab.study.shrinking.by_question`}."""
    plain = [(way, key.rpartition(" "), q) for way, rows in found.items() for key, q in rows.items() if q.ndim]
    return {(way, form, int(m)): q for way, (form, _, m), q in plain}


def loss(whole: Tensor, cut: Tensor, which: Tensor | None = None) -> stats.Interval:
    """Points that a cut loses to the whole, by questions (Q,), or by some of them, with its interval."""
    sides = [100 * (side if which is None else side[which]).double().numpy() for side in (whole, cut)]
    if np.array_equal(*sides):
        return stats.Interval(0.0, 0.0, 0.0, len(sides[0]))
    return stats.bootstrap(*sides)


def scored(
    found: Mapping[str, Mapping[str, Tensor]], ways: Mapping[str, Way | Codes], task: Shrinking, seed: int = 0
) -> pd.DataFrame:
    """Return rows of the tidy table: the criterion in per cent of every way, form and size ("adaptor, int8")."""
    rows = []
    for (way, form, m), q in cells(found).items():
        stored = "float32" if form == RERANKED else form
        named = {"method": f"{way}, {form}", "metric": task.metric, "seed": seed, "n": len(q)}
        seconds = found[way].get(f"seconds {form} {m}")
        (row,) = score.tidy({m: 100 * q.mean().item()}, seconds=None if seconds is None else seconds.item(), **named)
        rows.append(row | {"bytes": ways[way].bytes(m, stored), "flops": m * len(task.collection)})
    return score.table(rows)


def losses(
    found: Cells, whole: Tensor, sizes: Sequence[int], ways: Iterable[str], form: str = "float32"
) -> pd.DataFrame:
    """Return points lost by each way at some sizes, as "3.1 [1.9, 4.4]": a row a way, a column a size."""
    rows = []
    for way in ways:
        lost = {m: loss(whole, found[way, form, m]) for m in sizes if (way, form, m) in found}
        told = {m: f"{one.mean:.1f} [{one.low:.1f}, {one.high:.1f}]" for m, one in lost.items()}
        rows.append({"way": way} | {f"{m} numbers": told.get(m, "–") for m in sizes})
    return pd.DataFrame(rows)


def gains(found: Sequence[Cells], of: str, minus: str, sizes: Sequence[int], form: str = "float32") -> pd.DataFrame:
    """Return what one way has over another at each size, in points, with its interval over the same questions.

    Args:
        found: cells of each seed; a question counts with the mean of its criterion over the seeds.
    """
    mean = lambda way, m: torch.stack([seed[way, form, m] for seed in found]).double().mean(0)  # noqa: E731
    gained = {m: loss(mean(of, m), mean(minus, m)) for m in sizes}
    return pd.DataFrame(
        [{"dim": m, f"{of} − {minus}": one.mean, "low": one.low, "high": one.high} for m, one in gained.items()]
    )


# ------------------------------------------------------------------------------------------------ nested?


def nesting(
    whole: Tensor, prefix: Mapping[int, Tensor], drawn: Sequence[Mapping[int, Tensor]], rotated
) -> pd.DataFrame:
    """Return what a prefix loses beside random dims and a rotation: a row a size, losses and their differences.

    Args:
        whole: (Q,). prefix, rotated: {size: (Q,)}. drawn: the same of several draws, of which the mean is taken.
    """
    rows = []
    for m, here in prefix.items():
        chance = sum(one[m] for one in drawn) / len(drawn)
        gain, more = loss(here, chance), loss(rotated[m], here)
        rows.append(
            {
                "dim": m,
                "prefix loses": loss(whole, here).mean,
                "at most": loss(whole, here).high,
                "random dims lose": loss(whole, chance).mean,
                "rotation loses": loss(whole, rotated[m]).mean,
                "prefix over random dims": gain.mean,
                "low": gain.low,
                "high": gain.high,
                "rotation over prefix": more.mean,
            }
        )
    return pd.DataFrame(rows)


def nested_verdict(table: pd.DataFrame, tolerance: float) -> tuple[str, str]:
    """Return (verdict, a sentence): whether a prefix says more than as many random dims do, by :func:`nesting`.

    Nested: at every size up to half of the whole, the interval clear of 0. Vectors that were rotated by falling energy
    are nested as well; how they came to be so cannot be told from them.
    """
    small = table[table["dim"] <= table["dim"].max() / 2]
    clear = small[small["low"] > 0]
    verdict = NESTED if len(clear) == len(small) and len(small) else PARTLY if len(clear) else NOT
    may = [int(m) for m in table["dim"][table["at most"] <= tolerance]]
    sizes = f"matryoshka_dimensions {may}" if may else "no size smaller than the whole"
    said = {
        NESTED: "At every size up to a half the first numbers say more than as many random ones: these vectors are "
        "nested, by their training or by a rotation.",
        PARTLY: f"Only at {', '.join(map(str, clear['dim']))} numbers do the first say more than as many random ones: "
        "these vectors are nested in part.",
        NOT: "At no size up to a half do the first numbers say more than as many random ones: nothing orders these "
        "vectors, and cutting them as they are is cutting at random.",
    }
    return verdict, f"{said[verdict]} Within a loss of {_points(tolerance)} a plain prefix may claim {sizes}."


# ------------------------------------------------------------------------------------------------ choosing


def choices(found: Cells, whole: Tensor, ways: Mapping[str, Way | Codes], tolerance: float) -> pd.DataFrame:
    """Return one row a way and form: the smallest size that holds, its losses, and what would settle the next one.

    Columns: :data:`COLUMNS`; dim is NA where no size holds, *loses* and *at most* are of the choosing half, *next* is
    the size that does not hold, and *questions more* would settle it; NA where even a million would not.
    """
    rows = []
    for way, form in dict.fromkeys((way, form) for way, form, _ in found):
        sizes = {m: q for (w, f, m), q in found.items() if (w, f) == (way, form)}
        rows.append({"way": way, "form": form} | walked(sizes, whole, tolerance))
        stored = "float32" if form == RERANKED else form
        rows[-1]["bytes"] = ways[way].bytes(rows[-1]["dim"], stored) if rows[-1]["dim"] else None
    numbers = dict.fromkeys(["dim", "bytes", "next", "questions more"], "Int64")
    return pd.DataFrame(rows, columns=COLUMNS).astype(numbers)


def walked(sizes: Mapping[Any, Tensor], whole: Tensor, tolerance: float) -> dict[str, Any]:
    """Return the last size, from the largest down, that holds on the questions that choose; a column of `choices` each.

    Args:
        sizes: {size, or (layer, dims): the criterion by question (Q,)}. whole: what they are held against (Q,).
    """
    choosing, held_out = halves(len(whole))
    row: dict[str, object] = {"dim": None}
    for m in sorted(sizes, reverse=True):
        here = loss(whole, sizes[m], choosing)
        if not here.high <= tolerance:
            row |= {"next": m, "next loses": here.mean, "questions more": _more(whole, sizes[m], choosing, tolerance)}
            break
        row |= {"dim": m, "loses": here.mean, "at most": here.high}
    if row["dim"]:
        kept = loss(whole, sizes[row["dim"]], held_out)
        row |= {"held out": kept.mean, "held out low": kept.low, "held out high": kept.high}
    return dict.fromkeys(COLUMNS[4:]) | row


def _more(whole: Tensor, cut: Tensor, choosing: Tensor, tolerance: float) -> int | None:
    """How many more questions would put the interval clear of the tolerance, if mean and spread stay."""
    lost = 100 * (whole - cut)[choosing].double()
    distance = abs(tolerance - lost.mean().item())
    needed = math.ceil((1.96 * lost.std().item() / distance) ** 2) if distance else MOST + 1
    return max(0, needed - len(choosing)) if needed <= MOST else None


def recommend(table: pd.DataFrame, d: int, metric: str, tolerance: float, questions: int) -> dict[str, object]:
    """Return the recommendation as JSON has it: the choice of fewest bytes, its losses, and a sentence.

    ``recommended`` is None where nothing smaller than the whole holds, or what holds did not on held-out questions.
    """
    full = 4 * d
    holds = table[table["bytes"].notna() & (table["bytes"] < full) & (table["form"] != RERANKED)]
    kept = holds[holds["held out"] <= tolerance].sort_values("bytes", kind="stable")
    best = None if kept.empty else kept.iloc[0]
    about = {"criterion": metric, "tolerance": tolerance, "questions": questions, "whole": {"dim": d, "bytes": full}}
    told = _nothing(table, holds, metric, tolerance) if best is None else _sentence(best, d, metric)
    chosen = json.loads(kept[:1].to_json(orient="records", double_precision=6))
    every = json.loads(table.to_json(orient="records", double_precision=6))
    return {"recommended": chosen[0] if chosen else None, "sentence": told} | about | {"choices": every}


STORED = {
    "float32": "as float32",
    "int8": "as int8",
    "binary": "as one bit each, queries too",
    "signs": "as one bit each, queries as floats",
}


def _sentence(best: pd.Series, d: int, metric: str) -> str:
    points = {name: f"{best[name]:.1f}".replace("-", "−") for name in COLUMNS[4:9]}
    gains = "; a loss below 0 is a gain" if min(best["loses"], best["held out"]) < -0.05 else ""
    return (
        f"Keep {best['dim']} of {d} numbers by {best['way']}, {STORED[best['form']]}: {best['bytes']:,} bytes a vector "
        f"in the place of {4 * d:,} ({4 * d / best['bytes']:.3g} times fewer). On the questions that chose, it loses "
        f"{points['loses']} points of {_spelt(metric)} (at most {points['at most']}); on those held out "
        f"{points['held out']} [{points['held out low']}, {points['held out high']}]{gains}."
    )


def _points(tolerance: float) -> str:
    return f"{tolerance:g} point{'s' * (tolerance != 1)}"


def _spelt(metric: str) -> str:
    return metric.replace("ndcg", "nDCG")


def _nothing(table: pd.DataFrame, holds: pd.DataFrame, metric: str, tolerance: float) -> str:
    if len(holds):
        return (
            f"Nothing is recommended: {len(holds)} choices hold on the choosing questions, and none on those held out. "
            "More questions would tell."
        )
    said = f"Nothing is recommended: no smaller vector stays within {_points(tolerance)} of {_spelt(metric)}."
    return f"{said} {_unsettled(table, tolerance)}".rstrip()


def _unsettled(table: pd.DataFrame, tolerance: float) -> str:
    """Say whether more questions would tell more of the sizes at which the walks ended."""
    ended = table[table["next"].notna()]
    may = ended["questions more"][ended["questions more"] > 0]  # NA, where a million are too few, is left out
    if len(may):
        return f"About {may.min():,} more choosing questions would settle the nearest size."
    surely = (ended["questions more"].fillna(MOST) == 0) & (ended["next loses"] > tolerance)
    return "More questions would not change that: each size that was tried surely loses more." if surely.all() else ""
