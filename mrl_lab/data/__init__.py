"""Data: real pictures, vectors and texts by name, or the user's own, checked before any work.

``load`` gives labelled pictures or vectors; texts are read by :mod:`mrl_lab.data.texts`. Where files come from is
:mod:`mrl_lab.data.places`. Importing this package loads none of the heavy libraries.
"""

from mrl_lab.data.labelled import Labelled, Split
from mrl_lab.data.named import load

__all__ = ["Labelled", "Split", "load"]
