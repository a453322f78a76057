"""Scores of cuts. Each function takes states that were computed once and gives one number a size.

Numbers of the kind "how many are right" are per cent. ``flops`` counts multiply-adds after the encoder for
one query, once each, as the MRL paper does; ``bytes`` is what one stored float32 embedding takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mrl_lab import search
from mrl_lab.cuts import check_sizes, stored_bytes, unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.schema import SCORES

if TYPE_CHECKING:
    import pandas as pd

NULLS = 20  # permutations of the null of the nesting score


@torch.no_grad()
def embed(encoder: nn.Module, x: Tensor, batch: int = 256) -> Tensor:
    """Return the embeddings (N, d) of x, in evaluation mode, on the CPU as float32. Encode once, cut many."""
    device = next(encoder.parameters()).device
    was_training, _ = encoder.training, encoder.eval()
    z = torch.cat([encoder(part.to(device)).float().cpu() for part in x.split(batch)])
    encoder.train(was_training)
    return z


@torch.no_grad()
def predictions(head: nn.Module, z: Tensor) -> dict[int, Tensor]:
    """Return the predicted class (N,) at each size of a nested head."""
    device = next(head.parameters()).device
    return {m: logits.argmax(1).cpu() for m, logits in head(z.to(device)).items()}


def accuracy(predicted: Tensor, y: Tensor) -> float:
    """Per cent of predictions (N,) that equal the integer labels (N,)."""
    return (predicted == y).float().mean().item() * 100


def coarse_accuracy(predicted: Tensor, y: Tensor, coarse: Tensor) -> float:
    """Per cent right after mapping both classes by ``coarse`` (C,): class -> coarse class (MRL, section 5)."""
    return accuracy(coarse[predicted], coarse[y])


def neighbours(z: Tensor, database: Tensor, sizes: Iterable[int], k: int = 10, **how) -> dict[int, Tensor]:
    """Return {m: ids (Q, k)} of the nearest database rows by cosine on the first m dims."""
    return {m: search.at_size(z, database, m, k, **how)[1] for m in sizes}


def one_nn(ids: Tensor, database_y: Tensor, y: Tensor) -> float:
    """1-NN accuracy in per cent from neighbours ids (Q, k)."""
    return accuracy(database_y[ids[:, 0]], y)


def knn(
    z: Tensor, database: Tensor, database_y: Tensor, y: Tensor, sizes: Iterable[int], k: int = 20, tau: float = 0.07
) -> dict[int, float]:
    """Return {m: per cent right} of queries z (Q, d) with classes y (Q,), by :func:`knn_classes`."""
    return {m: accuracy(knn_classes(z, database, database_y, m, k, tau), y) for m in sizes}


def knn_classes(z: Tensor, database: Tensor, database_y: Tensor, m: int, k: int = 20, tau: float = 0.07) -> Tensor:
    """Return the classes (Q,) that the k nearest vote for, each with weight exp(cosine / tau), on the first m dims.

    The protocol of DINO (arXiv 2104.14294, section 4.1), with prefixes normalised after the cut. Ties go to the first
    class.

    Args:
        z: queries (Q, d). database: (N, d), of classes database_y (N,).
    """
    cosines, ids = search.at_size(z, database, m, min(k, len(database)))
    return vote(cosines, database_y[ids], tau)


def vote(cosines: Tensor, labels: Tensor, tau: float = 0.07) -> Tensor:
    """Return the class (Q,) with most weight among neighbours of ``labels`` (Q, k) at ``cosines`` (Q, k)."""
    votes = torch.zeros(len(labels), int(labels.max()) + 1)
    votes.scatter_add_(1, labels, ((cosines - 1) / tau).exp().float())
    return votes.argmax(1)


def nearest_class_mean(support_z: Tensor, support_y: Tensor, z: Tensor, sizes: Iterable[int]) -> dict[int, Tensor]:
    """Return {m: class (Q,)} whose mean of support rows is nearest to each query (MRL, appendix G).

    Prefixes are cut and normalised before they are averaged; means are compared by L2 and not normalised again.
    Only the support's own classes are predicted. Running sums over blocks of dims give the same and gain nothing
    (20 classes, 180 rows, 2000 queries, 9 sizes to 512: 4.8 ms as here, 4.7 with prefix norms, 10.2 by blocks).

    Args:
        support_z: (N, d). support_y: (N,). z: (Q, d).
    """
    names, place = support_y.unique(return_inverse=True)
    members = torch.nn.functional.one_hot(place).to(support_z.dtype)  # (N, C)
    found = {}
    for m in sizes:
        means = (members / members.sum(0)).T @ unit_prefix(support_z, m)  # (C, N) (N, m) -> (C, m)
        nearness = unit_prefix(z, m) @ means.T - means.square().sum(1) / 2  # -(L2 distance)^2 / 2 + 1/2: (Q, C)
        found[m] = names[nearness.argmax(1)]
    return found


def average_precision(relevant: Tensor) -> Tensor:
    """AP@k of each query from relevance (Q, k), divided by k and not by the hits, as the paper does.

    AP@k = 1/k * sum over i <= k of precision(i) * relevant(i), so AP@k <= P@k.
    """
    relevant = relevant.double()
    places = torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64)
    precision = relevant.cumsum(1) / places  # (Q, k)
    return (precision * relevant).mean(1)


def mean_average_precision(ids: Tensor, database_y: Tensor, y: Tensor, k: int = 10) -> float:
    """mAP@k in per cent from neighbours ids (Q, >= k)."""
    return average_precision(database_y[ids[:, :k]] == y[:, None]).mean().item() * 100


def ndcg(gains: Tensor, ideal: Tensor) -> Tensor:
    """nDCG@k of each query (Q,) from the gains (Q, k) of what was found, best first, and the ideal gains (Q, k).

    A gain counts 1 / log2(1 + place) of itself (Järvelin and Kekäläinen, 2002); a query without relevant rows has 0.
    """
    discount = 1 / torch.arange(2, gains.shape[1] + 2, dtype=torch.float64).log2()
    return (gains.double() @ discount) / (ideal.double() @ discount).clamp(min=1e-12)


def purity(clusters: np.ndarray, y: np.ndarray) -> float:
    """Share of items whose class is the commonest of their cluster; 1 for clusters of a single item."""
    return sum(np.bincount(y[clusters == c]).max() for c in np.unique(clusters)) / len(y)


def agreement(clusters: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return purity, NMI, AMI in per cent, and how many clusters are in use; AMI alone is corrected for chance."""
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    return {
        "purity": 100 * purity(clusters, y),
        "NMI": 100 * normalized_mutual_info_score(y, clusters),
        "AMI": 100 * adjusted_mutual_info_score(y, clusters),
        "clusters": float(len(np.unique(clusters))),
    }


