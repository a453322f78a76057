"""Starbucks (Zhuang, Wang et al., arXiv 2410.13230): one fixed list of layer-dim pairs in place of a grid.

Structured representation learning (SRL) sums over a list S of pairs (n, m), each nested in the next, the last of
which is the whole model (N, D); with z_n the pooled state of layer n and l the base loss,

    cosine form (STS)     L = sum over S of l(z_n[:m])  +  0.3 * sum over S but the last of KL(z_N[:m] || z_n[:m])
    dot form (retrieval)  L = sum over S of CE(s_nm)    +  1.0 * sum over S but the last of KL(s_ND || s_nm)

* The first KL runs over the first m **coordinates** of the unnormalised states of all texts. The 0.3 is the released
  code's temperature, which multiplies but divides nothing. The teacher is not detached.
* The second runs over the **passages** of the batch: s_nm = <query[:m], passage[:m]>, raw. The teacher is detached.

SMAE pre-trains for it: at every pair, masked language modelling from h_n[:, :, :m], and masked auto-encoding, in which
a decoder of one block sees the text only through the first m dims of one [CLS] state (section 3 of the paper):

    L = mean over S of (MLM_nm + MAE_nm) / 2

How we differ: any depth and width (the released STS loss fixes 768 dims); pairs drawn at random are controls, and a
drawn pair keeps its own width (the released code mixes them up); logits are computed where something is labelled, not
everywhere, and the decoder runs once for all pairs. Same loss and gradients, 0.3 of the vocabulary's work.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from mrl_lab import shares
from mrl_lab.cuts import Cut, prefix
from mrl_lab.errors import RequestError, unknown
from mrl_lab.losses import alignment, candidate_scores, contrast, info_nce

Parts = dict[str, Tensor]

# ------------------------------------------------------------------------------------- pairs of layer and dim


def default_pairs(layers: int, d: int) -> tuple[Cut, ...]:
    """Return at most six pairs: layers evenly spaced, dims the largest powers of two below d, then d itself.

    12 layers of 768 dims give the paper's (2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768).
    """
    count = max(1, min(6, layers, (d - 1).bit_length()))
    powers = [2 ** ((d - 1).bit_length() - i) for i in range(1, count)]  # falling, below d
    dims = [*reversed(powers), d]
    return tuple(Cut(round(layers * (i + 1) / count), m) for i, m in enumerate(dims))


def check_pairs(pairs: Sequence[tuple[int, int] | Cut], layers: int, d: int, *, whole: bool = True) -> tuple[Cut, ...]:
    """Return pairs (n, m) as cuts if each is nested in the next: as deep and as wide or more, and not the same.

    Equal layers are allowed, so that MRL at the last layer is such a list too, and equal dims for depth alone.

    Args:
        whole: the last pair must be the whole model; give False to train a part of it alone.

    Raises:
        RequestError: names the pair that does not fit.
    """
    cuts = tuple(_as_cut(pair) for pair in pairs)
    if not cuts:
        raise RequestError(f"the list of layer-dim pairs is empty: give one at least, such as ({layers}, {d}).")
    for cut in cuts:
        if not (cut.layer and cut.layer <= layers and cut.dim and cut.dim <= d):
            raise RequestError(
                f"pair ({cut.layer}, {cut.dim}) does not fit: layers go from 1 to {layers}, dims to {d}."
            )
    for small, large in pairwise(cuts):
        if small == large or small.layer > large.layer or small.dim > large.dim:
            raise RequestError(
                f"pair ({small.layer}, {small.dim}) is not nested in the next, ({large.layer}, {large.dim}): "
                "list pairs from small to large, in layers and in dims."
            )
    if whole and cuts[-1] != Cut(layers, d):
        raise RequestError(f"the last pair must be the whole model, ({layers}, {d}); or say whole=False.")
    return cuts


def _as_cut(pair: tuple[int, int] | Cut) -> Cut:
    if isinstance(pair, Cut):
        return pair
    if len(pair) != 2:
        raise RequestError(f"a pair is a layer and a dim, such as (2, 32); got {pair}.")
    return Cut(*pair)


def _name(cut: Cut) -> str:
    return f"{cut.layer}x{cut.dim}"


# -------------------------------------------------------------------------------------------------- SRL


def over_coordinates(
    views: dict[Cut, Tensor],
    labels: Tensor | None = None,
    *,
    base: Callable[[Tensor, Tensor | None], Tensor] = info_nce,
    weight: float = 0.3,
    detach: bool = False,
) -> Parts:
    """Return the parts of the cosine form, which add up to the loss.

    Args:
        views: {(n, m): z_n[:m] (B, C, m)}, the last of which teaches the others.
        labels: what ``base`` takes second. weight: of each KL.
    """
    teacher = list(views.values())[-1].flatten(0, 1)  # (B, C, D) -> (B C, D)
    parts = {_name(cut): base(z, labels) for cut, z in views.items()}
    for cut, z in list(views.items())[:-1] if weight else ():
        aim = prefix(teacher, cut.dim)
        parts[f"align {_name(cut)}"] = weight * alignment(aim, z.flatten(0, 1), detach=detach)
    return parts


def over_passages(
    views: dict[Cut, Tensor],
    excluded: Tensor | None = None,
    *,
    scale: float = 1.0,
    weight: float = 1.0,
    detach: bool = True,
) -> Parts:
    """Return the parts of the dot form; rows of the views are a query, its passage and hard negatives.

    Args:
        views, weight: as in :func:`over_coordinates`. excluded: see ``losses.info_nce``. scale: 1 / temperature.
    """
    scores = {cut: candidate_scores(z, scale=scale, similarity="dot") for cut, z in views.items()}  # (B, B (C - 1))
    teacher = list(scores.values())[-1]
    parts = {_name(cut): contrast(s, excluded) for cut, s in scores.items()}
    for cut, s in list(scores.items())[:-1] if weight else ():
        parts[f"align {_name(cut)}"] = weight * alignment(teacher, s, detach=detach)
    return parts


FORMS = {"cosine": over_coordinates, "dot": over_passages}
POOLS = ("list", "grid")


class SRL(nn.Module):
    """A sentence encoder trained at pairs of layer and dim; forward gives what the training loop needs.

    Controls draw pairs anew in each step, and keep the last: ``draws=1`` one of the list; ``pool="grid", draws=5`` as
    many as Starbucks' six, from all layers x dims of the list. Baselines are lists too: ((N, D),) is plain training,
    ((N, m), ..., (N, D)) is MRL at the last layer, and ((n, m),) of an encoder of n layers the separate small model.

    Args:
        encoder: (ids, attention) (B, C, T) -> states (B, C, N+1, D), with attributes ``layers`` (N) and ``d`` (D).
        pairs: see :func:`check_pairs`; :func:`default_pairs` if none.
        form: "cosine", "dot", or a function of views and labels that gives the parts of the loss.
        whole: False if the last pair is not the whole model.
        pool, draws: how many pairs to draw a step and from what; all of the list by default.
        generator: where draws come from; by default torch's own stream, which checkpoints keep.
        settings: of the form, such as ``base=losses.cosent``, ``weight=0`` or ``detach=True``.

    Raises:
        RequestError: a list that is not nested, an unknown form or pool, or more draws than pairs.
    """

    def __init__(
        self,
        encoder: nn.Module,
        pairs: Sequence[tuple[int, int] | Cut] | None = None,
        form: str | Callable[..., Parts] = "cosine",
        *,
        whole: bool = True,
        pool: str = "list",
        draws: int | None = None,
        generator: torch.Generator | None = None,
        **settings,
    ) -> None:
        super().__init__()
        if isinstance(form, str) and form not in FORMS:
            raise unknown("form of SRL", form, FORMS)
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
        self.encoder, self.generator = encoder, generator
        self.form = partial(FORMS[form] if isinstance(form, str) else form, **settings)
        pairs = default_pairs(encoder.layers, encoder.d) if pairs is None else pairs
        self.pairs = check_pairs(pairs, encoder.layers, encoder.d, whole=whole)
        self.pool = self.pairs[:-1] if pool == "list" else self._grid()
        self.draws = len(self.pool) if draws is None else draws
        if not 0 <= self.draws <= len(self.pool):
            raise RequestError(
                f"cannot draw {draws} pairs a step: {len(self.pool)} stand below the last of this {pool}."
            )

    def _grid(self) -> tuple[Cut, ...]:
        layers, dims = ({getattr(cut, axis) for cut in self.pairs} for axis in ("layer", "dim"))
        return tuple(sorted(cut for cut in (Cut(n, m) for n in layers for m in dims) if cut != self.pairs[-1]))

    def draw(self) -> tuple[Cut, ...]:
        """Return the pairs of a step, the last one last."""
        if self.draws == len(self.pool):
            return (*self.pool, self.pairs[-1])
        chosen = torch.randperm(len(self.pool), generator=self.generator)[: self.draws]
        return (*(self.pool[i] for i in chosen), self.pairs[-1])

    def forward(self, ids: Tensor, attention: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Parts]:
        """Return the loss and its weighted parts for token ids and attention (B, C, T), from one encoding."""
        states = shares.gather(self.encoder(ids, attention))  # (B, C, N+1, D)
        views = {cut: prefix(states[:, :, cut.layer], cut.dim) for cut in self.draw()}
        parts = self.form(views, shares.gather(labels))
        return torch.stack(list(parts.values())).sum(), parts


# ------------------------------------------------------------------------------------------------- SMAE


class SMAE(nn.Module):
    """Pre-training of a BERT at pairs of layer and dim; ``model.bert`` is what fine-tuning starts from.

    Controls: ((N, D),) is ordinary auto-encoding at the last layer, and with ``autoencode=False`` plain MLM.

    Args:
        model: a transformers ``BertForMaskedLM``. Its embeddings and head also serve the decoder; the decoder's block
            starts as a copy of the first and is trained apart, one for all pairs. ``model.save_pretrained`` omits it.
        pairs: see :func:`check_pairs`; :func:`default_pairs` if none.
        autoencode: False leaves MAE out: L = mean over S of MLM.

    Raises:
        RequestError: another architecture, or a list that is not nested.
    """

    def __init__(
        self, model: nn.Module, pairs: Sequence[tuple[int, int] | Cut] | None = None, *, autoencode: bool = True
    ) -> None:
        super().__init__()
        config = model.config
        if config.model_type != "bert" or not hasattr(model, "cls"):
            raise RequestError(f"SMAE slices BERT's head: give a BertForMaskedLM, not a {type(model).__name__}.")
        pairs = default_pairs(config.num_hidden_layers, config.hidden_size) if pairs is None else pairs
        self.pairs = check_pairs(pairs, config.num_hidden_layers, config.hidden_size)
        self.model = model
        self.block = copy.deepcopy(model.bert.encoder.layer[0]) if autoencode else None

    def forward(
        self, ids: Tensor, attention: Tensor, labels: Tensor, decoder_ids: Tensor, decoder_labels: Tensor
    ) -> tuple[Tensor, Parts]:
        """Return the loss and the losses "mlm n x m" and "mae n x m" for a batch of (B, T) each.

        Labels are -100 where nothing is hidden; see ``encoders.tokens.MaskedRows``. Nothing hidden gives 0.
        """
        states = self.model.bert(ids, attention_mask=attention, output_hidden_states=True).hidden_states
        hidden = labels >= 0  # (B, T), K of them true
        rows = [torch.cat([states[cut.layer][:, 0], states[cut.layer][hidden]]) for cut in self.pairs]  # P x (B + K, D)
        kept = torch.stack([self._transform(r[:, : cut.dim]) for r, cut in zip(rows, self.pairs, strict=True)])
        cls, words = kept[:, : len(ids)], kept[:, len(ids) :]  # (P, B, D), (P, K, D)
        losses = [self._cross_entropy(words, labels[hidden])]
        if self.block is not None:
            losses.append(self._cross_entropy(*self._decode(cls, decoder_ids, attention, decoder_labels)))
        parts = {
            f"{kind} {_name(cut)}": loss
            for kind, by_pair in zip(("mlm", "mae"), losses, strict=False)
            for cut, loss in zip(self.pairs, by_pair, strict=True)
        }
        return torch.stack(losses).mean(), parts

    def _transform(self, rows: Tensor) -> Tensor:
        """Return the head's dense layer, sliced to the width of rows (K, m), activation and norm: (K, D)."""
        transform = self.model.cls.predictions.transform
        rows = linear(rows, transform.dense.weight[:, : rows.shape[-1]], transform.dense.bias)
        return transform.LayerNorm(transform.transform_act_fn(rows))

    def _decode(self, cls: Tensor, ids: Tensor, attention: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Run the decoder once for all pairs; return transformed states (P, K, D) of labelled places, and labels (K,).

        Args:
            cls: (P, B, D), what each pair says of each text; it takes the place of the decoder's first embedding.
        """
        from transformers.masking_utils import create_bidirectional_mask

        count, hidden = len(cls), labels >= 0
        words = self.model.bert.embeddings(ids.repeat(count, 1))  # (P B, T, D)
        seen = torch.cat([cls.flatten(0, 1)[:, None], words[:, 1:]], dim=1)
        mask = create_bidirectional_mask(self.model.config, seen, attention.repeat(count, 1))
        states = self.block(seen, mask).unflatten(0, (count, -1))  # (P B, T, D) -> (P, B, T, D)
        return self._transform(states[:, hidden]), labels[hidden]

    def _cross_entropy(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of each pair (P,) for transformed states (P, K, D) and labels (K,).

        Pair by pair: logits (K, V) are by far the largest tensors, and those of one pair at a time are enough.
        """
        words = self.model.cls.predictions.decoder
        sums = [cross_entropy(words(each), labels, reduction="sum") for each in rows]
        return torch.stack(sums) / max(len(labels), 1) * shares.weight(len(labels), rows.device)
