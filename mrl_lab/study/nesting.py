"""Nesting: a model of one's own, fine-tuned by MRL, 2DMSE or Starbucks on triplets of one's own, before it is cut.

The methods are those of :mod:`mrl_lab.study.sentences.objectives`. An anchor stands behind the model's prompt for
queries, what answers it behind that for documents. The whole fine-tuned model is saved as one of sentence-transformers,
and what each of its cuts (layer n, m dims) is worth is asked of a collection, of the model as it came as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor

from mrl_lab.data import triplets
from mrl_lab.encoders import cutting
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.encoders.texts import SentenceEncoder
from mrl_lab.encoders.tokens import TextRows
from mrl_lab.files import digest
from mrl_lab.lab import Recipe, trained
from mrl_lab.study import choosing
from mrl_lab.study.sentences.objectives import Objective
from mrl_lab.study.sentences.task import Sentences, whole
from mrl_lab.study.shrinking import Shrinking, halves, nearest
from mrl_lab.study.vectors import Way, by_layer

METHODS = {"mrl": "MRL", "2dmse": "2DMSE", "starbucks": "Starbucks"}
Pair = tuple[int, int]  # layer and dims


@dataclass(frozen=True)
class Own(Sentences):
    """A model of one's own and triplets of one's own; made by ``Own.of(model, file=..., widths=...)``.

    Attributes:
        file: of the triplets. widths: the sizes that are trained; the model's own width is added.
    """

    file: str = ""
    widths: tuple[int, ...] = ()

    @property
    def key(self) -> dict:
        """What identifies what is learnt from, and the weights to begin with."""
        return vars(self) | {"file": digest(Path(self.file))}

    @property
    def width(self) -> int:
        """Numbers of the model's own vectors: fewer than its states have where it cuts them itself."""
        return whole(self.backbone).manner.dim or self.d

    @property
    def told(self) -> str:
        """What the model learns from, for its card."""
        return f"{len(triplets.read(Path(self.file))):,} rows of {Path(self.file).name}"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths that are trained, the model's own last."""
        return (*(m for m in self.widths if m < self.d), self.d)

    def rows(self) -> TextRows:
        """Return the triplets, or pairs, tokenised with the prompt of their side."""
        model, told = whole(self.backbone), triplets.read(Path(self.file))
        asks, answers = model.prompt("query"), model.prompt("document")
        texts = [(asks + anchor, *(answers + text for text in others)) for anchor, *others in told.rows]
        return TextRows(model.tokenizer, texts, leave_out_copies=True, length=min(self.length, model.length))

    def encoder(self, seed: int) -> SentenceEncoder:
        """Return the model as it came, which reads as much of a text as it does elsewhere."""
        found = super().encoder(seed)
        found.length = whole(self.backbone).length
        return found

    def cuts(self, method: str) -> tuple[Pair, ...]:
        """Return the cuts that a method is asked at: MRL's widths of the last layer, else Starbucks' list of pairs."""
        asked = [(self.layers, m) for m in self.sizes] if method == "mrl" else [(c.layer, c.dim) for c in self.pairs]
        return tuple(dict.fromkeys((n, min(m, self.width)) for n, m in asked))


def learnt(task: Own, method: str, recipe: Recipe, folder: Path) -> tuple[Path, pd.DataFrame]:
    """Fine-tune by a method, and save the whole model as sentence-transformers': (its folder, the learning curve).

    Args:
        method: one of :data:`METHODS`. folder: to put it below.

    Raises:
        RequestError: a model of one layer for 2DMSE, or one with a module that was trained for its last layer alone.
    """
    module = trained(Objective(METHODS[method]), task, recipe, seed=0)
    encoder, place = module.encoder, folder / f"{Path(task.backbone).name}-{method}"
    told = f"{METHODS[method]}, {recipe.steps} steps of {min(recipe.batch, len(task.rows()))} on {task.told}"
    how = {"sizes": [m for m in task.sizes if m <= task.width], "trained": told}
    return cutting.cut(encoder, encoder.layers, task.width, place, **how), module.history


def shallower(model: Path, layer: int, folder: Path) -> Path:
    """Save the lowest blocks of a model as one of its own, at full width; the model itself if that is all of them."""
    encoder = pretrained(model)
    if layer == encoder.layers:
        return model
    width = encoder.manner.dim or encoder.d
    return cutting.cut(
        encoder, layer, width, folder / f"{model.name}-{layer}", trained="as the model that it is cut from"
    )


# ------------------------------------------------------------------------------------------------ what it gained


def worth(
    given: Mapping[str, str], cuts: Sequence[Pair], length: int | None, most: int, asks: int
) -> dict[Pair, Tensor]:
    """Return what each cut of the model in ``given`` scores by question (Q,), on at most that many texts.

    Where nobody judged, the neighbours that the same model's last layer finds are looked for.

    Args: as in :func:`mrl_lab.study.vectors.by_layer` and :class:`mrl_lab.study.shrinking.Shrinking`.
    """
    layers = sorted({n for n, _ in cuts})
    tasks = {n: Shrinking(seen, asks) for n, seen in by_layer(given, layers, length, most).items()}
    found = {}
    for n, m in cuts:
        ids = nearest(Way("prefix"), tasks[n], [m], ["float32"])["float32", m][0]
        found[n, m] = tasks[layers[-1]].quality(ids)
    return found


def gained(before: Mapping[Pair, Tensor], after: Mapping[Pair, Tensor]) -> pd.DataFrame:
    """Return a row a cut: what it scored in per cent, what it scores, and the gain with its interval over questions."""
    rows = []
    for (n, m), now in after.items():
        gain = choosing.loss(now, before[n, m])
        values = {name: 100 * q.mean().item() for name, q in (("as it came", before[n, m]), ("fine-tuned", now))}
        rows.append({"layer": n, "dims": m} | values | {"gained": gain.mean, "low": gain.low, "high": gain.high})
    return pd.DataFrame(rows)


def depth(before: Mapping[Pair, Tensor], after: Mapping[Pair, Tensor], tolerance: float) -> int:
    """Return the layer to stop at: of the last cut, from the whole down, that holds against the model as it came.

    By the upper bound of the loss on the half of the questions that choose, as sizes are chosen.
    """
    whole = max(after)
    held = choosing.walked(after, before[whole], tolerance)["dim"]
    return held[0] if held else whole[0]


def by_heart(task: Own, asked: Shrinking) -> str:
    """Say how many of the questions are anchors among the triplets: what is gained on those was told."""
    anchors = {row[0] for row in triplets.read(Path(task.file)).rows}
    known = sum(asked.title(question) in anchors for question in range(len(asked.who)))
    return f"{known:,} of {len(asked.who):,} questions asked below stand among the triplets as anchors."


def altogether(came: Shrinking, kept: Tensor) -> str:
    """Say what a recommended vector loses to the whole vector of the model as it came, on held-out questions.

    Args:
        came: the collection by the model as it came. kept: what is recommended, by question (Q,).
    """
    if came.metric.startswith("recall"):
        return "Nobody judged, and neighbours of two models are not compared: what training gained cannot be told."
    lost = choosing.loss(came.quality(came.whole), kept, halves(len(kept))[1])
    return (
        f"Against the whole vectors of the model as it came, it loses {lost.mean:.1f} "
        f"[{lost.low:.1f}, {lost.high:.1f}] points of {came.metric} on held-out questions (below 0: it gains)."
    )
