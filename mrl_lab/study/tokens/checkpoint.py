"""Checkpoints: a LLaVA-1.5 or an M3 that somebody else trained is asked questions of one's own at every scale.

Its tower runs once for each question; the answers are what greedy decoding writes. An answer counts as right if it is
the given one, capitals and a full stop at its end aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import pandas as pd
import torch
from PIL import Image

from mrl_lab import clock, cost, device, score
from mrl_lab.data.questions import LINE, OwnQuestions, own
from mrl_lab.encoders import llava_prompts, llava_weights
from mrl_lab.encoders.llava import Llava
from mrl_lab.errors import RequestError
from mrl_lab.lab import kept
from mrl_lab.methods.m3 import M3, scales_of
from mrl_lab.study import origin
from mrl_lab.study.tokens.costs import PAPER


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model made elsewhere, ready to be asked.

    Attributes:
        name: what its rows are called. scales: the paper's, as far as its grid allows them, rising.
        provenance: where it comes from, a record a file.
    """

    name: str
    model: M3
    prompts: llava_prompts.Prompts
    provenance: list[dict[str, str]]

    @property
    def scales(self) -> tuple[int, ...]:
        return self.model.scales

    @property
    def key(self) -> list[str]:
        """What its answers depend on: other weights under the same name are another model."""
        return [record["sha256"] for record in self.provenance]

    def read(self, asked: OwnQuestions, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the picture (1, 3, side, side) and the prompt (1, T) of a question, where the model is."""
        with Image.open(asked.files[i]) as picture:
            pixels = self.prompts.picture(picture)[None]
        ids = torch.tensor([self.prompts.question(asked.questions[i])])
        here = self.model.llava.body.device
        return pixels.to(here), ids.to(here)


def ready(weights: str, pictures: str) -> tuple[Checkpoint, OwnQuestions] | None:
    """Return a checkpoint and a folder's questions; nothing where both are "none".

    Raises:
        RequestError: one without the other; or as :func:`opened` and :func:`mrl_lab.data.questions.own`.
    """
    if (weights == "none") != (pictures == "none"):
        raise RequestError("weights and pictures go together: -p weights FOLDER_OR_NAME -p pictures FOLDER. " + LINE)
    return None if weights == "none" else (opened(weights), own(pictures))


def opened(name_or_path: str) -> Checkpoint:
    """Open a checkpoint in either format, put it on the machine's device, and take the checksums of its files.

    Raises:
        RequestError: it cannot be had, is no whole LLaVA-1.5, or has no words or processor of its own.
    """
    body = llava_weights.pretrained(name_or_path)
    prompts, llava = llava_prompts.of(name_or_path, body.config), Llava(body.to(device.choose().device))
    records = origin.records(name_or_path)
    allowed = scales_of(llava.tokens)
    scales = [t for t in allowed if t in PAPER] if llava.tokens in PAPER else allowed
    return Checkpoint(f"checkpoint {records[0]['name'].rpartition('/')[2]}", M3(llava, scales).eval(), prompts, records)


@kept
def answers(checkpoint: Checkpoint, asked: OwnQuestions, new_tokens: int = 24) -> pd.DataFrame:
    """Return what is said to each question at each scale: columns picture, question, answer, tokens, said."""
    rows = []
    for i, question in enumerate(asked.questions):
        pixels, ids = checkpoint.read(asked, i)
        named = {"picture": asked.files[i].name, "question": question, "answer": asked.answers[i]}
        for t, visual in seen(checkpoint, pixels).items():
            rows.append(named | {"tokens": t, "said": said(checkpoint, visual, ids, new_tokens)})
    return pd.DataFrame(rows)


@torch.no_grad()
def seen(checkpoint: Checkpoint, pixels: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return {t: visual tokens (1, t, d)} of a picture, from one run of the tower."""
    return checkpoint.model.visual(pixels, checkpoint.scales)


def said(checkpoint: Checkpoint, visual: torch.Tensor, ids: torch.Tensor, new_tokens: int) -> str:
    """Return what is answered to a prompt (1, T) with visual tokens (1, t, d), up to the end that its words know.

    (A folder in LLaVA's own format may lack generation_config.json, and then nothing but the words says what ends.)
    """
    end = checkpoint.prompts.tokenizer.eos_token_id
    how = {"max_new_tokens": new_tokens, "eos_token_id": end, "pad_token_id": end}
    return checkpoint.prompts.answer(checkpoint.model.llava.generate(visual, ids, **how)[0])


def scored(checkpoint: Checkpoint, answered: pd.DataFrame) -> pd.DataFrame:
    """Rows "right": per cent of the questions with an answer that are answered by exactly that, by scale."""
    counted = answered[answered.answer.notna()]
    right = [plain(one) == plain(answer) for one, answer in zip(counted.said, counted.answer, strict=True)]
    rows = []
    for t, hits in counted.assign(right=right).groupby("tokens").right:
        named = {"method": checkpoint.name, "seed": 0, "tokens": t, "metric": "right"}
        rows.append(named | {"value": 100 * hits.mean(), "n": len(hits)})
    return score.table(rows)


def plain(answer: str) -> str:
    """Return an answer without capitals, outer spaces and a full stop at its end."""
    return answer.strip().removesuffix(".").strip().lower()


def costs(checkpoint: Checkpoint, asked: OwnQuestions, least: int = 3) -> pd.DataFrame:
    """Return what a first answer token costs by scale: by formula, and by the clock, for the first question here.

    Columns: TFLOPs of the prefill and of all, as :func:`mrl_lab.cost.by_scale` has them; milliseconds of all (tower,
    projector, prefill), median of ``least`` runs in turn; and both as shares of all tokens, in per cent.
    """
    pixels, ids = checkpoint.read(asked, 0)
    config, scales, text = checkpoint.model.llava.body.config, checkpoint.scales, ids.shape[1] - 1
    formula = pd.DataFrame(cost.by_scale(config, scales, text)).set_index("tokens")
    ways = {t: lambda t=t: first_token(checkpoint, pixels, ids, t) for t in scales}
    seconds = pd.Series({t: median(s) for t, s in clock.measure(ways, least=least, seconds_at_least=0.0).items()})
    table = {"prefill, formula (TFLOPs)": formula["prefill"] / 1e12, "all, formula (TFLOPs)": formula["flops"] / 1e12}
    table |= {"all, measured (ms)": 1e3 * seconds}
    table |= {"formula (% of all tokens)": share(formula["flops"]), "measured (% of all tokens)": share(seconds)}
    return pd.DataFrame(table).rename_axis("tokens")


def share(values: pd.Series) -> pd.Series:
    """Return values by scale as per cent of the one at the largest."""
    return 100 * values / values[values.index.max()]


@torch.no_grad()
def first_token(checkpoint: Checkpoint, pixels: torch.Tensor, ids: torch.Tensor, t: int) -> int:
    """Return the id that an answer begins with at t tokens; to have it here, the device must be done."""
    llava = checkpoint.model.llava
    visual = checkpoint.model.visual(pixels, [t])[t]
    return int(llava.generate(visual, ids, max_new_tokens=1)[0, 0])


def table(answered: pd.DataFrame) -> pd.DataFrame:
    """Return answers side by side: a row a question, a column a scale."""
    index, filled = ["picture", "question", "answer"], answered.fillna({"answer": ""})
    wide = filled.pivot_table(index=index, columns="tokens", values="said", aggfunc="first", sort=False)
    return wide.sort_index(axis=1).rename_axis(columns="tokens")
