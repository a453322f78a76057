"""The desk: what every notebook begins with, and what it ends with.

run = lab.start("01_mrl")                    a folder, the device and the style, with parameters checked
lab.judge(run, claims, scores, budget)       both tables saved; the verdicts to look at
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mrl_lab import device, runs

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

    from mrl_lab.runs import Run
    from mrl_lab.verdicts import Claim


def start(name: str) -> Run:
    """Begin the run of a notebook: check its parameters, give it a folder, choose the device and the style, say so.

    Raises:
        RequestError: a parameter that the notebook does not have, or a value that it does not take.
    """
    from mrl_lab import plots

    _check_parameters(name)
    run = runs.start(name)
    compute = device.choose()
    run.note(device=compute.describe())
    plots.use_style()
    print(compute.describe())
    return run


def _check_parameters(name: str) -> None:
    """Hold what this kernel was given against the form of the notebook; other programs than kernels have none."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    from mrl_lab.report import notebooks

    shell = get_ipython()
    notebook = notebooks.original(name) if shell else None
    if notebook:
        notebook.check(shell.user_ns, shell.user_ns["In"])


def judge(run: Run, claims: Sequence[Claim], scores: pd.DataFrame, budget: str) -> HTML:
    """Judge the claims, which must be those that were frozen, and save scores.csv and claims.csv.

    Returns:
        The rule, the verdicts drawn and in words, and folded below them every condition with its interval.
    """
    from IPython.display import HTML

    from mrl_lab import protocol, verdicts

    protocol.check(run.folder, claims)
    judged = verdicts.judge(claims, scores, budget)
    run.save_scores(scores)
    run.save_claims(judged)
    if not claims:
        return HTML("<p>Nothing is claimed here.</p>")
    shown = judged[["id", "claim", "paper", "what", "ours", "low", "high", "unit", "seeds", "verdict", "note"]]
    behind = verdicts.detail(claims, scores, budget)
    parts = [
        f"<p>{verdicts.RULE}</p><p>{_counted(judged['verdict'])}</p>",
        "" if budget == "seconds" else _drawn(judged),
        _html(shown, 2),
        f"<details><summary>Every condition, those beside the verdicts as well</summary>{_html(behind, 3)}</details>",
    ]
    return HTML("".join(parts))


def _drawn(judged: pd.DataFrame) -> str:
    """The forest of what has a figure, as an SVG in the page."""
    from mrl_lab import plots
    from mrl_lab.explore import svg

    there = judged[judged["ours"].notna()]
    return svg.inline(plots.forest(there), "the claims, each with its interval and its bound") if len(there) else ""


def _counted(verdicts: pd.Series) -> str:
    return ", ".join(f"{verdict}: {count}" for verdict, count in verdicts.value_counts(sort=False).items()) + "."


def _html(table: pd.DataFrame, precision: int) -> str:
    return table.style.hide().format(precision=precision, na_rep="–", escape="html").to_html()
