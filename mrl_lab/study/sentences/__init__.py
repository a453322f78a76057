"""Sentences in two dimensions: what every layer and every width of a sentence encoder is worth.

* grids: similarity and retrieval at every cut, from one encoding.
* models: one small BERT by each method, scored on the whole grid, and timed by depth.
"""
