"""Studies of adaptive search, cascades and few-shot, on scikit-learn's digits, against the plain way."""

from collections import namedtuple
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from mrl_lab import cascade, data, score, search, verdicts
from mrl_lab.claims.adaptive import claims
from mrl_lab.errors import RequestError
from mrl_lab.lab import Recipe, embed, trained
from mrl_lab.search import cost, planning
from mrl_lab.study import adaptive, cascades, fewshot, gallery, graphs, models, room, speed
from mrl_lab.study.models import Model
from mrl_lab.study.pictures import Pictures

SIZES, D = (2, 4, 8, 16), 16
RECIPE = Recipe(epochs=3)
NESTED, FULL = Model(SIZES, D), Model((D,), D)
SEPARATE = models.three(SIZES)["FF"]
SETUP = speed.Setup(
    views=2,
    queries=120,
    batch=60,
    sizes=SIZES,
    dims=(4, 8),
    lengths=(10, 40, 400),
    repeats=1,
    lists=12,
    probes=(1, 12),
    graphs=graphs.Graphs((4, 8), links=(4,), efs=(10, 40, 100), target=90.0, repeats=1),
)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def digits():
    return Pictures(data.load("digits"))


@pytest.fixture(scope="module")
def encoder(digits):
    return trained(NESTED, digits, RECIPE, 0).encoder


