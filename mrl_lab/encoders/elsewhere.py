"""Sentence encoders made elsewhere: opened by sentence-transformers, with the pooling, prompts and length of their own.

A folder that sentence-transformers saved says how its tokens are pooled, what stands behind the pooling (Dense,
Normalize), what goes before a text, and how much of it is read; each changes the vectors. sentence-transformers reads
all that; here its parts become a :class:`~mrl_lab.encoders.texts.SentenceEncoder`, which has the states of all layers
as well. Before it is handed out, both make vectors of a few texts, and these must agree.

Weights kept in half precision are opened in float32, since training and sums over many texts need it:
sentence-transformers computes in half with them, and differs by half's rounding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mrl_lab.encoders import weights
from mrl_lab.encoders.texts import PROBE, SUPPORTED, Manner, SentenceEncoder
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WHAT = "pretrained text encoder"
ADVICE = (
    "Give a folder that sentence-transformers saved, one with config.json, tokenizer.json and model.safetensors, or a "
    "hub name such as bert-base-uncased."
)
BEHIND = ("Dense", "LayerNorm", "Dropout", "Normalize")  # modules that may stand behind the pooling
ODD = (" Space, CAPITALS and  é. ", "", "word " * 9_000)  # whose tokens must be the same, the last cut at the length


def pretrained(name_or_path: str | Path, *, pooling: str | None = None, length: int | None = None) -> SentenceEncoder:
    """Open a text encoder: a folder saved by sentence-transformers or transformers, or a hub name.

    Its ``vectors`` are those of sentence-transformers' ``encode`` to 1e-6. Weights are read from safetensors only and
    no remote code is run.

    Args:
        pooling: where nothing says how tokens are pooled (no modules.json); None takes their mean, and prints so.
        length: most tokens of a text that are read, where that should be fewer than the model's own.

    Raises:
        RequestError: there is no such model, it lacks weights, its layers cannot be cut, or it has a module that is not
            read here; says which.
    """
    modules = _modules(name_or_path)
    if modules and pooling:
        raise RequestError(f"{str(name_or_path)!r} says itself how its tokens are pooled: leave pooling out.")
    with weights.reading(name_or_path, WHAT, ADVICE), weights.quietly():
        peer = _peer(name_or_path)
    body = peer[0].model
    place = {"subfolder": modules[0]["path"]} if modules else {}
    weights.opened(type(body), name_or_path, WHAT, ADVICE, config=body.config, **place)
    encoder = _encoder(peer, name_or_path, pooling)
    if not (modules or pooling):
        print(f"{Path(name_or_path).name}: mean pooling, for nothing there says how its tokens are pooled")
    encoder.length = min(length or encoder.length, encoder.length)
    return encoder.eval()


def _modules(name_or_path: str | Path) -> list[dict]:
    """Return what modules.json lists, nothing where there is none.

    Raises:
        RequestError: a list that cannot be read, or a module that is not read here.
    """
    from sentence_transformers.util import load_file_path

    with weights.reading(name_or_path, WHAT, ADVICE):
        file = load_file_path(str(name_or_path), "modules.json")
        modules = json.loads(Path(file).read_text()) if file else []
        kinds = [module["type"].rpartition(".")[2] for module in modules]
    wanted = ["Transformer", "Pooling", *(kind for kind in kinds[2:] if kind in BEHIND)]
    if modules and kinds != wanted:
        raise RequestError(
            f"the modules of {str(name_or_path)!r} are {', '.join(kinds)}: read here are Transformer, Pooling, and any "
            f"of {', '.join(BEHIND)} behind them. Use it in sentence-transformers itself, or give another model."
        )
    return modules


def _peer(name_or_path: str | Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    how = {"dtype": torch.float32, "use_safetensors": True}
    return SentenceTransformer(str(name_or_path), device="cpu", trust_remote_code=False, model_kwargs=how).eval()


def _encoder(peer: SentenceTransformer, name_or_path: str | Path, pooling: str | None) -> SentenceEncoder:
    """Return an encoder of the parts of ``peer``, which makes the same tokens and vectors.

    Raises:
        RequestError: parts that are used in another way, or vectors that differ.
    """
    kinds = [type(module).__name__ for module in peer]
    if kinds[:2] != ["Transformer", "Pooling"] or list(peer.modalities) != ["text"]:
        raise RequestError(f"{type(peer[0].model).__name__} at {str(name_or_path)!r} is no text encoder. {SUPPORTED}")
    _, pool, *head = peer
    if not pool.include_prompt and any(peer.prompts.values()):
        raise RequestError(
            f"the Pooling of {str(name_or_path)!r} leaves out the tokens of its prompts (include_prompt), which is not "
            "done here: use it in sentence-transformers itself."
        )
    if pooling:
        pool.pooling_mode = pooling
    manner = Manner(peer.prompts, peer.default_prompt_name, peer.similarity_fn_name, peer.truncate_dim)
    encoder = SentenceEncoder(
        peer[0].model, peer.tokenizer, pool.pooling_mode, peer.max_seq_length, head=head, manner=manner
    )
    _check_same(encoder, peer, name_or_path)
    return encoder


def _check_same(encoder: SentenceEncoder, peer: SentenceTransformer, name_or_path: str | Path) -> None:
    """Raise RequestError unless both make the same tokens, of odd texts too, and the same vectors."""
    theirs = peer.preprocess([*PROBE, *ODD], prompt=encoder.prompt())
    (ids, seen), (their_ids, they_see) = encoder.tokens([*PROBE, *ODD]), (theirs["input_ids"], theirs["attention_mask"])
    alike = ids[seen.bool()].equal(their_ids[they_see.bool()])  # (B, T) -> all tokens in a row, without padding
    vectors = torch.from_numpy(peer.encode(list(PROBE)))
    if not alike or not torch.allclose(encoder.vectors(PROBE), vectors, rtol=0, atol=1e-5):
        raise RequestError(
            f"{str(name_or_path)!r} makes other vectors in sentence-transformers than it would here: it is not read. "
            f"Use it in sentence-transformers itself. {SUPPORTED}"
        )
