"""Five methods on one scale: what share of an ordinary model's quality is kept for what share of its cost.

Read from finished runs; nothing is trained. 100 % of quality is the *ordinary* model of the same study at full size
(what one would use without nesting), so that what nesting costs at full size counts as well. 100 % of a cost is that of
the whole. Shares are paired by seed. What a cut saves differs by method:

| cost | MRL, Franca | 2DMSE, Starbucks | M3 |
|---|---|---|---|
| bytes | of a stored vector: m of d | of a stored vector: m of d | of keys and values: t of T visual tokens |
| operations | of a search, a row: m of d | of the encoder's blocks: n of N | of reading the picture: t of T tokens |
| milliseconds | measured by 02 for MRL: shortlist and rerank at equal mAP@10 | measured: n of N blocks | not measured |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mrl_lab import runs, source, stats
from mrl_lab.errors import RequestError
from mrl_lab.schema import BUDGETS

COSTS = ("bytes", "operations", "milliseconds")
AXES = ["layer", "dim", "tokens"]
RIVAL = "rival of "  # before the name of a method
HOW = "make some with mrl-lab run --all --budget minutes, or name a folder of runs: -p reports FOLDER"


@dataclass(frozen=True)
class Study:
    """Where a method's figures stand.

    Attributes:
        notebook, metric: the finished run; a metric that begins with "*" is the first there that ends so.
        method: as the run calls it. plain: the ordinary model, whose full size is 100 %. rival: what is cut without
            nesting. deep: operations go by layers, not by dims or tokens.
    """

    notebook: str
    metric: str
    method: str
    plain: str
    rival: str
    deep: bool = False


STUDIES = {
    "MRL": Study("01_mrl", "pairs 1nn", "MRL", "FF", "FF, SVD of features"),
    "2DMSE": Study("03_2dmse", "* spearman", "2DMSE", "plain", "plain", deep=True),
    "Starbucks": Study("04_starbucks", "* spearman", "Starbucks", "plain", "plain", deep=True),
    "M3": Study("05_m3", "cell", "M3", "all tokens, pooled", "all tokens, pooled"),
    "Franca": Study("06_franca", "knn", "slice", "none", "none, PCA"),
}


# ------------------------------------------------------------------------------------------------- what is read


def folder(given: str = "published") -> Path:
    """Return the folder of finished runs: the one that is given, or that of the clone, or ``reports`` right here.

    Raises:
        RequestError: there are none; an installed package does not bring the published ones.
    """
    root = source.checkout()
    places = [Path(given)] if given != "published" else [*([root / "reports"] if root else []), Path("reports")]
    for place in places:
        if any(place.glob("*/*/scores.csv")):
            return place
    looked = ", ".join(map(str, places))
    without = "" if root else " The published runs lie in the clone; an installed package does not bring them."
    raise RequestError(f"no finished runs in {looked}.{without} To have some, {HOW}.")


def strongest(reports: Path) -> dict[str, Path]:
    """Return {notebook: folder} of the strongest finished run with default settings."""
    found = [file.parent for file in reports.glob("*/*/scores.csv") if file.parent.name in BUDGETS]
    best = {run.parent.name: run for run in sorted(found, key=lambda run: BUDGETS.index(run.name))}  # the last stays
    return {name: best[name] for name in sorted(best)}


def _scores(reports: Path) -> dict[str, pd.DataFrame]:
    """Return {notebook: tidy table} of the strongest runs."""
    tables = dict(list(runs.load(reports).groupby(["notebook", "tag"])))
    wanted = {name: (name, run.name) for name, run in strongest(reports).items()}
    return {name: tables[key].reset_index(drop=True) for name, key in wanted.items() if key in tables}


def provenance(reports: Path) -> list[dict[str, str]]:
    """Return which tables are read, with their checksums."""
    files = [run / name for run in strongest(reports).values() for name in ("scores.csv", "claims.csv")]
    return [
        {
            "name": file.parent.parent.name,
            "place": "finished runs",
            "file": f"{file.parent.name}/{file.name}",
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in files
        if file.is_file()
    ]


# ---------------------------------------------------------------------------------------------------- shares


def shares(reports: Path) -> pd.DataFrame:
    """Return one row a method, seed and cut: method, rival (true for what is cut without nesting), seed, layer, dim,
    tokens, value (share of quality) and :data:`COSTS`, all in per cent; NaN where a cost was not measured.

    A method whose run is not there is left out, and named.

    Raises:
        RequestError: none of the studies is there.
    """
    scores = _scores(reports)
    lacking = [f"{name} ({study.notebook})" for name, study in STUDIES.items() if study.notebook not in scores]
    parts = [_of(name, study, scores[study.notebook]) for name, study in STUDIES.items() if study.notebook in scores]
    if not parts:
        raise RequestError(f"none of the five methods has a finished run in {reports}. To have some, {HOW}.")
    if lacking:
        print(f"no finished run, so left out: {', '.join(lacking)}")
    if "02_adaptive_search" in scores and "01_mrl" in scores:
        parts.append(_searched(scores["02_adaptive_search"]))
    return pd.concat(parts, ignore_index=True).astype(dict.fromkeys(("value", *COSTS), float))


def _of(name: str, study: Study, scores: pd.DataFrame) -> pd.DataFrame:
    """Return the shares of a method and of its rival."""
    rows = scores[scores["metric"] == _metric(study, scores)].dropna(subset=AXES, how="all")
    rows = rows[rows["tokens"].isna() | (rows["tokens"] > 0)]
    whole = rows.loc[rows["method"] == study.method, AXES].max()
    plain = rows[(rows["method"] == study.plain) & _equal(rows, whole)].groupby("seed")["value"].mean()
    both = {study.method: name, study.rival: f"{RIVAL}{name}"}
    mine = rows[rows["method"].isin(both) & rows["seed"].isin(plain.index)]
    mine = mine.assign(
        rival=mine["method"] != study.method,
        value=100 * mine["value"] / mine["seed"].map(plain),
        method=mine["method"].map(both),
    )
    part = 100 * mine[AXES] / whole
    stored = part["tokens"].fillna(part["dim"])
    mine = mine.assign(bytes=stored, operations=part["layer"] if study.deep else stored)
    mine["milliseconds"] = mine["layer"].map(_waits(scores)) if study.deep else np.nan
    return mine[["method", "rival", "seed", *AXES, "value", *COSTS]]


def _metric(study: Study, scores: pd.DataFrame) -> str:
    """Return the study's metric; of several that end alike STS-B's, which the papers report, or the first."""
    ending = study.metric.removeprefix("*")
    there = [name for name in scores["metric"].unique() if name.endswith(ending) and " dev " not in name]
    known = [name for name in there if name == study.metric or name.startswith("STS-B")]
    if not there:
        raise RequestError(f"{study.notebook} has no scores {study.metric!r}: make its run again.")
    return (known or there)[0]


def _equal(rows: pd.DataFrame, whole: pd.Series) -> pd.Series:
    return (rows[AXES].fillna(-1) == whole.fillna(-1)).all(axis=1)


def _waits(scores: pd.DataFrame) -> pd.Series:
    """Return the measured time of n layers, in per cent of all: {layer: share}."""
    speeds = scores[scores["metric"] == "sentences a second"].groupby("layer")["value"].median()
    return 100 * speeds.iloc[-1] / speeds if len(speeds) else speeds


def _searched(scores: pd.DataFrame) -> pd.DataFrame:
    """Return what 02 measured by the clock: MRL's shortlist and rerank, against an exact search of all dims."""

    def of(metric: str, method: str) -> pd.DataFrame:
        rows = scores[(scores["metric"] == metric) & (scores["method"] == method)]
        return rows.groupby(["seed", "dim"], as_index=False)["value"].mean()

    whole = of("map@10", "FF, single-shot")
    whole = whole[whole["dim"] == whole["dim"].max()].set_index("seed")["value"]
    way = "MRL, exact prefix + rerank"
    both = of("map@10", way).merge(of("speedup", way), on=["seed", "dim"], suffixes=("", "_fast"))
    both = both.assign(
        method="MRL",
        rival=False,
        value=100 * both["value"] / both["seed"].map(whole),
        milliseconds=100 / both["value_fast"],
        **dict.fromkeys(("layer", "tokens", "bytes", "operations"), np.nan),
    )
    return both[["method", "rival", "seed", *AXES, "value", *COSTS]]


