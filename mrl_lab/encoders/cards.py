"""Model cards: what a saved model is, what it loses, and its scores by size, where the hub and its readers look.

The head of the card is YAML by Hugging Face's own classes: ``model-index`` lists a score a size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One score: of so many leading ``dim``, by a ``metric`` such as "ndcg@10", on a ``dataset``, by its name."""

    dim: int
    metric: str
    value: float
    dataset: str
    task: str = "sentence-similarity"


TEXT = """# A cut sentence encoder

{said}

    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer("path/to/this/folder")
    vectors = model.encode(["A text.", "Another one."])  # {dim} numbers, compared by {similarity}
{smaller}
To publish it: `hf upload YOUR_NAME/YOUR_MODEL path/to/this/folder`
"""
SMALLER = """
It may be cut further, to {sizes} dims. What is cut is no longer of length 1, so normalise after the cut:

    model = SentenceTransformer("path/to/this/folder", truncate_dim={least})
    vectors = model.encode(["A text.", "Another one."], normalize_embeddings=True)
"""
SCORES = """
| {names} |
| {lines} |
{rows}
"""


def text(
    said: Sequence[str], similarity: str, dim: int, sizes: Sequence[int] = (), results: Sequence[Result] = ()
) -> str:
    """Return README.md of a saved model.

    Args:
        said: sentences on what it is. sizes: it may be cut to. results: its scores.
    """
    from huggingface_hub import EvalResult, ModelCardData

    listed = [
        EvalResult(
            task_type=one.task,
            dataset_type=one.dataset.lower().replace(" ", "-"),
            dataset_name=one.dataset,
            metric_type=one.metric,
            metric_name=f"{one.metric}, {one.dim} dims",
            metric_value=one.value,
        )
        for one in results
    ]
    head = {"eval_results": listed, "model_name": "cut sentence encoder"} if listed else {}
    about = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "matryoshka"],
        **head,
    )
    below = [m for m in sizes if m < dim]
    smaller = SMALLER.format(sizes=", ".join(map(str, below)), least=below[0]) if below else ""
    body = TEXT.format(said="\n".join(said), similarity=similarity, dim=dim, smaller=smaller + table(results))
    return f"---\n{about.to_yaml()}\n---\n\n{body}"


def table(results: Sequence[Result]) -> str:
    """Return the scores as a table of Markdown, a row a size and a column a metric; empty without scores."""
    if not results:
        return ""
    metrics = list(dict.fromkeys((one.dataset, one.metric) for one in results))
    values = {(one.dim, (one.dataset, one.metric)): f"{one.value:.1f}" for one in results}
    rows = [
        [str(m), *(values.get((m, metric), "") for metric in metrics)] for m in sorted({one.dim for one in results})
    ]
    names = ["dims", *(" ".join(metric) for metric in metrics)]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return SCORES.format(names=" | ".join(names), lines=" | ".join("---" for _ in names), rows=lines)
