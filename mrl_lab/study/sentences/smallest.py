"""Smallest: the pair (layer, dims) of a trained encoder that still is good enough, chosen on dev pairs alone.

From the whole model down Starbucks' list, as long as the upper bound of the loss stays within the tolerance; the first
pair that does not ends the walk, so that many pairs are no more chances to err than one (as sizes are chosen in
:mod:`mrl_lab.study.choosing`). Loss is Spearman's rho x 100 of the whole less that of the pair, with its bootstrap
interval over dev pairs of the test that judges. What it costs is told by the test, which chooses nothing. :func:`leave`
saves it as a model of sentence-transformers.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd

from mrl_lab import export, score, stats
from mrl_lab.encoders.texts import SentenceEncoder, encode_each
from mrl_lab.study.sentences import tests
from mrl_lab.study.sentences.task import Sentences, whole


def losses(encoder: SentenceEncoder, task: Sentences) -> pd.DataFrame:
    """Return a row a pair of Starbucks' list, from the whole down: layer, dim, spearman (on dev), loses, low, high."""
    pairs = tests.pairs(task.tests[0], "dev").some(task.most)
    x, y = encode_each(encoder, pairs.sentence1, pairs.sentence2)  # (P, N+1, d) each
    items, rows = {}, []
    for cut in reversed(task.pairs):
        cosines = score.cosine_grid(x[:, [cut.layer]], y[:, [cut.layer]], [cut.dim])[:, 0]  # (P, 1, 1) -> (P, 1)
        items[cut] = np.column_stack([cosines, pairs.score])
    top = items[task.pairs[-1]]
    for cut, here in items.items():
        same = stats.Interval(0.0, 0.0, 0.0, len(top))
        lost = same if here is top else stats.bootstrap(top, here, score.mean_spearman, resamples=1000)
        values = {"spearman": score.mean_spearman(here), "loses": lost.mean, "low": lost.low, "high": lost.high}
        rows.append({"layer": cut.layer, "dim": cut.dim} | values)
    return pd.DataFrame(rows)


def chosen(table: pd.DataFrame, tolerance: float) -> tuple[int, int]:
    """Return the pair (n, m) that the walk ends at, of :func:`losses`."""
    holds = (table["high"] <= tolerance).cumprod().astype(bool)
    last = table[holds].iloc[-1]
    return int(last["layer"]), int(last["dim"])


def leave(
    encoder: SentenceEncoder,
    task: Sentences,
    pair: tuple[int, int],
    scores: pd.DataFrame,
    folder: Path,
    trained: str,
) -> Path:
    """Save a trained encoder below ``folder``, cut to a pair (layer, dims), as a model of sentence-transformers.

    A model made elsewhere reads as much of a text again as it did before it was trained here.

    Args:
        scores: rows of the tidy table of this encoder's method; those of the layer, on the test that judges, stand in
            the card. trained: by what, and for how long.

    Raises:
        RequestError: as :func:`mrl_lab.export.model`.
    """
    (n, m), judge = pair, task.tests[0]
    told = scores[(scores["metric"] == tests.metric(judge)) & (scores["layer"] == n) & (scores["dim"] <= m)]
    encoder = copy.copy(encoder.cpu().eval())
    encoder.length = whole(task.backbone).length if task.backbone else encoder.length
    how = {"sizes": [size for size in task.sizes if size <= m], "scores": told.assign(metric="spearman")}
    return export.model(encoder, folder, m, n, dataset=judge, trained=trained, **how)
