"""Vectors of one's own: read, asked and judged as the page says, and refused before any work where they cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from sklearn.metrics import ndcg_score
from small_notebooks import setting
from small_texts import ROWS, TEXTS, beir
from test_encoders_elsewhere import PROMPTS, dense, saved
from torch.nn.functional import normalize

from mrl_lab import parameters
from mrl_lab.data import searched
from mrl_lab.data.searched import Texts
from mrl_lab.errors import RequestError
from mrl_lab.lab import Recipe
from mrl_lab.report import needs, notebooks
from mrl_lab.study import choosing, shrinking
from mrl_lab.study.shrinking import Learnt, Nested, Prefix, RandomDims, Rotation, Shrinking, Sparsely
from mrl_lab.study.vectors import Collection, Way, opened

N, D = 60, 16


def drawn(n=N, d=D, seed=0, scale=None):
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return z if scale is None else z * scale


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """Files that go together, and some that do not."""
    np.save(tmp_path / "z.npy", drawn().numpy().astype(np.float16))
    np.save(tmp_path / "q.npy", drawn(8, seed=1).numpy())
    np.save(tmp_path / "wide.npy", drawn(8, D + 1).numpy())
    np.save(tmp_path / "none.npy", np.zeros((0, D), np.float32))
    np.save(tmp_path / "one.npy", drawn(1).numpy())
    np.save(tmp_path / "zeros.npy", np.where(np.arange(N)[:, None] == 7, 0, drawn().numpy()))
    np.save(tmp_path / "same.npy", np.ones((N, D), np.float32))
    (tmp_path / "trec.txt").write_text("".join(f"{q} 0 {3 * q} 2\n{q} 0 {3 * q + 1} 1\n{q} 0 59 0\n" for q in range(8)))
    (tmp_path / "beir.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{3 * q}\t2\n{q}\t{3 * q + 1}\t1\n" for q in range(8))
    )
    (tmp_path / "unknown.txt").write_text("0 0 3 1\n0 0 d77 1\n")
    (tmp_path / "whose.txt").write_text("q99 0 3 1\n")
    (tmp_path / "words.txt").write_text("0 0 3 very\n1 0 3 1\n")
    (tmp_path / "twice.txt").write_text("0 0 3 1\n0 0 3 2\n")
    (tmp_path / "y.txt").write_text("".join(f"c{i % 4}\n" for i in range(N)))
    (tmp_path / "few.txt").write_text("a\nb\n")
    (tmp_path / "texts.txt").write_text("".join(f"text number {i}\n" for i in range(N)))
    (tmp_path / "hole.txt").write_text("a text\n\nanother\n")
    (tmp_path / "long.jsonl").write_text(
        "".join(json.dumps({"id": i, "text": f"{i} " * 5_000}) + "\n" for i in range(N))
    )
    (tmp_path / "again.jsonl").write_text("".join(json.dumps({"id": 1, "text": "x"}) + "\n" for _ in range(N)))
    (tmp_path / "empty").mkdir()
    return tmp_path


def given(folder, **files):
    names = {name: file if file in ("arxiv",) else str(folder / file) for name, file in files.items()}
    return searched.searched(names)


# ------------------------------------------------------------------------------------------------ what comes in


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"vectors": "none.npy"}, "rows are numbers"),
        ({"vectors": "one.npy"}, "1 documents: at least 20"),
        ({"vectors": "zeros.npy"}, "zeros alone.*row 7"),
        ({"vectors": "same.npy"}, "only 1 differ"),
        ({"vectors": "z.npy", "queries": "wide.npy"}, "17 numbers and z.npy 16"),
        ({"vectors": "z.npy", "queries": "q.npy", "qrels": "unknown.txt"}, "1 of its documents are not there.*'d77'"),
        ({"vectors": "z.npy", "queries": "q.npy", "qrels": "whose.txt"}, "1 of its queries are not there.*'q99'"),
        ({"vectors": "z.npy", "queries": "q.npy", "qrels": "words.txt"}, "at least 4 are needed"),
        ({"vectors": "z.npy", "queries": "q.npy", "qrels": "twice.txt"}, "line 2: another grade"),
        ({"vectors": "z.npy", "queries": "q.npy", "qrels": "y.txt"}, "line 2: 'c1' is neither"),
        ({"vectors": "z.npy", "qrels": "trec.txt"}, "give queries as well"),
        ({"vectors": "z.npy", "labels": "few.txt"}, "2 labels for 60 documents"),
        ({"vectors": "z.npy", "labels": "y.txt", "queries": "q.npy"}, "leave queries out"),
        ({"vectors": "z.npy", "labels": "y.txt", "queries": "q.npy", "qrels": "trec.txt"}, "two criteria"),
        ({"vectors": "z.npy", "texts": "few.txt"}, "2 texts for 60 documents"),
        ({"vectors": "texts.txt"}, "files of your own end in"),
        ({"vectors": "z.npy", "model": "empty"}, "leave model out"),
        ({"vectors": "z.npy", "collection": "empty"}, "give one of them"),
        ({"queries": "q.npy"}, "belong to vectors or texts of your own"),
        ({"texts": "hole.txt"}, "row 1 is empty"),
        ({"texts": "again.jsonl"}, "'1' stands there twice"),
        ({"texts": "z.npy"}, "files of texts end in"),
        ({"collection": "empty"}, "has no corpus.jsonl and no queries.jsonl and no qrels/test.tsv"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(folder, files, says):
    with pytest.raises(RequestError, match=says):
        given(folder, **files)


NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "08_your_embeddings.ipynb"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"vectors": "none.npy"}, "rows are numbers"),
        ({"vectors": "z.npy", "queries": "wide.npy"}, "17 numbers"),
        ({"collection": "empty"}, "no corpus.jsonl"),
        ({"model": "empty"}, "has no config.json"),
        ({"vectors": "z.npy"}, None),
        ({"texts": "long.jsonl"}, None),
        ({}, None),
    ],
)
def test_what_a_run_of_08_is_given_is_looked_into_before_it_runs(folder, files, says):
    notebook = notebooks.read(NOTEBOOK)
    asked = setting(notebook, **{name: str(folder / file) for name, file in files.items()})
    parameters.check(notebook.parameters, asked)
    if says is None:
        needs.check_own(notebook, asked)
        return
    with pytest.raises(RequestError, match=says):
        needs.check_own(notebook, asked)


@pytest.mark.parametrize(
    ("given", "unused"),
    [
        ({"vectors": "mine.npy"}, {"all-minilm", "arxiv"}),
        ({"texts": "mine.txt"}, {"arxiv"}),
        ({"model": "a/b"}, {"all-minilm"}),
    ],
)
def test_what_is_your_own_takes_the_place_of_what_would_be_fetched(given, unused):
    notebook = notebooks.read(NOTEBOOK)
    needed, _ = needs.sources_of(notebook, setting(notebook, **given))
    assert set(needed) == {"all-minilm", "arxiv"} - unused


def test_vectors_stay_on_disk_and_need_no_labels(folder):
    found = given(folder, vectors="z.npy")
    assert found.documents.z.dtype == torch.float16
    assert (found.labels, found.judged, found.queries) == (None, None, None)


@pytest.mark.parametrize("file", ["trec.txt", "beir.tsv"])
def test_judgements_are_read_with_their_grades(folder, file):
    found = given(folder, vectors="z.npy", queries="q.npy", qrels=file)
    assert found.judged["2"] == {"6": 2, "7": 1}
    assert len(found.judged) == len(found.queries) == 8


def test_queries_that_nothing_answers_are_left_out_and_told(folder):
    (folder / "half.txt").write_text("".join(f"{q} 0 {q} {q % 2}\n" for q in range(8)))
    found = given(folder, vectors="z.npy", queries="q.npy", qrels="half.txt")
    assert list(found.judged) == ["1", "3", "5", "7"] == list(found.queries.ids)
    assert torch.equal(found.queries.z, drawn(8, seed=1)[1::2])
    assert found.notes == ("4 of 8 queries are left out: half.txt has no document for them",)


def test_texts_of_ten_thousand_characters_are_read_whole(folder):
    assert min(map(len, given(folder, texts="long.jsonl").documents.texts)) >= 9_999


def test_a_folder_of_beir_s_is_a_collection(folder):
    place = folder / "mine"
    (place / "qrels").mkdir(parents=True)
    lines = [{"_id": f"d{i}", "title": f"t{i}", "text": f"body {i}"} for i in range(30)]
    (place / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{i}", "text": f"{i}?"}) + "\n" for i in range(9))
    )
    for part, who in (("test", range(5)), ("train", range(5, 9))):
        rows = "".join(f"q{i}\td{i}\t{1 + i % 2}\n" for i in who)
        (place / "qrels" / f"{part}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    found = given(folder, collection="mine")
    assert found.documents.texts[3] == "t3 body 3"
    assert (found.judged["q1"], found.lessons["q6"]) == ({"d1": 2}, {"d6": 1})
    few = searched.at_most(found, 6)
    assert few.documents.ids == ("d0", "d1", "d2", "d3", "d4", "d5")
    assert list(few.judged) == list(few.queries.ids) == ["q0", "q1", "q2"]
    assert few.lessons == {"q5": {"d5": 2}}
    assert "6 of 30 documents" in few.notes[0]


# ------------------------------------------------------------------------------------------------ what is asked


def task_of(asks=1_000, **known):
    scale = torch.linspace(1, 0.1, D)
    return Shrinking(Collection("mine", drawn(scale=scale), key=sorted(known), **known), asks=asks)


JUDGED = [{3 * q: 2, 3 * q + 1: 1} for q in range(8)]


def test_ndcg_is_that_of_scikit_learn_with_grades():
    task = task_of(queries=drawn(8, seed=1), judged=JUDGED)
    ids = shrinking.nearest(Way("whole"), task, [D], ["float32"])["float32", D][0]
    scores = task.questions @ normalize(task.collection.documents, dim=1).T
    grades = np.array([[JUDGED[q].get(row, 0) for row in range(N)] for q in task.who.tolist()])
    theirs = [ndcg_score(grades[i : i + 1], scores[i : i + 1].numpy(), k=10) for i in range(8)]
    assert task.quality(ids).tolist() == pytest.approx(theirs)
    assert task.metric == "ndcg@10"


@pytest.mark.parametrize(
    "how",
    [
        {"pooling": "cls"},
        {"behind": [dense(), Normalize()]},
        {"prompts": PROMPTS},
        {"pooling": "cls", "behind": [dense()], "prompts": PROMPTS, "truncate_dim": 8},
    ],
    ids=["CLS", "Dense", "prompts", "all of it"],
)
def test_a_model_untouched_scores_what_sentence_transformers_makes_it_score(tmp_path, how):
    place = saved(tmp_path, **how)
    mine = opened({"collection": str(beir(tmp_path / "mine")), "model": str(place)})
    task, peer = Shrinking(mine), SentenceTransformer(str(place), device="cpu")
    queries, documents = peer.encode_query([row[1] for row in ROWS]), peer.encode_document(TEXTS)
    cosines = normalize(torch.from_numpy(queries), dim=1) @ normalize(torch.from_numpy(documents), dim=1).T
    theirs = ndcg_score(np.eye(36), cosines.numpy(), k=10)
    assert 100 * task.quality(task.whole).mean().item() == pytest.approx(100 * theirs, abs=0.1)
    torch.testing.assert_close(mine.documents, torch.from_numpy(documents), rtol=0, atol=1e-6)


def test_one_nearest_neighbour_by_label_is_never_oneself():
    labels = torch.arange(N) % 4
    task = task_of(labels=labels)
    z = normalize(task.collection.documents, dim=1)
    near = (z @ z.T).fill_diagonal_(-2).argmax(1)
    expected = (labels[near] == labels)[task.who].double()
    ids = shrinking.nearest(Way("whole"), task, [D], ["float32"])["float32", D][0]
    assert task.quality(ids).tolist() == expected.tolist()
    assert not (ids == task.own[:, None]).any()


def test_without_queries_or_labels_the_whole_vectors_own_neighbours_are_looked_for():
    task = task_of()
    found = shrinking.nearest(Way("whole"), task, [4, D], ["float32"])
    assert task.quality(found["float32", D][0]).tolist() == [1.0] * N
    some, all_ = found["float32", 4][0][:, :10].tolist(), found["float32", D][0][:, :10].tolist()
    expected = [len(set(a) & set(b)) / 10 for a, b in zip(some, all_, strict=True)]
    assert task.quality(found["float32", 4][0]).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("form", ["float32", "int8", "binary", "signs"])
def test_blocks_find_what_one_search_finds(monkeypatch, form):
    task = task_of()
    once = shrinking.nearest(Way("whole"), task, [8], [form])[form, 8][0]
    monkeypatch.setattr(shrinking, "BLOCK", 17)
    assert torch.equal(shrinking.nearest(Way("whole"), task, [8], [form])[form, 8][0], once)


def test_no_more_rows_are_made_at_once_than_a_block(monkeypatch):
    task, made = task_of(), []
    monkeypatch.setattr(shrinking, "BLOCK", 17)
    monkeypatch.setattr(shrinking, "LIKE", 20)
    rows = Way.rows
    monkeypatch.setattr(Way, "rows", lambda way, z, sizes: made.append(len(z)) or rows(way, z, sizes))
    shrinking.nearest(Way("whole"), task, [8], ["int8"], which=range(5))
    assert max(made) <= 20 < len(task.sample)


def test_copies_of_a_question_do_not_push_it_out_twice():
    z = drawn().repeat(2, 1)
    task = Shrinking(Collection("copies", z, key="copies"))
    ids = shrinking.nearest(Way("whole"), task, [D], ["float32"])["float32", D][0]
    assert not (ids == task.own[:, None]).any()
    assert torch.equal(ids[:, 0] % N, task.own % N)


@pytest.mark.parametrize(
    ("form", "m", "expected"), [("float32", 12, 48), ("int8", 12, 12), ("binary", 12, 2), ("signs", 16, 2)]
)
def test_bytes_of_a_way(form, m, expected):
    assert Way("prefix").bytes(m, form) == expected


def test_the_ways_are_what_they_are_called():
    task = task_of()
    z = task.sample
    assert torch.equal(Prefix().way(task, 0).project(z, 5), z[:, :5])
    some = RandomDims().way(task, 3).project(z, 5)
    assert all(any(torch.equal(column, other) for other in z.T) for column in some.T)
    rotated = Rotation().way(task, 0).project(z, D)
    assert torch.allclose(rotated @ rotated.T, z @ z.T, atol=1e-5)
    centred = Rotation(centre=True).way(task, 0).project(z, D)
    assert torch.allclose(centred.mean(0), torch.zeros(D), atol=1e-5)


def test_an_adaptor_and_sparse_codes_are_asked_like_every_way():
    task, recipe = task_of(), Recipe(steps=5, lr=1e-3, batch=32, weight_decay=0.0)
    for how, sizes in ((Learnt(Nested((4, 8), hidden=8), recipe), [4, 8]), (Learnt(Sparsely(4), recipe), [4])):
        found = shrinking.by_question(how, task, sizes, ["float32", "int8"], 0)
        assert {f"{form} {m}" for form in ("float32", "int8", "reranked") for m in sizes} <= set(found)
        assert all(0 <= q.mean() <= 1 for key, q in found.items() if q.ndim)
    codes = Learnt(Sparsely(4), recipe).way(task, 0)
    assert ((codes.rows(task.sample, [4])[4] > 0).sum(1) <= 4).all()
    assert (codes.bytes(4, "float32"), codes.bytes(4, "int8")) == (24, 12)


def test_an_adaptor_may_learn_from_judged_queries_that_are_not_asked():
    known = {"lessons": torch.tensor([[0, 5, 1], [1, 7, 2]]), "learners": drawn(2, seed=4)}
    task = task_of(queries=drawn(8, seed=1), judged=JUDGED, **known)
    rows = Nested((4,), judged=True).rows(task)
    z, queries, documents, grades = rows[torch.arange(4)]
    assert torch.allclose(queries[1], normalize(known["learners"][1], dim=0))
    assert torch.allclose(documents[1], normalize(task.collection.documents[7], dim=0))
    assert grades.tolist() == [1, 2, 1, 2]
    assert "ranked" in Nested((4,), judged=True).build(task, 0)(z, queries, documents, grades)[1]


# ------------------------------------------------------------------------------------------------ what is answered


@pytest.mark.parametrize(
    ("documents", "queries", "left"),
    [
        (50_000, None, (1_000, 5)),  # half of what may be compared
        (100_000, None, (1_000, 5)),  # just that
        (250_000, None, (1_000, 2)),  # seeds go first
        (1_000_000, None, (500, 1)),  # then questions
        (9_000_000, None, (choosing.LEAST, 1)),
        (1_000_000, 40, (40, 5)),  # no more than there are
        (9_000_000, 40, (40, 1)),
    ],
)
def test_a_large_collection_is_asked_by_fewer_seeds_then_fewer_questions(documents, queries, left):
    one = torch.zeros(1, 4)
    asked = None if queries is None else one.expand(queries, -1)
    collection = Collection("large", one.expand(documents, -1), key=0, queries=asked)
    assert choosing.affordable(collection, 1_000, 5, 5 * 10**8) == left


def test_the_walk_ends_at_the_first_size_that_does_not_hold():
    whole = torch.ones(200)
    bad = whole.clone()
    bad[:80] = 0
    sizes = {32: whole.clone(), 16: bad, 8: whole.clone()}
    sizes[32][:2] = 0
    row = choosing.walked(sizes, whole, tolerance=10.0)
    assert (row["dim"], row["next"]) == (32, 16)
    assert row["loses"] == pytest.approx(1.0)
    assert row["held out"] == pytest.approx(1.0)
    assert row["next loses"] == pytest.approx(40.0)


def test_more_questions_are_asked_for_where_they_would_tell():
    whole, cut = torch.ones(40), torch.ones(40)
    cut[:5] = 0
    row = choosing.walked({8: cut}, whole, tolerance=10.0)
    lost = 100 * (whole - cut)[::2]
    needed = (1.96 * lost.std().item() / abs(10 - lost.mean().item())) ** 2
    assert row["dim"] is None
    assert 0 <= row["questions more"] - (needed - 20) < 1 or (needed <= 20 and row["questions more"] == 0)


def answers(tolerance, spoilt=0):
    whole = torch.ones(400)
    cut = whole.clone()
    cut[1::2][:spoilt] = 0
    found = {("prefix", "int8", 8): cut, ("prefix", "float32", D): whole}
    table = choosing.choices(found, whole, {"prefix": Way("prefix")}, tolerance)
    return choosing.recommend(table, D, "ndcg@10", tolerance, len(whole))


def test_a_recommendation_is_the_fewest_bytes_that_hold_and_can_be_written():
    found = json.loads(json.dumps(answers(1.0)))
    assert found["recommended"]["dim"] == 8
    assert found["sentence"] == (
        "Keep 8 of 16 numbers by prefix, as int8: 8 bytes a vector in the place of 64 (8 times fewer). On the "
        "questions that chose, it loses 0.0 points of nDCG@10 (at most 0.0); on those held out 0.0 [0.0, 0.0]."
    )


def test_a_loss_below_0_is_told_as_a_gain():
    whole, cut = torch.zeros(400), torch.tensor([1.0, 1, 0, 0]).repeat(100)
    table = choosing.choices({("prefix", "int8", 8): cut}, whole, {"prefix": Way("prefix")}, 1.0)
    said = choosing.recommend(table, D, "ndcg@10", 1.0, 400)["sentence"]
    assert "it loses −50.0 points of nDCG@10" in said
    assert said.endswith("; a loss below 0 is a gain.")
    assert list(table.columns) == choosing.COLUMNS


def test_what_does_not_hold_on_held_out_questions_is_not_recommended():
    found = answers(1.0, spoilt=40)
    assert found["recommended"] is None
    assert "none on those held out" in found["sentence"]


def lost_on(wrong, questions=400):
    """The recommendation where a cut is wrong on some of the choosing questions, beside one that is always wrong."""
    whole = torch.ones(questions)
    cut = whole.clone()
    cut[choosing.halves(questions)[0][:wrong]] = 0
    found = {("prefix", "float32", 8): cut, ("prefix", "int8", 8): torch.zeros(questions)}
    table = choosing.choices(found, whole, {"prefix": Way("prefix")}, 1.0)
    return choosing.recommend(table, D, "ndcg@10", 1.0, questions)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (1, " About 569 more choosing questions would settle the nearest size."),  # (1.96 x 7.07 / 0.5)^2 - 200
        (2, ""),  # exactly the tolerance: a million would not tell
        (100, " More questions would not change that: each size that was tried surely loses more."),
    ],
)
def test_nothing_is_recommended_where_nothing_holds_and_it_says_whether_more_questions_would_tell(wrong, says):
    found = lost_on(wrong)
    assert found["recommended"] is None
    nothing = "Nothing is recommended: no smaller vector stays within 1 point of nDCG@10."
    assert found["sentence"] == nothing + says


@pytest.mark.parametrize(("scale", "verdict"), [(None, choosing.NOT), (torch.linspace(1, 0.02, D), choosing.NESTED)])
def test_vectors_are_nested_if_their_first_numbers_say_more_than_random_ones(scale, verdict):
    task = Shrinking(Collection("drawn", drawn(300, scale=scale), key=str(scale)))
    sizes = [2, 4, 8]
    ask = lambda how, seed: {  # noqa: E731
        m: task.quality(ids)
        for (_, m), (ids, _) in shrinking.nearest(how.way(task, seed), task, sizes, ["float32"]).items()
    }
    whole = torch.ones(300)
    drawn_dims = [ask(RandomDims(), seed) for seed in range(5)]
    table = choosing.nesting(whole, ask(Prefix(), 0), drawn_dims, ask(Rotation(), 0))
    found, said = choosing.nested_verdict(table, tolerance=5.0)
    assert found == verdict
    assert "matryoshka_dimensions" in said or "no size smaller" in said


def test_encoding_is_keyed_by_the_texts():
    one, other = Texts(("0",), ("a",)), Texts(("0",), ("b",))
    assert one.key != other.key
    assert one.key == Texts(("7",), ("a",)).key


def test_what_was_computed_once_is_no_part_of_what_a_task_holds():
    task = task_of()
    before = dict(vars(task))
    assert task.sample is task.sample
    assert (task.axes.shape, len(task.who), len(task.questions)) == ((D, D), N, N)
    assert vars(task) == before


def test_one_question_is_shown_before_and_after_it_is_reranked():
    task = task_of(texts=[f"text {i}" for i in range(N)])
    found = shrinking.before_and_after(Way("prefix"), task, 3, m=2, k=4)
    whole = [f"text {row}" for row in task.whole[3, :4].tolist()]
    assert [text for text, _, _ in found["reranked by the whole"]] == whole
    assert all(right for _, _, right in found["reranked by the whole"])
    assert len(found["2 numbers"]) == 4
