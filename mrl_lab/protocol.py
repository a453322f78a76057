"""The protocol: what is fixed before the first seed that judges is looked at.

    all_seeds = lab.judging(5)                                   # none of which a rate or a length was tried on
    lab.freeze(run, claims, recipes, tuned=[0], judged=all_seeds)
    ...
    lab.judge(run, claims, scores, budget)                       # the same claims, with the same bounds, or an error

It lies in the run's folder as protocol.json. Whoever changes a bound, a delta or a grid after a run was published
raises :data:`FIRST`: seeds that were looked at under one protocol judge none that was written afterwards. Whoever
repeats a published run on seeds that nobody has looked at sets ``MRL_LAB_FIRST_SEED``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mrl_lab import files, source
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

    from mrl_lab.lab import Recipe
    from mrl_lab.runs import Run
    from mrl_lab.verdicts import Claim

FILE = "protocol.json"
FIRST, LAST = 100, 2**31  # seeds that judge: from the first one, or MRL_LAB_FIRST_SEED, on


def judging(count: int) -> range:
    """Return the seeds that judge: ``count`` of them, apart from those that anything is tuned on.

    Raises:
        RequestError: ``MRL_LAB_FIRST_SEED`` is no number from :data:`FIRST` on.
    """
    asked = os.environ.get("MRL_LAB_FIRST_SEED", "") or str(FIRST)
    if not (asked.isdecimal() and FIRST <= int(asked) < LAST):
        raise RequestError(
            f"MRL_LAB_FIRST_SEED is the first seed that judges, from {FIRST} on (others are tuned on), got {asked!r}."
        )
    return range(int(asked), int(asked) + count)


def freeze(
    run: Run,
    claims: Sequence[Claim],
    recipes: Mapping[str, Recipe | Mapping[str, Recipe]],
    tuned: Iterable[int],
    judged: Iterable[int],
) -> HTML:
    """Write protocol.json: the claims with bounds and deltas, the recipes, the seeds of both kinds, the commit.

    Args:
        recipes: what was chosen, by method, or by set and method. tuned, judged: seeds.

    Returns:
        The same to look at, folded.

    Raises:
        RequestError: a seed that was tuned on would judge.
    """
    from IPython.display import HTML

    tuned, judged = list(tuned), list(judged)
    both = sorted({*tuned} & {*judged})
    if both:
        raise RequestError(
            f"seeds {', '.join(map(str, both))} were tuned on and would judge: judge on lab.judging(n), "
            f"which begins with {FIRST}, and tune on others."
        )
    told = {"tuned on": tuned, "judged on": judged, "recipes": _plain(recipes), "claims": _bounds(claims)}
    text = json.dumps(told | {"git": source.commit()}, indent=1, ensure_ascii=False)
    files.write(run.folder / FILE, text.encode())
    return HTML(_shown(told))


def until_narrow(
    claims: Sequence[Claim], measure: Callable[[Sequence[int]], pd.DataFrame], seeds: Sequence[int], budget: str
) -> tuple[Sequence[int], pd.DataFrame]:
    """Return the seeds that judge and their scores: at ``night`` as many as the headlines need, else all of them.

    A pilot says how many bring each headline's interval within its delta (two stages, see :mod:`mrl_lab.stats`). Where
    no claim is a headline, it is those of all claims that count; claims without scores yet do not.

    Args:
        measure: seeds -> the tidy table; what it trained for the pilot it finds again.
        seeds: the most that may judge.
    """
    from mrl_lab import stats, verdicts

    if budget == "night":
        asked = [claim for claim in claims if claim.headline] or claims
        seeds = seeds[: verdicts.seeds_wanted(asked, measure(seeds[: stats.PILOT]))]
        print(f"{len(seeds)} seeds make the intervals as narrow as they can be had here")
    return seeds, measure(seeds)


def check(folder: Path, claims: Sequence[Claim]) -> None:
    """Hold the claims that are judged against those that were frozen, where some were.

    Raises:
        RequestError: a claim, a bound or a delta is another one now.
    """
    file = folder / FILE
    frozen = json.loads(file.read_text(encoding="utf-8"))["claims"] if file.is_file() else None
    now = json.loads(json.dumps(_bounds(claims)))
    if frozen is not None and frozen != now:
        changed = [name for name in {**frozen, **now} if frozen.get(name) != now.get(name)]
        raise RequestError(
            f"{', '.join(changed)}: not as they were frozen in {FILE} before the seeds were looked at. "
            "Judge the claims that were given to lab.freeze, or run from the top."
        )


def _bounds(claims: Sequence[Claim]) -> dict[str, dict]:
    fields = ("name", "unit", "above", "below", "delta", "exact")
    return {
        str(claim.id): {name: getattr(claim.what, name) for name in fields}
        | {"sizes": list(claim.what.parts), "headline": claim.headline}
        for claim in claims
    }


def _plain(recipes: Mapping[str, object]) -> dict:
    return {
        name: _plain(one) if isinstance(one, Mapping) else one and asdict(one)  # type: ignore[call-overload]
        for name, one in recipes.items()
    }


def _shown(told: Mapping[str, object]) -> str:
    import pandas as pd

    claims = pd.DataFrame(told["claims"]).T.rename_axis("claim").reset_index()
    table = claims[["claim", "name", "unit", "above", "below", "delta"]].style.hide().format(na_rep="–", precision=3)
    seeds = {kind: ", ".join(map(str, told[kind])) or "none" for kind in ("tuned on", "judged on")}
    return (
        f"<details><summary>Fixed before any of them was trained: seeds {seeds['judged on']} judge "
        f"{len(claims)} claims; tuned on seeds {seeds['tuned on']}</summary>{table.to_html()}</details>"
    )
