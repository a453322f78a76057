"""Backbones that somebody else trained, on pictures of one's own: cut as they are, asked by heads of their own,
fine-tuned to nest, and searched.

"backbone, first dims" is the question whether it is nested already, beside "backbone, random dims"; "fine-tuned, MRL"
and "fine-tuned, FF" differ in the loss alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor, nn
from torch.nn.functional import normalize

from mrl_lab import data, lab, score, search
from mrl_lab.cuts import halvings
from mrl_lab.data import Labelled, Split, folders
from mrl_lab.encoders import backbones
from mrl_lab.errors import RequestError
from mrl_lab.lab import Recipe, embed, kept, trained
from mrl_lab.methods import mrl
from mrl_lab.search import cost
from mrl_lab.study import origin
from mrl_lab.study.gallery import K, Quest, gallery
from mrl_lab.study.models import Model
from mrl_lab.study.pictures import Pictures, cut_as_it_is

TUNED = Recipe(lr=1e-4, batch=32, weight_decay=0.05)
RATES = (3e-5, 1e-4, 3e-4)  # to try: a finished network moves little
NESTED, FULL = "fine-tuned, MRL", "fine-tuned, FF"


@dataclass(frozen=True, eq=False)
class Mine(Pictures):
    """Pictures of one's own, whose encoder is a backbone made elsewhere.

    Attributes:
        backbone: its folder, file or name. records: where it comes from. d: its width. side: of pictures, in pixels.
    """

    backbone: str = ""
    records: tuple[dict[str, str], ...] = ()
    d: int = 0
    side: int = folders.SIZE

    @property
    def key(self) -> dict:
        """What identifies pictures and backbone: other weights under the same name are another one."""
        return self.data.key | {"backbone": [record["sha256"] for record in self.records]}

    def encoder(self, d: int) -> nn.Module:
        """Return the backbone as it was made.

        Raises:
            RequestError: another width than its own.
        """
        if d != self.d:
            raise RequestError(f"the backbone has {self.d} dims, not {d}.")
        return backbones.opened(self.backbone, self.side).encoder


def ready(backbone: str, pictures: str, side: int = folders.SIZE) -> Mine | None:
    """Return a backbone with a folder's pictures; nothing where both are "none".

    Raises:
        RequestError: one without the other; or as :func:`mrl_lab.encoders.backbones.opened` and
            :func:`mrl_lab.data.folders.parts`.
    """
    if (backbone == "none") != (pictures == "none"):
        raise RequestError(f"backbone and pictures go together: -p backbone NAME -p pictures FOLDER. {folders.LAYOUT}")
    if backbone == "none":
        return None
    d = backbones.opened(backbone, side).encoder.d
    records = tuple(origin.records(backbone))
    return Mine(data.load(pictures, size=side), halvings(d, smallest=8), backbone, records, d, side)


def as_it_is(task: Mine) -> pd.DataFrame:
    """1-NN and mAP@10 of the backbone's features, cut in every way without any training; top-1 by heads of its own.

    The heads answer where they know as many classes as there are folders: they are taken to be in the order of names,
    as torchvision's ImageFolder has them.
    """
    seen = replace(
        task.data, **{part: Split(z, getattr(task.data, part).labels) for part, z in _features(task).items()}
    )
    sides = seen.test.images, seen.test.labels, seen.train.images, seen.train.labels
    first = score.table(score.retrieval(*sides, task.sizes, method="backbone, first dims", seed=0))
    return pd.concat([first, cut_as_it_is(seen, task.sizes, [0]), by_own_heads(task, seen)], ignore_index=True)


def by_own_heads(task: Mine, seen: Labelled) -> pd.DataFrame:
    """Rows top1 by the heads that came with a backbone, on features ``seen``; none where they know other classes."""
    found = backbones.opened(task.backbone, task.side)
    if not found.heads or len(next(iter(found.heads.values()))[1]) != len(task.data.classes):
        return score.table([])
    named = {"method": f"backbone, its own {found.kind}", "seed": 0}
    return score.table(score.classification(with_heads(found), seen.test.images, seen.test.labels, **named))


def with_heads(found: backbones.Backbone) -> mrl.Classifier:
    """Return a backbone and its heads as a nested classifier."""
    classes = len(next(iter(found.heads.values()))[1])
    if found.kind == "MRL-E":
        head: nn.Module = mrl.SlicedHead(found.sizes, classes)
        layers = {found.sizes[-1]: head.full}
    else:
        head = mrl.SeparateHeads(found.sizes, classes)
        layers = dict(zip(found.sizes, head.heads, strict=True))
    for m, (weight, bias) in found.heads.items():
        layers[m].load_state_dict({"weight": weight, "bias": bias})
    return mrl.Classifier(found.encoder, head).eval()


def tuned(task: Mine, passes: float, seeds: Sequence[int], rates: Sequence[float] = RATES) -> pd.DataFrame:
    """Fine-tune the whole backbone to nest, and at full size alone, each at a rate chosen on validation pictures."""
    plan, recipes = _plan(task), _recipes(task, passes, tuple(rates))
    return lab.sweep(plan, task, recipes, seeds)


def searched(
    task: Mine, passes: float, rates: Sequence[float] = RATES, lengths: Sequence[int] = (50, 200), seed: int = 0
) -> pd.DataFrame:
    """Shortlist and rerank over the training pictures, asked by the test pictures: rows map@10 with multiply-adds.

    For a method M, the backbone as it is and both that were fine-tuned: "M, single-shot" at every size, and
    "M, K = ..., D_r = d" by size of the shortlist, for each length that the pictures allow.
    """
    plan, recipes = _plan(task), _recipes(task, passes, tuple(rates))
    rows = _search(Quest("backbone", seed, *_asked(backbones.opened(task.backbone, task.side).encoder, task)), lengths)
    for name, spec in plan.items():
        encoder = trained(spec, task, recipes[name], seed).encoder
        rows += _search(Quest(name, seed, *_asked(encoder, task)), lengths)
    return score.table(rows)


# ------------------------------------------------------------------------------------------------ parts of these


def _plan(task: Mine) -> dict[str, Model]:
    return {NESTED: Model(task.sizes, task.d), FULL: Model((task.d,), task.d)}


def _recipes(task: Mine, passes: float, rates: tuple[float, ...]) -> dict[str, Recipe]:
    base = replace(TUNED, epochs=passes)
    return lab.best(lab.tune(_plan(task), task, base, lr=rates), base)


@kept
def _features(task: Mine) -> dict[str, Tensor]:
    encoder = backbones.opened(task.backbone, task.side).encoder
    return {part: embed(encoder, getattr(task.data, part).images) for part in ("train", "validation", "test")}


def _asked(encoder: nn.Module, task: Mine) -> tuple:
    test = task.data.test
    return gallery(encoder, task.data.train, 1, 0), normalize(embed(encoder, test.images), dim=1), test.labels


def _search(quest: Quest, lengths: Sequence[int]) -> list[dict]:
    n, d = quest.gallery.z.shape
    rows = []
    for m in halvings(d, smallest=8):
        exact = quest.mean_quality(quest.exactly(m))
        rows.append(quest.row("single-shot", m, f"map@{K}", exact, flops=cost.exact(n, m)))
        for length in [k for k in lengths if k < n and m < d]:
            ids = search.nested(quest.gallery.z, m).search(quest.z, K, length=length)[1]
            flops = cost.reranked(n, m, length, d)
            rows.append(quest.row(f"K = {length}, D_r = {d}", m, f"map@{K}", quest.mean_quality(ids), flops=flops))
    return rows
