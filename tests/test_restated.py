"""Published runs without a frozen protocol: their claims are what today's rule makes of their scores, and decide none.

The claims' arguments stood in notebooks that have changed since; so they are read from the run itself. A page that is
made again with a protocol leaves this list by itself.

A claim that asks for another quantity today (:data:`ASKED_ANEW`) finds no score in them, and stands there as it was.
"""

import ast
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from mrl_lab import schema, verdicts
from mrl_lab.claims import adaptive, clustering, embeddings, pictures, sentences, starbucks, visual_tokens
from mrl_lab.cuts import halvings
from mrl_lab.protocol import FILE
from mrl_lab.study.sentences import tests

REPORTS = Path(__file__).parent.parent / "reports"
RUNS = [
    file.parent
    for file in sorted(REPORTS.glob("*/*/claims.csv"))
    if not (file.parent / FILE).exists() and len(file.read_text().splitlines()) > 1
]
ASKED_ANEW = {"02": "9b"}  # was of one index each, chosen by mAP@10; now of two graphs at the same recall


def said(folder: Path) -> str:
    cells = nbformat.read(folder / "notebook.ipynb", as_version=4).cells
    return "\n".join(out["text"] for cell in cells for out in cell.get("outputs", []) if "text" in out)


def widths(scores: pd.DataFrame, method: str, metric: str = "") -> list[int]:
    rows = scores[(scores["method"] == method) & ((scores["metric"] == metric) if metric else True)]
    return sorted(rows["dim"].dropna().astype(int).unique())


def pairs_after(words: str, text: str) -> list[tuple[int, int]]:
    return ast.literal_eval(re.search(rf"{words}pairs (\[.*?\])[,;]", text)[1])


def claims_of(folder: Path, scores: pd.DataFrame) -> list[verdicts.Claim]:
    """The claims as the notebook of that run would ask for them today."""
    name, hour = folder.parent.name[:2], folder.name == "hour"
    test = next((t for t in tests.PAIRS if (scores["metric"] == tests.metric(t)).any()), "")
    if name == "01":
        sets = {"": 10, "pairs ": 100} | ({"omniglot ": 242} if (scores["metric"] == "omniglot top1").any() else {})
        return pictures.claims(widths(scores, "MRL", "top1"), sets)
    if name == "02":
        d, n, fewer = (2048, 1_000_000, 200_000) if hour else (1024, 100_000, 50_000)
        return adaptive.claims((8, 16, 32, 64), d, halvings(128, smallest=4), n, fewer)
    if name == "03":
        text = said(folder)
        shape = int(re.search(r"(\d+) layers of", text)[1]), widths(scores, "plain"), pairs_after("", text)
        return sentences.on(test, sentences.claims(*shape) + (sentences.variants(*shape) if hour else []))
    if name == "04":
        pairs, small = (pairs_after(f"{what}: ", said(folder)) for what in ("adapted", "new"))
        return sentences.on(test, starbucks.claims(pairs[-1][0], widths(scores, "untouched"), pairs, small))
    if name == "05":
        return visual_tokens.claims()
    if name == "06":
        return clustering.claims((4, 8, 16, 32, 64), 64, "16 random dims", hour)
    return embeddings.claims("ndcg@10", 32, [8, 32])


@pytest.mark.parametrize("folder", RUNS, ids=lambda f: f"{f.parent.name}-{f.name}")
def test_the_claims_are_those_of_the_scores_and_what_was_seen_first_decides_nothing(folder):
    scores = pd.read_csv(folder / "scores.csv", dtype=schema.SCORES)
    now = verdicts.judge(claims_of(folder, scores), scores, folder.name)
    told = pd.read_csv(folder / "claims.csv", dtype=schema.CLAIMS)
    assert told["id"].tolist() == now["id"].tolist()
    anew = now["id"] == ASKED_ANEW.get(folder.parent.name[:2])
    assert now["note"][anew].str.contains("no score for").all(), "its scores are there: let it be compared"
    assert set(told["verdict"]) == {schema.UNDECIDED}
    told, now = told[~anew], now[~anew]
    same = ["claim", "what", "unit", "ours", "low", "high", "delta", "seeds", "above", "below", "p"]
    pd.testing.assert_frame_equal(told[same], now[same].astype({n: schema.CLAIMS[n] for n in same}), rtol=1e-9)
    for would, note in zip(now["verdict"], told["note"], strict=True):
        assert note.startswith(f"post hoc: would read {would};") or would == schema.UNDECIDED
    page = (folder / "page.html").read_text()
    assert "by bounds that were written after these scores had been seen" in page
