"""Models: one encoder, trained on SNLI triplets by each method, with everything else equal.

At one seed all methods share first weights, order of rows and dropout. A separate model is as deep as its cut and is
trained at its own width; by depth alone, as the published code has it, at full width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from statistics import median

import pandas as pd
import torch
from torch import Tensor, nn

from mrl_lab import runs, score, workers
from mrl_lab.clock import measure
from mrl_lab.device import choose
from mrl_lab.encoders.texts import SentenceEncoder
from mrl_lab.errors import unknown
from mrl_lab.methods.mse2d import MSE2D, PRESETS, Settings
from mrl_lab.methods.starbucks import SRL
from mrl_lab.study.sentences import grids, pretraining, setups, tests
from mrl_lab.study.sentences.setups import Setup
from mrl_lab.train import fit

DEPTH = {"uniform": "none", "log": "1/(1+ln n)", "linear": "1/n"}  # weights of the variant that trains all layers
OF_2DMSE = {
    "2DMSE": Settings(),
    "2DMSE, v0.3.8": PRESETS["2dmse-v038"],
    "2DMSE, no KL": Settings(weights=(1.0, 1.0, 1.0, 1.0, 0.0)),
    "2DMSE, detached": Settings(detach=True),
    "2DMSE, one width": Settings(weights=(0.0, 0.0, 1.0, 1.0, 1.0)),
    "2DMSE, ST 5.1": PRESETS["2dmse-st51"],  # sentence-transformers' own form, as it was and as it is
    "2DMSE, ST 6": PRESETS["2dmse-st6"],
} | {f"2DMSE, all layers, {name}": Settings(layers="all", depth_weight=weight) for name, weight in DEPTH.items()}
METHODS = ("plain", "MRL", *OF_2DMSE, "Starbucks", "random pairs", "one of the list")
ALONE = ("separate", "separate, depth only")  # a model a cut


def build(method: str, setup: Setup, seed: int, cut: tuple[int, int] | None = None) -> nn.Module:
    """Return a method around the encoder it begins with; ``cut`` is the layer and width of a separate model.

    Raises:
        RequestError: an unknown method.
    """
    if method not in METHODS + ALONE:
        raise unknown("method", method, METHODS + ALONE)
    n, m = cut or (setup.layers, setup.d)
    encoder = pretraining.begin(setup, seed)
    encoder = encoder.keep(n) if n < setup.layers else encoder  # so that blocks begin with the same weights
    ways = {
        "plain": lambda: SRL(encoder, [(n, m)]),
        "MRL": lambda: SRL(encoder, [(n, size) for size in setup.sizes], weight=0.0),
        "Starbucks": lambda: SRL(encoder, setup.pairs),
        "random pairs": lambda: SRL(encoder, setup.pairs, pool="grid", draws=len(setup.pairs) - 1),
        "one of the list": lambda: SRL(encoder, setup.pairs, draws=1),
        "separate": lambda: SRL(encoder, [(n, m)], whole=False),
        "separate, depth only": lambda: SRL(encoder, [(n, setup.d)]),
    }
    return MSE2D(encoder, OF_2DMSE[method], setup.sizes[:-1]) if method in OF_2DMSE else ways[method]()


def learn(model: nn.Module, setup: Setup, seed: int, after_step: Callable[[int], None] | None = None) -> None:
    """Train a method's model in place."""
    how = {"steps": setup.steps, "batch": setup.batch, "lr": setup.lr, "clip": 1.0, "seed": seed}
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout and draws
        fit(model, setups.rows(setup), after_step=after_step, **how)


def trained(method: str, setup: Setup, seed: int, cut: tuple[int, int] | None = None) -> SentenceEncoder:
    """Return the method's encoder, trained; its weights are kept, and reused where these very settings return."""
    model = build(method, setup, seed, cut)

    def make() -> dict[str, Tensor]:
        learn(model, setup, seed)
        return model.encoder.cpu().state_dict()

    key = {"what": "sentences", "method": method, "setup": asdict(setup), "seed": seed, "cut": cut}
    model.encoder.load_state_dict(runs.remember(key, make))
    return model.encoder.to(choose().device).eval()


def grid(encoder: SentenceEncoder, test: str, part: str, setup: Setup) -> tuple[Tensor, int]:
    """Return Spearman of every layer and width (N+1, |M|) on a test's part, and its number of pairs."""
    pairs = tests.pairs(test, part).some(setup.most)
    x, y = grids.encode(encoder, pairs.sentence1, pairs.sentence2)
    return grids.spearman(x, y, pairs.score, setup.sizes), len(x)


def scored(method: str, setup: Setup, seed: int, cut: tuple[int, int] | None = None) -> pd.DataFrame:
    """Return the whole grid of a model on the setup's tests; of a separate one its own cut alone."""

    def make() -> pd.DataFrame:
        encoder, found = trained(method, setup, seed, cut), []
        for test in setup.tests:
            values, n = grid(encoder, test, "test", setup)
            found.append(grids.rows(values, setup.sizes, method=method, metric=tests.metric(test), seed=seed, n=n))
        table = pd.concat(found, ignore_index=True)
        return table if cut is None else table[(table.layer == cut[0]) & (table.dim == cut[1])]

    key = {"what": "sentence scores", "method": method, "setup": asdict(setup), "seed": seed, "cut": cut}
    return runs.remember(key, make)


