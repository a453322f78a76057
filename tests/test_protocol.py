"""What is fixed before the seeds that judge: written down, apart from what was tuned on, and held to."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from mrl_lab import protocol, runs
from mrl_lab.contrasts import difference
from mrl_lab.desk import judge
from mrl_lab.errors import RequestError
from mrl_lab.lab import Recipe
from mrl_lab.score import table
from mrl_lab.stats import MOST
from mrl_lab.verdicts import Claim, Condition

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
LEAD = Condition(difference("MRL", "FF", "top1", dim=8), "MRL − FF", above=-1.0, delta=0.5)
CLAIMS = [Claim(1, "as good", "−0.07", LEAD, headline=True)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_RUN", str(tmp_path / "run"))
    return runs.start("mine")


def test_bounds_recipes_and_seeds_are_written_down(run):
    html = protocol.freeze(run, CLAIMS, {"pairs": {"MRL": Recipe(lr=0.01)}, "untouched": None}, [0], range(100, 103))
    found = json.loads((run.folder / "protocol.json").read_text())
    assert (found["tuned on"], found["judged on"]) == ([0], [100, 101, 102])
    assert found["recipes"]["pairs"]["MRL"]["lr"] == 0.01
    assert found["recipes"]["untouched"] is None
    (claim,) = found["claims"].values()
    assert (claim["above"], claim["below"], claim["delta"], claim["headline"]) == (-1.0, None, 0.5, True)
    assert "seeds 100, 101, 102 judge 1 claims; tuned on seeds 0" in html.data


def test_a_seed_that_was_tuned_on_judges_nothing(run):
    with pytest.raises(RequestError, match="seeds 1 were tuned on and would judge"):
        protocol.freeze(run, CLAIMS, {}, [0, 1], [1, 2])
    assert not (run.folder / "protocol.json").exists()
    assert not {*protocol.judging(20)} & {*range(20)}


def gains(seeds, spread):
    """MRL - FF, 0.5 points, with as much noise as ``spread``."""
    draw = np.random.default_rng(0).normal(0, spread, 200)
    return table(
        {"method": m, "metric": "top1", "dim": 8, "seed": s, "value": 50.0 + (m == "MRL") * (0.5 + draw[s - 100])}
        for m in ("MRL", "FF")
        for s in seeds
    )


@pytest.mark.parametrize(
    ("budget", "spread", "trained"),
    [("hour", 1.0, [30]), ("night", 0.1, [10, 10]), ("night", 0.9, [10, 20]), ("night", 50.0, [10, 10])],
    ids=["as planned", "narrow already", "until narrow", "no use"],
)
def test_at_night_seeds_are_added_until_a_headline_is_narrow(budget, spread, trained):
    asked = []

    def measure(seeds):
        asked.append(len(seeds))
        return gains(seeds, spread)

    idle = Claim(2, "not measured yet", "", replace(LEAD, of=difference("MRL", "FF", "knn", dim=8)), headline=True)
    noisy = Claim(3, "no headline", "", replace(LEAD, delta=0.01))
    seeds, scores = protocol.until_narrow([*CLAIMS, idle, noisy], measure, protocol.judging(30), budget)
    assert asked[0] == trained[0]
    assert len(asked) == len(trained)
    assert len(seeds) == asked[-1] == scores.seed.nunique()
    if budget == "night":
        width = gains(range(100, 110), spread).query("method == 'MRL'").value.std()
        narrow = [n for n in range(10, MOST + 1) if t.ppf(0.975, 9) * width / n**0.5 <= LEAD.delta]
        assert len(seeds) == (narrow[0] if narrow else 10)


def test_whoever_repeats_a_run_takes_other_seeds(monkeypatch):
    assert protocol.judging(3) == range(100, 103)
    monkeypatch.setenv("MRL_LAB_FIRST_SEED", "500")
    assert protocol.judging(3) == range(500, 503)


@pytest.mark.parametrize("asked", ["99", "-100", "1e3", "many", "4294967296"])
def test_seeds_that_may_have_been_tuned_on_are_refused(monkeypatch, asked):
    monkeypatch.setenv("MRL_LAB_FIRST_SEED", asked)
    with pytest.raises(RequestError, match=f"MRL_LAB_FIRST_SEED is the first seed that judges, from 100 on.*{asked}"):
        protocol.judging(3)


@pytest.mark.parametrize("change", [{"above": -2.0}, {"delta": 0.6}, {"unit": "pages"}])
def test_a_bound_that_was_moved_after_freezing_is_refused(run, change):
    scores = table([{"method": m, "metric": "top1", "dim": 8, "seed": 100, "value": 50.0} for m in ("MRL", "FF")])
    protocol.freeze(run, CLAIMS, {}, [0], [100])
    judge(run, CLAIMS, scores, "minutes")
    moved = [replace(CLAIMS[0], what=replace(LEAD, **change))]
    (run.folder / "claims.csv").unlink()
    with pytest.raises(RequestError, match=r"^1: not as they were frozen"):
        judge(run, moved, scores, "minutes")
    with pytest.raises(RequestError, match=r"^1: not as"):
        judge(run, [], scores, "minutes")
    assert not (run.folder / "claims.csv").exists()


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_what_judges_claims_freezes_them_before_it_sweeps_seeds_that_judge(file):
    cells = ["".join(c["source"]) for c in json.loads(file.read_text())["cells"] if c["cell_type"] == "code"]
    judged = [i for i, cell in enumerate(cells) if re.search(r"lab\.judge\(run, (?!\[\])", cell)]
    if not judged:
        return
    frozen = [i for i, cell in enumerate(cells) if "lab.freeze(" in cell]
    seeds = [i for i, cell in enumerate(cells) if re.search(r"\ball_seeds\b", cell) and "judging(" not in cell]
    assert frozen
    assert frozen[0] == min(seeds)
