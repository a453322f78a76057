"""The task of sentences: learn from triplets, be asked how alike judged sentences are, at every layer and width.

A prefix's cosine is a quotient of running sums, so one encoding gives the scores of *all* widths of all layers;
encoding anew for each cut would run the encoder layers x widths times. At one seed all methods begin with the same
weights: random ones, or those of a model made elsewhere.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

from mrl_lab import score
from mrl_lab.cuts import Cut
from mrl_lab.data import places, texts
from mrl_lab.data.rows import first
from mrl_lab.device import choose
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.encoders.texts import SentenceEncoder, encode_each, small
from mrl_lab.encoders.tokens import TextRows, wordpiece
from mrl_lab.errors import RequestError, unknown
from mrl_lab.methods.starbucks import default_pairs
from mrl_lab.study.sentences import tests

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MINILM = "all-minilm"  # a model that people have, by its name among the sources
ALSO = ("multi30k", "wiki100")  # captions of pictures, and paragraphs of an encyclopaedia
READ = 64  # tokens of a text that a model made elsewhere reads when it is scored


@dataclass(frozen=True)
class Sentences:
    """Triplets to learn from, the tests to be asked, and the encoder of N blocks of width d to begin with.

    Attributes:
        triplets: so many are trained on, the first ones of ``learns``: SNLI's, or all-nli's as the papers have them.
        words: size of the vocabulary; length: tokens of a text that are trained on.
        most: pairs of a test that are scored, spread evenly over it, or all if it has fewer.
        tests: what models are scored on, some of :data:`tests.PAIRS`. The first judges: its dev pairs choose rates.
        also: what pre-training reads besides the triplets' sentences and STS-B's, some of :data:`ALSO`.
        backbone: a model made elsewhere, see :meth:`of`; it has its own vocabulary and fixes ``layers`` and ``d``.
        weights: SHA-256 of the backbone's weights: a result is of these, whatever its folder holds.

    Raises:
        RequestError: an unknown text or test, or no test.
    """

    layers: int = 4
    d: int = 64
    triplets: int = 10_000
    words: int = 4_000
    length: int = 24
    most: int = 5_000
    tests: tuple[str, ...] = (tests.SNLI,)
    also: tuple[str, ...] = ()
    learns: str = "snli"
    backbone: str = ""
    weights: str = ""

    def __post_init__(self) -> None:
        named = ("text to read", self.also, ALSO), ("test", self.tests, tests.PAIRS)
        for what, given, known in (*named, ("set of triplets", (self.learns,), texts.TRIPLETS)):
            for name in given:
                if name not in known:
                    raise unknown(what, name, known)
        if not self.tests:
            raise RequestError(f"sentences need a test that judges: one or more of {', '.join(tests.PAIRS)}.")

    @classmethod
    def of(cls, backbone: str, **how: object) -> Sentences:
        """Return the task for a model made elsewhere: all-MiniLM-L6-v2, a folder, or a name on the hub; "" for none.

        Raises:
            RequestError: the model cannot be had, or cannot be cut; says why.
        """
        if not backbone:
            return cls(**how)
        found, weights = opened(backbone)
        return cls(layers=found.layers, d=found.d, backbone=backbone, weights=weights, **how)

    @property
    def pairs(self) -> tuple[Cut, ...]:
        """Starbucks' list for this depth and width."""
        return default_pairs(self.layers, self.d)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of the grid: half of the smallest pair's and its doublings below d, and d."""
        return (*(m for m in (2**i for i in range(12)) if self.pairs[0].dim <= 2 * m < 2 * self.d), self.d)

    @property
    def sources(self) -> tuple[str, ...]:
        """What is read, by name among the sources."""
        return (self.learns, *(tests.SOURCES[test] for test in self.tests), *self.also)

    @property
    def key(self) -> dict:
        """What identifies all that is learnt from, and what an encoder begins with."""
        learnt = {name: value for name, value in vars(self).items() if name != "most"}
        return learnt | {"files": {name: places.ensure(name).key for name in self.sources}}

    def rows(self) -> TextRows:
        """Return the first triplets, tokenised once for all methods."""
        return _rows(self.backbone, self.triplets, self.words, self.length, self.learns)

    def encoder(self, seed: int) -> SentenceEncoder:
        """Return what a method begins with: random weights of this seed, or those of the backbone.

        Raises:
            RequestError: another depth or width than the backbone's, or other weights.
        """
        if not self.backbone:
            pieces = tokenizer(self.triplets, self.words, self.learns)
            return small(pieces, self.d, self.layers, length=self.length, seed=seed)
        found, weights = opened(self.backbone)
        if weights != self.weights:
            raise RequestError(f"the weights of {self.backbone} are not those that this run began with: run it again.")
        if (self.layers, self.d) != (found.layers, found.d):
            raise RequestError(f"{self.backbone} has {found.layers} layers of {found.d} dims: say so in the task.")
        return copy.deepcopy(found)

    def ask(self, module: nn.Module, split: str, seed: int) -> pd.DataFrame:
        """Return Spearman of the module's ``encoder`` on the tests, a row a layer, width and test.

        Of a module with a ``cut`` (n, m), which was trained for that alone, its row; on the validation split see
        :meth:`chosen_by`.
        """
        encoder, cut = module.encoder.to(choose().device), getattr(module, "cut", None)
        if split == "validation":
            return self.chosen_by(self.grid(encoder, self.tests[0], "dev")[0], cut)
        return self.scored(encoder, self.tests, cut)

    def scored(self, encoder: SentenceEncoder, among: Sequence[str], cut: Sequence[int] | None = None) -> pd.DataFrame:
        """Return Spearman of an encoder on some tests, a row a layer, width and test."""
        encoder = encoder.to(choose().device)
        return self.table({tests.metric(test): self.grid(encoder, test) for test in among}, cut)

    def grid(self, encoder: SentenceEncoder, test: str, part: str = "test") -> tuple[Tensor, int]:
        """Return Spearman of every layer and width (N+1, |M|) on a test's part, and its number of pairs."""
        pairs = tests.pairs(test, part).some(self.most)
        x, y = encode_each(encoder, pairs.sentence1, pairs.sentence2)
        return score.spearman_grid(x, y, pairs.score, self.sizes), len(x)

    def on_list(self, grid: Tensor) -> Tensor:
        """Return the values of Starbucks' pairs (|S|,) in a grid (N+1, |M|)."""
        return torch.stack([grid[cut.layer, self.sizes.index(cut.dim)] for cut in self.pairs])

    def chosen_by(self, grid: Tensor, cut: Sequence[int] | None = None) -> pd.DataFrame:
        """Return what rates are chosen by, of a grid on dev pairs: "validation" and "whole".

        The first is at Starbucks' pairs (of a model for one cut: there alone), the second of layer N at all dims.
        """
        at = [tuple(cut)] if cut is not None else [(pair.layer, pair.dim) for pair in self.pairs]
        asked = [("validation", *one) for one in at] + ([("whole", *at[-1])] if cut is None else [])
        named = {"method": "", "seed": 0}
        rows = [
            named | {"metric": metric, "layer": n, "dim": m, "value": grid[n, self.sizes.index(m)].item()}
            for metric, n, m in asked
        ]
        return score.table(rows)

    def table(self, grids: Mapping[str, tuple[Tensor, int]], cut: Sequence[int] | None = None) -> pd.DataFrame:
        """Return grids (N+1, |M|) with their numbers of pairs, by metric, as rows of the tidy table.

        Layer 0, the embedding output, and what a grid has no value for are left out.
        """
        rows = []
        for metric, (grid, n) in grids.items():
            for layer in range(1, len(grid)):
                values = dict(zip(self.sizes, grid[layer].tolist(), strict=True))
                named = {"method": "", "metric": metric, "seed": 0, "n": n}
                rows += [row | {"layer": layer} for row in score.tidy(values, **named)]
        found = score.table(rows).dropna(subset="value", ignore_index=True)
        return found if cut is None else found[(found.layer == int(cut[0])) & (found.dim == int(cut[1]))]


