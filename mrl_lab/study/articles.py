"""A second modality: paragraphs of Wikipedia, seen by a frozen sentence encoder; the article of each is its class.

Some hundred classes that nobody here made, as vectors; a small network on top of them learns to nest. Each article's
paragraphs are dealt to the three splits, so that all classes are in all of them.
"""

from __future__ import annotations

from collections import Counter

import pandas as pd
import torch
from torch import Tensor

from mrl_lab.data import Labelled, Split, labelled, texts
from mrl_lab.data.places import Found
from mrl_lab.device import choose
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.lab import kept

FEWEST = 20  # paragraphs of an article that is a class
DEALT = {"train": range(13), "validation": range(13, 15), "test": range(15, 20)}  # of every 20 of an article


def seen(paragraphs: Found, weights: Found) -> Labelled:
    """Return paragraphs as the vectors (d,) that the encoder of ``weights`` makes of them, with their articles."""
    rows = texts.paragraphs_in(paragraphs)
    counts = Counter(article for article, _ in rows)
    names = tuple(sorted(name for name, n in counts.items() if n >= FEWEST))
    rows = [(article, text) for article, text in rows if article in names]
    z = _vectors(weights, [text for _, text in rows])["z"]
    y, places = torch.tensor([names.index(article) for article, _ in rows]), _dealt([article for article, _ in rows])
    splits = {part: Split(z[places[part]], y[places[part]]) for part in DEALT}
    mean, std = labelled.statistics(splits["train"].images)
    told = paragraphs.provenance() + weights.provenance()
    key = {
        "articles": [record["sha256"] for record in told],
        "fewest": FEWEST,
        "dealt": {p: len(d) for p, d in DEALT.items()},
    }
    return Labelled("articles", key, **splits, classes=names, mean=mean, std=std, provenance=told)


@kept
def _vectors(weights: Found, said: list[str]) -> dict[str, Tensor]:
    encoder = pretrained(weights.folder, length=128).to(choose().device)
    return {"z": encoder.vectors(said, side="document")}


def _dealt(articles: list[str]) -> dict[str, list[int]]:
    """Return the rows of each split: every article's in an order drawn once, dealt in turn."""
    order = torch.randperm(len(articles), generator=torch.Generator().manual_seed(0)).tolist()
    turn = pd.Series(articles).iloc[order].groupby(lambda row: articles[row]).cumcount() % 20
    return {part: sorted(turn.index[turn.isin(dealt)]) for part, dealt in DEALT.items()}
