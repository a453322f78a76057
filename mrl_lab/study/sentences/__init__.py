"""Sentences in two dimensions: what every layer and every width of a sentence encoder is worth.

* tests: the judged sentences that models are scored on, and which of them are here.
* setups: what all methods share, and the encoder they begin with.
* pretraining: a small BERT that reads first, by MLM, MAE or SMAE.
* grids: similarity and retrieval at every cut, from one encoding.
* models: an encoder trained by each method, scored on the whole grid, and timed by depth.
* adapting: a model that people have, trained by each method and scored wherever there is a test.
* costs: what a pair of layer and dim takes, and what it takes to train it.
"""
