"""Models: one small BERT, trained from scratch on SNLI triplets by each method, with everything else equal.

At one seed all methods share first weights, order of rows and dropout. A separate model is as deep as its cut and is
trained at its own width; depth alone, as the published code has it, is ``(n, d)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from statistics import median

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from mrl_lab import runs, score
from mrl_lab.bench import measure
from mrl_lab.data import texts
from mrl_lab.encoders.texts import SentenceEncoder, small
from mrl_lab.encoders.tokens import TextRows, wordpiece
from mrl_lab.errors import unknown
from mrl_lab.methods.mse2d import MSE2D, Settings
from mrl_lab.methods.starbucks import SRL, default_pairs
from mrl_lab.study.sentences import grids
from mrl_lab.train import fit

METHODS = ("plain", "MRL", "2DMSE", "2DMSE, v0.3.8", "2DMSE, no KL", "Starbucks", "random pairs", "separate")
TESTS = {"stsb": "test", "sick": "test"}
METRICS = {"stsb": "STS-B spearman", "sick": "SICK-R spearman"}


@dataclass(frozen=True)
class Setup:
    """What all methods share: N blocks of width d, how many triplets, steps of ``batch``, and the peak rate.

    ``most`` is how many pairs of a set are scored, the first ones: all of STS-B and of SICK-R by default.
    """

    layers: int = 4
    d: int = 64
    triplets: int = 10_000
    steps: int = 200
    batch: int = 64
    lr: float = 1e-3
    words: int = 4_000
    length: int = 24
    most: int = 5_000

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of the grid: 4 and its doublings up to d."""
        return tuple(m for m in (2**i for i in range(2, 12)) if m <= self.d)


@cache
def tokenizer(triplets: int, words: int) -> PreTrainedTokenizerBase:
    """Return word pieces learnt from the first sentences that models are trained on."""
    return wordpiece([text for row in texts.triplets()[:triplets] for text in row], words)


@cache
def rows(triplets: int, words: int, length: int) -> TextRows:
    """Return the first triplets of SNLI, tokenised once for all methods."""
    chosen = texts.triplets()[:triplets]
    return TextRows(tokenizer(triplets, words), chosen, leave_out_copies=True, length=length)


