"""What a transformer computes, by formula from its configuration alone: no weights are needed.

A transformer of L layers, width d and P parameters outside its embeddings, reading T tokens, computes about

    FLOPs(T) = 2 P T + 4 L d T^2          (a multiplication and an addition for each weight and token; then attention)

and keeps 2 L d_kv T keys and values for the tokens to come. With Llama-7B's shape this reproduces the TFLOPs that M3
states for LLaVA-1.5 (Cai et al., table 9). We differ in also counting the vision encoder and the projector, whose
cost no number of visual tokens lowers: from 576 tokens to 1 the whole saves 10.5 times, not 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from transformers import BertConfig, CLIPVisionConfig, LlamaConfig, LlavaConfig


def multiply_adds(config: BertConfig, layers: int, tokens: int) -> int:
    """Return the multiply-adds, each counted once, of a BERT's lowest ``layers`` blocks for a text of ``tokens``."""
    d = config.hidden_size
    a_token = 4 * d * d + 2 * d * config.intermediate_size  # q, k, v, o and the two of the MLP
    return layers * (tokens * a_token + 2 * d * tokens**2)


def language_parameters(text: LlamaConfig) -> int:
    """Return P of a Llama: the weights of its layers' projections, without embeddings, head and norms."""
    heads = text.num_attention_heads * head_width(text)
    attention = 2 * text.hidden_size * (heads + text.num_key_value_heads * head_width(text))  # q and o, k and v
    return text.num_hidden_layers * (attention + 3 * text.hidden_size * text.intermediate_size)


def head_width(text: LlamaConfig) -> int:
    """Return the dims of one attention head."""
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def prefill_flops(text: LlamaConfig, tokens: int) -> int:
    """Return 2 P T + 4 L d T^2, what reading T ``tokens``, visual and text together, takes (table 9: 8.0e12 at 606)."""
    width = text.num_attention_heads * head_width(text)
    return 2 * language_parameters(text) * tokens + 4 * text.num_hidden_layers * width * tokens**2


def kv_bytes(text: LlamaConfig, tokens: int, bytes_per_value: int = 2) -> int:
    """Return the bytes of keys and values of T ``tokens``, in half precision by default (Llama-7B: 524,288 a token)."""
    return 2 * text.num_hidden_layers * text.num_key_value_heads * head_width(text) * tokens * bytes_per_value


def tower_flops(vision: CLIPVisionConfig) -> int:
    """Return what the vision encoder computes for one picture, all its layers (CLIP-L/14 at 336: 0.38e12)."""
    patches, d = (vision.image_size // vision.patch_size) ** 2, vision.hidden_size
    layer = 4 * d * d + 2 * d * vision.intermediate_size  # q, k, v, o and the two of the MLP
    embed = 2 * vision.num_channels * vision.patch_size**2 * d * patches
    seen = patches + 1  # and the class token
    return embed + vision.num_hidden_layers * (2 * layer * seen + 4 * d * seen**2)


def projector_flops(config: LlavaConfig, tokens: int) -> int:
    """Return what the two layers of the projector compute for ``tokens``: all of them where pooling comes after."""
    layers, d = config.vision_feature_layer, config.text_config.hidden_size
    width = config.vision_config.hidden_size * (1 if isinstance(layers, int) else len(layers))
    return 2 * tokens * (width * d + d * d)


def by_scale(config: LlavaConfig, scales: Sequence[int], text_tokens: int, tiles: int = 1) -> list[dict[str, float]]:
    """Return one row a scale: tokens, visual (over all tiles), flops of the language model, of all, and kv_bytes.

    Args:
        config: ``LlavaConfig()`` has the shape of LLaVA-1.5-7B.
        scales: visual tokens a tile; text_tokens: beside them (the paper's table has 30).
        tiles: pictures encoded for one question; LLaVA-NeXT's 2 x 2 grid and the whole make 5.

    Raises:
        RequestError: a negative number of tokens, or no tile.
    """
    if min(*scales, text_tokens) < 0 or tiles < 1:
        raise RequestError(f"tokens are at least 0 and tiles 1; got {list(scales)}, {text_tokens} and {tiles}.")
    text, vision = config.text_config, config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    seeing = tiles * (tower_flops(vision) + projector_flops(config, patches))
    rows = []
    for t in scales:
        read = t * tiles + text_tokens
        language = prefill_flops(text, read)
        kept = kv_bytes(text, read)
        rows.append({"tokens": t, "visual": t * tiles, "prefill": language, "flops": language + seeing, "bytes": kept})
    return rows
