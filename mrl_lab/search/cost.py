"""What a search costs a query, in multiply-adds counted once, as the MRL paper does (section 4.3, appendix I).

Its "MFLOPs" are these, divided by 1e6: over the 1,281,167 pictures of ImageNet with K = 200, 2624.24 for all 2048
dims and 20.91 for 16 dims reranked by 2048. They count neither the choice of the best nor a byte that is moved.
"""

from __future__ import annotations

from collections.abc import Sequence


def exact(n: int, m: int) -> int:
    """All n rows by m dims."""
    return n * m


def reranked(n: int, shortlist_dim: int, length: int, rerank_dim: int) -> int:
    """All n rows by D_s dims, then K = ``length`` of them by D_r."""
    return n * shortlist_dim + length * rerank_dim


def funnelled(n: int, shortlist_dim: int, dims: Sequence[int], lists: Sequence[int]) -> int:
    """All n rows by D_s dims, then the first ``lists[i]`` of them by ``dims[i]``, at each stage."""
    return n * shortlist_dim + sum(length * m for length, m in zip(lists, dims, strict=True))


def probed(n: int, m: int, lists: int, probes: int) -> int:
    """Inverted lists of even length: all centroids, then the rows of some lists, by m dims."""
    return lists * m + round(min(probes, lists) / lists * n) * m
