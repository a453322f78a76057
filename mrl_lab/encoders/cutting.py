"""Cutting: the lowest blocks of a sentence encoder, and its leading dims, as a model that needs nothing of this lab.

Saved is a folder of sentence-transformers: n blocks, the pooling, what stands behind it, a matrix that nests what was
not nested (a Dense without bias), prompts, and where to cut (2DMSE, arXiv 2402.14776, and Starbucks, arXiv 2410.13230,
are deployed so). A model that normalises its vectors does so after the cut. The folder is opened again, and its vectors
compared with the full model's at (n, m), before it is put in place; and the cut says what it loses: few models were
trained for it.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mrl_lab.cuts import check_sizes, prefix
from mrl_lab.encoders import cards
from mrl_lab.encoders.texts import SentenceEncoder, described, through
from mrl_lab.encoders.weights import quietly
from mrl_lab.errors import RequestError, unknown

CLOSE = 1e-6  # that two vectors may differ by, as a share of the largest number where that is above 1
MOST = 2_000  # texts that a cut is tried on: similarities are as many as their square
FLAGS = {  # sentence-transformers' names of a pooling, and what its files call it
    "mean": "mean_tokens",
    "cls": "cls_token",
    "max": "max_tokens",
    "lasttoken": "lasttoken",
    "weightedmean": "weightedmean_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")  # sentence-transformers' names
SAID = (  # what a cut is tried on where nobody gives texts: ten things, each said twice
    "A man is playing a guitar on the street.",
    "Someone makes music outdoors on a string instrument.",
    "The train to the airport leaves every ten minutes.",
    "How often can I get to my flight by rail?",
    "She was diagnosed with high blood pressure last year.",
    "Her doctor found that she suffers from hypertension.",
    "Bake the bread for forty minutes until the crust is brown.",
    "The loaf stays in the oven for two thirds of an hour.",
    "The central bank raised interest rates again.",
    "Borrowing money has become more expensive.",
    "Our cat sleeps on the warm windowsill all day.",
    "The pet likes to nap in the sun.",
    "The team lost the final in the last minute.",
    "A late goal cost them the cup.",
    "The password must be changed every three months.",
    "Users have to renew their login secret each quarter.",
    "Heavy rain flooded the roads in the valley.",
    "After the storm the streets were under water.",
    "The novel tells of a family that moves to the sea.",
    "It is a book about parents and children at the coast.",
)


def cut(
    encoder: SentenceEncoder,
    layer: int,
    dim: int,
    folder: str | Path,
    *,
    similarity: str | None = None,
    texts: Sequence[str] = SAID,
    trained: str = "",
    matrix: Tensor | None = None,
    unit: bool | None = None,
    sizes: Sequence[int] = (),
    results: Sequence[cards.Result] = (),
) -> Path:
    """Save the lowest ``layer`` blocks and leading ``dim`` numbers: ``SentenceTransformer(str(folder))`` opens them.

    Its vectors are ``encoder``'s own of that layer, turned by ``matrix`` if there is one, cut to ``dim``, and of length
    1 if ``unit``: a Dense cuts before Normalize. Only index and search get smaller by ``dim``; every token still passes
    through all d dims of the kept blocks. What the cut loses on ``texts`` is printed, and stands in README.md.

    Args:
        folder: made here; must not exist, or be empty.
        similarity: what sentence-transformers compares them by, one of :data:`SIMILARITIES`; None takes the encoder's.
        texts: at least three of yours, to try the cut on.
        trained: how the model was trained for this cut, for the README, such as "Starbucks, 250 steps".
        matrix: (width, r), such as a rotation, that vectors are multiplied by before they are cut.
        unit: whether vectors have length 1; None does as the encoder does.
        sizes: ``matryoshka_dimensions`` that the model may claim, up to dim. results: scores by size, for the README.

    Raises:
        RequestError: a layer, dim, size or matrix that does not fit, too few texts, a folder in use or out of reach, a
            model that changes when it is cut, or one with a Dense behind its pooling that is to lose layers.
    """
    similarity, texts = similarity or encoder.manner.similarity, list(dict.fromkeys(texts))
    if similarity not in SIMILARITIES:
        raise unknown("similarity", similarity, SIMILARITIES)
    if not 3 <= len(texts) <= MOST:
        raise RequestError(f"a cut is tried on 3 to {MOST:,} different texts; got {len(texts):,}.")
    sizes = check_sizes(sizes, dim) if sizes else ()
    kept, tail = encoder.keep(layer), _tail(encoder, dim, matrix, unit)
    whole, small = encoder.vectors(texts), _vectors(encoder, layer, dim, tail, texts)
    turned = "" if matrix is None else ", turned by a matrix before the cut"
    said = [f"{layer} of {encoder.layers} blocks, {dim} of {whole.shape[1]} numbers{turned}.", _lost(whole, small)]
    said += [f"Trained for this cut: {trained}." if trained else "Nothing says that it was trained for this cut."]
    with placed(folder) as made:
        _write(kept, dim, similarity, sizes, tail, made)
        (made / "README.md").write_text(cards.text(said, similarity, dim, sizes, results), encoding="utf-8")
        _check(made, texts, small)
    print(f"{Path(folder).name}: {' '.join(said)}")
    return Path(folder)


# --------------------------------------------------------------------------------------------- vectors


def _tail(encoder: SentenceEncoder, dim: int, matrix: Tensor | None, unit: bool | None) -> list[nn.Module]:
    """Return the modules behind the pooling of the cut model; one that cuts to ``dim`` stands before a Normalize.

    Raises:
        RequestError: a matrix that does not fit the vectors.
    """
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    modules = list(copy.deepcopy(encoder.head).eval().cpu())
    closing = bool(modules) and described(modules[-1]) == "Normalize"
    unit, modules = closing if unit is None else unit, modules[:-1] if closing else modules
    width = through(modules, torch.zeros(1, encoder.d)).shape[1]
    turn = torch.eye(width) if matrix is None else _fitting(matrix, width, encoder.manner.dim)
    weight = prefix(turn, dim).T.clone(memory_format=torch.contiguous_format)  # (dim, width), not a view
    if matrix is not None or (unit and dim < width):
        modules.append(Dense(width, dim, bias=False, activation_function=nn.Identity(), init_weight=weight))
    return [*modules, Normalize()] if unit else modules


def _fitting(matrix: Tensor, width: int, own: int | None) -> Tensor:
    """Return a matrix (width, r); rows of zeros stand for what the model's ``own`` cut leaves out already."""
    seen = min(own or width, width)
    if matrix.ndim != 2 or matrix.shape[0] != seen or not matrix.isfinite().all():
        raise RequestError(
            f"a matrix for vectors of {seen} numbers is ({seen}, r) and finite, got {tuple(matrix.shape)}."
        )
    return nn.functional.pad(matrix.detach().cpu().float(), (0, 0, 0, width - seen))


