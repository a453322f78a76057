"""Adapting: a model that people have, fine-tuned by each method for a short time, and scored wherever there is a test.

Its weights take 90 MB each. So a model is trained once, all that is asked of it is computed, and that is kept in their
place. Scores are grids (N+1, |M|) from one encoding, NaN where a cut was not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mrl_lab import score, stats
from mrl_lab.data import texts
from mrl_lab.device import choose
from mrl_lab.encoders.texts import SentenceEncoder, encode_each
from mrl_lab.study import judged
from mrl_lab.study.sentences import tests
from mrl_lab.study.sentences.task import Sentences

SHOWN = 200  # sentences whose states are kept for the slider
Found = dict[str, Tensor]


@dataclass(frozen=True)
class Adapted(Sentences):
    """Sentences for a model whose weights are too large to keep; ``sets`` of :data:`SETS` are asked, and kept.

    The dev pairs of the test that judges, by which rates are chosen, always are.
    """

    sets: tuple[str, ...] = ()
    chosen: ClassVar[str] = "spearman"  # what of the dev set chooses rates

    @property
    def sources(self) -> tuple[str, ...]:
        """What is read, by name among the sources."""
        further = (tests.SOURCES[one] for one in self.sets if one in tests.FURTHER)
        return tuple(dict.fromkeys((*super().sources, *further)))

    def keep(self, module: nn.Module) -> Found:
        """Return what the sets say of a module's encoder, and its cut if it has one.

        Grids by metric, such as "STS-B spearman", each with its "n ..."; "cosines of ..." all test pairs (P, |S|) and
        "queries of ..." all queries (Q, |S|) at Starbucks' pairs; "said" (n, N+1, d), states of sentences to look at.
        """
        encoder, cut = module.encoder.to(choose().device), getattr(module, "cut", None)
        found = {} if cut is None else {"cut": torch.tensor(cut)}
        for one in dict.fromkeys((self.dev, *self.sets)):
            found |= SETS[one](encoder, self)
        return found

    def ask(self, found: Found, split: str, seed: int) -> pd.DataFrame:
        """Return all grids that were kept as rows of the tidy table; on the validation split, what rates go by."""
        cut = found["cut"].tolist() if "cut" in found else None
        if split == "validation":
            return self.chosen_by(found[f"{self.dev} {self.chosen}"], cut)
        sizes = {name: int(found[f"n {name}"]) for name in found if f"n {name}" in found}
        return self.table({name: (found[name], n) for name, n in sizes.items()}, cut)

    @property
    def dev(self) -> str:
        """What the dev pairs of the test that judges are called."""
        return tests.name(self.tests[0], "dev")

    def said(self) -> list[str]:
        """Return the sentences of the slider: the first ones of the test that judges, each once."""
        return tests.sentences(self.tests[0], SHOWN)


@dataclass(frozen=True)
class Searching(Adapted):
    """The same model, for search: it learns from SciFact's queries, by raw products, and is asked by them.

    Starbucks' recipe for retrieval (its dot form, section 3.3 of the paper) on a collection that is at hand. How we
    differ: SciFact's claims in the place of MS MARCO's questions, one hard negative a query and not seven, the model's
    own pooling, one length for queries and passages. Rates are chosen on training queries that are held out.
    """

    length: int = 96
    learns: str = "scifact"
    chosen: ClassVar[str] = "ndcg@10"

    @property
    def dev(self) -> str:
        """What is asked of the queries that choose."""
        return "SciFact dev by dot"


# ------------------------------------------------------------------------------------------------ sets


def _similar(test: str, part: str) -> Callable[[SentenceEncoder, Adapted], Found]:
    def of(encoder: SentenceEncoder, task: Adapted) -> Found:
        pairs, metric = tests.pairs(test, part).some(task.most), tests.metric(test, part)
        x, y = encode_each(encoder, pairs.sentence1, pairs.sentence2)
        found = {metric: score.spearman_grid(x, y, pairs.score, task.sizes)}
        cuts = [cut for cut in task.pairs if cut.layer <= encoder.layers]
        of_cuts = [score.cosine_grid(x[:, [c.layer]], y[:, [c.layer]], [c.dim])[..., 0] for c in cuts]  # (P, 1) each
        return found | {f"n {metric}": torch.tensor(len(x)), f"cosines of {metric}": torch.cat(of_cuts, 1)}

    return of


def _semeval(encoder: SentenceEncoder, task: Adapted) -> Found:
    """Spearman of each year of SemEval's, over all of its pairs."""
    found: Found = {}
    for year in tests.YEARS:
        pairs, metric = tests.pairs(year), tests.metric(year)
        x, y = encode_each(encoder, pairs.sentence1, pairs.sentence2)
        found |= {metric: score.spearman_grid(x, y, pairs.score, task.sizes), f"n {metric}": torch.tensor(len(x))}
    return found


