"""Franca: nested clustering for self-supervised vision (Venkataramanan et al., 2025, arXiv 2507.14137).

A student learns to sort views of a picture into the clusters that its teacher, a slow copy of itself, finds. Each
prefix z[:, :m] of the backbone's feature, m in M, has a head and a codebook of K_m = K m / d prototypes of its own:

    L = sum over m in M of (class_m + patch_m)  +  0.1 KoLeo(z)        (section 2.1)

All but the heads is DINOv2's, see :mod:`mrl_lab.distil`. The sum is not averaged, so five levels weigh five times a
single one against KoLeo, which is on the full feature alone. We keep it.

How we differ: the heads as first released (commit 24f8c60, July 2025) do not slice. They learn a projection of the
whole feature (``proj``), so no loss ever touches a prefix; a later revision (7a1acd6) slices, and adds a linear layer
from m to m. Both ways are here, with the controls that the paper lacks. Bottlenecks have length 1 as in DINOv2 (the
released nested head leaves them free, and has a GELU after its last layer too), and the gain of a prototype stays 1
(there it learns). Class and patch heads have the same number of prototypes and the same bottleneck (the paper: 384 and
256). First weights are the released ones, see :func:`begin`.

:mod:`~mrl_lab.methods.masks` is the paper's CyclicMask and :mod:`~mrl_lab.methods.rasa` its removal of position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from mrl_lab.cuts import check_sizes, prefix
from mrl_lab.distil.teacher import Branch, SelfDistillation
from mrl_lab.errors import RequestError, unknown

# --------------------------------------------------------------------------------------------- heads

INPUTS = {  # what the head of size m reads of z (B, d), as (d, m) -> module; m itself only names the level otherwise
    "slice": lambda d, m: Prefix(m),  # the paper
    "proj": lambda d, m: nn.Linear(d, m),  # the code as first released
    "many": lambda d, m: nn.Identity(),  # control: as many codebooks, nothing sliced
    "none": lambda d, m: nn.Identity(),  # one head: DINOv2
    "wide": lambda d, m: nn.Identity(),  # control: one head with the prototypes of all levels
}
HEADS = (*INPUTS, "shared", "tied")


def prototype_counts(
    prototypes: int, sizes: Sequence[int], d: int, shrink: bool = True, least: int = 16
) -> dict[int, int]:
    """Return {m: K_m}, K_m = int(K m / d) but at least ``least`` (appendix B); without ``shrink`` all have K.

    Raises:
        RequestError: fewer prototypes than ``least``, or a level of a single dim.
    """
    if prototypes < least:
        raise RequestError(f"{prototypes} prototypes are too few to cluster by: use at least {least}.")
    if sizes[0] < 2:
        raise RequestError(
            "a level of 1 dim has no directions to cluster by: the smallest size is 2, better 8 or more."
        )
    return {m: max(least, prototypes * m // d) if shrink else prototypes for m in sizes}


def check_batch(batch: int, counts: Mapping[int, int]) -> None:
    """Refuse a batch whose 2 ``batch`` large crops are fewer than two for each prototype of a level.

    Balanced assignment would then have to split samples between prototypes. The paper itself does so at K = 131,072.

    Raises:
        RequestError: says which level, and the batch or the number of prototypes that would do.
    """
    m, most = max(counts.items(), key=lambda level: level[1])
    if most > batch:
        raise RequestError(
            f"a batch of {batch} gives {2 * batch} large crops for the {most} prototypes of level {m}: "
            f"use a batch of {most} or more, or at most {batch} prototypes (two crops for each)."
        )


class Prefix(nn.Module):
    """z (B, d) -> z[:, :m] (B, m)."""

    def __init__(self, m: int) -> None:
        super().__init__()
        self.m = m

    def forward(self, z: Tensor) -> Tensor:
        return prefix(z, self.m)


class Prototypes(nn.Linear):
    """x (B, b) -> cosines (B, K) to K learned directions; the gain of DINOv2's weight norm is fixed at 1."""

    def __init__(self, b: int, prototypes: int) -> None:
        super().__init__(b, prototypes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(normalize(x, dim=-1), normalize(self.weight, dim=-1))  # (B, b) (b, K) -> (B, K)


def projector(width: int, hidden: int, bottleneck: int) -> nn.Sequential:
    """Return DINO's three-layer projector, ``width`` -> ``bottleneck`` (arXiv 2104.14294, appendix C)."""
    layers = nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, bottleneck)
    return nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])


