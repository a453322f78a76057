"""The ledger: all claims of the strongest published runs, as a page of its own, and the headlines among them.

The page sorts and filters without a network. A headline is a claim that the abstract of its paper stands or falls with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mrl_lab.report import history, page, record
from mrl_lab.schema import CONTRADICTED, SHOWN, VERDICTS, bounds

PAGE = "claims.html"
HEADS = ("claim", "the paper's figure", "ours [95 %]", "seeds", "verdict")
FALSE = 0.05  # of what is called shown or contradicted among the headlines, at most as much is expected to be false


def claims(runs: Mapping[str, Path], past: history.Rows = ()) -> list[dict]:
    """Return all claims of ``runs`` {notebook: folder}, as :func:`_entry` tells them, with their ``earlier`` rows."""
    return [_entry(row, folder, past) for folder in runs.values() for row in history.rows_of(folder / "claims.csv")]


def _entry(row: dict[str, str], folder: Path, past: history.Rows) -> dict:
    """Return a row of claims.csv with its notebook, budget and place, and its numbers in words."""
    place = {"notebook": folder.parent.name, "budget": folder.name}
    told = {
        "ours": interval(row),
        "bound": bounds(*(float(row[name]) if row[name] else None for name in ("above", "below"))),
        "headline": row["headline"] == "True",
    }
    told |= {"estimate": float(row["ours"] or "nan"), "date": record.read(folder)["start"][:10]}
    before = [old | {"ours": interval(old)} for old in history.earlier(past, **place, id=row["id"])]
    return row | place | told | {"earlier": before}


def page_of(entries: Sequence[Mapping]) -> str:
    """Return the page as HTML, to lie beside the folders of the runs."""
    return page.environment().get_template("claims.html.j2").render(claims=entries, verdicts=VERDICTS)


def headlines(entries: Sequence[Mapping], reports: str = "reports") -> str:
    """Return the headlines as a Markdown table, and how many of their verdicts outlive their own number."""
    chosen = [one for one in entries if one["headline"]]
    lines = [
        [
            f"[{one['notebook'][:2]}]({reports}/{one['notebook']}/{one['budget']}/page.html) {one['claim']}",
            one["paper"],
            f"{one['ours']} {one['unit']}" if one["ours"] else f"not measured at {one['budget']}",
            one["seeds"],
            f"{VERDICTS[one['verdict']]} {one['verdict']}",
        ]
        for one in chosen
    ]
    table = markdown(HEADS, lines)
    return f"{table}\n\n{_many(chosen)}" if lines else ""


def _many(chosen: Sequence[Mapping]) -> str:
    """Say how many verdicts are left once it counts how many headlines were asked (Benjamini and Hochberg, 1995)."""
    from scipy.stats import false_discovery_control

    asked = [one for one in chosen if one["p"]]
    decided = [one["verdict"] in (SHOWN, CONTRADICTED) for one in asked]
    q = false_discovery_control([float(one["p"]) for one in asked]) if asked else []
    left = sum(is_decided and value <= FALSE for is_decided, value in zip(decided, q, strict=True))
    return (
        f"{len(chosen)} headlines. Of the {sum(decided)} that are *shown* or *contradicted* by an interval, {left} "
        f"stay so where at most {FALSE:.0%} of such verdicts may be false (Benjamini-Hochberg over all headlines)."
    )


def interval(row: Mapping[str, str]) -> str:
    """Return "1.20 [0.80, 1.60]", or the number alone where there is no interval."""
    ours, low, high = (f"{float(row[n]):.2f}".replace("-", "−") if row[n] else "" for n in ("ours", "low", "high"))
    return f"{ours} [{low}, {high}]" if low and high else ours


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose cells stay what they are; empty without rows."""
    lines = [heads, ["---"] * len(heads), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
