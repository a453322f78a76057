"""Setups: what all methods share, the encoder they begin with, and the triplets they learn from.

At one seed every start shares its first weights: pre-training begins with those that "nothing" is left with.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from mrl_lab.cuts import Cut
from mrl_lab.data import places, texts
from mrl_lab.data.rows import first
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.encoders.texts import SentenceEncoder, small
from mrl_lab.encoders.tokens import TextRows, wordpiece
from mrl_lab.errors import RequestError, unknown
from mrl_lab.methods.starbucks import default_pairs
from mrl_lab.study.sentences import tests

STARTS = ("nothing", "MLM", "MAE", "SMAE")
MINILM = "all-minilm"  # a model that people have, by its name among the sources
ALSO = ("multi30k", "wiki100")  # captions of pictures, and paragraphs of an encyclopaedia
READ = 64  # tokens of a text that a model made elsewhere reads when it is scored


@dataclass(frozen=True)
class Setup:
    """What all methods share: N blocks of width d, how many triplets, steps of ``batch``, and the peak rate.

    Attributes:
        triplets: so many of SNLI are trained on, the first ones.
        words: size of the vocabulary; length: tokens of a text that are trained on.
        most: pairs of a test that are scored, spread evenly over it, or all if it has fewer.
        tests: what models are scored on, some of :data:`tests.PAIRS`. The first judges: its dev pairs choose rates.
        start: one of :data:`STARTS`: random weights, or the same pre-trained in one of three ways; or a model made
            elsewhere (:func:`elsewhere`), which has its own vocabulary and fixes ``layers`` and ``d``.
        weights: SHA-256 of a model's weights that was made elsewhere: a result is of these, whatever its folder holds.
        before, before_lr: steps of pre-training, and their peak rate.
        also: what pre-training reads besides the triplets' sentences and STS-B's, some of :data:`ALSO`.

    Raises:
        RequestError: an unknown start, text or test, or no test.
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
    tests: tuple[str, ...] = (tests.SNLI,)
    start: str = "nothing"
    before: int = 0
    before_lr: float = 2e-3
    also: tuple[str, ...] = ()
    weights: str = ""

    def __post_init__(self) -> None:
        if self.start not in STARTS and not self.weights:
            raise unknown("start", self.start, STARTS)
        for what, given, known in (("text to read", self.also, ALSO), ("test", self.tests, tests.PAIRS)):
            for name in given:
                if name not in known:
                    raise unknown(what, name, known)
        if not self.tests:
            raise RequestError(f"a setup needs a test that judges: one or more of {', '.join(tests.PAIRS)}.")

    @property
    def pairs(self) -> tuple[Cut, ...]:
        """Starbucks' list for this depth and width."""
        return default_pairs(self.layers, self.d)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of the grid: half of the smallest pair's and its doublings below d, and d."""
        return (*(m for m in (2**i for i in range(12)) if self.pairs[0].dim <= 2 * m < 2 * self.d), self.d)


def elsewhere(backbone: str = MINILM, **how: object) -> Setup:
    """Return a setup that adapts a model made elsewhere: all-MiniLM-L6-v2, a folder, or a name on the hub.

    Raises:
        RequestError: the model cannot be had, or cannot be cut; says why.
    """
    found, weights = _opened(backbone)
    return Setup(layers=found.layers, d=found.d, start=backbone, weights=weights, **how)


def provenance(backbone: str) -> list[dict[str, str]]:
    """Return where a model made elsewhere comes from, a record a file, as run.json keeps them.

    Raises:
        RequestError: as :func:`elsewhere`.
    """
    if backbone == MINILM:
        return places.ensure(MINILM).provenance()
    folder = Path(backbone)
    name, place = (folder.name, "a folder of one's own") if folder.is_dir() else (backbone, "the hub")
    about = {"name": name, "place": place, "licence": "not known here: read its card"}
    return [about | {"file": "all weights", "sha256": _opened(backbone)[1]}]


def triplets(count: int) -> list[tuple[str, str, str]]:
    """Return the first triplets of SNLI.

    Raises:
        RequestError: there are not as many; says how many there are.
    """
    return first(texts.triplets(), count, "triplets of SNLI to train on")


@cache
def tokenizer(count: int, words: int) -> PreTrainedTokenizerBase:
    """Return word pieces learnt from the first sentences that models are trained on."""
    return wordpiece([text for row in triplets(count) for text in row], words)


def encoder(setup: Setup, seed: int) -> SentenceEncoder:
    """Return what a method begins with: random weights of this seed, or those of a model made elsewhere.

    Raises:
        RequestError: a setup of another depth or width than the model made elsewhere, or of other weights.
    """
    if setup.weights:
        found, weights = _opened(setup.start)
        if weights != setup.weights:
            raise RequestError(f"the weights of {setup.start} are not those that this run began with: run it again.")
        if (setup.layers, setup.d) != (found.layers, found.d):
            raise RequestError(f"{setup.start} has {found.layers} layers of {found.d} dims: say so in the setup.")
        return copy.deepcopy(found)
    return small(tokenizer(setup.triplets, setup.words), setup.d, setup.layers, length=setup.length, seed=seed)


@cache
def _opened(backbone: str) -> tuple[SentenceEncoder, str]:
    """Return a model made elsewhere, and the SHA-256 of its weights (and of its pooling and prompts, if not plain)."""
    found = pretrained(places.ensure(MINILM).folder if backbone == MINILM else backbone, length=READ)
    found.check_layers()
    total = hashlib.sha256()
    for name, weight in sorted(found.state_dict().items()):
        total.update(name.encode() + weight.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    prompts = {name: prompt for name, prompt in found.manner.prompts.items() if prompt}
    if prompts or found.pooling != "mean":  # else the weights alone say what the states are
        total.update(repr((found.pooling, prompts, found.manner.default)).encode())
    return found, total.hexdigest()


def rows(setup: Setup) -> TextRows:
    """Return the first triplets of SNLI, tokenised once for all methods."""
    return _rows(setup.start if setup.weights else "", setup.triplets, setup.words, setup.length)


@cache
def _rows(backbone: str, count: int, words: int, length: int) -> TextRows:
    found = _opened(backbone)[0] if backbone else None
    pieces, prompt = (found.tokenizer, found.prompt()) if found else (tokenizer(count, words), "")
    return TextRows(pieces, triplets(count), leave_out_copies=True, length=length, prompt=prompt)
