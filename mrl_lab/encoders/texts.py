"""Sentence encoders: token ids in, the pooled states of **all** layers out, from one forward pass.

States are (..., N+1, d): layer 0 is the embedding output, layer n that of block n, each averaged over its tokens or
taken at [CLS], and never normalised: cut first. Any transformers encoder will do whose hidden states are what its
blocks put out, which a short text is run to find out. If a norm follows the last block (pre-norm models such as
ModernBERT), it is applied to **every** layer here, as it is in a model cut there; sentence-transformers' losses train
shallow layers without it. On a CPU, where much of a batch would be padding, its shorter and its longer half run apart
(half of SNLI's; a step takes a fifth less). :mod:`mrl_lab.encoders.cutting` saves the lowest blocks as a model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mrl_lab.encoders.tokens import pad_right, tokenise
from mrl_lab.errors import RequestError, unknown

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerBase

POOLINGS = ("mean", "cls")
ROWS_TO_SPLIT, PADDING_TO_SPLIT = 16, 0.2  # from so many texts, and so large a share of padding, halves run apart
PROBE = ("A short text, and nothing more.", "Two.")  # of different lengths, so that one is padded


class SentenceEncoder(nn.Module):
    """A transformers encoder with its tokenizer; forward gives the pooled states of all layers.

    Attributes:
        layers: N, the number of blocks. d: width of a state. pooling: "mean" over tokens, or "cls", the first token.
        length: most tokens of a text. norm: name of the module applied to every layer, None after post-norm blocks.

    Raises:
        RequestError: an unknown pooling, or a model whose layers cannot be cut, with the reason.
    """

    def __init__(
        self, body: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pooling: str = "mean", length: int = 128
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        if getattr(body, "pooler", None) is not None:
            body.pooler = None  # not used here: its parameters would never get a gradient
        self.body, self.tokenizer, self.pooling = body, tokenizer, pooling
        self.layers, self.d = body.config.num_hidden_layers, body.config.hidden_size
        self.length = min(length, tokenizer.model_max_length, getattr(body.config, "max_position_embeddings", length))
        self.norm = _closing_norm(body, *self.tokens(PROBE))

    def forward(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Token ids and attention (..., T), padded on the right -> states (..., N+1, d).

        Raises:
            RequestError: texts that do not begin with a token, where [CLS] is to be taken.
        """
        flat_ids, flat = ids.flatten(0, -2), attention.flatten(0, -2)  # (..., T) -> (B, T)
        if self.pooling == "cls" and not flat[:, 0].all():
            raise RequestError("[CLS] is taken at the first place, but some texts are padded on the left there.")
        parts = _alike(flat)
        states = torch.cat([self._states(flat_ids[rows, :width], flat[rows, :width]) for rows, width in parts])
        order = torch.cat([rows for rows, _ in parts]).argsort()
        return states[order].unflatten(0, ids.shape[:-1])  # (B, N+1, d) -> (..., N+1, d)

    def _states(self, ids: Tensor, attention: Tensor) -> Tensor:
        """(B, T), (B, T) -> (B, N+1, d)."""
        out = self.body(input_ids=ids, attention_mask=attention, output_hidden_states=True)
        return torch.stack([self._pool(hidden, attention) for hidden in self._normed(out.hidden_states)], dim=1)

    def _normed(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        if self.norm is None:
            return list(hidden)
        norm = self.body.get_submodule(self.norm)
        return [*(norm(h) for h in hidden[:-1]), hidden[-1]]  # transformers has applied it to the last

    def _pool(self, hidden: Tensor, attention: Tensor) -> Tensor:
        """hidden (B, T, d), attention (B, T) -> (B, d)."""
        if self.pooling == "cls":
            return hidden[:, 0]
        share = attention.to(hidden.dtype)
        share = share / share.sum(1, keepdim=True).clamp(min=1)
        return torch.einsum("btd,bt->bd", hidden, share)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids and attention (B, T) of texts; longer ones are cut after ``length`` tokens.

        Raises:
            RequestError: names the first row that is not a string.
        """
        return pad_right(tokenise(self.tokenizer, texts, self.length), self.tokenizer)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch: int = 64) -> Tensor:
        """Return the states (n, N+1, d) of texts, in evaluation mode, on the CPU as float32. Encode once, cut many.

        Texts of like length share a batch, so that little is padded; an empty text has states as well.
        """
        ids = tokenise(self.tokenizer, texts, self.length)
        device, was_training = next(self.parameters()).device, self.training
        states = torch.zeros(len(ids), self.layers + 1, self.d)
        by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        self.eval()
        for start in range(0, len(ids), batch):
            chosen = by_length[start : start + batch]
            part = pad_right([ids[i] for i in chosen], self.tokenizer)
            states[chosen] = self(*(t.to(device) for t in part)).float().cpu()
        self.train(was_training)
        return states

    def keep(self, layer: int) -> SentenceEncoder:
        """Return a new encoder of the lowest ``layer`` blocks, weights copied.

        Raises:
            RequestError: a layer outside 1..N.
        """
        if not 1 <= layer <= self.layers:
            raise RequestError(
                f"cannot keep {layer} blocks of an encoder that has {self.layers}: use 1 to {self.layers}."
            )
        config = copy.deepcopy(self.body.config)
        config.num_hidden_layers = layer
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layer]
        with torch.random.fork_rng():
            small = SentenceEncoder(type(self.body)(config), self.tokenizer, self.pooling, self.length)
        weights = self.body.state_dict()
        small.body.load_state_dict({name: weights[name] for name in small.body.state_dict()})
        return small.to(next(self.parameters())).train(self.training)


def _alike(attention: Tensor) -> list[tuple[Tensor, int]]:
    """Return the rows (B,) that run together, and the columns they need: all, or the shorter and the longer half.

    A GPU would wait longer for a second run than for the padding (B, T) that it saves.
    """
    rows, columns = attention.shape
    few = rows < ROWS_TO_SPLIT or attention.device.type != "cpu"
    if few or attention.float().mean() > 1 - PADDING_TO_SPLIT:
        return [(torch.arange(rows, device=attention.device), columns)]
    halves, place = attention.sum(1).argsort(stable=True).chunk(2), torch.arange(1, columns + 1)
    return [(half, max(1, int((attention[half].any(0) * place).max()))) for half in halves]


# ------------------------------------------------------------------------------------ what a model is made of


@torch.no_grad()
def _closing_norm(body: nn.Module, ids: Tensor, attention: Tensor) -> str | None:
    """Return the name of the norm behind the last block, None if there is none, from a run of a short text.

    Raises:
        RequestError: hidden states that are not what the blocks put out, so that a cut model would differ.
    """
    blocks, outputs = _blocks(body), []
    watch = [b.register_forward_hook(lambda _, __, out: outputs.append(_first(out))) for b in blocks]
    was_training, device = body.training, next(body.parameters()).device
    out = body.eval()(input_ids=ids.to(device), attention_mask=attention.to(device), output_hidden_states=True)
    body.train(was_training)
    for hook in watch:
        hook.remove()
    hidden = getattr(out, "hidden_states", None)
    if hidden is None or len(hidden) != len(blocks) + 1:
        raise RequestError(f"{type(body).__name__} does not give the hidden states of its {len(blocks)} blocks.")
    if not all(same(h, put_out) for h, put_out in zip(hidden[1:-1], outputs, strict=False)):
        raise RequestError(f"{type(body).__name__} changes states between its blocks: a cut model would differ.")
    if same(hidden[-1], outputs[-1]):
        return None
    inside = set(blocks.modules())
    for name, module in reversed(list(body.named_modules())):  # the last one: untrained norms are all alike
        if module not in inside and _is_norm(module, hidden[-1]) and same(module(outputs[-1]), hidden[-1]):
            return name
    raise RequestError(
        f"{type(body).__name__} does more after its last block than a norm: its shallow layers cannot be cut."
    )


def _blocks(body: nn.Module) -> nn.ModuleList:
    """Return the list of a model's blocks: the first with as many members as the configuration says."""
    count = getattr(body.config, "num_hidden_layers", None)
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise RequestError(
        f"{type(body).__name__} has no list of {count} blocks: models that share blocks, or have encoder and decoder, "
        "cannot be cut. Use a BERT, RoBERTa, MPNet, DistilBERT or ModernBERT."
    )


def _is_norm(module: nn.Module, states: Tensor) -> bool:
    weight = getattr(module, "weight", None)
    return "norm" in type(module).__name__.lower() and weight is not None and weight.shape == states.shape[-1:]


def _first(out: Tensor | tuple) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def same(a: Tensor, b: Tensor) -> bool:
    """Say whether two states are one but for rounding."""
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-5)


