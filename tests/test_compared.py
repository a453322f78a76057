"""Five methods on one scale: shares by hand, the strongest run, what is missing, and how it is drawn."""

import json

import numpy as np
import pandas as pd
import pytest

from mrl_lab import plots, source
from mrl_lab.errors import RequestError
from mrl_lab.schema import SCORES
from mrl_lab.study import compared

SEEDS = (0, 1, 2)


def rows(method, metric, values, **axes):
    """One row a seed and size: the value goes up by a point a seed."""
    (axis, sizes), *fixed = axes.items()
    return [
        {"method": method, "metric": metric, "seed": s, axis: size, "value": value + s} | dict(fixed)
        for s in SEEDS
        for size, value in zip(sizes, values, strict=True)
    ]


def finished(folder, notebook, budget, table, verdicts=("shown",)):
    """A finished run with these rows."""
    run = folder / notebook / budget
    run.mkdir(parents=True)
    pd.DataFrame(table).reindex(columns=list(SCORES)).to_csv(run / "scores.csv", index=False)
    told = [{"id": i, "claim": "so", "verdict": verdict} for i, verdict in enumerate(verdicts)]
    pd.DataFrame(told, columns=["id", "claim", "verdict"]).to_csv(run / "claims.csv", index=False)
    (run / "run.json").write_text(json.dumps({"status": "done", "notebook": notebook, "tag": budget}))


DIMS = {"dim": (4, 8, 16)}
MRL = [
    *rows("MRL", "pairs 1nn", (48, 78, 88), **DIMS),
    *rows("FF", "pairs 1nn", (20, 60, 98), **DIMS),
    *rows("FF, SVD of features", "pairs 1nn", (49, 79, 98), **DIMS),
]
LAYERS = [
    *rows("2DMSE", "STS-B spearman", (40, 50), dim=(8, 16), layer=1),
    *rows("2DMSE", "STS-B spearman", (60, 70), dim=(8, 16), layer=2),
    *rows("plain", "STS-B spearman", (68, 78), dim=(8, 16), layer=2),
    *rows("plain", "STS-B dev spearman", (1, 1), dim=(8, 16), layer=2),
    *rows("2DMSE", "sentences a second", (300, 100), layer=(1, 2)),
]
TOKENS = [
    *rows("M3", "cell", (48, 70), tokens=(1, 4)),
    *rows("all tokens, pooled", "cell", (20, 78), tokens=(1, 4)),
    *rows("all tokens, pooled", "cell", (10,), tokens=(0,)),
]


@pytest.fixture
def reports(tmp_path):
    finished(tmp_path, "01_mrl", "hour", MRL, ["shown", "undecided"])
    finished(tmp_path, "01_mrl", "minutes", rows("MRL", "pairs 1nn", (1, 1, 1), **DIMS))
    finished(tmp_path, "01_mrl", "hour,dim=64", rows("MRL", "pairs 1nn", (2, 2, 2), **DIMS))
    finished(tmp_path, "03_2dmse", "minutes", LAYERS, ["contradicted"])
    finished(tmp_path, "05_m3", "seconds", TOKENS, ())
    return tmp_path


