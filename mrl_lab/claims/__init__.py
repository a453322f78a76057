"""The claims of the papers as data, one module a notebook: what is said, the paper's own figure, what decides.

Conditions name cells of the tidy table that the studies fill; ``stats.judge`` does the rest.
"""
