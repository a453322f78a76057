"""The claims of the papers as data, one module a notebook: what is said, the paper's own figure, what decides.

Contrasts name cells of the tidy table that the studies fill; :func:`mrl_lab.verdicts.judge` does the rest. A headline
is one that the paper's abstract stands or falls with.
"""
