"""What a smaller vector loses: every way, size and form of storage asked the same questions.

Three criteria, the first that can be had: **nDCG@10** by judgements; **1-NN**, whether the nearest other document is
of the same class; **recall@10** of the neighbours that the whole vectors find, which is stricter than any task: a
neighbour that is exchanged for one as good counts as lost.

Documents are read in blocks, each projected once for all sizes, so that a file larger than memory can be asked. Forms
that need steps or means take them from a sample where there is more than one block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Protocol

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import TensorDataset

from mrl_lab import score, search
from mrl_lab.cuts import unit_prefix
from mrl_lab.lab import Recipe, kept, trained
from mrl_lab.methods.adaptor import TEMPERATURE, Adaptor
from mrl_lab.methods.baselines import FeatureSVD, random_columns
from mrl_lab.methods.sparse import Sparse
from mrl_lab.search import Stored
from mrl_lab.study.vectors import BITS, Codes, Collection, Way

K, SHORTLIST = 10, 100
BLOCK = 2**14  # documents projected at once: 50 MB at 768 numbers
LIKE = 2**14  # documents that forms take their steps and means from, at most: as sparse codes, 200 MB at 768 numbers
FORMS = ("float32", "int8", *BITS)
CRITERIA = {
    f"ndcg@{K}": f"**nDCG@{K}**, by judgements of which documents answer which queries, graded where they are",
    "1nn": "**1-NN by labels**: whether the most similar other document is of the same class",
    f"recall@{K}": f"**recall@{K} of the whole vectors' own neighbours**, for nobody said what a right answer is. It "
    "is stricter than any task: a neighbour that is exchanged for one as good counts as lost",
}
RERANKED = "reranked"  # by the whole vectors, of a shortlist that float32 numbers found


def once(function: Callable) -> property:
    """Make a property that is computed once and held beside the object: keys are made of what an object holds."""
    return property(cache(function))


@dataclass(frozen=True, eq=False)
class Shrinking:
    """A collection as a task: documents to learn from, questions, and what counts as an answer.

    Attributes:
        asks: most questions; a draw of the queries, or of the documents where there are none.
        learns: most documents to learn from, spread over all.
    """

    collection: Collection
    asks: int = 1_000
    learns: int = 20_000

    @property
    def key(self) -> list:
        """What identifies all of it."""
        return [self.collection.key, self.asks, self.learns]

    @property
    def metric(self) -> str:
        """The criterion's name in the tidy table."""
        known = self.collection
        return f"ndcg@{K}" if known.judged is not None else "1nn" if known.labels is not None else f"recall@{K}"

    # ------------------------------------------------------------------------------- learning

    @once
    def sample(self) -> Tensor:
        """Documents to learn from (n, d), float32, of length 1."""
        step = -(-len(self.collection) // self.learns)
        return normalize(self.collection.documents[::step].float(), dim=1)

    @once
    def axes(self) -> Tensor:
        """The axes (d, d) of the sample's SVD, by falling energy."""
        return FeatureSVD.fit(self.sample, centre=False).axes

    def rows(self) -> TensorDataset:
        """Documents alone: no query, judgement or label is learnt from."""
        return TensorDataset(self.sample)

    # --------------------------------------------------------------------------------- asking

    @once
    def who(self) -> Tensor:
        """Which queries, or documents, ask (Q,): a fixed draw, in its order."""
        known = self.collection
        if known.queries is not None:
            able = torch.arange(len(known.queries))
        elif known.labels is not None:  # only documents whose class has another one can find it
            able = (known.labels.bincount()[known.labels] > 1).nonzero()[:, 0]
        else:
            able = torch.arange(len(known))
        return able[torch.randperm(len(able), generator=torch.Generator().manual_seed(0))[: self.asks]]

    @property
    def own(self) -> Tensor | None:
        """The documents that the questions are (Q,), which are no answers to themselves; None for queries."""
        return self.who if self.collection.queries is None else None

    @once
    def questions(self) -> Tensor:
        """Vectors (Q, d), float32, of length 1."""
        source = self.collection.documents if self.collection.queries is None else self.collection.queries
        return normalize(source[self.who].float(), dim=1)

    @once
    def whole(self) -> Tensor:
        """Ids (Q, SHORTLIST) that the whole vectors find."""
        return nearest(Way("whole"), self, [self.collection.d], ["float32"])["float32", self.collection.d][0]

    def quality(self, ids: Tensor) -> Tensor:
        """The criterion of each question (Q,), from 0 to 1, for ids (Q, k) that were found, best first."""
        known, ids = self.collection, ids[:, :K]
        if known.judged is not None:
            judged = [known.judged[q] for q in self.who.tolist()]
            gains = [[grades.get(row, 0) for row in some] for grades, some in zip(judged, ids.tolist(), strict=True)]
            ideal = [(sorted(grades.values(), reverse=True) + [0] * ids.shape[1])[: ids.shape[1]] for grades in judged]
            return score.ndcg(torch.tensor(gains), torch.tensor(ideal))
        if known.labels is not None:
            return (known.labels[ids[:, 0]] == known.labels[self.own]).double()
        return (ids[:, :, None] == self.whole[:, None, :K]).any(2).double().mean(1)

    def answers(self, question: int, row: int) -> bool:
        """Say whether a document answers a question; by the whole vectors' own ten nearest where nobody knows."""
        known, who = self.collection, int(self.who[question])
        if known.judged is not None:
            return known.judged[who].get(row, 0) > 0
        if known.labels is not None:
            return bool(known.labels[row] == known.labels[who])
        return bool((self.whole[question, :K] == row).any())

    def title(self, question: int) -> str:
        """The text of a question, else its name."""
        known, who = self.collection, int(self.who[question])
        if known.queries is None:
            return known.title(who)
        return f"query {who}" if known.asked is None else known.asked[who]

    def ask(self, module: nn.Module, split: str, seed: int) -> pd.DataFrame:
        """Rows of a module that adapts, at its sizes, by the questions that choose ("validation") or judge ("test")."""
        part = halves(len(self.who))[0 if split == "validation" else 1]
        way = Adapting(module)
        found = nearest(way, self, module.sizes, ["float32"])
        values = {m: 100 * self.quality(ids)[part].mean().item() for (_, m), (ids, _) in found.items()}
        return score.table(score.tidy(values, method="", metric=self.metric, seed=seed, n=len(part)))


def halves(n: int) -> tuple[Tensor, Tensor]:
    """Which of n questions choose a size, and which are held out to see what the choice was worth."""
    return torch.arange(0, n, 2), torch.arange(1, n, 2)


# --------------------------------------------------------------------------------------------------- ways


class How(Protocol):
    """How a way is made, as plain values that a key can hold."""

    def way(self, task: Shrinking, seed: int) -> Way | Codes: ...


@dataclass(frozen=True)
class Prefix:
    """The first numbers as they are."""

    def way(self, task: Shrinking, seed: int) -> Way:
        """Return the way, which needs nothing."""
        return Way("prefix")


@dataclass(frozen=True)
class RandomDims:
    """Numbers drawn at random: what a prefix is worth if nothing ordered it."""

    def way(self, task: Shrinking, seed: int) -> Way:
        """Return the way of one draw."""
        d = task.collection.d
        return Way("random dims", torch.eye(d)[:, random_columns(d, d, seed)])


@dataclass(frozen=True)
class Rotation:
    """The axes of the documents by falling energy: SVD, or PCA where the mean is taken off first."""

    centre: bool = False

    def way(self, task: Shrinking, seed: int) -> Way:
        """Return the way, of the documents that are learnt from."""
        if not self.centre:
            return Way("rotation", task.axes)
        found = FeatureSVD.fit(task.sample, centre=True)
        return Way("PCA", found.axes, found.mean)


@dataclass(frozen=True)
class Nested:
    """The nested adaptor as a method of the lab; ``judged`` adds the ranking loss of the queries to learn from."""

    sizes: tuple[int, ...]
    hidden: int = 0
    keep: float = 0.0
    temperature: float = TEMPERATURE
    judged: bool = False

    def build(self, task: Shrinking, seed: int) -> Adaptor:
        """Return it untrained, a rotation."""
        how = {"hidden": self.hidden, "keep": self.keep, "temperature": self.temperature}
        return Adaptor(task.axes, self.sizes, **how)

    def rows(self, task: Shrinking) -> TensorDataset | Lessons:
        """Documents, and with ``judged`` as many lessons beside them."""
        return Lessons(task) if self.judged else task.rows()

    def made(self, module: Adaptor) -> Way:
        """Return what a trained adaptor does."""
        return Way("adaptor", module.matrix.detach(), bend=module.bend)


class Lessons:
    """Rows of documents, each with a query, a document that answers it and its grade."""

    def __init__(self, task: Shrinking) -> None:
        self.sample, known = task.sample, task.collection
        query, document, grade = known.lessons.T
        answers = normalize(known.documents[document].float(), dim=1)
        self.lessons = normalize(known.learners.float(), dim=1)[query], answers, grade.float()

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, ...]:
        return self.sample[index], *(part[index % len(part)] for part in self.lessons)


