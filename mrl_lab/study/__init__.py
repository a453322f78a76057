"""Studies: what the notebooks ask of the parts. A task, or one kind of question, a module; one tidy table an answer.

Models are trained, tuned and swept by :mod:`mrl_lab.lab`, which computes nothing twice: a study that was stopped goes
on where it was, and a slider or a second notebook trains nothing again.

* 00, 01: models, pictures, controls; the first two serve others too
* 02: adaptive, gallery, cascades, fewshot, judged, speed
* 03, 04: sentences/   05: tokens/   06: clusters/
"""

from collections.abc import Iterable

import pandas as pd


def join(tables: Iterable[pd.DataFrame], on: str = "", to: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return tables of scores as one, put behind those of ``to``.

    ``on`` marks them as those of another data set: metric "top1" becomes "pairs top1" for on = "pairs ".
    """
    joined = pd.concat(list(tables), ignore_index=True)
    marked = joined.assign(metric=on + joined["metric"])
    return marked if to is None else pd.concat([to, marked], ignore_index=True)
