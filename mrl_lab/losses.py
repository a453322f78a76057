"""Base losses of sentence embeddings, and the alignment of a small model with a large one.

``z`` is (B, C, d): B rows of C texts, of any layer and any prefix. A row is an anchor, its match and hard
negatives, or a scored pair (C = 2). With s_i the similarity of pair i and l_i its label:

    InfoNCE    mean over i of  -log softmax over all candidates c of (tau * cos(anchor_i, c)) at i's own match
    ranking    log(1 + sum over l_i < l_j of exp(s_i - s_j))            CoSENT: s = tau * cos
    AnglE      w_1 ranking(tau_1 cos) + w_2 in-batch(tau_2) + w_3 ranking(tau_3 angle)
    alignment  mean over rows of KL(softmax(t / T) || softmax(s / T))

InfoNCE: van den Oord et al. 2018, arXiv 1807.03748; CoSENT: Huang et al., TASLP 2024; AnglE: Li and Li, ACL 2024,
arXiv 2309.12871, as its released code has it (equation 3 there has the other sign). How we differ: the ranking
takes O(B log B) in place of B x B; AnglE of an odd width is an error, where sentence-transformers pads a zero.

A batch of one row without hard negatives, and one whose labels are all equal, teach nothing: their loss is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax, normalize, pad

from mrl_lab.errors import RequestError, unknown

SCALE = 20.0  # tau, what similarities are multiplied by

# --------------------------------------------------------------------------------------- contrastive


def info_nce(z: Tensor, excluded: Tensor | None = None, *, scale: float = SCALE, similarity: str = "cosine") -> Tensor:
    """Return InfoNCE with in-batch and hard negatives, a scalar; ``MultipleNegativesRankingLoss`` elsewhere.

    Args:
        z: (B, C, d), C >= 2: anchor, match, then hard negatives.
        excluded: (B, B (C - 1)), true where a candidate is no negative, such as a copy of the match.
        scale: similarities are multiplied by it.
        similarity: "cosine", or "dot" for the raw product.
    """
    return contrast(candidate_scores(z, scale=scale, similarity=similarity), excluded)


def candidate_scores(z: Tensor, *, scale: float = SCALE, similarity: str = "cosine") -> Tensor:
    """Return scores (B, B (C - 1)) of each anchor for all candidates; row i's own begin at column i (C - 1).

    Raises:
        RequestError: an unknown similarity, or rows of one text.
    """
    if similarity not in ("cosine", "dot"):
        raise unknown("similarity", similarity, ("cosine", "dot"))
    if z.shape[1] < 2:
        raise RequestError("a row needs an anchor and its match, and may have hard negatives; got one text a row.")
    z = normalize(z, dim=-1) if similarity == "cosine" else z
    candidates = z[:, 1:].flatten(0, 1)  # (B, C - 1, d) -> (B (C - 1), d)
    return scale * z[:, 0] @ candidates.T


def contrast(scores: Tensor, excluded: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of scores (B, B g) whose row i has its match at column i g, a scalar."""
    if excluded is not None:
        scores = scores.masked_fill(excluded, -torch.inf)
    group = scores.shape[1] // len(scores)
    return cross_entropy(scores, torch.arange(len(scores), device=scores.device) * group)


# ------------------------------------------------------------------------------------------- ranking


def ranking(scores: Tensor, labels: Tensor) -> Tensor:
    """Return log(1 + sum over l_i < l_j of exp(s_i - s_j)), a scalar, for scores (P,) and labels (P,).

    Sorted by label, each i meets the rows from the first strictly higher label on, so one reverse cumulative
    logsumexp serves all: O(P log P). Pairs with equal labels are not compared.
    """
    labels, order = labels.sort()
    scores = scores[order].to(torch.promote_types(scores.dtype, torch.float32))
    from_here_on = (-scores).flip(0).logcumsumexp(0).flip(0)  # at k: log of sum over j >= k of exp(-s_j)
    from_here_on = pad(from_here_on, (0, 1), value=-torch.inf)  # no label is higher than the highest
    first_higher = torch.searchsorted(labels, labels, right=True)
    return pad(scores + from_here_on[first_higher], (1, 0)).logsumexp(0)  # the 1 is exp(0)


def cosent(z: Tensor, labels: Tensor | None, *, scale: float = SCALE) -> Tensor:
    """Return CoSENT of scored pairs z (B, 2, d) with labels (B,), in any unit: only their order counts.

    Raises:
        RequestError: rows that are no pairs, or not one label a row.
    """
    x, y = _pairs(z, labels)
    return ranking(scale * cosine_similarity(x, y, dim=-1), labels)