def at(table, method, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    return table[table["method"] == method]


def test_shares_are_of_the_ordinary_model_at_full_size_paired_by_seed(reports, capsys):
    table = compared.shares(reports)
    expected = [100 * (78 + s) / (98 + s) for s in SEEDS]
    assert at(table, "MRL", dim=8)["value"].tolist() == pytest.approx(expected)
    assert at(table, "rival of MRL", dim=16)["value"].tolist() == pytest.approx([100] * 3)
    (bytes_,) = set(at(table, "MRL", dim=8)["bytes"])
    assert bytes_ == 50
    deep = at(table, "2DMSE", layer=1, dim=16).iloc[0]
    assert (deep["bytes"], deep["operations"]) == (100, 50)
    assert deep["milliseconds"] == pytest.approx(100 * 101 / 301)
    assert deep["value"] == pytest.approx(100 * 50 / 78)
    m3 = at(table, "M3", tokens=1).iloc[0]
    assert (m3["bytes"], m3["operations"]) == (25, 25)
    assert np.isnan(m3["milliseconds"])
    assert not len(at(table, "rival of M3", tokens=0)), "a blind model is no cut"
    assert "left out: Starbucks (04_starbucks), Franca (06_franca)" in capsys.readouterr().out


def test_the_strongest_run_with_default_settings_is_read(reports):
    assert {name: run.name for name, run in compared.strongest(reports).items()} == {
        "01_mrl": "hour",
        "03_2dmse": "minutes",
        "05_m3": "seconds",
    }
    assert all(len(one["sha256"]) == 64 for one in compared.provenance(reports))


def test_the_frontier_is_what_nothing_as_cheap_beats(reports):
    rows_ = compared.frontier(compared.shares(reports), "operations")
    mine = rows_[rows_["method"] == "2DMSE"]
    best = [(row.layer, row.dim) for row in mine[mine["best"]].itertuples()]
    assert best == [(1, 16), (2, 16)]
    assert mine["operations"].is_monotonic_increasing


def test_the_cheapest_cut_surely_keeps_what_is_asked(reports):
    table = compared.shares(reports)
    rows_ = compared.cheapest(table, "bytes", 75).set_index("method")
    assert rows_.loc["MRL", "cut"] == "8 dims"
    assert (rows_["low"].fillna(rows_["mean"]) >= 75).all()
    mean = compared.frontier(table, "bytes").set_index(["method", "dim"]).loc[("MRL", 8.0), "mean"]
    assert compared.cheapest(table, "bytes", mean).set_index("method").loc["MRL", "cut"] == "16 dims", "not surely"
    html = compared.told(table, "bytes", 95)
    assert "Not at any size that was measured: 2DMSE, M3, MRL." in html
    assert compared.words(3.0, 1.0, np.nan) == "3 layers, 1 dim"


def test_claims_are_counted_and_headlines_stand_alone_where_they_are_marked(reports):
    table = compared.claims(reports)
    assert table["verdict"].tolist() == ["shown", "undecided", "contradicted"]
    file = reports / "01_mrl" / "hour" / "claims.csv"
    pd.read_csv(file).assign(headline=[True, False]).to_csv(file, index=False)
    assert compared.claims(reports)["notebook"].tolist() == ["01_mrl"]


def test_the_tidy_table_has_the_shares_that_are_known(reports):
    table = compared.tidy(compared.shares(reports))
    assert set(table["metric"]) == {f"share of {name}" for name in ("quality", *compared.COSTS)}
    assert set(table.columns) <= set(SCORES)
    assert table["value"].notna().all()


def test_without_runs_it_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match=r"no finished runs in .*-p reports FOLDER"):
        compared.folder(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "checkout", lambda: None)
    with pytest.raises(RequestError, match="an installed package does not bring them"):
        compared.folder()
    finished(tmp_path / "reports", "02_adaptive_search", "minutes", rows("MRL", "map@10", (1, 2, 3), **DIMS))
    assert compared.folder().name == "reports"
    with pytest.raises(RequestError, match="none of the five methods"):
        compared.shares(compared.folder())


def test_what_02_measured_by_the_clock_stands_beside_mrl(reports):
    way = "MRL, exact prefix + rerank"
    table = [
        *rows(way, "map@10", (57, 58), dim=(8, 16)),
        *rows(way, "speedup", (10, 4), dim=(8, 16)),
        *rows("FF, single-shot", "map@10", (30, 60), dim=(8, 32)),
    ]
    finished(reports, "02_adaptive_search", "hour", table)
    timed = compared.shares(reports).query("method == 'MRL' and milliseconds.notna() and dim == 8 and seed == 1")
    assert timed["value"].tolist() == pytest.approx([100 * 58 / 61])
    assert timed["milliseconds"].tolist() == pytest.approx([100 / 11])


# --------------------------------------------------------------------------------------------------- drawn


def test_frontiers_and_rivals_are_drawn(reports):
    rows_ = compared.frontier(compared.shares(reports), "bytes")
    figure = plots.frontiers(rows_, "bytes", keep=90)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["2DMSE", "M3", "MRL"]
    panels = plots.beside_rivals(rows_, "bytes", ["MRL", "M3"]).axes
    assert [ax.get_title(loc="left") for ax in panels] == ["M3", "MRL"]
    line = next(line for line in panels[1].lines if line.get_label() == "MRL")
    assert line.get_xdata().tolist() == [25, 50, 100]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("time", None), "Allowed: bytes, operations, milliseconds"),
        (("bytes", ["MLR"]), "Did you mean 'MRL'"),
        (("milliseconds", ["M3"]), "unknown method with milliseconds: 'M3'. Allowed: 2DMSE"),
    ],
)
def test_what_cannot_be_drawn_is_said(reports, given, words):
    table = compared.shares(reports)
    cost = given[0] if given[0] in compared.COSTS else "bytes"
    for draw in (plots.frontiers, plots.beside_rivals):
        with pytest.raises(RequestError, match=words):
            draw(compared.frontier(table, cost), *given)


def test_the_published_runs_hold_all_five():
    table = compared.shares(compared.folder())
    assert set(table.loc[~table["rival"], "method"]) == set(compared.STUDIES)
    assert table["value"].between(0, 150).all()
