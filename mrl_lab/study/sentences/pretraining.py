"""Pre-training: a BERT that reads plain sentences first, by one of three ways, with equal steps and texts.

It is a small one without a past, or, where the task has a backbone, that one: then with the head that guesses words
from its own file, or a drawn one if the file has none.

| start | what is learnt | at |
|---|---|---|
| MLM | hidden words | the last layer |
| MAE | hidden words, and a text seen through one [CLS] state | the last layer |
| SMAE | the same | every pair of Starbucks' list |

The published tables compare SMAE with no further pre-training at all. MLM and MAE here see the same texts for as many
steps, so what SMAE has over them is owed to its pairs. All begin with the weights that an encoder without
pre-training is left with.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mrl_lab import lab
from mrl_lab.data import places, texts
from mrl_lab.encoders import elsewhere, weights
from mrl_lab.encoders.texts import SentenceEncoder, small_config
from mrl_lab.encoders.tokens import MaskedRows
from mrl_lab.errors import RequestError, unknown
from mrl_lab.lab import Recipe
from mrl_lab.methods.starbucks import SMAE
from mrl_lab.study.sentences import task as tasks
from mrl_lab.study.sentences import tests

if TYPE_CHECKING:
    from transformers import BertForMaskedLM

    from mrl_lab.study.sentences.task import Sentences

WAYS = ("MLM", "MAE", "SMAE")


@dataclass(frozen=True)
class Pretraining:
    """A way to read, one of :data:`WAYS`, and for how long; itself a method, which learns from masked sentences.

    Raises:
        RequestError: an unknown way; when it is built, a backbone that is no BERT.
    """

    way: str
    recipe: Recipe

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise unknown("way to read", self.way, WAYS)

    def build(self, task: Sentences, seed: int) -> SMAE:
        """Return it untrained, around the blocks that the task's encoder has at this seed."""
        encoder = task.encoder(seed)
        model = _guessing(task, encoder)
        model.bert = encoder.body
        model.tie_weights()
        pairs = task.pairs if self.way == "SMAE" else [(task.layers, task.d)]
        return SMAE(model, pairs, autoencode=self.way != "MLM")

    def rows(self, task: Sentences) -> MaskedRows:
        """Return sentences with words hidden, others at each pass: a fifth in one copy, two fifths in the other."""
        return _rows(task.backbone, task.words, task.length, task.triplets, task.also, task.tests, task.learns)

    def read(self, task: Sentences, seed: int) -> SentenceEncoder:
        """Return the task's encoder after it has read; it reads once for all that is trained after."""
        encoder = task.encoder(seed)
        encoder.body.load_state_dict(lab.trained(self, task, self.recipe, seed).model.bert.state_dict())
        return encoder


def _guessing(task: Sentences, encoder: SentenceEncoder) -> BertForMaskedLM:
    """Return a BERT with a head that guesses words: a small one as drawn, or that of the task's backbone."""
    from transformers import BertForMaskedLM, BertModel

    if not task.backbone:
        return BertForMaskedLM(small_config(encoder.tokenizer, task.d, task.layers, length=task.length))
    if not isinstance(encoder.body, BertModel):
        raise RequestError(
            f"{task.backbone} is a {type(encoder.body).__name__}: pre-training here slices the head of a BERT."
        )
    place = places.ensure(tasks.MINILM).folder if task.backbone == tasks.MINILM else task.backbone
    model, lacking, _ = weights.loaded(BertForMaskedLM, place, elsewhere.WHAT, elsewhere.ADVICE)
    weights.refuse([name for name in lacking if not name.startswith("cls.")], place, elsewhere.WHAT)
    if lacking:
        print(f"{task.backbone} has no head that guesses words: it is drawn at random")
    return model.float().train()


@cache
def _rows(
    backbone: str, words: int, length: int, triplets: int, also: tuple[str, ...], tested: tuple[str, ...], learns: str
) -> MaskedRows:
    pieces = tasks.opened(backbone)[0].tokenizer if backbone else tasks.tokenizer(triplets, words, learns)
    return MaskedRows(pieces, sentences(triplets, also, tested, learns)[0], length=length)


@cache
def sentences(
    triplets: int, also: tuple[str, ...], tested: tuple[str, ...], learns: str = "snli"
) -> tuple[list[str], int]:
    """Return the sentences to read, each once, and how many were left out since a test has them word for word.

    They are those of the first triplets of ``learns``, of STS-B's training pairs where STS-B is among the tests, and
    with ``also`` Multi30k's training captions or the paragraphs of Wikipedia; left out are all tests' dev and test
    pairs.
    """
    parts = [tests.pairs(test, part) for test in tested for part in ("dev", "test")]
    known = {text for part in parts for text in part.sentence1 + part.sentence2}
    read = [text for row in tasks.triplets(triplets, learns) for text in row]
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
