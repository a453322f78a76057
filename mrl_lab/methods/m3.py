"""M3: Matryoshka Multimodal Models (Cai et al., ICLR 2025, arXiv 2405.17430).

The N = side x side visual tokens v of a LLaVA are averaged over k x k windows to t = N / k^2 coarser ones, and one
set of weights learns to answer from every t of a list of scales S (eq. 3.1 and 3.2):

    L = mean over t in S of  NLL(answer | pool(v, t), question)

* No parameter is added. Tokens stay in raster order; positions simply run on, so a question's place shifts with t.
* Pooling follows the projector, as in the released code; the paper's text has it before, which is an option.

How we differ: the vision tower runs **once** a step, and it learns (in the released code it runs once a scale and
stands under ``no_grad``); logits are made at answer positions only; a scale that does not divide the grid is an
error, not silently another one; ``packed`` puts the scales of a row into one sequence. Scale 0 is blind: no visual
token. The baselines are this model with other ``scales`` (all tokens, or one scale) and, at test, another ``select``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mrl_lab import shares
from mrl_lab.errors import RequestError, unknown

# ------------------------------------------------------------------------------------ coarser tokens


def scales_of(tokens: int) -> tuple[int, ...]:
    """Return every t that whole square windows leave of a grid: 576 -> 1, 4, 9, 16, 36, 64, 144, 576.

    Raises:
        RequestError: ``tokens`` is not a square number.
    """
    side = isqrt(tokens)
    if side * side != tokens or not tokens:
        raise RequestError(f"{tokens} visual tokens are not a square grid, which pooling over square windows needs.")
    return tuple(n * n for n in range(1, side + 1) if side % n == 0)


def check_scales(scales: Sequence[int], tokens: int) -> tuple[int, ...]:
    """Return ``scales`` as a tuple if they rise, each once, and each is 0 (blind) or divides the grid of ``tokens``.

    Raises:
        RequestError: names the offending scale and those that are allowed.
    """
    allowed = scales_of(tokens)
    for t in scales:
        if isinstance(t, bool) or not isinstance(t, int) or t not in (0, *allowed):
            raise RequestError(
                f"{t!r} tokens cannot be pooled from {tokens} over whole square windows: "
                f"allowed are {', '.join(map(str, allowed))}, and 0 for a blind model."
            )
    if not scales or list(scales) != sorted(set(scales)):
        raise RequestError(f"scales rise and do not repeat, such as {list(allowed)}; got {list(scales)}.")
    return tuple(scales)


def pool(v: Tensor, t: int) -> Tensor:
    """Average v (B, N, d) over the square windows of its grid: (B, t, d), windows in raster order (section 3)."""
    side, k = isqrt(t), isqrt(v.shape[1] // t)
    windows = v.unflatten(1, (side, k, side, k))  # (B, N, d) -> (B, rows, k, columns, k, d)
    return windows.mean((2, 4)).flatten(1, 2) if k > 1 else v  # -> (B, rows, columns, d) -> (B, t, d)


def spatial(v: Tensor, t: int) -> Tensor:
    """Keep the first token of each window of v (B, N, d), every k-th row and column: (B, t, d) (table 4)."""
    side, k = isqrt(t), isqrt(v.shape[1] // t)
    return v.unflatten(1, (side, k, side, k))[:, :, 0, :, 0].flatten(1, 2)  # (B, N, d) -> (B, side, side, d)


def first(v: Tensor, t: int) -> Tensor:
    """Keep the first t tokens of v (B, N, d) in raster order: one reading of the paper's "sequential" (table 4)."""
    return v[:, :t]