@dataclass(frozen=True)
class Sparsely:
    """Sparse codes of ``active`` numbers as a method of the lab."""

    active: int
    latents: int = 0
    contrast: str = "neighbours"
    weight: float = 1.0

    def build(self, task: Shrinking, seed: int) -> Sparse:
        """Return it untrained."""
        return Sparse(task.collection.d, self.active, self.latents, contrast=self.contrast, weight=self.weight)

    def made(self, module: Sparse) -> Codes:
        """Return what a trained one does."""
        return Codes("sparse codes", module)


@dataclass(frozen=True)
class Learnt:
    """A method of the lab, trained by a recipe."""

    method: Nested | Sparsely
    recipe: Recipe

    def way(self, task: Shrinking, seed: int) -> Way | Codes:
        """Return the way, trained once."""
        return self.method.made(trained(self.method, task, self.recipe, seed))


@dataclass(frozen=True, eq=False)
class Adapting:
    """A module with ``adapt``, a reader's own as well, as a way."""

    module: nn.Module

    @torch.no_grad()
    def rows(self, z: Tensor, sizes: Sequence[int]) -> dict[int, Tensor]:
        """z (B, d), of length 1 -> {m: (B, m), of length 1}."""
        whole = self.module.adapt(z)
        return {m: unit_prefix(whole, m) for m in sizes}


