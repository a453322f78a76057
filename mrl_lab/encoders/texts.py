"""Sentence encoders: token ids in, the pooled states of **all** layers out, from one forward pass.

States are (..., N+1, d): layer 0 is the embedding output, layer n that of block n, each pooled over its tokens as
sentence-transformers does it (their mean, [CLS], the last one, ...) and never normalised: cut first. With [CLS], layer
0 says nothing of a text, whose words have not met yet. Any transformers encoder will do whose hidden states are what
its blocks put out, which a short text is run to find out. If a norm follows the last block (pre-norm models such as
ModernBERT), it is applied to **every** layer here, as it is in a model cut there; sentence-transformers' losses train
shallow layers without it. On a CPU, where much of a batch would be padding, its shorter and its longer half run apart
(half of SNLI's; a step takes a fifth less). :mod:`mrl_lab.encoders.elsewhere` opens models that others trained, and
:mod:`mrl_lab.encoders.cutting` saves the lowest blocks as one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mrl_lab.encoders.tokens import pad_right, tokenise
from mrl_lab.errors import RequestError, unknown

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerBase

POOLINGS = ("mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")  # sentence-transformers' names
SIDES = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}  # whose prompt is taken, the first there is
DIRECTION = ("Normalize", "Dropout")  # what may stand behind the pooling and leaves a vector's direction alone
SUPPORTED = "Use a BERT, RoBERTa, MPNet, DistilBERT or ModernBERT."
ROWS_TO_SPLIT, PADDING_TO_SPLIT = 16, 0.2  # from so many texts, and so large a share of padding, halves run apart
PROBE = ("A short text, and nothing more.", "Two.")  # of different lengths, so that one is padded


@dataclass(frozen=True)
class Manner:
    """How a model made elsewhere is used, beside its weights: what sentence-transformers keeps in its configuration.

    Attributes:
        prompts: what stands before a text, by name; default: the name of the one that is taken where no side is given.
        similarity: what vectors are compared by. dim: leading dims that a vector is cut to, None for all.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    similarity: str = "cosine"
    dim: int | None = None


