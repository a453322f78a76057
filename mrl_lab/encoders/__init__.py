"""Encoders: an input in, states out. Small ones to train here; pretrained ones by local path or hub name.

:mod:`mrl_lab.encoders.pictures` turns pictures or vectors into one embedding ``z`` (B, d).
"""

from mrl_lab.encoders.pictures import MLP, ConvNet, Pretrained, Scale, ViT, build, mobilenet_v2, pretrained

__all__ = ["MLP", "ConvNet", "Pretrained", "Scale", "ViT", "build", "mobilenet_v2", "pretrained"]
