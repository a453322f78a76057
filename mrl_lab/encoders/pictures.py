"""Encoders: pictures or vectors in, one embedding ``z`` (B, d) out.

Every encoder is a module with a ``d`` attribute whose forward takes a batch as the data package stores it
(uint8 pictures (B, C, H, W) in 0..255, or float vectors (B, f)) and scales it itself, so that a saved
encoder needs nothing else. The small ones are made to be trained here; :func:`pretrained` opens any
transformers vision model by local path or hub name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mrl_lab.encoders import weights
from mrl_lab.errors import RequestError, unknown

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

WHAT = "pretrained vision model"
ADVICE = (
    "Give a folder with config.json, preprocessor_config.json and model.safetensors, or a hub name such as "
    "google/vit-base-patch16-224 or facebook/dinov2-small."
)
AT_ONCE = 32  # pictures that are embedded together: a ResNet-50's first maps of 256 at 224 pixels would take 3 GB
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # PIL's numbers, as a processor gives them


class Scale(nn.Module):
    """uint8 pictures (B, C, H, W) -> float, (x / 255 - mean) / std by channel."""

    def __init__(self, mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        return (x - self.mean) / self.std


def _block(channels_in: int, channels: int, stride: int, norm: str) -> nn.Sequential:
    """3x3 convolution, norm, ReLU; ``stride`` shrinks the picture."""
    normalise = nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(min(8, channels), channels)
    convolve = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolve, normalise, nn.ReLU())


class ConvNet(nn.Module):
    """Three blocks, a learned position map, then a post-ReLU, globally averaged feature z >= 0 (B, d).

    The feature is what a ResNet's pooled output is in MRL (section 4.1): no projection, no normalisation.
    The position map (one value a channel and place, added after the first block) is ours: without it global
    pooling cannot tell *left* from *right*, which the pairs of pictures need.

    The first block strides by 2, which costs 0.3 points of Fashion-MNIST top-1 and trains 3x faster than a
    full-resolution first block (13,000 against 4,200 pictures a second on 2 cores).

    Args:
        shape: (C, H, W) of the pictures.
        d: width of the embedding.
        widths: channels of the first two blocks.
        norm: "batch", or "group" where several processes must compute exactly what one would.
        positions: with the position map; left out, the net takes pictures of any size.
        standardised: each dim of z at mean 0 and variance 1 (BatchNorm without gain), as self-supervision needs it: of
            features that are all positive, the cosine sees little but their mean (Franca's control without nesting, 200
            steps on 10,000 pictures, k-NN: 81.1 with it, 76.1 without, 80.3 on the pixels, 77.0 before training).
        mean, std: scaling by channel.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        d: int,
        widths: tuple[int, int] = (32, 64),
        norm: str = "batch",
        positions: bool = True,
        standardised: bool = False,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
    ) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < 8:
            raise RequestError(f"pictures of {height} x {width} are too small for the ConvNet: it needs 8 x 8 or more.")
        self.d = d
        self.scale = Scale(mean, std)
        self.first = _block(channels, widths[0], 2, norm)
        places = torch.zeros(1, widths[0], (height + 1) // 2, (width + 1) // 2)
        self.position = nn.Parameter(0.02 * torch.randn_like(places)) if positions else None
        self.second = nn.Sequential(nn.MaxPool2d(2), _block(widths[0], widths[1], 1, norm))
        self.last = nn.Sequential(nn.MaxPool2d(2), _block(widths[1], d, 1, norm))
        self.standard = nn.BatchNorm1d(d, affine=False) if standardised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.scale(x))  # (B, w0, H/2, W/2)
        x = x if self.position is None else x + self.position
        return self.standard(self.last(self.second(x)).mean((2, 3)))  # (B, d, H/8, W/8) -> (B, d)