def build(method: str, setup: Setup, seed: int, cut: tuple[int, int] | None = None) -> nn.Module:
    """Return a method around an untrained encoder; ``cut`` is the layer and width of a separate model.

    Raises:
        RequestError: an unknown method.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    n, m = cut or (setup.layers, setup.d)
    how = {"length": setup.length, "seed": seed}
    encoder = small(tokenizer(setup.triplets, setup.words), setup.d, setup.layers, **how)
    encoder = encoder.keep(n) if n < setup.layers else encoder  # so that blocks begin with the same weights
    pairs = default_pairs(setup.layers, setup.d)
    below = setup.sizes[:-1]
    ways = {
        "plain": lambda: SRL(encoder, [(n, m)]),
        "MRL": lambda: SRL(encoder, [(n, size) for size in setup.sizes], weight=0.0),
        "2DMSE": lambda: MSE2D(encoder, "2dmse-paper", below),
        "2DMSE, v0.3.8": lambda: MSE2D(encoder, "2dmse-v038", below),
        "2DMSE, no KL": lambda: MSE2D(encoder, Settings(weights=(1.0, 1.0, 1.0, 1.0, 0.0)), below),
        "Starbucks": lambda: SRL(encoder, pairs),
        "random pairs": lambda: SRL(encoder, pairs, pool="grid", draws=len(pairs) - 1),
        "separate": lambda: SRL(encoder, [(n, m)], whole=False),
    }
    return ways[method]()


def trained(method: str, setup: Setup, seed: int, cut: tuple[int, int] | None = None) -> SentenceEncoder:
    """Return the method's encoder, trained; reused where these very settings were trained before."""
    model = build(method, setup, seed, cut)

    def make() -> dict[str, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # dropout and draws
            learnt_from = rows(setup.triplets, setup.words, setup.length)
            fit(model, learnt_from, steps=setup.steps, batch=setup.batch, lr=setup.lr, clip=1.0, seed=seed)
        return model.encoder.cpu().state_dict()

    key = {"what": "sentences", "method": method, "setup": asdict(setup), "seed": seed, "cut": cut}
    model.encoder.load_state_dict(runs.remember(key, make))
    return model.encoder.eval()


def grid(encoder: SentenceEncoder, name: str, split: str, setup: Setup) -> tuple[Tensor, int]:
    """Return Spearman of every layer and width (N+1, |M|) on a set's split, and its number of pairs."""
    pairs = texts.pairs(name)[split]
    x, y = (encoder.encode(side[: setup.most]) for side in (pairs.sentence1, pairs.sentence2))
    return grids.spearman(x, y, pairs.score[: setup.most], setup.sizes), len(x)


def scored(method: str, setup: Setup, seed: int, cut: tuple[int, int] | None = None) -> pd.DataFrame:
    """Return the whole grid of a model on STS-B and SICK-R; of a separate one its own cut alone."""

    def make() -> pd.DataFrame:
        encoder, found = trained(method, setup, seed, cut), []
        for name, split in TESTS.items():
            values, n = grid(encoder, name, split, setup)
            found.append(grids.rows(values, setup.sizes, method=method, metric=METRICS[name], seed=seed, n=n))
        table = pd.concat(found, ignore_index=True)
        return table if cut is None else table[(table.layer == cut[0]) & (table.dim == cut[1])]

    key = {"what": "sentence scores", "method": method, "setup": asdict(setup), "seed": seed, "cut": cut}
    return runs.remember(key, make)


def tune(methods: Sequence[str], setup: Setup, lrs: Sequence[float]) -> pd.DataFrame:
    """Try each rate on each method with seed 0: Spearman on STS-B dev, averaged over the pairs from small to whole."""
    found = []
    for method in methods:
        for lr in lrs:
            encoder = trained(method, replace(setup, lr=lr), 0)
            values, _ = grid(encoder, "stsb", "dev", setup)
            cuts = default_pairs(setup.layers, setup.d)
            mean = torch.stack([values[c.layer, setup.sizes.index(c.dim)] for c in cuts]).mean().item()
            found.append({"method": method, "lr": lr, "validation": mean})
    return pd.DataFrame(found)


def best(tuned: pd.DataFrame, setup: Setup) -> dict[str, Setup]:
    """Return each method's setup with the rate that was highest on STS-B dev."""
    top = tuned.loc[tuned.groupby("method", sort=False)["validation"].idxmax()]
    return {row.method: replace(setup, lr=row.lr) for row in top.itertuples()}


def speed(setup: Setup, seed: int, sentences: int = 256, repeats: int = 5) -> pd.DataFrame:
    """Time tokenising and encoding by the lowest n blocks: rows "sentences a second" and "speed-up over N / n"."""
    said = texts.pairs("stsb")["test"].sentence1[:sentences]
    whole = trained("2DMSE", setup, seed)
    kept = {n: whole.keep(n).eval() for n in range(1, setup.layers + 1)}
    ways = {n: lambda encoder=encoder: encoder.encode(said, batch=32) for n, encoder in kept.items()}
    middle = {n: median(times) for n, times in measure(ways, repeats, 0).items()}
    found = []
    for n, taken in middle.items():
        values = {"sentences a second": sentences / taken, "speed-up over N / n": middle[setup.layers] / taken}
        values["speed-up over N / n"] *= n / setup.layers
        common = {"method": "2DMSE", "seed": seed, "layer": n, "n": sentences}
        found += [common | {"metric": metric, "value": value} for metric, value in values.items()]
    return score.table(found)


def nearest(states: Tensor, said: Sequence[str], query: int, layer: int, dim: int, k: int = 6) -> str:
    """Return as HTML the k sentences nearest to one of ``said`` by the first ``dim`` numbers of a layer (n, N+1, D)."""
    from html import escape

    from mrl_lab.cuts import unit_prefix

    z = unit_prefix(states[:, layer], dim)
    cosines = z @ z[query]
    ids = [i for i in cosines.argsort(descending=True).tolist() if i != query][:k]
    items = "".join(f"<li>{escape(said[i])} <small>({cosines[i]:.2f})</small></li>" for i in ids)
    return f"<p><b>{escape(said[query])}</b></p><ol>{items}</ol>"
