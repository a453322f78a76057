"""A vision transformer that gives its class token *and* its patch tokens, can hide patches, and takes smaller crops.

It is transformers' DINOv2 (Oquab et al., 2023, arXiv 2304.07193) from a configuration: pre-norm blocks with LayerScale,
a learned mask token, and learned positions that are interpolated where a crop has a smaller grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mrl_lab.encoders.pictures import Scale
from mrl_lab.errors import RequestError


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
        self.d, self.grid = d, (height // patch, width // patch)
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
    def patches(self, x: Tensor) -> Tensor:
        """Return the patch tokens alone (B, t, d), without a graph."""
        return self.tokens(x)[:, 1:]
