"""Out: what a reader leaves with, as files that open without this lab.

    export.model(encoder, "model", dim=64, matrix=rotation, sizes=(16, 32, 64), scores=scores, dataset="SciFact")
    export.vectors(rotation, "model", dim=64, sizes=(16, 32, 64))

:func:`model` saves a folder of sentence-transformers; :func:`vectors`, where there is no model but only its vectors,
the matrix and the five lines of NumPy that apply it. Either is opened again and compared with our own vectors before it
is put in place and announced; if they differ, nothing is left.
"""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mrl_lab.cuts import check_sizes, unit_prefix
from mrl_lab.encoders import cards, cutting
from mrl_lab.encoders.texts import SentenceEncoder
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

LINES = """import numpy as np
from safetensors.numpy import load_file
def cut(z, m={dim}, file="matrix.safetensors"):  # (N, {d}) -> (N, m), of length 1
    z = z @ load_file(file)["matrix"][:, :m]
    return z / np.linalg.norm(z, axis=1, keepdims=True)
"""
ABOUT = """# A matrix that nests vectors of {d} numbers

`matrix.safetensors` holds it, ({d}, {dim}). Queries and documents are both multiplied by it, cut, and normalised after
the cut; it may be cut to {sizes} dims. `apply.py`:

```python
{lines}```
{table}"""


def model(
    encoder: SentenceEncoder,
    folder: str | Path,
    dim: int,
    layer: int | None = None,
    *,
    matrix: Tensor | nn.Module | None = None,
    sizes: Sequence[int] = (),
    scores: pd.DataFrame | None = None,
    dataset: str = "own data",
    **how: object,
) -> Path:
    """Save a model that opens in sentence-transformers: blocks, pooling, matrix, cut, Normalize, prompts, card.

    Vectors that are compared by cosine have length 1, after the cut.

    Args:
        dim: numbers that a vector keeps. layer: blocks that are kept from the bottom, all by default.
        matrix: (width, r), or what has one (an adaptor, a rotation); vectors are multiplied by it before they are cut.
        sizes: that the model may be cut to, written as ``matryoshka_dimensions``: those that were trained or tried.
        scores: rows of the tidy table (dim, metric, value), for the card's ``model-index``; means over seeds.
        dataset: that they were measured on. how: for :func:`mrl_lab.encoders.cutting.cut`: similarity, texts, trained.

    Raises:
        RequestError: a way that is more than a matrix (an MLP, a mean); scores without their columns; or what
            ``cut`` refuses.
    """
    similarity = how.get("similarity") or encoder.manner.similarity
    return cutting.cut(
        encoder,
        encoder.layers if layer is None else layer,
        dim,
        folder,
        matrix=None if matrix is None else _matrix(matrix),
        unit=True if similarity == "cosine" else None,
        sizes=sizes,
        results=_results(scores, dataset),
        **how,
    )


def vectors(
    matrix: Tensor | nn.Module,
    folder: str | Path,
    dim: int,
    *,
    sizes: Sequence[int] = (),
    scores: pd.DataFrame | None = None,
    dataset: str = "own data",
) -> Path:
    """Save a matrix (d, r) for vectors that came without a model, and the lines of NumPy that apply it.

    Args: as in :func:`model`.

    Raises:
        RequestError: no matrix, sizes that it does not have, a folder in use, or lines that give other vectors.
    """
    from safetensors.torch import save_file

    given = _matrix(matrix)
    d, (dim,) = len(given), check_sizes([dim], given.shape[1])
    sizes = check_sizes(sizes or [dim], dim)
    lines, results = LINES.format(d=d, dim=dim), _results(scores, dataset)
    told = {"d": d, "dim": dim, "sizes": ", ".join(map(str, sizes)), "lines": lines, "table": cards.table(results)}
    with cutting.placed(folder) as made:
        save_file({"matrix": given[:, :dim].clone(memory_format=torch.contiguous_format)}, made / "matrix.safetensors")
        (made / "apply.py").write_text(lines, encoding="utf-8")
        (made / "README.md").write_text(ABOUT.format(**told), encoding="utf-8")
        _check(made, given, sizes)
    print(f"{folder.name}: a matrix ({d}, {dim}), and apply.py, which applies it.")
    return Path(folder)


def _check(made: Path, matrix: Tensor, sizes: Sequence[int]) -> None:
    """Run the saved lines on vectors drawn at random, and compare."""
    z = torch.nn.functional.normalize(torch.randn(64, len(matrix), generator=torch.Generator().manual_seed(0)), dim=1)
    apply = runpy.run_path(str(made / "apply.py"))["cut"]
    for m in sizes:
        theirs = torch.from_numpy(apply(z.numpy(), m, made / "matrix.safetensors"))
        if not torch.allclose(theirs, unit_prefix(z @ matrix, m), rtol=0, atol=cutting.CLOSE):
            raise RequestError(f"the saved matrix gives other vectors at {m} dims than ours: nothing was saved.")


def _matrix(given: Tensor | nn.Module) -> Tensor:
    """Return the matrix (d, r) of an adaptor, or of another way to turn vectors, or the one that is given, in float32.

    Raises:
        RequestError: a way that does more than multiply by a matrix, or no matrix at all.
    """
    matrix = given if isinstance(given, Tensor) else getattr(given, "matrix", None)
    more = {"bend": "has an MLP before its matrix: take one without (hidden = 0)"}
    more |= {"mean": "takes a mean off before it turns: take the rotation that does not, such as an SVD"}
    for name, what in more.items():
        if not isinstance(given, Tensor) and getattr(given, name, None) is not None:
            raise RequestError(f"this way {what}, for what is saved is a matrix alone.")
    if not isinstance(matrix, Tensor) or matrix.ndim != 2 or not matrix.is_floating_point():
        raise RequestError(f"a matrix (d, r) of floating point numbers is wanted, got {type(given).__name__}.")
    if not matrix.isfinite().all():
        raise RequestError("the matrix holds NaN or infinite values: nothing was saved.")
    return matrix.detach().cpu().float()


def _results(scores: pd.DataFrame | None, dataset: str) -> list[cards.Result]:
    if scores is None:
        return []
    lacking = {"dim", "metric", "value"} - set(scores.columns)
    if lacking:
        raise RequestError(
            f"scores of a card need the columns dim, metric and value; there is no {sorted(lacking)[0]}."
        )
    means = scores.groupby(["metric", "dim"], sort=False)["value"].mean().reset_index()
    return [cards.Result(int(row.dim), row.metric, float(row.value), dataset) for row in means.itertuples()]