@torch.no_grad()
def _vectors(encoder: SentenceEncoder, layer: int, dim: int, tail: Sequence[nn.Module], texts: Sequence[str]) -> Tensor:
    """Return the vectors (n, dim) of a cut."""
    return prefix(through(tail, encoder.encode(texts)[:, layer]), dim)


def _lost(whole: Tensor, small: Tensor) -> str:
    """Say how far vectors (n, m) find the same texts alike as the full model's (n, d) do."""
    from scipy.stats import spearmanr

    same_text = torch.eye(len(whole), dtype=torch.bool)
    alike = [normalize(z, dim=1) @ normalize(z, dim=1).T for z in (whole, small)]  # (n, n)
    nearest = [a.masked_fill(same_text, -2).argmax(1) for a in alike]
    kept = (nearest[0] == nearest[1]).float().mean()
    rank = spearmanr(*(a[~same_text] for a in alike)).statistic
    return (
        f"Of {len(whole)} texts {kept:.0%} keep their nearest neighbour of the whole model, and similarities rank at "
        f"{rank:.2f} with its own (1 is the same order)."
    )


# ------------------------------------------------------------------------------------------------ files


@contextmanager
def placed(folder: str | Path) -> Iterator[Path]:
    """Give a folder to write into; it becomes ``folder`` at the end, and is gone if anything went wrong.

    Raises:
        RequestError: a folder in use, out of reach, or the one that the process is in.
    """
    place = _free(folder)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent) as beside:
            made = Path(beside) / "model"
            made.mkdir()
            yield made
            os.replace(made, place)
    except OSError as error:
        raise RequestError(f"{folder} cannot be written ({error}): give a folder elsewhere.") from error


