"""Franca's released files (arXiv 2507.14137): a .pth each, read into transformers' DINOv2 by name, tensor by tensor.

A file holds ``{"teacher": tensors}`` under the names of DINOv2's own code, with blocks in chunks ("blocks.1.7.norm1").
Every tensor finds its place or is an error, and so is a place that finds no tensor; the heads of the training
(:data:`HEADS`) are left out, and said to be. DINOv2's own files (``dinov2_vitb14_pretrain.pth``), which have the same
names, are read too; those with registers are not. ViT-g comes as parts of an archive: join and unpack them first
(``cat *.part_* | tar xz``).

Learnt positions are of one grid. For pictures of another side they are interpolated as the release does it, once.

RASA's planes stand in the file itself ("rasa_head.") or in NAME_rasa.pth beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mrl_lab.encoders import weights
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from transformers import Dinov2Config, Dinov2Model

SUFFIX = ".pth"
WHAT = "Franca"
ADVICE = "Give a file of Franca's releases, such as franca_vitb14_In21K.pth, or fetch it again."
HEAD = 64  # dims of a head of attention, in every model that was released
HEADS = ("dino_head.", "ibot_head.", "rasa_head.")  # of the training, and of position: no part of the backbone
NAMES = {  # name of a tensor in the file -> that of the DINOv2 models on the hub
    r"^(cls_token|mask_token)$": r"embeddings.\1",
    r"^pos_embed$": "embeddings.position_embeddings",
    r"^patch_embed\.proj\.": "embeddings.patch_embeddings.projection.",
    r"^norm\.": "layernorm.",
    r"^blocks\.(?:\d+\.)?(\d+)\.": r"encoder.layer.\1.",  # with its chunk or without
    r"\.attn\.proj\.": ".attention.output.dense.",
    r"\.attn\.(query|key|value)\.": r".attention.attention.\1.",
    r"\.ls(\d)\.gamma$": r".layer_scale\1.lambda1",
    r"\.mlp\.w12\.": ".mlp.weights_in.",
    r"\.mlp\.w3\.": ".mlp.weights_out.",
}


def pretrained(file: str | Path, side: int) -> Dinov2Model:
    """Open a backbone, for pictures of ``side`` pixels.

    Raises:
        RequestError: a file that cannot be read, holds something else, or lacks or has too many tensors; names them.
    """
    from transformers import Dinov2Model

    state = _read(file)
    backbone = {name: tensor.float() for name, tensor in state.items() if not name.startswith(HEADS)}
    for name in ("pos_embed", "patch_embed.proj.weight", "norm.weight"):  # what its shape is read from
        if name not in backbone:
            raise RequestError(f"{file} holds no tensor {name!r}: it is no backbone of Franca or DINOv2. {ADVICE}")
    config = _configuration(backbone)
    backbone["pos_embed"] = positions_at(backbone["pos_embed"], side // config.patch_size)
    config.image_size = side
    body, strays = weights.opened(Dinov2Model, file, WHAT, ADVICE, state=_renamed(backbone), config=config)
    if strays:
        raise RequestError(
            f"{file} holds {len(strays)} tensors that a {WHAT} has no place for, such as {', '.join(strays[:3])}: it "
            "would not be that model without them."
        )
    left = sorted({name.partition(".")[0] for name in state.keys() - backbone.keys()})
    print(f"{Path(file).name}: {len(backbone)} tensors of the backbone" + f", {', '.join(left)} left out" * bool(left))
    return body


def planes(file: str | Path) -> list[Tensor]:
    """Return the planes of position (2, D) that RASA takes out, in order; none where none were released.

    Raises:
        RequestError: a file that cannot be read, or holds anything else.
    """
    apart = rasa_file(file)
    found = {n.removeprefix("rasa_head."): t for n, t in _read(apart or file).items() if apart or n.startswith("rasa_")}
    order = [*(f"pre_pos_layers.{i}.weight" for i in range(len(found) - 1)), "pos_pred.weight"] if found else []
    if sorted(order) != sorted(found):
        raise RequestError(
            f"{apart or file} holds {', '.join(sorted(found)[:12])}: RASA's planes are {order}. {ADVICE}"
        )
    return [found[name].float() for name in order]


def rasa_file(file: str | Path) -> Path | None:
    """Return the file of RASA's planes beside that of a backbone, if there is one."""
    apart = Path(file).with_name(f"{Path(file).stem}_rasa{SUFFIX}")
    return apart if apart.is_file() else None


def positions_at(positions: Tensor, side: int) -> Tensor:
    """Return learnt positions (1, 1 + n n, d) for ``side`` x ``side`` patches, (1, 1 + side side, d).

    By bicubic interpolation of factor (side + 0.1) / n, as the release has it; transformers takes side / n.
    """
    n = isqrt(positions.shape[1] - 1)
    if n == side:
        return positions
    grid = positions[:, 1:].unflatten(1, (n, n)).movedim(3, 1)  # (1, n n, d) -> (1, d, n, n)
    grid = interpolate(grid, scale_factor=((side + 0.1) / n,) * 2, mode="bicubic")
    return torch.cat([positions[:, :1], grid.flatten(2).mT], 1)  # (1, d, side, side) -> (1, side side, d)


# ------------------------------------------------------------------------------------------------ the file


def _read(file: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without what a training wraps around them; no code of it is run."""
    held = weights.tensors(file, ("teacher",), WHAT, ADVICE)
    return {re.sub(r"^(module\.)?(backbone\.)?", "", name): tensor for name, tensor in held.items()}


def _configuration(state: Mapping[str, Tensor]) -> Dinov2Config:
    """Return what the shapes of the tensors tell."""
    from transformers import Dinov2Config

    d, patch = state["norm.weight"].numel(), state["patch_embed.proj.weight"].shape[-1]
    narrow = [tensor for name, tensor in state.items() if name.endswith("mlp.fc1.weight")]
    return Dinov2Config(
        hidden_size=d,
        num_hidden_layers=sum(name.endswith(".norm1.weight") for name in state),
        num_attention_heads=max(1, d // HEAD),
        mlp_ratio=narrow[0].shape[0] // d if narrow else 4,
        use_swiglu_ffn=not narrow,
        patch_size=patch,
    )


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the hub's names, queries, keys and values apart; what is not known keeps its name."""
    found = {}
    for name, tensor in state.items():
        thirds = tensor.chunk(3) if ".attn.qkv." in name else [tensor]  # (3 d, d) -> 3 x (d, d)
        for part, third in zip(("query", "key", "value"), thirds, strict=False):
            new = name.replace(".qkv.", f".{part}.")
            for theirs, ours in NAMES.items():
                new = re.sub(theirs, ours, new)
            found[new] = third
    return found
