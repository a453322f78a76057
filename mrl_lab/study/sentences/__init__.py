"""Sentences in two dimensions: what every layer and every width of a sentence encoder is worth.

* tests: the judged sentences that models are scored on, and which of them are here.
* task: what is learnt from, what an encoder begins with, and the grid of scores from one encoding.
* objectives: what an encoder can be trained by; pretraining: what a small BERT can read first.
* adapting: the same of a model that people have, scored wherever there is a test.
* smallest: the pair of a trained encoder that is good enough, and the model that leaves.
* costs: what depth saves, and what a step of training takes.
"""
