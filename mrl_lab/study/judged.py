"""Texts that people have judged: a retrieval collection searched with prefixes of a sentence encoder's vectors.

Here nobody knows a class; which documents answer a query is written down in the collection. The encoder's states are
computed once and kept, and every size and form of storage is a cut of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mrl_lab import cuts, score, search, stats
from mrl_lab.data import texts
from mrl_lab.data.places import Found
from mrl_lab.device import choose
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.lab import kept
from mrl_lab.search import cost

K = 10


@kept
def vectors(weights: Found, collection: Found, length: int) -> dict[str, Tensor]:
    """The model's own vectors at length 1: "corpus" (N, d) and "queries" (Q, d), those queries of the test split.

    ``length``: most tokens of a text that are read.
    """
    found, encoder = texts.retrieval_in(collection), pretrained(weights.folder, length=length).to(choose().device)
    asked = [found.queries[q] for q in found.judged["test"]]
    corpus = encoder.vectors(list(found.corpus.values()), side="document")
    return {"corpus": normalize(corpus, dim=1), "queries": normalize(encoder.vectors(asked, side="query"), dim=1)}


def gains(collection: str) -> Tensor:
    """1 where a document answers a query of the test split, else 0: (Q, N)."""
    found = texts.retrieval(collection)
    return relevant(found, found.judged["test"])


def relevant(found: texts.Retrieval, judged: Mapping[str, Mapping[str, int]]) -> Tensor:
    """1 where a document answers a query that is judged, else 0: (Q, N)."""
    place = {document: i for i, document in enumerate(found.corpus)}
    table = torch.zeros(len(judged), len(place))
    for q, grades in enumerate(judged.values()):
        for document, grade in grades.items():
            if grade > 0 and document in place:
                table[q, place[document]] = 1
    return table


def by_query(z: dict[str, Tensor], relevant: Tensor, sizes: Sequence[int], name: str) -> dict[tuple[str, int], Tensor]:
    """nDCG@10 of each query (Q,) for every form of storage and size, and for a shortlist of 100, reranked by all dims.

    Keys are a method, such as "MiniLM, int8" for ``name`` = "MiniLM", and its size.
    """
    found = {}
    for m in sizes:
        rows, asked = search.unit_rows(z["corpus"], m), cuts.unit_prefix(z["queries"], m)
        for form in search.FORMS:
            ids = search.exact(asked, search.store(rows, form), K)[1]
            found[f"{name}, {form}", m] = score.relevance_ndcg(ids, relevant)
        ids = search.nested(z["corpus"], m).search(z["queries"], K, length=min(100, len(rows)))[1]
        found[f"{name}, reranked", m] = score.relevance_ndcg(ids, relevant)
    return found


def scored(found: dict[tuple[str, int], Tensor], n: int) -> pd.DataFrame:
    """Rows ndcg@10 of :func:`by_query`, with bytes an embedding and multiply-adds over ``n`` documents."""
    rows = []
    for (method, m), values in found.items():
        form = method.rpartition(", ")[2]
        flops = {m: cost.reranked(n, m, 100, max(size for _, size in found)) if form == "reranked" else n * m}
        value = {m: 100 * values.mean().item()}
        (row,) = score.tidy(value, method=method, metric=f"ndcg@{K}", seed=0, n=len(values), flops=flops)
        rows.append(row if form == "reranked" else row | {"bytes": search.store(torch.eye(1, m), form).bytes})
    return score.table(rows)


def losses(found: dict[tuple[str, int], Tensor], full: tuple[str, int]) -> pd.DataFrame:
    """Points of nDCG@10 that each method and size loses to ``full``, with a bootstrap interval over queries."""
    rows = []
    for (method, m), values in found.items():
        lost = stats.bootstrap(100 * found[full].numpy(), 100 * values.numpy())
        rows.append({"method": method, "dim": m, "loses": lost.mean, "low": lost.low, "high": lost.high})
    return pd.DataFrame(rows)
