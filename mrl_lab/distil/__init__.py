"""Self-distillation as in DINOv2 (Oquab et al., 2023, arXiv 2304.07193): a student learns from its own moving average.

:mod:`~mrl_lab.distil.assign` turns scores into targets, :mod:`~mrl_lab.distil.losses` compares views, and
:mod:`~mrl_lab.distil.teacher` joins them. What the scores are of, one codebook or nested ones, is up to the method.
"""
