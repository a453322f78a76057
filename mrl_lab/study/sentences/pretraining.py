"""Pre-training: a small BERT that reads plain sentences first, by one of three ways, with equal steps and texts.

| start | what is learnt | at |
|---|---|---|
| MLM | hidden words | the last layer |
| MAE | hidden words, and a text seen through one [CLS] state | the last layer |
| SMAE | the same | every pair of Starbucks' list |

The published tables compare SMAE with no further pre-training at all. MLM and MAE here see the same texts for as many
steps, so what SMAE has over them is owed to its pairs.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import torch
from torch import Tensor

from mrl_lab import runs
from mrl_lab.data import texts
from mrl_lab.encoders.texts import SentenceEncoder, small_config
from mrl_lab.encoders.tokens import MaskedRows
from mrl_lab.methods.starbucks import SMAE
from mrl_lab.study.sentences import setups, tests
from mrl_lab.study.sentences.setups import Setup
from mrl_lab.train import fit

WAYS = ("MLM", "MAE", "SMAE")


def sentences(setup: Setup) -> tuple[list[str], int]:
    """Return the sentences to read, each once, and how many were left out since a test has them word for word.

    They are those of the first triplets of SNLI, of STS-B's training pairs where STS-B is among the tests, and with
    ``also`` Multi30k's training captions or the paragraphs of Wikipedia; left out are all tests' dev and test pairs.
    """
    return _sentences(setup.triplets, setup.also, setup.tests)


@cache
def _sentences(triplets: int, also: tuple[str, ...], tested: tuple[str, ...]) -> tuple[list[str], int]:
    parts = [tests.pairs(test, part) for test in tested for part in ("dev", "test")]
    known = {text for part in parts for text in part.sentence1 + part.sentence2}
    read = [text for row in setups.triplets(triplets) for text in row]
    if tests.STSB in tested:
        train = tests.pairs(tests.STSB, "train")
        read += train.sentence1 + train.sentence2
    further = {
        "multi30k": lambda: [text for five in texts.captions()["train"] for text in five],
        "wiki100": lambda: [text for _, text in texts.paragraphs()],
    }
    read = list(dict.fromkeys(read + [text for name in also for text in further[name]()]))
    kept = [text for text in read if text not in known]
    return kept, len(read) - len(kept)


def rows(setup: Setup) -> MaskedRows:
    """Return the sentences with words hidden, others at each pass: a fifth in one copy, two fifths in the other."""
    return _rows(setup.triplets, setup.words, setup.length, setup.also, setup.tests)


@cache
def _rows(triplets: int, words: int, length: int, also: tuple[str, ...], tested: tuple[str, ...]) -> MaskedRows:
    return MaskedRows(setups.tokenizer(triplets, words), _sentences(triplets, also, tested)[0], length=length)


def build(setup: Setup, encoder: SentenceEncoder, seed: int) -> SMAE:
    """Return the way of ``setup.start`` around ``encoder``'s own blocks; its head is drawn from ``seed``."""
    from transformers import BertForMaskedLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForMaskedLM(small_config(encoder.tokenizer, setup.d, setup.layers, length=setup.length))
    model.bert = encoder.body
    model.tie_weights()
    whole = [(setup.layers, setup.d)]
    ways = {"MLM": (whole, False), "MAE": (whole, True), "SMAE": (setup.pairs, True)}
    pairs, autoencode = ways[setup.start]
    return SMAE(model, pairs, autoencode=autoencode)


def begin(setup: Setup, seed: int) -> SentenceEncoder:
    """Return the encoder of a start, pre-trained if it asks for that; reused where it was pre-trained before."""
    encoder = setups.encoder(setup, seed)
    if setup.start not in WAYS:
        return encoder

    def make() -> dict[str, Tensor]:
        model = build(setup, encoder, seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # dropout, and which words are hidden
            fit(model, rows(setup), steps=setup.before, batch=setup.batch, lr=setup.before_lr, clip=1.0, seed=seed)
        return encoder.cpu().state_dict()

    shared = ("layers", "d", "triplets", "batch", "words", "length", "start", "before", "before_lr", "also", "tests")
    key = {"what": "pre-training", "seed": seed} | {name: asdict(setup)[name] for name in shared}
    encoder.load_state_dict(runs.remember(key, make))
    return encoder
