"""A database on disk: what it finds is what the same in memory finds, and no step reads more of it than a block."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mrl_lab import clock, schema, search
from mrl_lab.cuts import unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.search import ondisk
from mrl_lab.study import disk

N, D, M, LISTS, BLOCK = 3000, 32, 8, 30, 700


@pytest.fixture(scope="module")
def rows():
    return torch.cat(list(disk.made(N, D)))


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    """Written in blocks that are no divisors of anything, so that the last is short."""
    folder = tmp_path_factory.mktemp("database")
    ondisk.write(folder, rows.split(BLOCK), N, D)
    ondisk.build(folder, M, lists=LISTS, rows=BLOCK)
    return folder


@pytest.fixture(scope="module")
def queries(folder):
    return disk.asked(folder, 40)


def test_what_is_written_is_a_file_of_numpy_s_in_half_precision(folder, rows):
    there = np.load(folder / "vectors.npy", allow_pickle=False)
    assert there.dtype == np.float16
    assert np.array_equal(there, rows.half().numpy())
    assert [(start, len(block)) for start, block in ondisk.blocks(folder, BLOCK)] == [
        (start, min(BLOCK, N - start)) for start in range(0, N, BLOCK)
    ]


def test_with_all_lists_it_finds_what_the_same_rows_in_memory_find(folder, rows, queries):
    memory = search.nested(rows.half(), M)
    for length in (20, 100):
        there = ondisk.opened(folder).search(queries, 10, length=length, probes=LISTS)
        here = memory.search(queries, 10, length=length)
        same = there[1] == here[1]
        assert same.double().mean() > 0.95  # prefixes are rounded once more, so the last of a list may be another
        assert torch.allclose(there[0][same], here[0][same], atol=1e-6)


def test_with_some_lists_it_finds_the_best_of_those_lists(folder, rows, queries):
    """By hand: the rows whose nearest centroid is among the three nearest to the query, by their rounded prefixes."""
    database = ondisk.opened(folder)
    centroids = torch.from_numpy(database.first.index.quantizer.reconstruct_n(0, LISTS))
    prefixes = unit_prefix(rows.half(), M)
    home = (prefixes @ centroids.T).argmax(1)
    for query in queries:
        short = normalize(query[:M], dim=0)
        near = (centroids @ short).topk(3).indices
        among = torch.isin(home, near).nonzero()[:, 0]
        expected = among[(prefixes[among].half().float() @ short).topk(25).indices]
        assert len(set(expected.tolist()) & set(database.shortlist(query[None], 25, probes=3)[0].tolist())) >= 24


def test_exact_search_in_blocks_is_exact_search(folder, rows, queries):
    whole = search.exact(queries, unit_prefix(rows.half(), D), 10)
    scores, ids = ondisk.exactly(folder, queries, 10, BLOCK)
    assert torch.equal(ids, whole[1])
    assert torch.allclose(scores, whole[0], atol=1e-6)


def test_equal_rows_of_several_blocks_stay_in_the_order_of_their_ids(tmp_path):
    ondisk.write(tmp_path, torch.ones(10, 4).split(3), 10, 4)
    assert ondisk.exactly(tmp_path, torch.ones(1, 4), 8, 3)[1].tolist() == [list(range(8))]


def test_no_step_holds_more_than_some_blocks(tmp_path):
    """All 60,000 rows are 3.8 MB as they lie there; a block of 1,000 is 0.13 MB in float32."""
    n, block = 60_000, 1000
    ondisk.write(tmp_path, (rows.half() for rows in disk.made(n, D)), n, D)
    queries = disk.asked(tmp_path, 20)
    steps = {
        "build": lambda: ondisk.build(tmp_path, M, lists=LISTS, rows=block),
        "exactly": lambda: ondisk.exactly(tmp_path, queries, 10, block),
        "search": lambda: ondisk.opened(tmp_path).search(queries, 10, length=20, probes=4),
    }
    held = {step: clock.peak_bytes(run) for step, run in steps.items()}
    assert max(held.values()) < 1.2e6, held


def test_recall_rises_with_the_lists_that_are_looked_into(folder, queries):
    truth = ondisk.exactly(folder, queries, 10)[1]
    database = ondisk.opened(folder)
    found = [database.search(queries, 10, length=20, probes=p)[1] for p in (1, 5, LISTS)]
    recalls = [search.recall(truth)(ids, torch.arange(40)).mean().item() for ids in found]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1] > 0.7


def test_nothing_but_vectors_and_lists_stays(folder):
    assert sorted(file.name for file in folder.iterdir()) == ["prefixes.faiss", "prefixes.lists", "vectors.npy"]


# ---------------------------------------------------------------------------------------------- refusing

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def full(monkeypatch):
    monkeypatch.setattr(ondisk.shutil, "disk_usage", lambda place: Usage(10**12, 10**12 - 10**9, 10**9))


def test_a_full_disk_is_said_before_any_work(full, own_cache, monkeypatch):
    monkeypatch.setattr(disk.workers, "apart", lambda *_: pytest.fail("begun"))
    with pytest.raises(RequestError, match=r"20,000,000 vectors of 256 numbers .* GB free: make room, or set MRL_LAB"):
        disk.measured(20_000_000, 256)  # a number that no page here has measured
    assert "has 1.0 GB free" in disk.lacking(20_000_000, 256)


def test_room_is_asked_for_vectors_lists_and_their_parts(own_cache):
    assert ondisk.needed(1000, 256, 64) == 1000 * (512 + 2 * (128 + 8))
    assert disk.lacking(1000, 64) == ""


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda f: ondisk.write(f, [torch.ones(3, 4)], 4, 4), "3 rows were given: 4 rows of 4"),
        (lambda f: ondisk.write(f, [torch.ones(5, 4)], 4, 4), "4 rows of 4 numbers were announced"),
        (lambda f: ondisk.write(f, [torch.ones(4, 3)], 4, 4), "4 rows of 4 numbers were announced"),
        (lambda f: ondisk.write(f, [torch.full((4, 4), 1e6)], 4, 4), "infinite or overflowing"),
    ],
)
def test_wrong_blocks_are_refused(do, words, tmp_path):
    with pytest.raises(RequestError, match=words):
        do(tmp_path)


def test_sizes_that_are_not_there_are_refused(folder):
    with pytest.raises(RequestError, match="at most 32"):
        ondisk.build(folder, D + 1)
    with pytest.raises(RequestError, match="lists = 3001"):
        ondisk.build(folder, M, lists=N + 1)


# ------------------------------------------------------------------------------------------- the study


def test_rows_are_the_same_for_a_seed_and_their_first_dims_carry_more(rows):
    assert torch.equal(rows, torch.cat(list(disk.made(N, D))))
    assert not torch.equal(rows, torch.cat(list(disk.made(N, D, seed=1))))
    assert torch.allclose(rows.norm(dim=1), torch.ones(N), atol=1e-5)
    assert rows.var(0)[:4].sum() > rows.var(0)[16:].sum()


def test_a_query_is_near_a_row(rows, folder, queries):
    nearest = (queries @ rows.T).max(1).values
    assert nearest.min() > 0.9 > 0.75 > (queries @ rows.T).mean().item() + 0.5


def test_what_is_measured_is_told_and_nothing_stays_on_the_disk(own_cache):
    found = disk.measured(2000, 16, queries=20)
    table = disk.summary(found)
    assert table.index.tolist() == list(disk.PROBES)
    assert table["recall@10"].between(50, 100).all()
    assert (table.filter(like="ms") > 0).all().all()
    at = found.set_index("metric").value
    assert at["GB in memory"] >= at["GB in memory before"] > 0.05
    assert at["bytes a row"] > 2 * 16 + 2 * 4 + 8
    found.astype(schema.SCORES)  # as it is saved
    assert set(found.n) == {2000}
    assert set(found.dim) == {4}
    assert not list(disk.files.cache_folder().glob("larger-than-memory-*"))


def test_on_paper_means_so_many_times_the_figures_of_a_row():
    rows = [{"metric": m, "value": v, "n": 1_000_000} for m, v in {
        "recall@10, 64 probes": 97.0, "warm ms, 64 probes": 2.0, "bytes a row": 700.0, "GB on disk": 0.7,
        "build microseconds a row": 36.0, "GB in memory": 1.5, "GB in memory before": 0.4, "exact seconds a query": 0.1,
    }.items()]  # fmt: skip
    said = disk.on_paper(disk.pd.DataFrame(rows), rows=100_000_000)
    assert "70 GB on disk" in said
    assert "10.0 times as many and as long as here, 1.0 to 10.0 hours of building" in said
    assert "looking into 64 lists, 2.0 to 20.0 ms" in said
