"""What README.md says of the published runs: one picture and the speed, and the page of all claims that it links.

All of it is made from the published files themselves: the runs with default settings at the budgets minutes, hour and
gpu, which alone .gitignore lets through. A test holds README.md and the page against what these functions return.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mrl_lab import source
from mrl_lab.errors import RequestError
from mrl_lab.report import index, reference
from mrl_lab.schema import VERDICTS

PUBLISHED = ("minutes", "hour", "gpu")  # from weak to strong evidence
CLAIMS = ("notebook", "id", "claim", "paper", "ours [low, high]", "seeds", "verdict", "budget")
BENCH = ("bench", "way", "milliseconds", "ratio", "n", "megabytes")
PICTURE, PAGE = "accuracy.svg", "claims.md"
TITLE = """# What the claims turned out to be

The papers' claims, judged by the strongest published run of each notebook. Made by `make readme` from each run's
`claims.csv`; a test holds this page against them.
"""
DRAWN, DRAWN_METRIC = ("MRL", "FF", "FF, first dims"), "pairs 1nn"


def main() -> None:
    """Write the index of the published runs, the pages of claims and of reference, the picture, README.md's table.

    Raises:
        RequestError: the package does not run from a clone.
    """
    root = source.checkout()
    if root is None:
        raise RequestError("README.md is part of the clone: run this from a clone, installed with pip install -e .")
    reports, file = root / "reports", root / "README.md"
    if folders := published(reports):
        index.write_index(reports, folders)
    draw_accuracy(reports)
    (reports / PAGE).write_text(claims_page(reports), encoding="utf-8")
    (reports / reference.PAGE).write_text(reference.page(), encoding="utf-8")
    text = fill(file.read_text(encoding="utf-8"), "bench", bench_table(reports / "bench.csv"))
    file.write_text(text, encoding="utf-8")


def published(reports: Path) -> list[Path]:
    """Return the folders of the published runs, by notebook, from weak to strong evidence."""
    notebooks = sorted({file.parent.parent for file in reports.glob("*/*/run.json")})
    return [folder / budget for folder in notebooks for budget in PUBLISHED if (folder / budget / "run.json").is_file()]


def _strongest(reports: Path) -> dict[str, Path]:
    return {folder.parent.name: folder for folder in published(reports)}


def claims_page(reports: Path) -> str:
    """Return the claims of each notebook's strongest published run as a page of Markdown, to lie beside the runs."""
    lines = []
    for name, folder in _strongest(reports).items():
        link = f"[{name}]({name}/{folder.name}/page.html)"
        for row in _rows(folder / "claims.csv"):
            verdict = f"{VERDICTS[row['verdict']]} {row['verdict']}"
            told = [row["id"], row["claim"], row["paper"], _interval(row), row["seeds"], verdict, folder.name]
            lines.append([link, *map(_plain, told)])
    return f"{TITLE}\n{_table(CLAIMS, lines)}\n"


def bench_table(file: Path) -> str:
    """Return the measured speeds, and memory if any, as a Markdown table; empty when none were saved."""
    rows = _rows(file)
    heads = [name for name in BENCH if any(name in row for row in rows)]
    return _table(heads, [[_plain(row[name]) for name in heads] for row in rows])


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def _interval(row: dict[str, str]) -> str:
    """Return "1.20 [0.80, 1.60]", or the number alone where there is no interval."""
    ours, low, high = (f"{float(row[n]):.2f}".replace("-", "−") if row[n] else "" for n in ("ours", "low", "high"))
    return f"{ours} [{low}, {high}]" if low and high else ours


def _plain(text: str) -> str:
    """Return text that stays itself inside a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if len(lines) > 2 else ""


def fill(text: str, name: str, table: str) -> str:
    """Return ``text`` with ``table`` between the comments ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        RequestError: the comments are not there.
    """
    between = f"\n{table}\n\n" if table else ""
    made, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda found: found[1] + between + found[2], text, flags=re.DOTALL
    )
    if not count:
        raise RequestError(f"README.md has lost its comments <!-- {name} --> and <!-- /{name} -->: put them back.")
    return made


def draw_accuracy(reports: Path) -> Path | None:
    """Draw 1-NN accuracy against size from the strongest published run of 01_mrl; None when there is none.

    The picture has a white ground and its letters as shapes, so that it looks the same wherever README.md is read.
    """
    folder = _strongest(reports).get("01_mrl")
    if folder is None:
        return None
    import matplotlib as mpl
    import pandas as pd

    from mrl_lab import plots

    plots.use_style()
    scores = pd.read_csv(folder / "scores.csv")
    there = [name for name in DRAWN if name in set(scores["method"])]
    with mpl.rc_context({"svg.fonttype": "path"}):
        figure = plots.curve(scores, DRAWN_METRIC, there)
        figure.savefig(reports / PICTURE, facecolor="white", metadata={"Date": None})
    return reports / PICTURE


if __name__ == "__main__":
    main()
