"""Weights that somebody else trained, from a folder or the hub: all of them, or an error that names what is lacking.

transformers fills in at random what a file does not hold, and goes on with a warning. Here such a model is refused.
One part may be absent, as it is from many checkpoints that are meant to be used without it: the pooler, which is then
taken away. Weights are read from safetensors only, or are tensors already, and no remote code is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def opened(kind: type, name_or_path: str | Path, what: str, advice: str, **how) -> tuple[PreTrainedModel, list[str]]:
    """Return a model with every weight from its file, and the names in the file that it has no place for.

    Args and raises: as :func:`loaded`; and a model that lacks weights is an error.
    """
    model, lacking, strays = loaded(kind, name_or_path, what, advice, **how)
    refuse([name for name in lacking if not name.startswith("pooler.")], name_or_path, what)
    if lacking:
        model.pooler = None
    return model, strays


def loaded(
    kind: type, name_or_path: str | Path, what: str, advice: str, state: Mapping[str, Tensor] | None = None, **how
) -> tuple[PreTrainedModel, list[str], list[str]]:
    """Return a model, the names of weights that its file lacks, which are drawn at random, and those without a place.

    Args:
        kind: whose ``from_pretrained`` opens it, such as transformers' AutoModel.
        what: what is looked for, in an error; advice: what to give in its place.
        state: the weights, where they were read already.
        how: for ``from_pretrained``; ``use_safetensors=None`` reads files of tensors alone (weights_only) as well.

    Raises:
        RequestError: there is no such model, its file is damaged, or its weights have other shapes.
    """
    place = {"pretrained_model_name_or_path": name_or_path, "use_safetensors": True}
    if state is not None:
        place = {"pretrained_model_name_or_path": None, "state_dict": state}
    with reading(name_or_path, what, advice), quietly():
        how = {"output_loading_info": True, "ignore_mismatched_sizes": True} | how  # refused here, by name
        model, found = kind.from_pretrained(**(place | how))
    if odd := sorted(found["mismatched_keys"]):
        name, held, wanted = odd[0]
        raise RequestError(
            f"the checkpoint at {str(name_or_path)!r} holds {len(odd)} weights of another shape than its {what} has, "
            f"such as {name}, {tuple(held)} in the place of {tuple(wanted)}. {advice}"
        )
    return model, sorted(found["missing_keys"]), sorted(found["unexpected_keys"])


def refuse(lacking: Sequence[str], name_or_path: str | Path, what: str) -> None:
    """Raise RequestError if a file lacks weights."""
    if lacking:
        raise RequestError(
            f"the checkpoint at {str(name_or_path)!r} lacks {len(lacking)} weights, such as {', '.join(lacking[:3])}: "
            f"it is not a whole {what}. Nothing was filled in at random; save or fetch it again."
        )


def tensors(file: str | Path, under: Sequence[str], what: str, advice: str) -> dict[str, Tensor]:
    """Return the tensors of a .pth, .pt or .safetensors by name; no code of it is run.

    Args:
        under: names under which a training may have put them, the first that is there; else they are the file's own.

    Raises:
        RequestError: a file that cannot be read, or holds anything else.
    """
    import torch
    from safetensors.torch import load_file

    with reading(file, what, advice):
        safe = Path(file).suffix == ".safetensors"
        held = load_file(file) if safe else torch.load(file, weights_only=True, map_location="cpu", mmap=True)
    for name in under:
        held = held.get(name, held) if isinstance(held, Mapping) else held
    if not isinstance(held, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in held.values()):
        raise RequestError(
            f"{file} holds no dictionary of tensors, nor one called {' or '.join(map(repr, under))}. {advice}"
        )
    return dict(held)


@contextmanager
def reading(name_or_path: str | Path, what: str, advice: str) -> Iterator[None]:
    """Say what could not be read, and where it was looked for, in the place of another library's exception."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # what a damaged folder raises in three libraries has no type in common
        where = "the folder" if Path(name_or_path).exists() else "the local cache of the hub and the hub"
        raise RequestError(
            f"no {what} at {str(name_or_path)!r}: looked in {where} ({type(error).__name__}: {error}). {advice}"
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Silence transformers' bar over weights, which stays in a notebook for good, and warnings that are errors here."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