def every(v: Tensor, t: int) -> Tensor:
    """Keep every (N / t)-th token of v (B, N, d) in raster order: the other reading of "sequential"."""
    return v[:, :: v.shape[1] // t]


def in_place(v: Tensor, t: int) -> Tensor:
    """Average v (B, N, d) over its t windows, each average standing in for all tokens of its window: (B, N, d).

    A control that saves nothing: it says what pooling loses where every token keeps its place in the text.
    """
    k, tokens = isqrt(v.shape[1] // t), pool(v, t).unflatten(1, (isqrt(t), isqrt(t)))  # (B, side, side, d)
    return tokens.repeat_interleave(k, 1).repeat_interleave(k, 2).flatten(1, 2)  # -> (B, rows, columns, d)


SELECT = {"average": pool, "spatial": spatial, "first": first, "every": every, "in place": in_place}


def coarser(v: Tensor, scales: Sequence[int], select: str = "average", chained: bool = True) -> dict[int, Tensor]:
    """Return {t: (B, t, d)} of v (B, N, d), in the order of ``scales``; 0 gives no token ("in place": N for each t).

    ``chained`` makes each set of the smallest finer one that it divides (24 -> 12 -> 6 -> 3 -> 1, the paper), which
    reads less than making each of v (the released code). Windows tile the grid, so both give the same tokens.

    Raises:
        RequestError: a scale that the grid does not allow, or an unknown way to select.
    """
    if select not in SELECT:
        raise unknown("way to select tokens", select, SELECT)
    check_scales(sorted(scales), v.shape[1])
    made = {v.shape[1]: v}
    for t in sorted((t for t in scales if t), reverse=True):
        finer = min(n for n in made if isqrt(n) % isqrt(t) == 0) if chained else v.shape[1]
        made[t] = SELECT[select](made[finer], t)
    return {t: made[t] if t else v[:, :0] for t in scales}


# ------------------------------------------------------------------------------------------- model


class Answers(NamedTuple):
    """How rows were answered at one scale, each (B,), every answer token read after the right ones before it.

    Attributes:
        right: all answer tokens are the likeliest, which is when greedy decoding gives exactly the answer.
        share: the share of answer tokens that are.
        sure: the largest probability at the first answer token, where no answer has leaked in (for a cascade).
    """

    right: Tensor
    share: Tensor
    sure: Tensor


class M3(nn.Module):
    """A LLaVA and the scales it learns; forward(images, ids, labels) gives what the training loop needs.

    Args:
        llava: a :class:`mrl_lab.encoders.llava.Llava`, whose switches say what of it trains.
        scales: numbers of visual tokens, rising; all of them train in each step.
        pooled: "after projector" (released code) or "before projector" (the paper's text).
        select: how tokens are made fewer, one of :data:`SELECT` (table 6).
        packed: all scales of a row in one sequence under a block-diagonal causal mask; same loss, same gradients.
            Off by default: on one CPU core, where masked attention is dense, a step takes 1.2 times as long, with
            four scales of 144 tokens and with three of 16. Plain, it takes 0.5 and 0.8 of as many separate steps.
        random_scale: one scale a step, drawn from torch's stream, instead of all (table 8). Equal steps cost it a
            len(scales)-th of the language model's visual tokens; equal tokens take len(scales) times the steps.
    """

    def __init__(
        self,
        llava: nn.Module,
        scales: Sequence[int],
        *,
        pooled: str = "after projector",
        select: str = "average",
        packed: bool = False,
        random_scale: bool = False,
    ) -> None:
        super().__init__()
        if pooled not in ("after projector", "before projector"):
            raise unknown("place to pool", pooled, ("after projector", "before projector"))
        if select not in SELECT:
            raise unknown("way to select tokens", select, SELECT)
        self.llava, self.scales = llava, check_scales(scales, llava.tokens)
        self.pooled, self.select, self.packed, self.random_scale = pooled, select, packed, random_scale

    def forward(self, images: Tensor, ids: Tensor, labels: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the mean over scales (eq. 3.2) and the loss of each, as ``Llava.logits`` takes the batch."""
        scales = self.scales
        if self.random_scale:
            scales = (scales[int(torch.randint(len(scales), ()))],)
        visual = self.visual(images, scales)
        logits, targets, _ = self.llava.logits(list(visual.values()), ids, labels, packed=self.packed)
        nll = cross_entropy(logits.flatten(0, 1).float(), targets.repeat(len(scales)), reduction="none")
        losses = nll.view(len(scales), -1).mean(1)  # (S, answers, words) -> (S answers,) -> (S,)
        losses = losses * shares.weight(len(targets), targets.device)
        return losses.mean(), dict(zip(scales, losses, strict=True))

    def visual(self, images: Tensor, scales: Sequence[int], select: str = "") -> dict[int, Tensor]:
        """Return {t: visual tokens (B, t, d)} of images from one run of the tower, or none if all scales are blind.

        ``select`` other than the model's own is the baseline that drops tokens at inference only (table 4).
        """
        select, project = select or self.select, self.llava.project
        if not any(check_scales(scales, self.llava.tokens)):
            return {0: self.llava.no_tokens(len(images))}
        patches = self.llava.patches(images)
        if self.pooled == "before projector":
            return {t: project(v) for t, v in coarser(patches, scales, select).items()}
        return coarser(project(patches), scales, select)

    @torch.no_grad()
    def answers(
        self, images: Tensor, ids: Tensor, labels: Tensor, scales: Sequence[int], select: str = ""
    ) -> dict[int, Answers]:
        """Return {t: :class:`Answers`} at any scales, trained or not; see :meth:`visual` for ``select``."""
        visual = self.visual(images, scales, select)
        logits, targets, row = self.llava.logits(list(visual.values()), ids, labels)
        top = logits.float().softmax(-1).max(-1)  # (S, answers, words) -> (S, answers)
        begins = torch.cat([row.new_ones(1), row.diff()]).bool()  # the first answer token of each row
        hits, length = (top.indices == targets).double(), row.bincount()
        shares = [row.bincount(hit) / length for hit in hits]  # (answers,) -> (B,)
        found = zip(scales, shares, top.values[:, begins], strict=True)
        return {t: Answers(share == 1, share, sure) for t, share, sure in found}

    @torch.no_grad()
    def generate(self, images: Tensor, ids: Tensor, t: int, select: str = "", **how) -> Tensor:
        """Return the ids of new tokens (B, n) at scale t; ``how`` goes to ``Llava.generate``."""
        return self.llava.generate(self.visual(images, [t], select)[t], ids, **how)


# ------------------------------------------------------------------------------------------- oracle


def oracle_tokens(shares: Tensor, scales: Sequence[int]) -> dict[str, float]:
    """Return the oracle's mean tokens by what an item that no scale answers is charged.

    The paper charges 1 token (its authors, issue 2 of their repository), which lowers the mean the more, the more
    items nobody answers; so all three conventions are reported. That oracle's luck control is
    :func:`mrl_lab.oracle.gain` of as many re-runs at one scale.

    Args:
        shares: (S + 1,) per cent, :func:`mrl_lab.oracle.first_correct` of the scales.
        scales: rising.
    """
    answered, none = shares[:-1].double(), shares[-1].item()
    tokens = (answered @ torch.tensor(scales, dtype=torch.float64)).item()
    charged = {f"wrong as {t}": (tokens + none * t) / 100 for t in (scales[0], scales[-1])}
    return charged | {"right only": tokens / answered.sum().item() if answered.any() else float("nan")}
