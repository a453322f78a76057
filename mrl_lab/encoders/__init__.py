"""Encoders: an input in, states out. Small ones to train here; pretrained ones by local path or hub name.

:mod:`~mrl_lab.encoders.pictures` turns pictures or vectors into one embedding ``z`` (B, d), and is what this package
exports; :mod:`~mrl_lab.encoders.patches` keeps a picture's patches. :mod:`~mrl_lab.encoders.texts` turns sentences into
the states of all layers, :mod:`~mrl_lab.encoders.tokens` words into what it reads;
:mod:`~mrl_lab.encoders.elsewhere` opens those that others trained, and :mod:`~mrl_lab.encoders.cutting` saves what is
left after a cut. :mod:`~mrl_lab.encoders.llava` answers questions about pictures, with weights from
:mod:`~mrl_lab.encoders.llava_weights`. What is opened is whole: :mod:`~mrl_lab.encoders.weights`.
"""

from mrl_lab.encoders.pictures import MLP, ConvNet, Pretrained, Scale, ViT, build, mobilenet_v2, pretrained

__all__ = ["MLP", "ConvNet", "Pretrained", "Scale", "ViT", "build", "mobilenet_v2", "pretrained"]
