"""Matryoshka lab: train, sweep and compare nested representations.

Encode once, cut many: an encoder turns an input into states, a cut keeps part of them, and one tidy
table of scores feeds every plot, slider, verdict and page. See ``mrl-lab --help`` and ``notebooks/``.

This module stays empty on purpose: torch, transformers and seaborn load in the module that needs them.
"""

__version__ = "0.1.0"