def _free(folder: str | Path) -> Path:
    """Return where a folder really is, if a model can be put there."""
    try:
        place = Path(folder).resolve()
        used = place.exists() and (not place.is_dir() or any(place.iterdir()))
    except (OSError, RuntimeError) as error:
        raise RequestError(f"{folder} cannot be looked into ({error}): give a folder elsewhere.") from error
    if used:
        raise RequestError(f"{folder} is in use: give a folder that is new or empty.")
    if place == Path.cwd():
        raise RequestError(f"{folder} is the folder you are in: give the name of a new one, such as model.")
    return place


def _write(
    encoder: SentenceEncoder, dim: int, similarity: str, sizes: Sequence[int], tail: Sequence[nn.Module], folder: Path
) -> None:
    """Write an encoder as sentence-transformers' folder: blocks, words, and a folder for each module behind them."""
    if sizes:
        encoder.body.config.update(_claimed(sizes))  # servers such as vLLM read it there
    with quietly():
        encoder.body.save_pretrained(folder)
        encoder.tokenizer.save_pretrained(folder)
    behind = {f"{i}_{type(module).__name__}": module for i, module in enumerate(tail, 2)}
    for place, module in behind.items():
        (folder / place).mkdir()
        module.save(str(folder / place))
    for name, content in _description(encoder, dim, similarity, sizes, list(behind)).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2))


def _claimed(sizes: Sequence[int]) -> dict[str, object]:
    return {"is_matryoshka": True, "matryoshka_dimensions": list(sizes)} if sizes else {}


def _description(
    encoder: SentenceEncoder, dim: int, similarity: str, sizes: Sequence[int], behind: Sequence[str]
) -> dict[str, object]:
    """Return sentence-transformers' files {name: content}, by names that its older versions read too."""
    folders = ["", "1_Pooling", *behind]
    kinds = ["Transformer", *(folder.partition("_")[2] for folder in folders[1:])]
    modes = [encoder.pooling] if isinstance(encoder.pooling, str) else encoder.pooling
    asked = {"truncate_dim": dim, "similarity_fn_name": similarity} | _claimed(sizes)
    return {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(zip(folders, kinds, strict=True))
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": encoder.body.config.hidden_size}
        | {f"pooling_mode_{flag}": mode in modes for mode, flag in FLAGS.items()},
        "sentence_bert_config.json": {"max_seq_length": encoder.length, "do_lower_case": False}
        | _without_pooler(encoder),
        "config_sentence_transformers.json": asked
        | {"prompts": dict(encoder.manner.prompts), "default_prompt_name": encoder.manner.default},
    }


def _without_pooler(encoder: SentenceEncoder) -> dict[str, dict]:
    """A BERT is opened without the pooler that was not saved, or transformers would warn of random weights."""
    has_the_switch = "add_pooling_layer" in inspect.signature(type(encoder.body)).parameters
    return {"model_args": {"add_pooling_layer": False}} if has_the_switch else {}


def _check(folder: Path, texts: Sequence[str], expected: Tensor) -> None:
    """Raise RequestError unless sentence-transformers makes the expected vectors (n, dim) of the texts."""
    from sentence_transformers import SentenceTransformer

    with quietly():
        theirs = torch.from_numpy(SentenceTransformer(str(folder), device="cpu").encode(list(texts)))
    apart = (theirs - expected).abs().max() / expected.abs().max().clamp(min=1) if theirs.shape == expected.shape else 1
    if not apart <= CLOSE:
        raise RequestError(
            f"a model of these blocks alone gives other vectors than the full one ({apart:.1g} apart, {CLOSE:g} is "
            "allowed): nothing was saved."
        )