def published(budget: str) -> dict[str, object]:
    """Return what a recipe at ``paper`` has of the published ones: a rate that falls to 0 linearly, and no decay."""
    return {"schedule": "linear", "weight_decay": 0.0} if budget == "paper" else {}


# ------------------------------------------------------------------------------------------ what is read


def triplets(count: int, learns: str = "snli") -> list[tuple[str, str, str]]:
    """Return the first triplets of a set; a RequestError says how many there are, if not as many."""
    return first(texts.triplets(learns), count, f"triplets of {learns} to train on")


@cache
def tokenizer(count: int, words: int, learns: str = "snli") -> PreTrainedTokenizerBase:
    """Return word pieces learnt from the first sentences that models are trained on."""
    return wordpiece([text for row in triplets(count, learns) for text in row], words)


@cache
def _rows(backbone: str, count: int, words: int, length: int, learns: str) -> TextRows:
    found = opened(backbone)[0] if backbone else None
    pieces, prompt = (found.tokenizer, found.prompt()) if found else (tokenizer(count, words, learns), "")
    return TextRows(pieces, triplets(count, learns), leave_out_copies=True, length=length, prompt=prompt)


# ------------------------------------------------------------------------------------ models made elsewhere


@cache
def opened(backbone: str) -> tuple[SentenceEncoder, str]:
    """Return a model made elsewhere, and the SHA-256 of its weights (and of its pooling and prompts, if not plain)."""
    found = pretrained(_place(backbone), length=READ)
    found.check_layers()
    total = hashlib.sha256()
    for name, weight in sorted(found.state_dict().items()):
        total.update(name.encode() + weight.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    prompts = {name: prompt for name, prompt in found.manner.prompts.items() if prompt}
    if prompts or found.pooling != "mean":  # else the weights alone say what the states are
        total.update(repr((found.pooling, prompts, found.manner.default)).encode())
    return found, total.hexdigest()


@cache
def whole(backbone: str) -> SentenceEncoder:
    """Return a model made elsewhere as it came: it reads as much of a text as it does there."""
    return pretrained(_place(backbone))


def _place(backbone: str) -> Path | str:
    return places.ensure(MINILM).folder if backbone == MINILM else backbone


def provenance(backbone: str) -> list[dict[str, str]]:
    """Return where a model made elsewhere comes from, a record a file, as run.json keeps them; "" has none."""
    if not backbone:
        return []
    if backbone == MINILM:
        return places.ensure(MINILM).provenance()
    folder = Path(backbone)
    name, place = (folder.name, "a folder of one's own") if folder.is_dir() else (backbone, "the hub")
    about = {"name": name, "place": place, "licence": "not known here: read its card"}
    return [about | {"file": "all weights", "sha256": opened(backbone)[1]}]