# ---------------------------------------------------------------------------------------- where they come from


def small(
    tokenizer: PreTrainedTokenizerBase,
    d: int = 128,
    layers: int = 4,
    *,
    pooling: str = "mean",
    length: int = 128,
    dropout: float = 0.1,
    seed: int = 0,
) -> SentenceEncoder:
    """Build a BERT to be trained here: heads of 32 dims, feed-forward of 4 d, random weights drawn from ``seed``.

    Raises:
        RequestError: a width that heads do not divide.
    """
    from transformers import BertModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = BertModel(small_config(tokenizer, d, layers, length=length, dropout=dropout), add_pooling_layer=False)
    return SentenceEncoder(body, tokenizer, pooling, length)


def small_config(
    tokenizer: PreTrainedTokenizerBase, d: int, layers: int, *, length: int = 128, dropout: float = 0.1
) -> BertConfig:
    """Return the transformers configuration of :func:`small`, for a model with another head such as SMAE's."""
    from transformers import BertConfig

    if d % 32:
        raise RequestError(f"a small BERT has heads of 32 dims: its width must be a multiple of 32, got {d}.")
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=d,
        num_hidden_layers=layers,
        num_attention_heads=d // 32,
        intermediate_size=4 * d,
        max_position_embeddings=length,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=tokenizer.pad_token_id,
    )


def pretrained(name_or_path: str | Path, *, pooling: str = "mean", length: int = 128) -> SentenceEncoder:
    """Open a pretrained text encoder: a folder saved by transformers or sentence-transformers, or a hub name.

    Weights are read from safetensors only and no remote code is run. A Normalize module is left out: states are
    not normalised.

    Raises:
        RequestError: the weights cannot be had, or the model cannot be cut; says why.
    """
    from transformers import AutoModel, AutoTokenizer

    try:
        with _no_bar():
            body = AutoModel.from_pretrained(name_or_path, use_safetensors=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        where = "the folder" if Path(name_or_path).exists() else "the local cache of the hub and the hub"
        raise RequestError(
            f"no pretrained text encoder at {str(name_or_path)!r}: looked in {where} ({error}). Give a folder with "
            "config.json, tokenizer.json and model.safetensors, or a hub name such as bert-base-uncased."
        ) from error
    return SentenceEncoder(body, tokenizer, pooling, length)


@contextmanager
def _no_bar() -> Iterator[None]:
    """Silence transformers' bar over weights: it is gone in a second, and stays in a notebook for good."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
