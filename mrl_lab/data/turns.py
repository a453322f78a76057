"""Turns: questions about pictures as rows of token ids, the way a vision-language model reads a talk.

A row is a picture and all its questions, ``<image> question answer <end> question answer <end> ...``; the answers and
their ends are what is learnt. Questions stand in a shuffled order: in a fixed one, each is learnt at its own turn
only, and asked alone at test it fails. To test, ``alone`` gives each question a row of its own.

A closed vocabulary (:class:`Words`) serves models that are trained here; a tokenizer's ``encode`` takes its place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mrl_lab.data.questions import Questions
from mrl_lab.errors import RequestError

PAD, IMAGE, END = SPECIAL = ("<pad>", "<image>", "<end>")  # their ids in every vocabulary are 0, 1, 2
NOT_LEARNT = -100  # the label that losses pass over, as everywhere in torch and transformers


class Words:
    """A vocabulary of all words of some texts, and its ids; punctuation is a word, case is none."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.words = (*SPECIAL, *sorted({word for text in texts for word in _split(text)} - set(SPECIAL)))
        self._number = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's words.

        Raises:
            RequestError: a word that is not in the vocabulary; names the nearest that is.
        """
        found = _split(text)
        for word in found:
            if word not in self._number:
                near = get_close_matches(word, self.words, n=1, cutoff=0.5)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise RequestError(f"the word {word!r} of {text!r} is not among the {len(self)} known ones{hint}.")
        return [self._number[word] for word in found]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words of ids up to the first end, without padding."""
        words = [self.words[i] for i in ids if i != 0]
        return " ".join(words[: words.index(END)] if END in words else words)


def _split(text: str) -> list[str]:
    return re.findall(r"<\w+>|[\w/'-]+|[^\w\s]", text.lower())


class Talk(NamedTuple):
    """How a talk is written: the first question, and the later ones."""

    first: str
    later: str


PLAIN = Talk("<image> {}", "{}")
LLAVA = Talk("USER: <image>\n{} ASSISTANT:", "USER: {} ASSISTANT:")  # the prompt of LLaVA-1.5


class Turns:
    """Rows to train on or to test with: ``turns[index]`` -> images (B, C, H, W), ids (B, T), labels (B, T).

    Args:
        asked: pictures and questions.
        encode: text -> ids, of a :class:`Words` or a tokenizer (without special tokens of its own).
        alone: one question a row, in the order given, instead of all of a picture.
        seed: of the order of questions within each row.
        talk: how questions are written; begin: ids before all else, such as a tokenizer's begin-of-text.
        end: the id that ends an answer; pad: that of the filling, which is on the right.

    Raises:
        RequestError: an empty question or answer, or a question about a picture that is not there.
    """

    def __init__(
        self,
        asked: Questions,
        encode: Callable[[str], list[int]],
        *,
        alone: bool = False,
        seed: int = 0,
        talk: Talk = PLAIN,
        begin: tuple[int, ...] = (),
        end: int = 2,
        pad: int = 0,
    ) -> None:
        _check(asked)
        self.asked, self.pad, self._begin, self._end, self._talk = asked, pad, begin, end, talk
        self._encode = lru_cache(maxsize=None)(encode)  # questions repeat many times over
        self.turns = [[i] for i in range(len(asked))] if alone else shuffled_turns(asked.picture, seed)
        self.rows = [self._row(turns) for turns in self.turns]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = [self.rows[i] for i in index.tolist()]
        ids = pad_sequence([ids for ids, _ in rows], batch_first=True, padding_value=self.pad)
        labels = pad_sequence([labels for _, labels in rows], batch_first=True, padding_value=NOT_LEARNT)
        return self.images(index), ids, labels

    def images(self, index: Tensor) -> Tensor:
        """Return the pictures (B, C, H, W) of rows."""
        return self.asked.images[self.asked.picture[[self.turns[i][0] for i in index.tolist()]]]

    def prompts(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, ids (B, T) up to the first answer, and mask (B, T), False where ids are filled on the left."""
        rows = [self.rows[i] for i in index.tolist()]
        prompts = [ids[: int((labels >= 0).int().argmax())] for ids, labels in rows]
        ids = pad_sequence(prompts, batch_first=True, padding_value=self.pad, padding_side="left")
        filled = ids.shape[1] - torch.tensor([len(prompt) for prompt in prompts])
        return self.images(index), ids, torch.arange(ids.shape[1]) >= filled[:, None]  # (T,) (B, 1) -> (B, T)

    def _row(self, turns: list[int]) -> tuple[Tensor, Tensor]:
        ids, learnt = list(self._begin), [False] * len(self._begin)
        for n, i in enumerate(turns):
            question = self._encode((self._talk.later if n else self._talk.first).format(self.asked.questions[i]))
            answer = [*self._encode(self.asked.answers[i]), self._end]
            ids += [*question, *answer]
            learnt += [False] * len(question) + [True] * len(answer)
        tokens = torch.tensor(ids)
        return tokens, tokens.where(torch.tensor(learnt), NOT_LEARNT)


def shuffled_turns(picture: Tensor, seed: int) -> list[list[int]]:
    """Return the questions of each picture that has any, from picture (Q,), each list in a random order."""
    order = torch.randperm(len(picture), generator=torch.Generator().manual_seed(seed))
    grouped = order[picture[order].argsort(stable=True)]  # picture after picture, shuffled within each
    counts = picture.bincount()
    return [group.tolist() for group in grouped.split(counts[counts > 0].tolist())]


def _check(asked: Questions) -> None:
    """Raise RequestError unless each question has words, an answer, and a picture that is there."""
    counts = {len(asked.questions), len(asked.answers), len(asked.picture)}
    if len(counts) > 1 or not len(asked):
        raise RequestError(
            f"{len(asked.questions)} questions, {len(asked.answers)} answers and {len(asked.picture)} pictures: "
            "give one answer and one picture a question, and at least one question."
        )
    for what, texts in (("question", asked.questions), ("answer", asked.answers)):
        empty = next((i for i, text in enumerate(texts) if not text.strip()), None)
        if empty is not None:
            raise RequestError(f"{what} {empty} is empty: every question needs words, and so does its answer.")
    lost = (asked.picture < 0) | (asked.picture >= len(asked.images))
    if lost.any():
        i = int(lost.nonzero()[0])
        raise RequestError(
            f"question {i} ({asked.questions[i]!r}) is about picture {int(asked.picture[i])}, "
            f"but pictures are numbered 0 to {len(asked.images) - 1}: a question needs its picture."
        )


def best_blind(train: Questions, test: Questions) -> Tensor:
    """Return whether each test question is answered rightly (Q,) by the commonest answer in ``train`` to its words.

    Words that ``train`` never asks get its commonest answer of all.

    No model that does not look at the picture can do better than this on questions asked alone: the number that
    belongs beside every accuracy.
    """
    counts: dict[str, dict[str, int]] = {}
    for question, answer in zip(train.questions, train.answers, strict=True):
        of = counts.setdefault(question, {})
        of[answer] = of.get(answer, 0) + 1
    best = {question: max(of, key=of.__getitem__) for question, of in counts.items()}
    commonest = Counter(train.answers).most_common(1)[0][0]
    return torch.tensor([best.get(q, commonest) == a for q, a in zip(test.questions, test.answers, strict=True)])