def _pairs(z: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    if z.shape[1] != 2 or labels is None or labels.shape != z.shape[:1]:
        given = "no labels" if labels is None else f"labels of shape {tuple(labels.shape)}"
        raise RequestError(f"this loss needs two texts and one label a row; got {z.shape[1]} texts a row and {given}.")
    return z[:, 0], z[:, 1]


# --------------------------------------------------------------------------------------------- AnglE


def angle_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Return |<x, y> + <x, J y>| / (|x| |y|), shape (P,), for x and y (P, d); J(c, e) = (-e, c) on halves.

    That is sqrt 2 times |cos| of x and y turned by 45 degrees: 1 for x = y, and not symmetric.

    Raises:
        RequestError: an odd width, which has no halves.
    """
    if x.shape[-1] % 2:
        raise RequestError(f"AnglE splits vectors into halves and needs an even width; got {x.shape[-1]} dims.")
    x, y = normalize(x, dim=-1), normalize(y, dim=-1)
    c, e = y.chunk(2, dim=-1)  # (P, d) -> 2 x (P, d / 2)
    return (x * (y + torch.cat([-e, c], dim=-1))).sum(-1).abs()


def in_batch(z: Tensor, labels: Tensor, *, scale: float = SCALE) -> Tensor:
    """Return AnglE's contrastive term of pairs z (B, 2, d): each of the 2B texts has all others as candidates.

    Only pairs whose label is at least 1 have a match; the rest contribute 0 but count in the mean, as released.
    """
    texts = normalize(z, dim=-1).flatten(0, 1)  # (B, 2, d) -> (2B, d)
    own = torch.eye(len(texts), dtype=torch.bool, device=z.device)
    scores = (scale * texts @ texts.T).masked_fill(own, -torch.inf)
    partner = torch.arange(len(texts), device=z.device) ^ 1  # 0 <-> 1, 2 <-> 3, ...
    losses = cross_entropy(scores, partner, reduction="none")
    return (losses * (labels.long() == 1).repeat_interleave(2)).mean()


def angle(
    z: Tensor,
    labels: Tensor | None = None,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0),
    scales: Sequence[float] = (SCALE, SCALE, SCALE),
) -> Tensor:
    """Return AnglE's three terms, a scalar; ``weights`` and ``scales`` are of cosine, in-batch and angle.

    Args:
        z: scored pairs (B, 2, d), or triplets (B, 3, d), whose contrastive term is InfoNCE and whose ranking
            terms take (anchor, match) with label 1 and (anchor, negative) with label 0.
        labels: (B,) for pairs, from 0 to 1; none for triplets.

    Raises:
        RequestError: other rows, or an odd width.
    """
    (w_cosine, w_contrast, w_angle), (by_cosine, by_contrast, by_angle) = weights, scales
    if z.shape[1] == 3:
        contrastive = info_nce(z, scale=by_contrast)
        pairs = torch.cat([z[:, :2], z[:, ::2]])  # (B, 3, d) -> (2B, 2, d)
        labels = torch.arange(2, device=z.device).flip(0).repeat_interleave(len(z))
    else:
        _pairs(z, labels)
        contrastive, pairs = in_batch(z, labels, scale=by_contrast), z
    turned = ranking(by_angle * angle_similarity(pairs[:, 0], pairs[:, 1]), labels)
    return w_cosine * cosent(pairs, labels, scale=by_cosine) + w_contrast * contrastive + w_angle * turned


# ----------------------------------------------------------------------------------------- alignment


def alignment(teacher: Tensor, student: Tensor, *, temperature: float = 1.0, detach: bool = False) -> Tensor:
    """Return the mean over rows of KL(softmax(teacher / T) || softmax(student / T)), both (rows, k), a scalar.

    The k things may be coordinates of an embedding or scores of passages: different objects under one name.
    Over coordinates it is blind to a constant added to all of them, and nearly 0 for vectors of length 1.

    Args:
        detach: let no gradient reach the teacher.
    """
    teacher = teacher.detach() if detach else teacher
    aim, guess = log_softmax(teacher / temperature, dim=-1), log_softmax(student / temperature, dim=-1)
    return kl_div(guess, aim, reduction="batchmean", log_target=True)


def neighbours(z: Tensor, seen: Tensor, *, temperature: float) -> Tensor:
    """Return how far the neighbours that ``seen`` (B, m) has are from those of z (B, d), a scalar; z gets no gradient.

    That is the :func:`alignment` of the cosines of each row with all others of the batch.

    Raises:
        RequestError: fewer than three rows, which have no neighbours to choose from.
    """
    if len(z) < 3:
        raise RequestError(f"neighbours are learnt from batches of three vectors or more, got {len(z)}.")
    return alignment(_with_others(z), _with_others(seen), temperature=temperature, detach=True)


def _with_others(z: Tensor) -> Tensor:
    """Cosines of the rows of z (B, m) with all rows but themselves: (B, B - 1)."""
    unit, n = normalize(z, dim=-1), len(z)
    return (unit @ unit.T).flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)  # all but the diagonal