def nesting(coarse: np.ndarray, fine: np.ndarray) -> float:
    """Return 1 - H(coarse | fine) / H(coarse): 1 where every fine cluster lies inside one coarse cluster.

    Raises:
        RequestError: partitions of different numbers of items.
    """
    from sklearn.metrics import homogeneity_score

    if len(coarse) != len(fine):
        raise RequestError(f"two partitions of the same items are compared, got {len(coarse)} and {len(fine)} items.")
    return float(homogeneity_score(coarse, fine))


def nesting_null(coarse: np.ndarray, fine: np.ndarray, seed: int) -> float:
    """Return the mean nesting score when ``fine`` is shuffled: many fine clusters look nested by chance."""
    draw = np.random.default_rng(seed)
    return float(np.mean([nesting(coarse, draw.permutation(fine)) for _ in range(NULLS)]))


def relevance_ndcg(ids: Tensor, relevant: Tensor) -> Tensor:
    """nDCG@k of each query (Q,) from ids (Q, k) of what was found, best first, and relevance (Q, N)."""
    k = ids.shape[1]
    return ndcg(relevant.gather(1, ids), relevant.sort(1, descending=True).values[:, :k])


def reciprocal_rank(gains: Tensor) -> Tensor:
    """Return 1 / place of the first relevant row of each query (Q,) from gains (Q, k); 0 where there is none."""
    places = torch.arange(1, gains.shape[1] + 1, dtype=torch.float64)
    return ((gains > 0).double() / places).amax(1)


def searched(
    queries: Tensor, corpus: Tensor, relevant: Tensor, m: int, k: int = 10, *, dot: bool = False
) -> dict[str, Tensor]:
    """Return {"ndcg@k": (Q,), "mrr@k": (Q,)}, from 0 to 1, of a search by cosine on the first m dims.

    Args:
        queries: (Q, d). corpus: (N, d). relevant: (Q, N), above 0 where a document answers a query.
        dot: search by the raw product, for what was trained by it.
    """
    found = search.exact(queries[:, :m], corpus[:, :m], k) if dot else search.at_size(queries, corpus, m, k)
    ids = found[1]
    return {f"ndcg@{k}": relevance_ndcg(ids, relevant), f"mrr@{k}": reciprocal_rank(relevant.gather(1, ids))}


