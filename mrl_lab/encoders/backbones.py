"""Backbones for pictures that somebody else trained, by folder, file or name, every tensor accounted for.

* A folder of transformers' or a name on the hub: :func:`mrl_lab.encoders.pictures.pretrained`. Models of timm are
  opened so where timm is installed.
* A file of tensors (.pth, .pt, .safetensors) under torchvision's names: its plain ResNets, timm's of the same names,
  and the released MRL models (Kusupati et al., NeurIPS 2022, such as ``r50_mrl1_e0_ff2048.pt``). The network is
  transformers' ResNet. Files are read as tensors alone (``weights_only``).

The MRL models were trained with FFCV's blur: a fixed 3 x 3 filter stands before each convolution that strides, the
first aside. Where a file holds the filter it is put there; left out, the features would be others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from mrl_lab.cuts import halvings
from mrl_lab.encoders import pictures, weights
from mrl_lab.encoders.pictures import Looks, Pretrained
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from transformers import ResNetConfig

SUFFIXES = (".pth", ".pt", ".safetensors")
WHAT = "ResNet"
ADVICE = "Give a file of torchvision's ResNets (18 to 152) or of MRL's release, such as r50_mrl1_e0_ff2048.pt."
NAMES = {  # torchvision's name of a tensor -> transformers'
    r"^conv1\.": "embedder.embedder.convolution.",
    r"^bn1\.": "embedder.embedder.normalization.",
    r"\.downsample\.0\.": ".shortcut.convolution.",
    r"\.downsample\.1\.": ".shortcut.normalization.",
}
BLOCK = re.compile(r"^layer(\d)\.(\d+)\.")
PART = re.compile(r"\.(conv|bn)(\d)\.")
BLUR = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
SMALLEST = 8  # of MRL-E's sizes, which its file does not tell: 8, 16, ... d


@dataclass(frozen=True, eq=False)
class Backbone:
    """A backbone, and the linear heads that came with it.

    Attributes:
        heads: {m: weight (C, m), bias (C,)}; one of size d alone for MRL-E, whose smaller ones are slices of it.
        kind: "MRL", "MRL-E", "FF" (one head on the first k dims; a plain ResNet's is on all) or "none".
        sizes: at which the heads answer.
    """

    encoder: Pretrained
    heads: dict[int, tuple[Tensor, Tensor]]
    kind: str
    sizes: tuple[int, ...]


class Blurred(nn.Module):
    """A convolution that strides, after a blur of each channel (FFCV's BlurPool)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("blur", BLUR.expand(conv.in_channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(conv2d(x, self.blur, padding=1, groups=self.conv.in_channels))


def is_file(name_or_path: str) -> bool:
    """True for what is opened as a file of tensors."""
    return Path(name_or_path).suffix in SUFFIXES


def opened(name_or_path: str, side: int = 224) -> Backbone:
    """Open a backbone for pictures, which it resizes to ``side`` if it is a file, else as its processor says.

    Raises:
        RequestError: it cannot be had; it lacks tensors, or holds some that its network has no place for.
    """
    if not is_file(name_or_path):
        return Backbone(pictures.pretrained(name_or_path), {}, "none", ())
    state = {
        re.sub(r"^(module|model)\.", "", name): tensor
        for name, tensor in weights.tensors(name_or_path, ("state_dict", "model"), WHAT, ADVICE).items()
    }
    heads = {name: state.pop(name).float() for name in list(state) if name.startswith("fc.")}
    encoder = Pretrained(_network(name_or_path, state), Looks((side, side)))
    return _with_heads(name_or_path, encoder, heads)


# ------------------------------------------------------------------------------------------------ the network


def _network(file: str, state: dict[str, Tensor]) -> nn.Module:
    from transformers import ResNetModel

    if "conv1.weight" not in state or "layer4.0.conv1.weight" not in {n.replace(".conv.w", ".w") for n in state}:
        raise RequestError(
            f"{file} holds no tensors of a ResNet by torchvision's names, such as conv1.weight. {ADVICE}"
        )
    blurred = [name for name in state if name.endswith(".blur_filter")]
    for name in blurred:
        if not torch.allclose(state.pop(name).float(), BLUR, atol=1e-4):
            raise RequestError(f"{file}: {name} is another filter than (1, 2, 1) x (1, 2, 1) / 16.")
        conv = name.replace("blur_filter", "conv.weight")
        state[conv.replace(".conv.weight", ".weight")] = state.pop(conv)
    for norm in [name for name in state if name.endswith("running_var")]:
        state.setdefault(norm.replace("running_var", "num_batches_tracked"), torch.tensor(0))  # older files count none
    how = {"state": {_renamed(name): tensor for name, tensor in state.items()}, "config": _configuration(state)}
    body, strays = weights.opened(ResNetModel, file, WHAT, ADVICE, dtype=torch.float32, **how)
    if strays:
        raise RequestError(
            f"{file} holds {len(strays)} tensors that a plain {WHAT} has no place for, such as "
            f"{', '.join(strays[:3])}. {ADVICE}"
        )
    for name in blurred:
        place = _renamed(name.replace(".blur_filter", ".weight")).removesuffix(".weight")
        body.set_submodule(place, Blurred(body.get_submodule(place)))
    return body


def _configuration(state: Mapping[str, Tensor]) -> ResNetConfig:
    """Return what the shapes of the tensors tell."""
    from transformers import ResNetConfig

    deep = "layer1.0.conv3.weight" in state
    last = "conv3" if deep else "conv2"
    return ResNetConfig(
        embedding_size=len(state["conv1.weight"]),
        hidden_sizes=[len(state[f"layer{i}.0.{last}.weight"]) for i in range(1, 5)],
        depths=[sum(name.startswith(f"layer{i}.") and f".{last}.w" in name for name in state) for i in range(1, 5)],
        layer_type="bottleneck" if deep else "basic",
    )


def _renamed(name: str) -> str:
    """Return transformers' name of a tensor; what is not known keeps its own."""
    for theirs, ours in NAMES.items():
        name = re.sub(theirs, ours, name)
    name = BLOCK.sub(lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.", name)
    kinds = {"conv": "convolution", "bn": "normalization"}
    return PART.sub(lambda m: f".layer.{int(m[2]) - 1}.{kinds[m[1]]}.", name)


# ------------------------------------------------------------------------------------------------ the heads


def _with_heads(file: str, encoder: Pretrained, held: Mapping[str, Tensor]) -> Backbone:
    """Tell by name and shape what heads a file holds; see :class:`Backbone`.

    MRL-E's single head looks like a plain one. The release's current code calls it nesting_classifier_0; its older
    files do not, and say ``_e1_`` in their name.
    """
    names = [name.removesuffix(".weight") for name in held if name.endswith(".weight")]
    lone = [name for name in held if name.rpartition(".")[0] not in names]
    if lone or any(f"{name}.bias" not in held for name in names):
        raise RequestError(f"{file}: heads have a weight and a bias each; it holds {', '.join(sorted(held))}.")
    heads = {held[f"{name}.weight"].shape[1]: (held[f"{name}.weight"], held[f"{name}.bias"]) for name in names}
    heads = dict(sorted(heads.items()))
    if len(heads) < len(names) or any(m > encoder.d for m in heads):
        raise RequestError(f"{file}: heads of sizes {list(heads)} do not fit {len(names)} layers and {encoder.d} dims.")
    if len(heads) > 1:
        return Backbone(encoder, heads, "MRL", tuple(heads))
    efficient = "nesting_classifier" in "".join(names) or "_e1_" in Path(file).name
    if heads and efficient and encoder.d in heads:
        return Backbone(encoder, heads, "MRL-E", halvings(encoder.d, smallest=SMALLEST))
    return Backbone(encoder, heads, "FF" if heads else "none", tuple(heads))