class SeparateHeads(nn.Module):
    """One projector and one codebook a level (section 2.1); ``kind`` says what they read, see :data:`INPUTS`."""

    def __init__(self, kind: str, d: int, counts: Mapping[int, int], hidden: int, bottleneck: int) -> None:
        super().__init__()
        self.counts = dict(counts)
        self.levels = nn.ModuleList()
        for m, prototypes in counts.items():
            width = m if kind in ("slice", "proj") else d
            project = projector(width, hidden, bottleneck)
            self.levels.append(nn.Sequential(INPUTS[kind](d, m), project, Prototypes(bottleneck, prototypes)))

    def forward(self, z: Tensor) -> dict[int, Tensor]:
        """z (B, d) -> {m: scores (B, K_m)}."""
        return {m: level(z) for m, level in zip(self.counts, self.levels, strict=True)}


class SharedHeads(nn.Module):
    """One projector for all prefixes, its first layer sliced as in MRL-E; a codebook a level.

    First-layer outputs made from each other block by block would save 1 - d / sum(M) of the smallest of its products.
    """

    def __init__(self, d: int, counts: Mapping[int, int], hidden: int, bottleneck: int) -> None:
        super().__init__()
        self.counts = dict(counts)
        self.first, *rest = projector(d, hidden, bottleneck)
        self.rest = nn.Sequential(*rest)
        self.codebooks = nn.ModuleList(Prototypes(bottleneck, prototypes) for prototypes in counts.values())

    def forward(self, z: Tensor) -> dict[int, Tensor]:
        """z (B, d) -> {m: scores (B, K_m)}."""
        w, b = self.first.weight, self.first.bias
        stacked = torch.cat([linear(prefix(z, m), w[:, :m], b) for m in self.counts])  # |M| x (B, h) -> (|M| B, h)
        bottlenecks = self.rest(stacked).chunk(len(self.counts))  # (|M| B, b) -> |M| x (B, b)
        return {m: book(x) for m, book, x in zip(self.counts, self.codebooks, bottlenecks, strict=True)}


class TiedHeads(nn.Module):
    """One codebook (K, d) in the feature's own space, no projector: level m takes its first K_m rows and m columns.

    Slices cost sum(K_m m) / (K d) of the largest level, 4/3 for halvings; running sums over blocks would make it 1.
    """

    def __init__(self, d: int, counts: Mapping[int, int]) -> None:
        super().__init__()
        self.counts = dict(counts)
        self.weight = nn.Parameter(torch.randn(max(counts.values()), d) / d**0.5)

    def forward(self, z: Tensor) -> dict[int, Tensor]:
        """z (B, d) -> {m: scores (B, K_m)}, cosines of prefixes."""
        return {m: self._cosines(prefix(z, m), self.weight[:k, :m]) for m, k in self.counts.items()}

    def _cosines(self, x: Tensor, rows: Tensor) -> Tensor:
        return linear(normalize(x, dim=-1), normalize(rows, dim=-1))  # (B, m) (m, K_m) -> (B, K_m)


def begin(heads: nn.Module, hidden: int) -> nn.Module:
    """Give linear layers the released first weights: normal, bias 0. Prototypes keep torch's own, as there.

    The deviation is the released 0.02 at its 2048 hidden units, and at any other width what passes on as much: 0.02 in
    a small ViT's heads of 32 units left 95 of 100 prototypes unused after 90 steps.
    """
    for layer in heads.modules():
        if isinstance(layer, nn.Linear) and not isinstance(layer, Prototypes):
            nn.init.trunc_normal_(layer.weight, std=0.02 * (2048 / hidden) ** 0.5)
            nn.init.zeros_(layer.bias)
    return heads


