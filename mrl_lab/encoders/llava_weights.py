"""Where a LLaVA's weights come from: a small one drawn at random to be trained here, or a checkpoint.

Two formats are read: transformers' (``llava-hf/llava-1.5-7b-hf``, or a folder that ``save_pretrained`` wrote) and
LLaVA's own (``liuhaotian/llava-v1.5-7b``), in which the M3 checkpoints are (``mucai/llava-v1.5-7b-m3``). The latter
hold a *fine-tuned* vision tower, which is taken from the file; the stock tower in its place would silently be worse.
LLaVA-1.5's own files hold none: its tower is the one that their configuration names, and a line says so. They are files
of tensors, not safetensors, and read as tensors alone (``weights_only``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from mrl_lab.encoders import weights
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

STOCK_TOWER = "openai/clip-vit-large-patch14-336"  # whose shape is the default of transformers' LlavaConfig
TOWER = "model.vision_tower."  # what its weights are called
KINDS = ("llava", "llava_llama")
PARTS = {"patch": "default", "cls_patch": "full"}  # LLaVA's own name of what is taken from the tower -> transformers'
COMPUTED = re.compile(r"(inv_freq|position_ids)$")  # older files keep these too
ADVICE = (
    "Give a folder with config.json and safetensors, or fetch one first (hf download llava-hf/llava-1.5-7b-hf); "
    "build() makes a small one to be trained here."
)
OWN_NAMES = {  # LLaVA's own name of a weight -> ours
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.vision_tower\.vision_tower\.vision_model\.": "model.vision_tower.",
    r"^model\.embed_tokens\.": "model.language_model.embed_tokens.",
    r"^model\.layers\.": "model.language_model.layers.",
    r"^model\.norm\.": "model.language_model.norm.",
}


def build(
    words: int,
    *,
    side: int = 32,
    patch: int = 8,
    d: int = 64,
    tower_layers: int = 3,
    layers: int = 2,
    feature_layer: int = -1,
    image_token: int = 1,
    end_token: int = 2,
    seed: int = 0,
) -> LlavaForConditionalGeneration:
    """Build a small LLaVA with random weights: CLIP's tower and Llama, both of width ``d``, heads of 32 dims.

    Args:
        words: size of the vocabulary, with token 0 for padding.
        side, patch: of the pictures, in pixels; (side / patch)^2 visual tokens, such as 16.
        feature_layer: of the tower; -1 uses all of it, where LLaVA's -2 computes one layer for nothing.

    Raises:
        RequestError: patches that do not tile the picture, or a width that is not a multiple of 32.
    """
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    if side % patch or d % 32:
        raise RequestError(f"patch must divide side, and 32 divide d; got side = {side}, patch = {patch}, d = {d}.")
    shared = {"hidden_size": d, "num_attention_heads": d // 32}
    tower = {"num_hidden_layers": tower_layers, "intermediate_size": 4 * d, "image_size": side, "patch_size": patch}
    text = {"num_hidden_layers": layers, "intermediate_size": 3 * d, "vocab_size": words, "bos_token_id": None}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**shared, **tower, projection_dim=d),
        text_config=LlamaConfig(**shared, **text, pad_token_id=0, eos_token_id=end_token),
        image_token_index=image_token,
        image_seq_length=(side // patch) ** 2,
        vision_feature_layer=feature_layer,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(config)


def pretrained(name_or_path: str, dtype: str | torch.dtype = "auto") -> LlavaForConditionalGeneration:
    """Open a checkpoint: a folder, or a name on the hub, in either format; no remote code.

    Args:
        dtype: of the weights; "auto" keeps the file's.

    Raises:
        RequestError: the weights cannot be had, some are missing, or some have no place in a LLaVA-1.5, as those of
            LLaVA-NeXT; never a model that is partly random, or partly read.
    """
    from transformers import LlavaForConditionalGeneration

    with weights.reading(name_or_path, "LLaVA", ADVICE):
        config, names = _configuration(name_or_path)
    how = {"config": config, "key_mapping": names, "dtype": dtype, "use_safetensors": True if names is None else None}
    model, lacking, strays = weights.loaded(LlavaForConditionalGeneration, name_or_path, "LLaVA", ADVICE, **how)
    if names and set(lacking) == {f"{TOWER}{name}" for name in model.model.vision_tower.state_dict()}:
        _put_in_stock_tower(model, name_or_path)
        lacking = []
    weights.refuse(lacking, name_or_path, "LLaVA")
    if strays := [name for name in strays if not COMPUTED.search(name)]:
        raise RequestError(
            f"the checkpoint at {name_or_path!r} holds {len(strays)} weights that a LLaVA-1.5 has no place for, such "
            f"as {', '.join(strays[:3])}: it would not be that model without them."
        )
    return model.eval()


def _put_in_stock_tower(model: LlavaForConditionalGeneration, name_or_path: str) -> None:
    """Give a model of LLaVA's own format, whose file holds no tower at all, the one that its configuration names."""
    from transformers import CLIPVisionModel, LlavaConfig

    stock = LlavaConfig.get_config_dict(name_or_path)[0]["mm_vision_tower"]
    how = {"use_safetensors": None, "dtype": model.dtype}
    tower, _ = weights.opened(CLIPVisionModel, stock, "vision tower of CLIP", ADVICE, **how)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    print(f"{name_or_path} holds no vision tower: that of {stock} was taken, which its configuration names")


def format_of(name_or_path: str) -> tuple[bool, bool]:
    """Return whether a checkpoint is in LLaVA's own format, and whether it wants pictures filled up to a square."""
    from transformers import LlavaConfig

    given, _ = LlavaConfig.get_config_dict(name_or_path)
    return "mm_vision_tower" in given, given.get("image_aspect_ratio") == "pad"


def _configuration(name_or_path: str) -> tuple[LlavaConfig, dict[str, str] | None]:
    """Return the configuration, and what weights are renamed if the checkpoint is in LLaVA's own format."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    given, _ = LlavaConfig.get_config_dict(name_or_path)
    _check_kind(name_or_path, given)
    tower = given.pop("mm_vision_tower", None)
    if tower is None:
        return LlavaConfig.from_pretrained(name_or_path), None
    vision = None if tower == STOCK_TOWER else CLIPVisionConfig.from_pretrained(tower)
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**{k: v for k, v in given.items() if k not in ("model_type", "architectures")}),
        image_token_index=given["vocab_size"],  # one beyond the words: the format marks the place without a token
        vision_feature_layer=given.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy=PARTS[given.get("mm_vision_select_feature", "patch")],
    )
    return config, OWN_NAMES


def _check_kind(name_or_path: str, given: dict) -> None:
    """Raise RequestError unless a configuration is that of a LLaVA-1.5: one picture of one size, tokens in a row."""
    kind, merge = given.get("model_type", "llava"), given.get("mm_patch_merge_type", "flat")
    aspect = given.get("image_aspect_ratio") or "pad"
    if kind not in KINDS or merge != "flat" or "anyres" in aspect:
        raise RequestError(
            f"the checkpoint at {name_or_path!r} is no LLaVA-1.5: it is a {kind} that merges patches by {merge!r}, of "
            f"pictures {aspect!r}. LLaVA-NeXT and its kin cut a picture into tiles and mark the ends of rows "
            "(image_newline), which is not done here. Give a LLaVA-1.5, such as llava-hf/llava-1.5-7b-hf."
        )
