"""Nested clusters: what Franca's heads make of a feature, and what its removal of position takes from one.

* students: what is trained, and one function that trains it once and remembers weights and history;
* prefixes: how good the first dims are, beside random dims, PCA and floors;
* levels: the clusters of each level, beside k-means with as many, and whether they nest;
* canvases: pictures whose every patch has a known label, and features of their patches;
* removal: position taken away in every way, and what is left of it and of the rest;
* elsewhere: the same scores of a model that somebody else trained;
* cost: time and memory of a training step;
* figures: what the notebook draws of them.
"""