def nested_head(kind: str, d: int, counts: Mapping[int, int], hidden: int = 2048, bottleneck: int = 256) -> nn.Module:
    """Build a head z (B, d) -> {m: scores (B, K_m)} for the levels {m: K_m} of :func:`prototype_counts`.

    Args:
        kind: one of :data:`HEADS`. "none" keeps the last level's codebook, on all of z; "wide" gives it the
            prototypes of all levels; "shared" has one projector; "tied" has one codebook and no projector.
        hidden, bottleneck: widths of the projector (the paper: 2048; 384 for the class, 256 for patches).
    """
    if kind not in HEADS:
        raise unknown("head", kind, HEADS)
    if kind == "tied":
        return TiedHeads(d, counts)
    if kind == "shared":
        return begin(SharedHeads(d, counts, hidden, bottleneck), hidden)
    if kind in ("none", "wide"):
        counts = {d: sum(counts.values()) if kind == "wide" else list(counts.values())[-1]}
    return begin(SeparateHeads(kind, d, counts, hidden, bottleneck), hidden)


# --------------------------------------------------------------------------------------------- model


def franca(
    encoder: Callable[[], nn.Module],
    sizes: Sequence[int],
    *,
    steps: int,
    head: str = "slice",
    prototypes: int = 1024,
    shrink: bool = True,
    hidden: int = 256,
    bottleneck: int = 64,
    patches: bool = True,
    batch: int | None = None,
    seed: int = 0,
    **form,
) -> SelfDistillation:
    """Build student and teacher with nested heads.

    ``encoder`` is a function, so that for one seed the encoder of every head starts from the very same weights: heads
    draw theirs from a stream of their own.

    Args:
        encoder: makes a module with width ``d``, x -> z (B, d); for patches it also has ``tokens(x, mask)``.
        sizes: M, rising; the last is d but for a control of one short prefix.
        head: see :func:`nested_head`. prototypes: K of the full width; the paper has 131,072.
        shrink: K_m falls with m, as in the paper, or stays K.
        patches: also learn hidden patches, with a head apart from the class token's.
        batch: pictures a step, to be checked against the prototypes; None does not check.
        form: the rest of :class:`~mrl_lab.distil.teacher.SelfDistillation`.

    Raises:
        RequestError: sizes, prototypes, batch or settings that cannot work.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = encoder()
        counts = prototype_counts(prototypes, check_sizes(sizes, body.d), body.d, shrink)
        torch.manual_seed(seed + 1)
        heads = [nested_head(head, body.d, counts, hidden, bottleneck) for _ in range(1 + patches)]
    if batch is not None:
        check_batch(batch, heads[0].counts)
    return SelfDistillation(Branch(body, *heads), steps, **form)


def collapse(history: Mapping[str, Sequence[float]], used: float = 0.25, spread: float = 0.05) -> str:
    """Say what has collapsed by the last tenth of a training, and what to change; "" if nothing has.

    Args:
        history: what the training loop returns: "m used" and "spread" by step, lists or columns of a table.
        used: least share of a level's prototypes that are nearest to some crop.
        spread: least standard deviation of the teacher's features over a batch.
    """
    found = []
    for name in history:
        least = {"used": used, "spread": spread}.get(str(name).split()[-1])
        last = list(history[name])[-max(1, len(history[name]) // 10) :]
        if least is not None and sum(last) / len(last) < least:
            found.append(f"{name} is {sum(last) / len(last):.3f} (least {least})")
    advice = "Lower lr or the teacher's temperatures, raise koleo_weight or the batch, or use fewer prototypes."
    return f"Collapsed: {'; '.join(found)}. {advice}" if found else ""