def _searched(name: str, title: str, *, dev: bool = False, dot: bool = False) -> Callable:
    """nDCG@10 and MRR@10 of a collection's test queries, or of those that choose, at Starbucks' pairs."""

    def of(encoder: SentenceEncoder, task: Adapted) -> Found:
        collection = texts.retrieval(name)
        answers = texts.held_out(collection.judged["train"]) if dev else collection.judged["test"]
        asked = [collection.queries[query] for query in answers]
        queries = encoder.encode(asked, side="query")
        corpus = encoder.encode(list(collection.corpus.values()), side="document")
        relevant, found = judged.relevant(collection, answers), {}
        for place, cut in enumerate(c for c in task.pairs if c.layer <= encoder.layers):
            each = score.searched(queries[:, cut.layer], corpus[:, cut.layer], relevant, cut.dim, dot=dot)
            for metric, values in ((f"{title} {metric}", 100 * values) for metric, values in each.items()):
                grid = found.setdefault(metric, torch.full((encoder.layers + 1, len(task.sizes)), torch.nan))
                grid[cut.layer, task.sizes.index(cut.dim)] = values.mean()
                found[f"n {metric}"] = torch.tensor(len(asked))
                found.setdefault(f"queries of {metric}", torch.zeros(len(asked), len(task.pairs)))[:, place] = values
        return found

    return of


SETS = {tests.name(test, part): _similar(test, part) for test in tests.PAIRS for part in ("dev", "test")} | {
    "STS12-16": _semeval,
    "SciFact": _searched("scifact", "SciFact"),
    "Cranfield": _searched("cranfield", "Cranfield"),
    "SciFact by dot": _searched("scifact", "SciFact by dot", dot=True),
    "SciFact dev by dot": _searched("scifact", "SciFact dev by dot", dev=True, dot=True),
    "said": lambda encoder, task: {"said": encoder.encode(task.said())},
}


# ----------------------------------------------------------------------------------- what the test set does


def over_pairs(of: Found, minus: Found, columns: Sequence[int], test: str) -> stats.Interval:
    """Return the difference of two models on a test, with its bootstrap interval over the test's sentence pairs.

    Each model's score is the mean Spearman over some of Starbucks' pairs, whose places in the list are ``columns``.
    The interval says what other test pairs would give; it knows nothing of other seeds. It takes pairs for independent:
    three of graded SNLI share a premise, so there it is somewhat too narrow.
    """
    cosines = [found[f"cosines of {tests.metric(test)}"][:, list(columns)] for found in (of, minus)]
    gold = tests.pairs(test).some(len(cosines[0])).score
    sides = [np.column_stack([side, gold]) for side in cosines]  # (P, k) -> (P, k + 1)
    return stats.bootstrap(*sides, score.mean_spearman, resamples=1000)


def over_queries(of: Found, minus: Found, columns: Sequence[int], searched: str) -> stats.Interval:
    """Return the difference of two models in nDCG@10 on a collection, with its bootstrap interval over the queries."""
    sides = [found[f"queries of {searched} ndcg@10"][:, list(columns)].mean(1).numpy() for found in (of, minus)]
    return stats.bootstrap(*sides)
