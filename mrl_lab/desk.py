"""The desk: what every notebook begins with, and what it ends with.

run = lab.start("01_mrl", data=[...])        the run, with device and style chosen, and what it stands on noted
lab.judge(run, claims, scores, budget)       both tables saved; the verdicts to look at
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mrl_lab import device, runs

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

    from mrl_lab.runs import Run
    from mrl_lab.stats import Claim

SHOWN = ["id", "claim", "paper", "ours", "low", "high", "seeds", "verdict", "note"]


def start(name: str) -> Run:
    """Begin the run of a notebook: check its parameters, give it a folder, choose the device and the style, say so.

    Raises:
        RequestError: a parameter that the notebook does not have, or a value that it does not take.
    """
    from mrl_lab import plots

    run = runs.start(name)
    compute = device.choose()
    run.note(device=compute.describe())
    plots.use_style()
    print(compute.describe())
    return run


def judge(run: Run, claims: Sequence[Claim], scores: pd.DataFrame, budget: str) -> Styler:
    """Judge the claims, save scores.csv and claims.csv, and return the verdicts as a table to look at."""
    from mrl_lab import stats

    verdicts = stats.judge(claims, scores, budget)
    run.save_scores(scores)
    run.save_claims(verdicts)
    return verdicts[SHOWN].style.hide().format(precision=2)
