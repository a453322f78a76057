"""Matryoshka lab: train, sweep and compare nested representations.

Encode once, cut many: an encoder turns an input into states, a cut keeps part of them, and one tidy
table of scores feeds every plot, slider, verdict and page. See ``mrl-lab --help`` and ``notebooks/``.

``import mrl_lab as lab`` gives a notebook all that it needs under the names of :data:`FACE`. Each is loaded when it is
first used: torch, transformers and seaborn load in the module that needs them.
"""

__version__ = "0.1.0"

FACE = {  # what a notebook uses -> the module that has it; a module stands for itself
    "start": "desk",
    "judge": "desk",
    "judging": "protocol",
    "freeze": "protocol",
    "until_narrow": "protocol",
    "load": "data",
    "Cut": "cuts",
    "halvings": "cuts",
    "fit": "train",
    "Recipe": "lab",
    "trained": "lab",
    "tune": "lab",
    "best": "lab",
    "sweep": "lab",
    "outcome": "lab",
    "embed": "lab",
    "kept": "lab",
    "same": "agree",
    "answer": "agree",
    "paired": "stats",
    "Claim": "verdicts",
    "slider": "explore",
    "live": "explore",
    "methods": "methods",
    "plots": "plots",
    "score": "score",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in FACE:
        raise AttributeError(f"mrl_lab has no {name!r}; its face is {', '.join(FACE)}.")
    module = import_module(f"mrl_lab.{FACE[name]}")
    return module if name == FACE[name] else getattr(module, name)


def __dir__() -> list[str]:
    return [*FACE, "__version__"]