class SentenceEncoder(nn.Module):
    """A transformers encoder with its tokenizer; forward gives the pooled states of all layers.

    Args:
        pooling: one of :data:`POOLINGS`, or several, which stand side by side in a state.
        length: most tokens of a text; fewer where the tokenizer or the model takes fewer.
        head: sentence-transformers' modules behind the pooling, such as Dense and Normalize. They make the *last*
            layer's state a vector (:meth:`vectors`); states are what stands before them.

    Attributes:
        layers: N, the number of blocks. d: width of a state. length: most tokens of a text.
        norm: name of the module applied to every layer, None after post-norm blocks.

    Raises:
        RequestError: an unknown pooling, or a model whose layers cannot be cut, with the reason.
    """

    def __init__(
        self,
        body: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pooling: str | Sequence[str] = "mean",
        length: int = 128,
        *,
        head: Sequence[nn.Module] = (),
        manner: Manner | None = None,
    ) -> None:
        from sentence_transformers.sentence_transformer.modules import Pooling

        super().__init__()
        for name in [pooling] if isinstance(pooling, str) else pooling:
            if name not in POOLINGS:
                raise unknown("pooling", name, POOLINGS)
        _check_makes(body, tokenizer)
        if getattr(body, "pooler", None) is not None:
            body.pooler = None  # not used here: its parameters would never get a gradient
        self.body, self.tokenizer, self.manner = body, tokenizer, manner or Manner()
        self.pool, self.head = Pooling(body.config.hidden_size, pooling), nn.ModuleList(head)
        self.layers, self.d = body.config.num_hidden_layers, self.pool.get_embedding_dimension()
        self.length = min(length, tokenizer.model_max_length, getattr(body.config, "max_position_embeddings", length))
        self.norm = _closing_norm(body, *self.tokens(PROBE))

    @property
    def pooling(self) -> str | tuple[str, ...]:
        """How tokens are pooled, by sentence-transformers' names."""
        return self.pool.pooling_mode

    def forward(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Token ids and attention (..., T) -> states (..., N+1, d)."""
        flat_ids, flat = ids.flatten(0, -2), attention.flatten(0, -2)  # (..., T) -> (B, T)
        parts = _alike(flat)
        states = torch.cat([self._states(flat_ids[rows, :width], flat[rows, :width]) for rows, width in parts])
        order = torch.cat([rows for rows, _ in parts]).argsort()
        return states[order].unflatten(0, ids.shape[:-1])  # (B, N+1, d) -> (..., N+1, d)

    def _states(self, ids: Tensor, attention: Tensor) -> Tensor:
        """(B, T), (B, T) -> (B, N+1, d)."""
        out = self.body(input_ids=ids, attention_mask=attention, output_hidden_states=True)
        seen = [{"token_embeddings": h, "attention_mask": attention} for h in self._normed(out.hidden_states)]
        return torch.stack([self.pool(one)["sentence_embedding"] for one in seen], dim=1)

    def _normed(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        if self.norm is None:
            return list(hidden)
        norm = self.body.get_submodule(self.norm)
        return [*(norm(h) for h in hidden[:-1]), hidden[-1]]  # transformers has applied it to the last

    def prompt(self, side: str | None = None) -> str:
        """Return what stands before a text: by default, or as a "query" or a "document" of a search.

        Raises:
            RequestError: an unknown side.
        """
        if side is not None and side not in SIDES:
            raise unknown("side", side, SIDES)
        names = (*SIDES.get(side, ()), self.manner.default)
        return next((self.manner.prompts[name] for name in names if name in self.manner.prompts), "")

    def tokens(self, texts: Sequence[str], side: str | None = None) -> tuple[Tensor, Tensor]:
        """Return token ids and attention (B, T) of texts, prompt included; longer ones are cut after ``length`` tokens.

        Raises:
            RequestError: names the first row that is not a string.
        """
        return pad_right(tokenise(self.tokenizer, texts, self.length, self.prompt(side)), self.tokenizer)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch: int = 64, *, side: str | None = None) -> Tensor:
        """Return the states (n, N+1, d) of texts, in evaluation mode, on the CPU as float32. Encode once, cut many.

        Texts of like length share a batch, so that little is padded; an empty text has states as well.

        Args:
            side: "query" or "document" of a search, whose prompt is taken; None takes the model's default.
        """
        ids = tokenise(self.tokenizer, texts, self.length, self.prompt(side))
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

    def vectors(self, texts: Sequence[str], batch: int = 64, *, side: str | None = None) -> Tensor:
        """Return the model's own vectors (n, width): sentence-transformers' ``encode``, head and its cut included.

        Args:
            side: as in :meth:`encode`; sentence-transformers' ``encode_query`` and ``encode_document``.
        """
        return self.finished(self.encode(texts, batch, side=side)[:, -1])

    @torch.no_grad()
    def finished(self, pooled: Tensor) -> Tensor:
        """Return pooled states (n, d) of a layer as vectors (n, width), on the CPU: through the head, and its cut."""
        was_training = self.training
        z = through(self.eval().head, pooled.to(next(self.parameters()).device))
        self.train(was_training)
        return z[:, : self.manner.dim].cpu()

    def check_layers(self) -> None:
        """Check that a vector is the last layer's state, but for its length: then every layer has one like it.

        Raises:
            RequestError: a module behind the pooling, such as Dense, that was trained for the last layer alone.
        """
        other = [module for module in self.head if type(module).__name__ not in DIRECTION and not selects(module)]
        if other:
            raise RequestError(
                f"{described(other[0])} stands behind the pooling of this model, and was trained for the state of its "
                f"last layer alone: layers below {self.layers} have no vectors of that kind. Use its own vectors "
                f"(vectors(), or cut() at layer {self.layers}), or give a model without it."
            )

    def keep(self, layer: int) -> SentenceEncoder:
        """Return a new encoder of the lowest ``layer`` blocks, weights copied.

        Raises:
            RequestError: a layer outside 1..N, or below N where :meth:`check_layers` finds what was trained for N.
        """
        if not 1 <= layer <= self.layers:
            raise RequestError(
                f"cannot keep {layer} blocks of an encoder that has {self.layers}: use 1 to {self.layers}."
            )
        if layer < self.layers:
            self.check_layers()
        config = copy.deepcopy(self.body.config)
        config.num_hidden_layers = layer
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layer]
        with torch.random.fork_rng():
            how = {"head": copy.deepcopy(list(self.head)), "manner": self.manner}
            small = SentenceEncoder(type(self.body)(config), self.tokenizer, self.pooling, self.length, **how)
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


def encode_each(encoder: SentenceEncoder, *sides: Sequence[str]) -> list[Tensor]:
    """Return the states (n, N+1, d) of each list of texts; a text that returns is encoded once."""
    said = list(dict.fromkeys(text for side in sides for text in side))
    place = {text: i for i, text in enumerate(said)}
    states = encoder.encode(said)
    return [states[[place[text] for text in side]] for side in sides]


# ------------------------------------------------------------------------------------ what a model is made of


def through(modules: Iterable[nn.Module], z: Tensor) -> Tensor:
    """Return what sentence-transformers' modules behind the pooling make of pooled states (n, d): (n, width)."""
    made = {"sentence_embedding": z}
    for module in modules:
        made = module(made)
    return made["sentence_embedding"]


def selects(module: nn.Module) -> bool:
    """Say whether a module behind the pooling only keeps leading dims: a Dense with ones on its diagonal."""
    linear = getattr(module, "linear", None)
    if linear is None or linear.bias is not None or not isinstance(module.activation_function, nn.Identity):
        return False
    return not getattr(module, "use_residual", False) and torch.equal(linear.weight, torch.eye(*linear.weight.shape))


def described(module: nn.Module) -> str:
    """Return a module's name, and its widths if it changes them, such as "Dense 384 -> 256"."""
    widths = [getattr(module, side, None) for side in ("in_features", "out_features")]
    return type(module).__name__ + (f" {widths[0]} -> {widths[1]}" if all(widths) else "")


def _check_makes(body: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise RequestError unless a model turns text, and nothing else, into states of a known width."""
    if not all(hasattr(body.config, name) for name in ("num_hidden_layers", "hidden_size")):
        raise RequestError(f"{type(body).__name__} is no text encoder with one stack of blocks. {SUPPORTED}")
    if getattr(tokenizer, "pad_token_id", None) is None:
        raise RequestError(
            f"the tokenizer of this {type(body).__name__} has no padding token, which texts of different lengths need: "
            "set tokenizer.pad_token, such as to its eos_token."
        )


@torch.no_grad()
def _closing_norm(body: nn.Module, ids: Tensor, attention: Tensor) -> str | None:
    """Return the name of the norm behind the last block, None if there is none, from a run of a short text.

    Raises:
        RequestError: hidden states that are not what the blocks put out, so that a cut model would differ.
    """
    blocks, outputs = _blocks(body), []
    watch = [b.register_forward_hook(lambda _, __, out: outputs.append(_first(out))) for b in blocks]
    was_training, device = body.training, next(body.parameters()).device
    try:
        out = body.eval()(input_ids=ids.to(device), attention_mask=attention.to(device), output_hidden_states=True)
    except (TypeError, ValueError, AttributeError) as error:  # it wants pictures, or what a decoder is to begin with
        raise RequestError(f"{type(body).__name__} does not run on a text alone ({error}). {SUPPORTED}") from error
    finally:
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
        f"cannot be cut. {SUPPORTED}"
    )


def _is_norm(module: nn.Module, states: Tensor) -> bool:
    weight = getattr(module, "weight", None)
    return "norm" in type(module).__name__.lower() and weight is not None and weight.shape == states.shape[-1:]


def _first(out: Tensor | tuple) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def same(a: Tensor, b: Tensor) -> bool:
    """Say whether two states are one but for rounding."""
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-5)


# ------------------------------------------------------------------------------------------ small ones


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