def frontier(table: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return one row a method and cut, from cheap to dear: mean, low, high, n (seeds), the costs, and best: whether
    nothing of that method as cheap keeps as much."""
    told = table.dropna(subset=[cost])
    by = ["method", "rival", *AXES]
    means = stats.intervals(told.fillna(dict.fromkeys(AXES, -1)), by)
    costs = told.fillna(dict.fromkeys(AXES, -1)).groupby(by, sort=False)[list(COSTS)].mean().reset_index()
    rows = means.merge(costs, on=by).replace(dict.fromkeys(AXES, -1), np.nan)
    rows = rows.astype({"rival": bool} | dict.fromkeys((*AXES, *COSTS), float))
    rows = rows.sort_values(["method", cost, "mean"], ascending=[True, True, False])
    before = rows.groupby("method")["mean"].transform(lambda values: values.cummax().shift(fill_value=-np.inf))
    return rows.assign(best=rows["mean"] > before).reset_index(drop=True)


def cheapest(table: pd.DataFrame, cost: str, keep: float) -> pd.DataFrame:
    """Return each method's cheapest cut that keeps ``keep`` per cent of quality, surely: by its lower bound, or by its
    mean where there are no seeds for one. A method that cannot is not there."""
    rows = frontier(table, cost)
    enough = rows[rows["low"].fillna(rows["mean"]) >= keep].drop_duplicates("method")
    enough = enough.sort_values("method", key=lambda names: names.str.removeprefix(RIVAL), kind="stable")
    return enough.assign(cut=[words(*axes) for axes in enough[AXES].itertuples(index=False)])


def words(layer: float, dim: float, tokens: float) -> str:
    """Say a cut in words: "3 layers, 64 dims"."""
    parts = {"layer": layer, "dim": dim, "token": tokens}
    return ", ".join(f"{n:.0f} {name}{'s' if n > 1 else ''}" for name, n in parts.items() if not np.isnan(n))


def claims(reports: Path) -> pd.DataFrame:
    """Return the judged claims of the strongest runs, notebook in front; headlines alone where they are marked."""
    files = {name: run / "claims.csv" for name, run in strongest(reports).items()}
    tables = [pd.read_csv(file).assign(notebook=name) for name, file in files.items() if file.is_file()]
    table = pd.concat(tables, ignore_index=True)
    if "headline" in table and table["headline"].any():
        table = table[table["headline"].fillna(False).astype(bool)]
    return table[["notebook", *(name for name in table if name != "notebook")]]


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Return the shares as rows of the tidy table: share of quality, and of each cost that is known."""
    names = {"value": "share of quality"} | {cost: f"share of {cost}" for cost in COSTS}
    rows = table.rename(columns=names).melt(["method", "seed", *AXES], list(names.values()), "metric", "value")
    return rows.dropna(subset=["value"]).reset_index(drop=True)


def told(table: pd.DataFrame, cost: str, keep: float) -> str:
    """Return :func:`cheapest` as HTML, for a slider."""
    rows = cheapest(table, cost, keep)
    lacking = sorted(set(table.loc[~table["rival"], "method"]) - set(rows["method"]))
    shown = rows[["method", "cut", "mean", "low", *COSTS]].rename(columns={"mean": "keeps (%)", "low": "surely (%)"})
    shown = shown.rename(columns={name: f"{name} (%)" for name in COSTS})
    html = shown.style.hide().format(precision=1, na_rep="–", escape="html").to_html()
    return html + (f"<p>Not at any size that was measured: {', '.join(lacking)}.</p>" if lacking else "")
