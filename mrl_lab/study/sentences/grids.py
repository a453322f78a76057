"""Grids: scores of every layer and every width, from one encoding.

A prefix's cosine is a quotient of running sums, x_1 y_1 + ... + x_m y_m over the root of its two squares. So one pass
over the states gives the cosines at *all* widths of all layers; encoding anew for each cut would run the encoder
layers x widths times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from mrl_lab import score, search
from mrl_lab.cuts import check_sizes
from mrl_lab.encoders.texts import SentenceEncoder
from mrl_lab.errors import RequestError
from mrl_lab.study.judged import K, quality


def encode(encoder: SentenceEncoder, *sides: Sequence[str]) -> list[Tensor]:
    """Return the states (n, N+1, D) of each list of sentences; a sentence that returns is encoded once."""
    said = list(dict.fromkeys(text for side in sides for text in side))
    place = {text: i for i, text in enumerate(said)}
    states = encoder.encode(said)
    return [states[[place[text] for text in side]] for side in sides]


def cosines(x: Tensor, y: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the cosine of each pair at every layer and width: x, y (P, N+1, D) -> (P, N+1, |M|).

    Running sums are in float64, so that late widths are as exact as early ones.
    """
    at = torch.tensor(sizes) - 1
    sums = [(a.double() * b).cumsum(-1)[..., at] for a, b in ((x, y), (x, x), (y, y))]  # (P, N+1, D) -> (P, N+1, |M|)
    return sums[0] / (sums[1] * sums[2]).sqrt().clamp(min=1e-12)


def spearman(x: Tensor, y: Tensor, gold: Sequence[float], sizes: Sequence[int], chunk: int = 512) -> Tensor:
    """Return Spearman's rho x 100 with what people said, of every layer and width: (N+1, |M|).

    Args:
        x, y: states (P, N+1, D) of the sentences of each pair. gold: (P,), in any unit.
        chunk: pairs whose running sums are held at once.

    Raises:
        RequestError: widths that the states do not have, or another number of judgements than of pairs.
    """
    check_sizes(sizes, x.shape[-1])
    if len(gold) != len(x):
        raise RequestError(f"{len(x)} pairs and {len(gold)} judgements: one each is needed.")
    parts = zip(x.split(chunk), y.split(chunk), strict=True)
    found = torch.cat([cosines(a, b, sizes) for a, b in parts])  # (P, N+1, |M|)
    columns = found.flatten(1).T.numpy()  # ((N+1) |M|, P)
    return 100 * torch.tensor([spearmanr(column, gold).statistic for column in columns]).view(found.shape[1:])


def of_subsets(states: Mapping[str, tuple[Tensor, Tensor, Sequence[float]]], sizes: Sequence[int]) -> Tensor:
    """Spearman of one year of SemEval in the "all" setting: its subsets put together, and one correlation of all pairs.

    The mean of the subsets' own correlations is another number, and usually a higher one.
    """
    x, y = (torch.cat([subset[i] for subset in states.values()]) for i in (0, 1))
    return spearman(x, y, [value for subset in states.values() for value in subset[2]], sizes)


def by_query(queries: Tensor, corpus: Tensor, relevant: Tensor, m: int) -> dict[str, Tensor]:
    """Return {"ndcg@10": (Q,), "mrr@10": (Q,)}, from 0 to 1, of one layer's states (Q, D) and (N_d, D) at m dims."""
    ids = search.at_size(queries, corpus, m, K)[1]
    return {f"ndcg@{K}": quality(ids, relevant), f"mrr@{K}": reciprocal_rank(relevant.gather(1, ids))}


def reciprocal_rank(gains: Tensor) -> Tensor:
    """Return 1 / place of the first relevant row of each query (Q,) from gains (Q, k); 0 where there is none."""
    places = torch.arange(1, gains.shape[1] + 1, dtype=torch.float64)
    return ((gains > 0).double() / places).amax(1)


def rows(grid: Tensor, sizes: Sequence[int], *, method: str, metric: str, seed: int, n: int) -> pd.DataFrame:
    """Return a grid (N+1, |M|) as rows of the tidy table; layer 0, the embedding output, is left out."""
    found = []
    for layer in range(1, len(grid)):
        values = dict(zip(sizes, grid[layer].tolist(), strict=True))
        named = {"method": method, "metric": metric, "seed": seed, "n": n}
        found += [row | {"layer": layer} for row in score.tidy(values, **named)]
    return score.table(found)
