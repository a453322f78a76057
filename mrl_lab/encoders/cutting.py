"""Cutting: the lowest blocks of a sentence encoder, and its leading dims, as a model that needs nothing of this lab.

Saved are n blocks in transformers' format and four small files that tell sentence-transformers how to pool and where
to cut (2DMSE, arXiv 2402.14776, and Starbucks, arXiv 2410.13230, are deployed so). The vectors are the full model's
at (n, m), which is checked on a short text before anything is written.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from mrl_lab.cuts import prefix
from mrl_lab.encoders.texts import PROBE, SentenceEncoder, same
from mrl_lab.errors import RequestError, unknown


def cut(encoder: SentenceEncoder, layer: int, dim: int, folder: str | Path, *, similarity: str = "cosine") -> Path:
    """Save the lowest ``layer`` blocks as a transformers checkpoint that sentence-transformers opens as it is.

    Its vectors are ``encoder``'s states of that layer, cut to ``dim`` and not normalised: ``encode(...,
    normalize_embeddings=True)`` normalises after the cut. Only index and search get smaller by ``dim``; every token
    still passes through all d dims of the kept blocks.

    Args:
        folder: made here; must not exist, or be empty.
        similarity: what sentence-transformers compares them by, "cosine" or "dot".

    Raises:
        RequestError: a layer or dim out of range, a folder in use, or a model that changes when it is cut.
    """
    if similarity not in ("cosine", "dot"):
        raise unknown("similarity", similarity, ("cosine", "dot"))
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} is in use: give a folder that is new or empty.")
    kept = encoder.keep(layer)
    if not same(prefix(kept.encode(PROBE)[:, layer], dim), prefix(encoder.encode(PROBE)[:, layer], dim)):
        raise RequestError(
            f"{type(encoder.body).__name__} cut to {layer} blocks gives other vectors: nothing was saved."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as beside:
        whole = Path(beside) / "model"
        kept.body.save_pretrained(whole)
        kept.tokenizer.save_pretrained(whole)
        for name, content in _description(kept, dim, similarity).items():
            (whole / name).parent.mkdir(exist_ok=True)
            (whole / name).write_text(json.dumps(content, indent=2))
        os.replace(whole, folder)
    return folder


def _description(encoder: SentenceEncoder, dim: int, similarity: str) -> dict[str, object]:
    """Return sentence-transformers' files {name: content}: modules, pooling, most tokens, leading dims kept."""
    module = {"Transformer": "", "Pooling": "1_Pooling"}
    return {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
            for i, (name, path) in enumerate(module.items())
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": encoder.d,
            "pooling_mode_cls_token": encoder.pooling == "cls",
            "pooling_mode_mean_tokens": encoder.pooling == "mean",
        },
        "sentence_bert_config.json": {"max_seq_length": encoder.length, "do_lower_case": False}
        | _without_pooler(encoder),
        "config_sentence_transformers.json": {"truncate_dim": dim, "similarity_fn_name": similarity},
    }


def _without_pooler(encoder: SentenceEncoder) -> dict[str, dict]:
    """A BERT is opened without the pooler that was not saved, or transformers would warn of random weights."""
    has_the_switch = "add_pooling_layer" in inspect.signature(type(encoder.body)).parameters
    return {"model_args": {"add_pooling_layer": False}} if has_the_switch else {}
