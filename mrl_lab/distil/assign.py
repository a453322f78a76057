"""Assignments: a teacher's scores of samples against prototypes, turned into targets that use every prototype.

Scores s (n, K) become soft assignments q (n, K), each row a distribution. Taking the softmax of s / tau alone lets all
samples fall on one prototype. Two remedies, both from the DINO family:

* **Sinkhorn-Knopp** (Cuturi, NeurIPS 2013, arXiv 1306.0895; SwAV, arXiv 2006.09882, section 3.1): scale rows and
  columns of exp(s / tau) in turn, so that every sample has mass 1 and every prototype about n / K.
* **Centring** (DINO, arXiv 2104.14294, section 3.1): softmax((s - c) / tau), c a running mean of the scores.

How we differ: float32 in the log domain, where the released Franca head overflows from s = 3.55 on (tau = 0.04). The
constant factors 1/K and 1/n of each round are left out, for the last round cancels them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrl_lab.errors import RequestError


@torch.no_grad()
def sinkhorn(scores: Tensor, temperature: float | Tensor, iterations: int = 3) -> Tensor:
    """Return balanced assignments (n, K) float32 of scores (n, K).

    Rows sum to 1 after any number of iterations, columns only approach n / K (SwAV, algorithm 1; 3 in Franca).

    Raises:
        RequestError: no iteration.
    """
    if iterations < 1:
        raise RequestError(f"Sinkhorn-Knopp needs at least 1 iteration (the paper: 3); got {iterations}.")
    log_q = scores.float() / temperature
    for _ in range(iterations):
        log_q -= log_q.logsumexp(0, keepdim=True)  # the same mass for each prototype
        log_q -= log_q.logsumexp(1, keepdim=True)  # mass 1 for each sample
    return log_q.exp_()


class Sinkhorn(nn.Module):
    """:func:`sinkhorn` as a module, so that it can take the place of :class:`Centring`."""

    def __init__(self, prototypes: int, iterations: int = 3) -> None:
        super().__init__()
        self.prototypes, self.iterations = prototypes, iterations

    def forward(self, scores: Tensor, temperature: float | Tensor) -> Tensor:
        """Scores (n, K) -> targets (n, K)."""
        return sinkhorn(scores, temperature, self.iterations)


class Centring(nn.Module):
    """softmax((s - c) / tau); in training mode c then moves to the mean of these scores (DINO, equation 4)."""

    def __init__(self, prototypes: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(prototypes))

    @torch.no_grad()
    def forward(self, scores: Tensor, temperature: float | Tensor) -> Tensor:
        """Scores (n, K) -> targets (n, K) by the centre of the batches before this one."""
        targets = ((scores.float() - self.centre) / temperature).softmax(1)
        if self.training and len(scores):
            self.centre.lerp_(scores.float().mean(0), 1 - self.momentum)
        return targets


ASSIGNMENTS = {"sinkhorn": Sinkhorn, "centring": Centring}  # both made from K alone
