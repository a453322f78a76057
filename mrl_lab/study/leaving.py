"""Leaving: the recommended size as files that open elsewhere, a model of sentence-transformers or a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from mrl_lab import export
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.study.vectors import Collection, Way, place_of

SHOWN = 24  # texts that a cut is tried on: each is read by both, whole and at each size


def leave(
    mine: Collection,
    model: str,
    way: Way,
    best: Mapping[str, object],
    sizes: Sequence[int],
    scores: pd.DataFrame,
    folder: Path,
    trained: str = "",
) -> Path:
    """Save what was recommended below ``folder``: the model cut to ``best["dim"]``, or for vectors alone the matrix.

    Args:
        model: that made the vectors, as :func:`mrl_lab.study.vectors.opened` was given it.
        way: one that is a matrix, or nothing at all. sizes: that were tried; those up to the kept one are named.
        scores: rows of the tidy table; those of this way in float32 stand in the card.
        trained: how the model was fine-tuned for being cut, if it was.

    Raises:
        RequestError: as :func:`mrl_lab.export.model` and :func:`mrl_lab.export.vectors`.
    """
    dim = int(best["dim"])
    told = scores[(scores["method"] == f"{way.name}, float32") & (scores["dim"] <= dim)]
    how = {"sizes": [m for m in sizes if m <= dim], "scores": told, "dataset": mine.name}
    if not mine.weights:
        return export.vectors(torch.eye(mine.d) if way.matrix is None else way.matrix, folder, dim, **how)
    said = list(dict.fromkeys(mine.texts or ()))[:SHOWN]
    tried = {"texts": said} if len(said) >= 3 else {}
    encoder = pretrained(place_of(model)[0])
    return export.model(encoder, folder, dim, matrix=way.matrix, trained=trained, **how, **tried)