# ------------------------------------------------------------------------------------------------- asking


def nearest(
    way: Way | Codes | Adapting,
    task: Shrinking,
    sizes: Sequence[int],
    forms: Sequence[str],
    k: int = SHORTLIST,
    which: Sequence[int] | None = None,
) -> dict[tuple[str, int], tuple[Tensor, float]]:
    """Return {(form, size): (ids (Q, k), seconds of search a question)}, over all documents.

    Args:
        forms: of :data:`FORMS`; 10 neighbours are searched for, but by "float32" ``k``, which a rerank begins with.
        which: questions; all by default.
    """
    known, some = task.collection, slice(None) if which is None else list(which)
    own = None if task.own is None else task.own[some]
    wanted = {form: min(k if form == "float32" else K, len(known) - (own is not None)) for form in forms}
    asked, sample = way.rows(task.questions[some], sizes), None
    if len(known) > BLOCK:
        sample = way.rows(task.sample[:: -(-len(task.sample) // LIKE)], sizes)
    best: dict[tuple[str, int], _Best] = {}
    for start in range(0, len(known), BLOCK):
        rows = way.rows(normalize(known.documents[start : start + BLOCK].float(), dim=1), sizes)
        for form, m in product(forms, rows):
            if start == 0:
                like = None if sample is None else search.store(sample[m], form)
                best[form, m] = _Best(asked[m], wanted[form] + (own is not None), like)
            best[form, m].offer(rows[m], form, start)
    return {cell: (one.finish(own), one.seconds / len(one.queries)) for cell, one in best.items()}


class _Best:
    """The best of some queries so far, block after block of documents."""

    def __init__(self, queries: Tensor, k: int, like: Stored | None) -> None:
        self.queries, self.k, self.like, self.seconds = queries, k, like, 0.0
        self.scores, self.ids = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)

    def offer(self, block: Tensor, form: str, start: int) -> None:
        """Search rows (b, m), of which the first is document ``start``."""
        rows = search.store(block, form, self.like)
        began = time.perf_counter()
        scores, ids = search.exact(self.queries, rows, min(self.k, len(rows)))
        self.seconds += time.perf_counter() - began
        scores, ids = torch.cat([self.scores, scores], 1), torch.cat([self.ids, ids + start], 1)
        order = scores.sort(dim=1, descending=True, stable=True).indices[
            :, : self.k
        ]  # earlier rows first, as in one search
        self.scores, self.ids = scores.gather(1, order), ids.gather(1, order)

    def finish(self, own: Tensor | None) -> Tensor:
        """Return the ids (Q, k), without the questions themselves."""
        if own is None:
            return self.ids
        itself = self.ids == own[:, None]
        itself[:, -1] |= ~itself.any(1)  # a copy of it stood before it: the last one goes
        return self.ids[~itself].view(len(own), -1)


@kept
def by_question(how: How, task: Shrinking, sizes: Sequence[int], forms: Sequence[str], seed: int) -> dict[str, Tensor]:
    """Return the criterion (Q,) of each question by form and size ("int8 32"), and reranked ("reranked 32").

    And "seconds int8 32": of search, a question.
    """
    way, whole = how.way(task, seed), task.collection
    found = nearest(way, task, sizes, forms)
    rows = {}
    for (form, m), (ids, seconds) in found.items():
        rows[f"{form} {m}"] = task.quality(ids)
        rows[f"seconds {form} {m}"] = torch.tensor(seconds)
        if form == "float32":
            again = search.rerank(task.questions, whole.documents, ids[:, :SHORTLIST], whole.d, min(K, ids.shape[1]))[1]
            rows[f"{RERANKED} {m}"] = task.quality(again)
    return rows


def measured(
    ways: Mapping[str, How | Sequence[Learnt]], task: Shrinking, sizes: Sequence[int], seed: int
) -> dict[str, dict[str, Tensor]]:
    """Return {way: :func:`by_question`}; sparse codes, several under one name, at the one size of each.

    What no training makes is the same for every seed, and computed once.
    """
    found = {}
    for name, how in ways.items():
        if isinstance(how, (list, tuple)):
            rows = [by_question(one, task, [one.method.active], CODED, seed) for one in how]
            found[name] = {key: q for some in rows for key, q in some.items()}
        else:
            found[name] = by_question(how, task, sizes, FORMS, seed if isinstance(how, Learnt) else 0)
    return found


CODED = ("float32", "int8")  # forms of sparse codes


def before_and_after(
    way: Way | Codes, task: Shrinking, question: int, m: int, k: int = 5
) -> dict[str, list[tuple[str, str, bool]]]:
    """Return what one question finds by ``m`` numbers, and by a shortlist of them put in order by the whole vectors.

    Each as (text, the place before, whether it is an answer), best first.
    """
    ids = nearest(way, task, [m], ["float32"], which=[question])["float32", m][0]
    asked, known = task.questions[question : question + 1], task.collection
    again = search.rerank(asked, known.documents, ids, known.d, k)[1][0].tolist()
    place = {row: i for i, row in enumerate(ids[0].tolist(), 1)}
    say = lambda row, remark: (known.title(row), remark, task.answers(question, row))  # noqa: E731
    after = [say(row, "" if place[row] == i else f"was no. {place[row]}") for i, row in enumerate(again, 1)]
    return {f"{m} numbers": [say(row, "") for row in ids[0, :k].tolist()], "reranked by the whole": after}