def after(method: str, setup: Setup, seed: int, start: str) -> pd.DataFrame:
    """Return :func:`scored` with the start's name in that of the method."""
    return scored(method, setup, seed).assign(method=f"{method} after {start}")


def on_list(grid: Tensor, setup: Setup) -> Tensor:
    """Return the values of Starbucks' pairs (|S|,) in a grid (N+1, |M|)."""
    return torch.stack([grid[cut.layer, setup.sizes.index(cut.dim)] for cut in setup.pairs])


def tune(methods: Sequence[str], setup: Setup, lrs: Sequence[float], seeds: int = 1) -> pd.DataFrame:
    """Try each rate on each method: Spearman on dev pairs, averaged over the pairs and the first seeds."""
    return tried([(method, replace(setup, lr=lr)) for method in methods for lr in lrs], _validation, seeds)


def tried(asked: Sequence[tuple], validation: Callable[..., dict[str, float]], seeds: int = 1) -> pd.DataFrame:
    """Return method, lr and the numbers of ``validation(method, setup, ..., seed)``, averaged over the first seeds.

    Args:
        asked: (method, setup, ...), of which each makes a row.
    """
    found = pd.DataFrame(workers.each(validation, [(*one, seed) for seed in range(seeds) for one in asked]))
    means = found.groupby(found.index % len(asked)).mean()
    return pd.DataFrame([{"method": method, "lr": setup.lr} for method, setup, *_ in asked]).join(means)


def _validation(method: str, setup: Setup, seed: int) -> dict[str, float]:
    values, _ = grid(trained(method, setup, seed), setup.tests[0], "dev", setup)
    return {"validation": on_list(values, setup).mean().item()}


def tune_starts(starts: dict[str, Setup], before: Sequence[float], lrs: Sequence[float]) -> pd.DataFrame:
    """Try each rate of pre-training with each rate of Starbucks after it, with seed 0, as :func:`tune` does.

    What begins with random weights has no rate of pre-training to choose.

    Args:
        starts: setups that are tried, by a name for each.
    """
    asked = [
        (name, replace(setup, before_lr=before_lr, lr=lr))
        for lr in lrs  # first, so that workers do not wait for one another's pre-training
        for name, setup in starts.items()
        for before_lr in (before if setup.start in pretraining.WAYS else before[:1])
    ]
    found = tried([("Starbucks", setup) for _, setup in asked], _validation)
    return found.assign(start=[name for name, _ in asked], before_lr=[setup.before_lr for _, setup in asked])


def untuned(setups_of: dict[str, Setup], seed: int) -> pd.DataFrame:
    """Look at each start before it is fine-tuned: are its states of use, and do they tell sentences apart?

    Returns:
        One row a start: Spearman on dev pairs of the last layer, all dims, and the mean cosine there of the two
        sentences of *different* pairs, near 1 where all states are much alike (anisotropy: Ethayarajh, 2019).
    """
    found = workers.each(_looked_at, [(setup, seed) for setup in setups_of.values()])
    return pd.DataFrame(found, index=list(setups_of), columns=["Spearman", "cosine of unlike pairs"])


def _looked_at(setup: Setup, seed: int) -> tuple[float, float]:
    dev = tests.pairs(setup.tests[0], "dev").some(setup.most)
    encoder = pretraining.begin(setup, seed).to(choose().device).eval()
    x, y = grids.encode(encoder, dev.sentence1, dev.sentence2)
    right = grids.spearman(x, y, dev.score, setup.sizes)[-1, -1].item()
    return right, torch.cosine_similarity(x[:, -1], y[:, -1].roll(1, 0), dim=1).mean().item()


def best_start(tuned: pd.DataFrame, starts: dict[str, Setup]) -> dict[str, Setup]:
    """Return each start's setup with the rates that were highest on dev pairs."""
    top = tuned.loc[tuned.groupby("start", sort=False)["validation"].idxmax()]
    return {row.start: replace(starts[row.start], lr=row.lr, before_lr=row.before_lr) for row in top.itertuples()}


def best(tuned: pd.DataFrame, setup: Setup, by: str = "validation") -> dict[str, Setup]:
    """Return each method's setup with the rate that was highest on dev pairs by this column, where it has numbers."""
    tuned = tuned.dropna(subset=by)
    top = tuned.loc[tuned.groupby("method", sort=False)[by].idxmax()]
    return {row.method: replace(setup, lr=row.lr) for row in top.itertuples()}


def speed(whole: SentenceEncoder, seed: int, sentences: int = 256, repeats: int = 5) -> pd.DataFrame:
    """Time tokenising and encoding by the lowest n blocks: rows "sentences a second" and "speed-up over N / n"."""
    said = tests.sentences(tests.SNLI, sentences)
    kept = {n: whole.keep(n).eval() for n in range(1, whole.layers + 1)}
    ways = {n: lambda encoder=encoder: encoder.encode(said, batch=32) for n, encoder in kept.items()}
    middle = {n: median(times) for n, times in measure(ways, repeats, 0).items()}
    found = []
    for n, taken in middle.items():
        values = {"sentences a second": sentences / taken, "speed-up over N / n": middle[whole.layers] / taken}
        values["speed-up over N / n"] *= n / whole.layers
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
