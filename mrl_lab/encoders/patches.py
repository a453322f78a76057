"""A vision transformer that gives its class token *and* its patch tokens, can hide patches, and takes smaller crops.

It is transformers' DINOv2 (Oquab et al., 2023, arXiv 2304.07193) from a configuration: pre-norm blocks with LayerScale,
a learned mask token, and learned positions that are interpolated where a crop has a smaller grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mrl_lab.encoders import franca_weights, weights
from mrl_lab.encoders.pictures import Looks, Scale, looks_of, run
from mrl_lab.errors import RequestError

ADVICE = (
    "Give a DINOv2, DINOv3 or ViT: a folder with config.json and model.safetensors, or a name such as "
    "facebook/dinov2-small; or one of Franca's .pth files."
)


class PatchViT(nn.Module):
    """Pictures (B, C, H, W) -> z (B, d), the class token after the last norm; :meth:`tokens` gives all tokens.

    Args:
        shape: (C, H, W) of the large crops; square.
        d: width.
        layers: blocks.
        patch: side of a patch; crops are whole numbers of it.
        heads: of attention; 0 makes them 32 wide.
        layer_scale: where the factor of each residual branch starts; 1e-5 in the paper, for its depths.
        drop_path: share of residual branches left out in training (0.1 for ViT-B in the paper).
        mean, std: scaling by channel.

    Raises:
        RequestError: pictures that are not square or not whole patches, or a width that the heads do not divide.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        d: int,
        layers: int = 4,
        patch: int = 4,
        heads: int = 0,
        layer_scale: float = 1.0,
        drop_path: float = 0.0,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
    ) -> None:
        super().__init__()
        from transformers import Dinov2Config, Dinov2Model

        channels, height, width = shape
        heads = heads or max(1, d // 32)
        if height != width or height % patch or d % heads:
            raise RequestError(
                f"the ViT needs square pictures of whole patches of {patch}, and a width d that its {heads} heads "
                f"divide; got {height} x {width}, d = {d}."
            )
        self.d, self.layers, self.grid = d, layers, (height // patch, width // patch)
        self.scale = Scale(mean, std)
        config = Dinov2Config(
            hidden_size=d,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            mlp_ratio=4,
            image_size=height,
            patch_size=patch,
            num_channels=channels,
            layerscale_value=layer_scale,
            drop_path_rate=drop_path,
        )
        self.body = Dinov2Model(config)

    def tokens(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the class token and the patch tokens (B, 1 + t, d) of x (B, C, H, W), patches in raster order.

        ``mask`` (B, t) bool: patches that the mask token takes the place of.
        """
        return self.body(pixel_values=self.scale(x), bool_masked_pos=mask).last_hidden_state

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x)[:, 0]  # (B, 1 + t, d) -> (B, d)

    @torch.no_grad()
    def patches(self, x: Tensor, layer: int | None = None) -> Tensor:
        """Return the patch tokens alone (B, t, d), without a graph; after ``layer`` blocks, through the last norm."""
        if layer is None:
            return self.tokens(x)[:, 1:]
        states = self.body(pixel_values=self.scale(x), output_hidden_states=True).hidden_states  # layers + 1, un-normed
        return self.body.layernorm(states[layer])[:, 1:]


class PretrainedViT(nn.Module):
    """A vision transformer from disk or the hub; z is its class token (B, d), :meth:`patches` its patch tokens.

    For DINOv2, DINOv3 and the like: patches after one class token and registers; and Franca's own files. Weights are
    read from safetensors, or as tensors alone, and no remote code is run. Pictures are scaled as the model's own
    processor does it; as ImageNet's where there is no preprocessor_config.json.

    Args:
        name_or_path: a folder saved by transformers, a hub name, or a .pth (:mod:`~mrl_lab.encoders.franca_weights`).
        side: pictures are resized to it; whole patches.

    Raises:
        RequestError: weights that cannot be had or are not whole, another kind of model, or a side that is not whole
            patches.
    """

    def __init__(self, name_or_path: str, side: int = 224) -> None:
        super().__init__()
        self.body, self.looks = _opened(name_or_path, side)
        patch = getattr(self.body.config, "patch_size", None)
        if not isinstance(patch, int):
            raise RequestError(f"{type(self.body).__name__} at {name_or_path!r} has no square patches. {ADVICE}")
        if side % patch:
            raise RequestError(f"pictures of side {side} are not whole patches of {patch}: choose another.")
        self.d, self.grid = self.body.config.hidden_size, (side // patch,) * 2
        self.first = 1 + getattr(self.body.config, "num_register_tokens", 0)
        self.scale = Scale(self.looks.mean, self.looks.std)
        self._check_tokens()

    @torch.no_grad()
    def _check_tokens(self) -> None:
        """Check that the patches stand behind one class token and registers: else all would be shifted in silence."""
        tokens, (rows, columns) = run(self.tokens, self.body, torch.zeros(1, 3, *self.looks.size)), self.grid
        if tokens.shape[1:] != (self.first + rows * columns, self.d):
            raise RequestError(
                f"{type(self.body).__name__} makes tokens {tuple(tokens.shape)} of {rows} x {columns} patches: needed "
                f"are {self.first} before the patches, and d = {self.d}. {ADVICE}"
            )

    def tokens(self, x: Tensor) -> Tensor:
        """Return all tokens (B, 1 + registers + t, d) of pictures (B, C, H, W), grey ones taken for three channels."""
        return self.body(pixel_values=self.scale(self.looks.resized(x))).last_hidden_state

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x)[:, 0]

    @torch.no_grad()
    def patches(self, x: Tensor) -> Tensor:
        """Return the patch tokens alone (B, t, d), without a graph."""
        return self.tokens(x)[:, self.first :]


def _opened(name_or_path: str, side: int) -> tuple[nn.Module, Looks]:
    """Return a model made elsewhere, and how it wants to see pictures of ``side``."""
    from transformers import AutoModel

    bare, folder = Looks((side, side)), Path(name_or_path)
    if folder.suffix == franca_weights.SUFFIX:
        return franca_weights.pretrained(folder, side), replace(bare, how="bicubic")
    body, _ = weights.opened(AutoModel, name_or_path, "vision transformer", ADVICE, dtype=torch.float32)
    if folder.is_dir() and not (folder / "preprocessor_config.json").exists():
        return body, bare
    return body, replace(looks_of(name_or_path), size=(side, side))
