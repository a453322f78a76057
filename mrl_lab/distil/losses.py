"""DINOv2's three losses (Oquab et al., 2023, arXiv 2304.07193, section 4), each on plain tensors.

* class: -sum over K of q log p for every pair of views of a picture (DINO, arXiv 2104.14294, equation 3);
* patch: the same at hidden patches (iBOT, arXiv 2111.07832, equation 2);
* KoLeo: -mean log distance to the nearest neighbour, which spreads a batch (arXiv 1806.03198, equation 2).

p = softmax(s / tau) of the student's scores s, q the teacher's assignment (:mod:`mrl_lab.distil.assign`). Float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mrl_lab.errors import RequestError


def class_loss(scores: Tensor, targets: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the mean CE over all pairs of a student's view and a teacher's large crop that are not the same crop.

    Without small crops it is 2/3 of that: DINOv2's code, and Franca's, count one pair more where there are none.

    Args:
        scores: (V, B, K) of the student, its large crops first, in the teacher's order.
        targets: (G, B, K) of the teacher's large crops.
    """
    views, b, _ = scores.shape
    pair = torch.ones(views, len(targets), device=scores.device) - torch.eye(views, len(targets), device=scores.device)
    wanted = torch.einsum("vg,gbk->vbk", pair, targets)  # sum of the targets that a view has to meet
    log_p = (scores.float() / temperature).log_softmax(-1)
    pairs = pair.sum() + (views == len(targets))
    return -(wanted * log_p).sum() / (pairs * b)


def patch_loss(scores: Tensor, targets: Tensor, mask: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the CE at hidden patches: mean over those of a crop, then over all n crops, unmasked ones counted as 0.

    Args:
        scores, targets: (hidden, K) of student and teacher, in the order of ``mask.nonzero()``.
        mask: (n, t) bool.
    """
    each = -(targets * (scores.float() / temperature).log_softmax(-1)).sum(-1)  # (hidden,)
    weight = mask.sum(1, keepdim=True).clamp(min=1).reciprocal().expand_as(mask)[mask]  # (n, t) -> (hidden,)
    return (weight * each).sum() / len(mask)


def koleo(z: Tensor, eps: float = 1e-8) -> Tensor:
    """Return - mean over rows of log(distance to the nearest other row) of z (B, d), rows at length 1.

    The entropy of Kozachenko and Leonenko (Sablayrolles et al., ICLR 2019). ``eps`` keeps copies finite (as released,
    it is added to the distance and to each coordinate's difference).

    Raises:
        RequestError: a single row, which has no neighbour.
    """
    if len(z) < 2:
        raise RequestError("KoLeo needs at least 2 pictures in a batch: each is compared with its nearest neighbour.")
    z = normalize(z.float(), dim=-1)
    with torch.no_grad():
        nearest = (z @ z.T).fill_diagonal_(-2).argmax(1)  # cosines are at least -1: (B, B) -> (B,)
    return -((z - z[nearest]).square().sum(1) + eps**2).log().mean() / 2
