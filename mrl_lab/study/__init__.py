"""Studies: what the notebooks ask of the parts. One kind of question a module, one tidy table an answer.

Every result is kept under the settings that made it (``runs.remember``), so that a study that was stopped goes
on where it was, and a slider or a second notebook trains nothing again.
"""

import pandas as pd


def on(where: str, scores: pd.DataFrame) -> pd.DataFrame:
    """Mark scores as those of another data set: metric "top1" becomes "pairs top1" for where = "pairs"."""
    return scores.assign(metric=where + " " + scores["metric"])