def cosine_grid(x: Tensor, y: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the cosine of each pair at every layer and width: x, y (P, N+1, D) -> (P, N+1, |M|).

    A prefix's cosine is a quotient of running sums, x_1 y_1 + ... + x_m y_m over the root of its two squares: one pass
    for all widths. Sums are in float64, so that late widths are as exact as early ones.
    """
    at = torch.tensor(sizes) - 1
    sums = [(a.double() * b).cumsum(-1)[..., at] for a, b in ((x, y), (x, x), (y, y))]  # (P, N+1, D) -> (P, N+1, |M|)
    return sums[0] / (sums[1] * sums[2]).sqrt().clamp(min=1e-12)


def spearman_grid(x: Tensor, y: Tensor, gold: Sequence[float], sizes: Sequence[int], chunk: int = 512) -> Tensor:
    """Return Spearman's rho x 100 with what people said, of every layer and width: (N+1, |M|).

    Args:
        x, y: states (P, N+1, D) of the sentences of each pair. gold: (P,), in any unit.
        chunk: pairs whose running sums are held at once.

    Raises:
        RequestError: widths that the states do not have, or another number of judgements than of pairs.
    """
    from scipy.stats import spearmanr

    check_sizes(sizes, x.shape[-1])
    if len(gold) != len(x):
        raise RequestError(f"{len(x)} pairs and {len(gold)} judgements: one each is needed.")
    parts = zip(x.split(chunk), y.split(chunk), strict=True)
    found = torch.cat([cosine_grid(a, b, sizes) for a, b in parts])  # (P, N+1, |M|)
    columns = found.flatten(1).T.numpy()  # ((N+1) |M|, P)
    return 100 * torch.tensor([spearmanr(column, gold).statistic for column in columns]).view(found.shape[1:])


def mean_spearman(items: np.ndarray) -> float:
    """Return the mean over columns of Spearman's rho x 100 with the last column, (P, k + 1) -> number."""
    from scipy.stats import rankdata

    ranks = rankdata(items, axis=0)
    ranks -= ranks.mean(0)
    ranks /= (ranks**2).sum(0) ** 0.5
    return 100 * float((ranks[:, :-1].T @ ranks[:, -1]).mean())


def tidy(
    values: Mapping[int, float],
    *,
    method: str,
    metric: str,
    seed: int,
    n: int,
    flops: Mapping[int, float] | None = None,
    seconds: float | None = None,
) -> list[dict]:
    """Return rows of the tidy table for one value a size ``{m: value}``."""
    rows = []
    for m, value in values.items():
        row = dict.fromkeys(SCORES) | {
            "method": method,
            "seed": seed,
            "dim": m,
            "metric": metric,
            "value": value,
            "n": n,
        }
        rows.append(row | {"bytes": stored_bytes(m), "flops": flops and flops[m], "seconds": seconds})
    return rows


def classification(
    model: nn.Module, z: Tensor, y: Tensor, *, method: str, seed: int, coarse: Tensor | None = None
) -> list[dict]:
    """Rows of linear top-1, and of the same mapped to coarse classes, by the model's own trained heads."""
    predicted = predictions(model.head, z)
    common = {"method": method, "seed": seed, "n": len(y)}
    classes = model.head.linear(model.head.sizes[0]).out_features
    flops = {m: m * classes for m in predicted}
    rows = tidy({m: accuracy(p, y) for m, p in predicted.items()}, metric="top1", flops=flops, **common)
    if coarse is not None:
        by_size = {m: coarse_accuracy(p, y, coarse) for m, p in predicted.items()}
        rows += tidy(by_size, metric="coarse_top1", flops=flops, **common)
    return rows


def retrieval(
    z: Tensor,
    y: Tensor,
    database: Tensor,
    database_y: Tensor,
    sizes: Sequence[int],
    *,
    method: str,
    seed: int,
    k: int = 10,
) -> list[dict]:
    """Rows of 1-NN accuracy and mAP@k with the training set as the database (MRL, sections 4.2, 4.3)."""
    found = neighbours(z, database, sizes, k)
    common = {"method": method, "seed": seed, "n": len(y), "flops": {m: m * len(database) for m in sizes}}
    rows = tidy({m: one_nn(ids, database_y, y) for m, ids in found.items()}, metric="1nn", **common)
    by_size = {m: mean_average_precision(ids, database_y, y, k) for m, ids in found.items()}
    return rows + tidy(by_size, metric=f"map@{k}", **common)


def table(rows: Iterable[dict]) -> pd.DataFrame:
    """Return rows as the tidy table, columns in the contract's order."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(SCORES))