@pytest.fixture(scope="module", autouse=True)
def clock():
    """Plans by a clock on which exact search, the last of the ways, is slowest, as it is on a large database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "_in_turn", lambda ways, *_: {i: 1.0 + i for i in ways})
        patch.setattr(speed, "measure", measured)
        patch.setattr(graphs, "measure", measured)
        yield


SECONDS = {
    "exact": 1000.0,
    "exact, all dims": 8.0,
    "faiss Flat, all dims": 10.0,
    "product": 1.0,
    "shortlist": 3.0,
    "rerank": 0.5,
}


def measured(ways, least, seconds_at_least):
    """Run every way once, and say that it took what is written above, or 2 seconds; a graph at all dims takes 6."""
    for run in ways.values():
        run()
    return {name: [SECONDS.get(name, 6.0 if name == graphs.WHOLE else 2.0)] * least for name in ways}


@pytest.fixture(scope="module")
def found(digits):
    return adaptive.searched(NESTED, digits, RECIPE, 0, [SETUP], "MRL")


def value(table: pd.DataFrame, **where: object) -> float:
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    assert len(table) == 1
    return table["value"].item()


# ------------------------------------------------------------------------------------------------- the gallery


def test_a_gallery_is_the_pictures_and_then_views_of_them(digits, encoder):
    g = gallery.gallery(encoder, digits.data.train, 3, seed=0)
    n = len(digits.data.train)
    assert g.z.shape == (3 * n, D)
    assert torch.allclose(g.z[:n], normalize(embed(encoder, digits.data.train.images), dim=1))
    assert torch.equal(g.y, torch.cat([digits.data.train.labels] * 3))
    assert torch.allclose(g.z.norm(dim=1), torch.ones(3 * n), atol=1e-5)
    same, other = ((g.z[:n] * g.z[i : n + i]).sum(1).mean() for i in (n, n + 1))
    assert 0.999 > same > other  # a view is near its picture, and not the picture itself
    assert not torch.equal(g.z[n : 2 * n], g.z[2 * n :])


def test_a_gallery_is_the_same_at_the_same_seed_and_leaves_the_global_stream(digits, encoder):
    torch.manual_seed(5)
    first = gallery.gallery(encoder, digits.data.train, 2, seed=1).z
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(first, gallery.gallery(encoder, digits.data.train, 2, seed=1).z)
    assert not torch.equal(first, gallery.gallery(encoder, digits.data.train, 2, seed=2).z)


def test_the_first_views_share_the_memory_of_all(digits, encoder):
    g = gallery.gallery(encoder, digits.data.train, 2, seed=0)
    part = g.first(1)
    assert len(part.z) == len(part.y) == len(digits.data.train)
    assert part.z.data_ptr() == g.z.data_ptr()


def test_25_neighbouring_labels_above_2048_stay_apart():
    """4202 classes saved in half precision would be 3099 (the official code's labels)."""
    labels = torch.arange(4000, 4200)
    quality = gallery.by_labels(labels, labels + 1)
    which = torch.arange(5)
    assert quality(torch.arange(5)[:, None], which).tolist() == [0.0] * 5
    assert quality(torch.arange(1, 6)[:, None], which).tolist() == [1.0] * 5
    z = torch.eye(200)
    assert torch.equal(score.nearest_class_mean(z, labels, z, (200,))[200], labels)


# --------------------------------------------------------------------------------------------- adaptive search


@pytest.fixture(scope="module")
def quest(digits, encoder):
    z = normalize(embed(encoder, digits.data.test.images[:120]), dim=1)
    return gallery.Quest("MRL", 0, gallery.gallery(encoder, digits.data.train, 2, 0), z, digits.data.test.labels[:120])


def test_single_shot_rows_are_those_of_exact_search(found, quest):
    n = len(quest.gallery.y)
    for m in SIZES:
        ids = search.at_size(quest.z, quest.gallery.z, m, 10)[1]
        expected = score.mean_average_precision(ids, quest.gallery.y, quest.y)
        assert value(found, method="MRL, single-shot", dim=m) == pytest.approx(expected)
        assert found[(found.method == "MRL, single-shot") & (found.dim == m)].flops.item() == n * m
    assert set(found[found.method == "MRL, single-shot"].n) == {n}


def test_a_smaller_database_is_the_head_of_the_largest(digits, found):
    one_view, short = replace(SETUP, views=1, sizes=(16,), forms=False), {"metric": "map@10", "method": "MRL, funnel"}
    both = adaptive.searched(NESTED, digits, RECIPE, 0, [SETUP, one_view], "MRL")
    alone = adaptive.searched(NESTED, digits, RECIPE, 0, [one_view], "MRL")
    assert set(alone.n) == {len(digits.data.train)}
    for table, n in ((alone, len(digits.data.train)), (found, 2 * len(digits.data.train))):
        for m in (4, 8):
            assert value(both, dim=m, n=n, **short) == value(table, dim=m, n=n, **short)


def test_the_grid_holds_every_setting(found, quest):
    for m in (4, 8):
        for length in (10, 40):
            ids = search.nested(quest.gallery.z, m).search(quest.z, 10, length=length)[1]
            expected = score.mean_average_precision(ids, quest.gallery.y, quest.y)
            assert value(found, method=f"MRL, K = {length}, D_r = 16", dim=m) == pytest.approx(expected)


def test_forms_stand_beside_sizes_on_an_axis_of_bytes(found, quest):
    for form, size in (("float32", 4.0), ("float16", 2.0), ("int8", 1.0)):
        rows = found[found.method == f"MRL, {form}"]
        assert (rows.bytes == rows.dim * size).all()
        assert sorted(rows.dim) == list(SIZES)
    rows = found[found.method == "MRL, binary"].sort_values("dim")
    assert rows.bytes.tolist() == [1, 1, 1, 2]
    short, rows = (normalize(t[:, :8], dim=1) for t in (quest.z, quest.gallery.z))
    ids = search.exact(short, search.store(rows, "binary"), 10)[1]
    expected = score.mean_average_precision(ids, quest.gallery.y, quest.y)
    assert value(found, method="MRL, binary", dim=8) == pytest.approx(expected)


def test_a_funnels_schedule_doubles_dims_and_halves_lists():
    assert adaptive.schedule(16, 2048, 200) == ([32, 64, 128, 256, 2048], [200, 100, 50, 25, 10])
    assert adaptive.schedule(8, 16, 200) == ([16], [10])
    assert adaptive.schedule(8, 1024, 20) == ([16, 32, 64, 128, 1024], [20, 10, 10, 10, 10])


def test_a_funnel_saves_what_its_formula_says(found, quest):
    n = len(quest.gallery.y)
    dims, lists = adaptive.schedule(4, D, 200)
    assert (dims, lists) == ([8, 16], [200, 10])
    saved = cost.reranked(n, 4, 200, D) - cost.funnelled(n, 4, dims, lists)
    assert value(found, method="MRL, funnel", metric="MACs saved", dim=4) == saved
    ids = search.nested(quest.gallery.z, 4).shortlist(quest.z, 200)
    ids = search.funnel(quest.z, quest.gallery.z, ids, dims, lists)[1]
    expected = score.mean_average_precision(ids, quest.gallery.y, quest.y)
    assert value(found, method="MRL, funnel", metric="map@10", dim=4) == pytest.approx(expected)


WAYS = ("exact prefix + rerank", "int8 prefix + rerank", "IVF, prefix + rerank", "IVF, all dims")


def test_every_way_that_is_timed_says_what_it_costs_and_finds(found, quest):
    n = len(quest.gallery.y)
    for way in WAYS:
        rows = found[(found.method == f"MRL, {way}") & (found.n == n)]
        assert set(rows.metric) >= {"speedup", "map@10", "planned gap", "MACs ratio"}
        assert (rows[rows.metric == "speedup"].seconds > 0).all()
    assert (found[found.method == "MRL, IVF, all dims"].dim == D).all()


def test_speedups_are_ratios_to_the_faster_exact_search(found, quest):
    n = len(quest.gallery.y)
    expected = {"exact, all dims": 1.0, "faiss Flat, all dims": 0.8}
    expected |= dict.fromkeys(WAYS, 4.0)
    for way, ratio in expected.items():
        assert value(found, method=f"MRL, {way}", metric="speedup", n=n) == ratio
    for word in graphs.THREADS.values():
        assert value(found, metric=f"speedup, {word}") == 3.0


def test_ratios_of_multiply_adds_are_to_all_dims(found, quest):
    n = len(quest.gallery.y)
    for way in WAYS:
        rows = found[(found.method == f"MRL, {way}") & (found.n == n)].set_index("metric")
        assert rows.value["MACs ratio"] == pytest.approx(n * D / rows.flops["map@10"])


def test_the_time_of_a_shortlist_is_split_into_its_parts(found):
    parts = {"product": 1.0, "choosing": 2.0, "rerank": 0.5}
    for part, seconds in parts.items():
        assert value(found, method="MRL, exact prefix + rerank", metric=f"seconds in {part}") == seconds


def test_the_gap_is_on_queries_that_chose_nothing(digits, quest):
    """Labels of the queries that choose are made nonsense: the plan is free to be bad, the gap must show it."""
    y = quest.y.clone()
    y[::2] = 10  # a class that nothing has: every setting is as good as exact search, so the cheapest is chosen
    asked = gallery.Quest("MRL", 0, quest.gallery, quest.z, y)
    rows = score.table(speed.timed(asked, speed.Setup(2, 120, 120, SIZES, (2,), (10,), repeats=1)))
    exact = search.at_size(quest.z, quest.gallery.z, D, 10)[1][1::2]
    short = search.nested(quest.gallery.z, 2).search(quest.z, 10, length=10)[1][1::2]
    gap = [score.mean_average_precision(ids, quest.gallery.y, quest.y[1::2]) for ids in (short, exact)]
    rows = rows[rows.method == "MRL, exact prefix + rerank"]
    assert set(rows.dim) == {2}
    assert value(rows, metric="planned gap") == pytest.approx(gap[0] - gap[1])
    assert abs(gap[0] - gap[1]) > 1


def test_a_batch_is_timed_and_all_queries_are_scored(digits, quest, monkeypatch):
    asked = []
    monkeypatch.setattr(search, "exact", lambda q, *how, f=search.exact: asked.append(len(q)) or f(q, *how))
    setup = speed.Setup(2, 120, 50, SIZES, (4,), (10,), repeats=1)
    rows = score.table(speed.timed(quest, setup))
    assert asked.count(120) == 1  # the truth, once for all plans
    assert set(asked) == {120, 50}
    ids = search.nested(quest.gallery.z, 4).search(quest.z, 10, length=10)[1]
    expected = score.mean_average_precision(ids, quest.gallery.y, quest.y)
    assert value(rows, method="MRL, K = 10, D_r = 16") == pytest.approx(expected)


def test_an_index_at_all_dims_can_be_left_out(quest):
    setup = speed.Setup(2, 120, 50, SIZES, (4,), (10,), repeats=1, lists=12, probes=(1, 12), whole=False)
    ways = {row["method"] for row in speed.timed(quest, setup)}
    assert "MRL, IVF, prefix + rerank" in ways
    assert "MRL, IVF, all dims" not in ways


def test_faiss_finds_what_exact_search_finds_and_keeps_its_threshold(quest):
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    scores, ids = search.brute_force(quest.z, quest.gallery.z, 10)
    ours = search.exact(quest.z, quest.gallery.z, 10)
    assert (ids == ours[1]).double().mean() > 0.99
    assert torch.allclose(scores, ours[0], atol=1e-5)
    assert faiss.cvar.distance_compute_blas_threshold == before


def test_nothing_is_searched_twice(digits, found, monkeypatch):
    monkeypatch.setattr(adaptive, "gallery", lambda *_: pytest.fail("embedded again"))
    again = adaptive.searched(NESTED, digits, RECIPE, 0, [SETUP], "MRL")
    pd.testing.assert_frame_equal(again, found)


# ---------------------------------------------------------------------------------------------------- cascades


@pytest.fixture(scope="module")
def cascaded(digits):
    recipes = {"MRL": RECIPE, "FF": RECIPE}
    return cascades.cascades(NESTED, SEPARATE, digits, recipes, 0, splits=3)


def test_cascades_are_those_of_the_heads_logits(digits, cascaded):
    for method, specs in (("MRL", [NESTED]), ("FF", SEPARATE)):
        logits = {}
        for spec in specs:
            model = trained(spec, digits, RECIPE, 0)
            with torch.no_grad():
                logits |= model.head(model.encoder(digits.data.test.images))
        for name, calibrate in ((f"{method} cascade", True), (f"{method} cascade, plain confidence", False)):
            how = {"method": name, "seed": 0, "splits": 3, "calibrate": calibrate}
            for row in cascade.evaluate(logits, digits.data.test.labels, **how):
                where = {name: row[name] for name in ("method", "metric", "dim")}
                assert value(cascaded, **where) == pytest.approx(row["value"], abs=0.1)
        top1 = score.accuracy(logits[8].argmax(1), digits.data.test.labels)
        assert value(cascaded, method=method, metric="top1", dim=8) == pytest.approx(top1)


def made_up(mrl_top1, ff_top1, reached, dims):
    """A table with the given top-1 by size, and a cascade's accuracy and expected dims by cap."""
    rows = []
    for method, top1 in (("MRL", mrl_top1), ("FF", ff_top1)):
        rows += score.tidy(top1, method=method, metric="top1", seed=0, n=9)
        named = {"method": f"{method} cascade", "seed": 0, "n": 8}
        rows += score.tidy(reached, metric="cascade_top1", **named)
        rows += score.tidy(dims, metric="expected_dim", **named)
        rows += score.tidy({m: 2 * v for m, v in dims.items()}, metric="cumulative_dim", **named)
    return score.table(rows)


def test_ratios_are_of_the_plain_size_that_is_as_accurate_as_the_cascade():
    mrl = {4: 60.0, 8: 70.0, 16: 71.0, 32: 71.0}
    ff = {4: 50.0, 8: 60.0, 16: 68.0, 32: 72.0}
    reached, reads = {4: 60.0, 8: 69.0, 16: 69.8, 32: 70.0}, {4: 4.0, 8: 4.5, 16: 4.8, 32: 5.0}
    found = cascades.ratios(made_up(mrl, ff, reached, reads), 0)
    assert value(found, method="MRL cascade", metric="ratio to MRL") == pytest.approx(8 / 5)
    half_way = 2**4.5  # 70 lies half-way between 68 at 16 and 72 at 32, straight in log2 of the size
    assert value(found, method="MRL cascade", metric="ratio to FF") == pytest.approx(half_way / 5)
    assert value(found, method="MRL cascade", metric="cumulative ratio to FF") == pytest.approx(half_way / 10)
    assert value(found, method="FF cascade", metric="ratio to FF") == pytest.approx(half_way / 5)


def test_ratios_stay_within_the_sizes_that_were_measured_and_no_larger_one_is_taken_that_is_worse():
    plain = {4: 60.0, 8: 70.0, 16: 65.0, 32: 80.0}
    for reached, size in ((50.0, 4), (90.0, 32), (70.0, 8), (68.0, 2**2.8)):
        found = cascades.ratios(made_up(plain, plain, dict.fromkeys(plain, reached), dict.fromkeys(plain, 2.0)), 0)
        assert value(found, method="MRL cascade", metric="ratio to FF") == pytest.approx(size / 2)


# ------------------------------------------------------------------------------------------------------ claims


def test_every_claim_finds_its_cells_in_the_tables(digits, found, cascaded):
    """One seed judges nothing, but a cell that no study fills would say "no score"."""
    control = adaptive.searched(FULL, digits, RECIPE, 0, [SETUP], "FF")
    shots = [
        fewshot.few_shot(spec, digits.data, [3, 7], SIZES, RECIPE, 0, episodes=2).assign(method=method)
        for method, spec in (("MRL", NESTED), ("FF", FULL))
    ]
    scores = pd.concat([found, control, cascaded, *shots], ignore_index=True)
    n = 2 * len(digits.data.train)
    judged = verdicts.judge(claims(SETUP.dims, D, SIZES, n, n), scores, "minutes")
    assert judged.id.tolist() == ["7", "7b", "7c", "8", "8b", "9", "9b", "9c", "10", "12", "12b"]
    assert set(judged.verdict) == {"undecided"}
    behind = verdicts.detail(claims(SETUP.dims, D, SIZES, n, n), scores, "minutes")
    assert not behind.note.str.contains("no score").any(), behind.note.tolist()


def seeds(rows: list[tuple], count: int = 4) -> pd.DataFrame:
    """Cells (method, metric, dim, n, value) at several seeds, with a little noise."""
    made = [
        {"method": m, "metric": metric, "dim": dim, "n": n, "seed": seed, "value": v + 0.01 * seed}
        for m, metric, dim, n, v in rows
        for seed in range(count)
    ]
    return score.table(made)


def test_claims_of_the_clock_are_of_the_speed_with_quality_told_beside():
    way = "MRL, exact prefix + rerank"
    found = [c for c in claims((8,), 16, (8, 16), 1000, 500) if c.id == "9"]

    def verdict(speedup, gap):
        rows = [(way, "speedup", 8, 1000, speedup), (way, "planned gap", 8, 1000, gap), (way, "speedup", 8, 500, 99.0)]
        return verdicts.detail(found, seeds(rows), "hour").verdict.tolist()

    assert verdict(15, -0.1) == ["shown", "shown"]
    assert verdict(13, -0.1) == ["contradicted", "shown"]
    assert verdict(15, -0.5) == ["shown", "contradicted"]


def test_the_summary_has_one_row_a_way_and_says_what_its_speed_costs(found, quest):
    table = speed.summary(found, "MRL", len(quest.gallery.y))
    assert set(table.index) == {*WAYS, "exact, all dims", "faiss Flat, all dims"}
    assert table["times as fast"].is_monotonic_increasing
    assert table.loc[WAYS[0], "times as fast"] == 4
    gap = value(found, method=f"MRL, {WAYS[0]}", metric="planned gap")
    assert table.loc[WAYS[0], "planned gap"] == pytest.approx(gap)
    assert table.loc["exact, all dims", "dims"] == str(D)


def test_reranking_is_told_from_the_place_before(quest):
    before, after, places = adaptive.moved(quest, 3, 4, 40, 8)
    short = search.nested(quest.gallery.z, 4).shortlist(quest.z[3:4], 40)[0]
    assert torch.equal(before, short[:8])
    assert [short[p - 1].item() for p in places] == after.tolist()
    cosines = quest.gallery.z[after] @ quest.z[3]
    assert (cosines.diff() <= 0).all()
    assert cosines[0] == (quest.gallery.z[short] @ quest.z[3]).max()


def test_settings_of_a_shortlist_are_read_from_the_table(found, quest):
    table = adaptive.settings_of(found, "MRL", D, len(quest.gallery.y))
    assert table[["dim", "length"]].to_numpy().tolist() == [[m, k] for m in (4, 8) for k in (10, 40, 400)]
    row = table[(table.dim == 4) & (table.length == 40)]
    assert row.value.item() == pytest.approx(value(found, method="MRL, K = 40, D_r = 16", dim=4))
    assert row.flops.item() == len(quest.gallery.y) * 4 + 40 * D


def test_plain_sizes_are_cascades_that_stop_at_once(cascaded):
    table = cascades.with_plain_sizes(cascaded)
    for m in SIZES:
        top1 = value(cascaded, method="FF", metric="top1", dim=m)
        assert value(table, method="FF", metric="cascade_top1", dim=m) == top1
        assert value(table, method="FF", metric="expected_dim", dim=m) == m


# ------------------------------------------------------------------------------------------ more than there is


@pytest.mark.parametrize(
    ("ask", "what", "there"),
    [
        (
            lambda digits: adaptive.searched(NESTED, digits, RECIPE, 0, [replace(SETUP, queries=999)], "MRL"),
            "queries",
            359,
        ),
        (lambda digits: replace(SETUP, batch=121), "queries", 120),
        (lambda digits: gallery.Gallery(torch.eye(8), torch.arange(8), 4).first(3), "views", 2),
        (lambda digits: fewshot.draw(range(5), 6, 0), "classes", 5),
        (lambda digits: fewshot.few_shot(NESTED, digits.data, range(6), SIZES, RECIPE, 0, episodes=1), "classes", 4),
    ],
)
def test_what_would_be_sliced_short_is_refused(digits, ask, what, there):
    with pytest.raises(RequestError, match=f"{what}.*from 1 to {there}, which is what there is"):
        ask(digits)


# ------------------------------------------------------------------------------------------------- memory

Memory = namedtuple("Memory", "available")


@pytest.mark.parametrize(
    ("free", "says"),
    [
        (14e9, None),
        (
            8e9,
            r"1,000,000 vectors of 2048 numbers take 13\.3 GB .* has 8\.0 GB free: `-p dim 1024` takes 7\.1 GB",
        ),
        (1e9, r"has 1\.0 GB free: close what else runs, or choose a smaller budget"),
    ],
)
def test_a_database_that_memory_cannot_hold_is_refused_before_any_work(monkeypatch, free, says):
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: Memory(free))
    if says is None:
        return room.check(1_000_000, 2048)
    with pytest.raises(RequestError, match=says):
        room.check(1_000_000, 2048)