class ViT(nn.Module):
    """A small vision transformer from a transformers configuration; z is the class token (B, d)."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        d: int,
        layers: int = 4,
        patch: int = 4,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
    ) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTModel

        channels, height, width = shape
        if height % patch or width % patch or d % 32:
            raise RequestError(
                f"the ViT needs sides divisible by {patch} and d by 32; got {height} x {width}, d = {d}."
            )
        self.d = d
        self.scale = Scale(mean, std)
        config = ViTConfig(
            hidden_size=d,
            num_hidden_layers=layers,
            num_attention_heads=d // 32,
            intermediate_size=4 * d,
            image_size=(height, width),
            patch_size=patch,
            num_channels=channels,
        )
        self.body = ViTModel(config, add_pooling_layer=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(pixel_values=self.scale(x)).last_hidden_state[:, 0]  # class token: (B, 1 + t, d) -> (B, d)


class MLP(nn.Module):
    """Vectors (B, f) -> z (B, d) >= 0: two linear layers with ReLU, after scaling by mean and std of the data."""

    def __init__(self, features: int, d: int, hidden: int = 256, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.d = d
        self.mean, self.std = mean, std
        self.body = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, d), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body((x.float().flatten(1) - self.mean) / self.std)  # (B, ...) -> (B, f) -> (B, d)


@dataclass(frozen=True)
class Looks:
    """What a vision model made elsewhere wants to see: pictures of ``size`` (H, W), scaled by channel."""

    size: tuple[int, int]
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    how: str = "bilinear"

    def resized(self, x: Tensor) -> Tensor:
        """Pictures (B, C, h, w), uint8 or 0..1 -> (B, channels, H, W), 0..1; grey ones in each channel."""
        bytes_ = x.dtype == torch.uint8
        x = nn.functional.interpolate(x.float() / 255 if bytes_ else x, self.size, mode=self.how, antialias=True)
        x = x.clamp(0, 1) if bytes_ else x  # bicubic goes beyond, and a processor rounds to bytes
        return x.expand(-1, len(self.mean), -1, -1)


class Pretrained(nn.Module):
    """Any transformers vision model; z is its pooled output, or the mean over its places (B, d).

    Pictures are resized whole, to the size and in the way of :class:`Looks`; where the model's own processor resizes to
    more and cuts out the middle, the margins stay in.

    Raises:
        RequestError: a model that makes no features of pictures alone.
    """

    def __init__(self, body: nn.Module, looks: Looks) -> None:
        super().__init__()
        self.body, self.looks = body, looks
        self.scale = Scale(looks.mean, looks.std)
        with torch.no_grad():
            self.d = run(self.eval(), body, torch.zeros(1, len(looks.mean), *looks.size)).shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and len(x) > AT_ONCE:
            return torch.cat([self(some) for some in x.split(AT_ONCE)])
        out = self.body(pixel_values=self.scale(self.looks.resized(x)))
        pooled = getattr(out, "pooler_output", None)
        hidden = out.last_hidden_state if pooled is None else pooled
        if hidden.ndim == 3:  # tokens: (B, t, d) -> (B, d)
            return hidden.mean(1)
        return hidden.flatten(2).mean(2) if hidden.ndim == 4 else hidden  # (B, d, h, w) -> (B, d)


def looks_of(name_or_path: str) -> Looks:
    """Return what a model's preprocessor_config.json asks for.

    Raises:
        RequestError: there is none, or it asks for what is not done here; says what.
    """
    with weights.reading(name_or_path, WHAT, ADVICE):
        asked = _processor(name_or_path)
    size = asked.crop_size if getattr(asked, "do_center_crop", None) else asked.size
    height = size.get("height", size.get("shortest_edge"))
    how, factor = RESAMPLE.get(asked.resample), asked.rescale_factor if asked.do_rescale else 1
    if height is None or how is None or abs(factor * 255 - 1) > 1e-3:
        raise RequestError(
            f"the processor of {name_or_path!r} resizes to {dict(size)} by filter {asked.resample} and scales by "
            f"{factor}: read here are a height and width, or a shortest edge, by bilinear or bicubic, and 1/255."
        )
    plain = ([0.0] * 3, [1.0] * 3)
    mean, std = (asked.image_mean, asked.image_std) if asked.do_normalize else plain
    return Looks((height, size.get("width", height)), tuple(mean), tuple(std), how)


def _processor(name_or_path: str) -> BaseImageProcessor | SimpleNamespace:
    """Return a model's processor; what its file says, where the processor itself would need torchvision (DINOv3's)."""
    from transformers import AutoImageProcessor, ImageProcessingMixin

    try:
        return AutoImageProcessor.from_pretrained(name_or_path, trust_remote_code=False)
    except ImportError:
        return SimpleNamespace(**ImageProcessingMixin.get_image_processor_dict(name_or_path)[0])


def run(makes: Callable[[Tensor], Tensor], body: nn.Module, x: Tensor) -> Tensor:
    """Return what is made of pictures (B, C, H, W) by a model made elsewhere.

    Raises:
        RequestError: it wants other input than pictures, or pictures of another size.
    """
    try:
        return makes(x)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RequestError(
            f"{type(body).__name__} makes no features of pictures {tuple(x.shape)} alone ({error}). {ADVICE}"
        ) from error


def pretrained(name_or_path: str) -> Pretrained:
    """Open a pretrained vision model: a folder saved by transformers, or a name on the hub.

    Weights are read from safetensors only and no remote code is run. A pooler without weights is left out, and z the
    mean over places.

    Raises:
        RequestError: the weights cannot be had, or some are missing, or it is no vision model; says which.
    """
    from transformers import AutoModel

    body, _ = weights.opened(AutoModel, name_or_path, WHAT, ADVICE, dtype=torch.float32)
    return Pretrained(body, looks_of(name_or_path))


def mobilenet_v2(file: Path, side: int = 224) -> Pretrained:
    """Open MobileNetV2 with torchvision's ImageNet weights (1280 pooled dims) as a transformers model.

    Both list the same 260 tensors in the same order under other names, so they are paired by place, and a tensor
    whose shape does not fit is an error. ``side``: pictures are resized to it; it was trained at 224.

    Raises:
        RequestError: the file does not hold these weights.
    """
    from transformers import MobileNetV2Config, MobileNetV2Model

    config = MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5)  # torchvision's padding and BatchNorm
    body = MobileNetV2Model(config)
    theirs = torch.load(file, weights_only=True, map_location="cpu")
    values = [value for name, value in theirs.items() if not name.startswith("classifier")]
    ours = {name: value for name, value in body.state_dict().items() if "num_batches" not in name}
    values = [v for v in values if v.ndim]  # newer files also count batches
    if [v.shape for v in values] != [v.shape for v in ours.values()]:
        raise RequestError(f"{file} does not hold torchvision's MobileNetV2 of width 1.0: fetch it again.")
    body.load_state_dict(dict(zip(ours, values, strict=True)), strict=False)
    return Pretrained(body, Looks((side, side)))


def build(kind: str, data, d: int, **how) -> nn.Module:
    """Build an encoder that fits ``data`` (see ``mrl_lab.data.load``) with embedding width ``d``.

    ``kind`` is "conv", "vit" (``how`` goes to these two), "mlp", or the path or hub name of a pretrained model.
    """
    x = data.train.images
    if kind == "mlp" or x.ndim == 2:
        x = x.float()
        return MLP(x[0].numel(), d, mean=x.mean().item(), std=x.std().item())
    shape = tuple(x.shape[1:])
    if kind in ("conv", "vit"):
        return {"conv": ConvNet, "vit": ViT}[kind](shape, d, mean=data.mean, std=data.std, **how)
    if "/" in kind or Path(kind).exists():
        return pretrained(kind)
    raise unknown("encoder", kind, ["conv", "vit", "mlp", "a path or hub name"])
