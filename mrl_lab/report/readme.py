"""What README.md says of the published runs: one picture, the headlines and the speed; and the pages that it links.

All of it is made from the published files themselves: the runs with default settings at the budgets minutes, hour,
night and gpu, which alone .gitignore lets through. A test holds README.md and the pages against these functions.
"""

from __future__ import annotations

import re
from pathlib import Path

from mrl_lab import protocol, source
from mrl_lab.errors import RequestError
from mrl_lab.report import history, index, ledger, reference

PUBLISHED = ("minutes", "hour", "night", "gpu")  # from weak to strong evidence
BENCH = ("bench", "way", "milliseconds", "ratio", "n", "megabytes")
PICTURE = "accuracy.svg"
DRAWN, DRAWN_METRIC = ("MRL", "FF", "FF, first dims"), "pairs 1nn"


def main() -> None:
    """Write the index of the published runs, the history and the ledger of their verdicts, the reference, the picture,
    and README.md's tables.

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
    past = history.grown(history.read(reports), folders)
    history.write(reports, past)
    claims = ledger.claims(judging(reports), past)
    (reports / ledger.PAGE).write_text(ledger.page_of(claims), encoding="utf-8")
    (reports / reference.PAGE).write_text(reference.page(), encoding="utf-8")
    text = fill(file.read_text(encoding="utf-8"), "bench", bench_table(reports / "bench.csv"))
    text = fill(text, "headlines", ledger.headlines(claims))
    file.write_text(text, encoding="utf-8")


def published(reports: Path) -> list[Path]:
    """Return the folders of the published runs, by notebook, from weak to strong evidence."""
    notebooks = sorted({file.parent.parent for file in reports.glob("*/*/run.json")})
    return [folder / budget for folder in notebooks for budget in PUBLISHED if (folder / budget / "run.json").is_file()]


def strongest(reports: Path) -> dict[str, Path]:
    """Return the folder of each notebook's strongest published run."""
    return {folder.parent.name: folder for folder in published(reports)}


def judging(reports: Path) -> dict[str, Path]:
    """Return the same among the runs whose protocol was frozen; where a notebook has none, its strongest."""
    frozen = {folder.parent.name: folder for folder in published(reports) if (folder / protocol.FILE).is_file()}
    return strongest(reports) | frozen


def bench_table(file: Path) -> str:
    """Return the measured speeds, and memory if any, as a Markdown table; empty when none were saved."""
    rows = history.rows_of(file)
    heads = [name for name in BENCH if any(name in row for row in rows)]
    return ledger.markdown(heads, [[row[name] for name in heads] for row in rows])


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
    folder = strongest(reports).get("01_mrl")
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
