"""Triplets of one's own: read or refused by name, learnt from by the tested losses, and what comes out is one's own."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from small_notebooks import setting
from small_texts import ROWS, TEXTS, beir
from test_encoders_elsewhere import PROMPTS, saved
from torch.nn.functional import cross_entropy, normalize

from mrl_lab import lab, stats
from mrl_lab.data import triplets
from mrl_lab.errors import RequestError
from mrl_lab.lab import Recipe
from mrl_lab.methods.mse2d import MSE2D
from mrl_lab.methods.starbucks import SRL
from mrl_lab.report import needs, notebooks
from mrl_lab.study import choosing, leaving, nesting
from mrl_lab.study.sentences import task as tasks
from mrl_lab.study.sentences.objectives import Objective
from mrl_lab.study.shrinking import Shrinking, nearest
from mrl_lab.study.vectors import Way, opened

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "08_your_embeddings.ipynb"
COLUMNS = ["anchor", "positive", "negative"]
RECIPE = Recipe(steps=3, batch=8, lr=1e-3, weight_decay=0.0, clip=1.0)
WRITERS = {
    ".tsv": lambda table, path: table.to_csv(path, sep="\t", index=False),
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
    ".parquet": lambda table, path: table.to_parquet(path),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    for read in (tasks.opened, tasks.whole):
        read.cache_clear()


def written(folder, kind=".tsv", columns=3, **more):
    """A file of 36 rows."""
    table = pd.DataFrame([row[:columns] for row in ROWS], columns=COLUMNS[:columns]).assign(**more)
    WRITERS[kind](table, folder / f"mine{kind}")
    return folder / f"mine{kind}"


# ------------------------------------------------------------------------------------------------ what comes in


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("columns", [2, 3])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind, columns):
    found = triplets.read(written(tmp_path, kind, columns, source="mine"))
    assert found.rows == tuple(row[:columns] for row in ROWS)
    assert found.left_out == ("source",)


def test_cells_are_texts_as_they_are_written(tmp_path):
    rows = [("007", 'say "no', "NA")] * 20
    pd.DataFrame(rows, columns=["Query", "positive", "negative"]).to_csv(tmp_path / "mine.csv", index=False)
    assert triplets.read(tmp_path / "mine.csv").rows == tuple(rows)
    (tmp_path / "mine.tsv").write_text("anchor\tpositive\n" + '"a\tb"\n' * 20)
    assert triplets.read(tmp_path / "mine.tsv").rows == (('"a', 'b"'),) * 20


def bad(folder, kind):
    """Write a file that cannot be used."""
    path, rows = folder / "mine.csv", pd.DataFrame(ROWS, columns=COLUMNS)
    spoilt = {
        "no anchor": rows.drop(columns="anchor"),
        "no columns": rows.rename(columns=dict(zip(COLUMNS, "abc", strict=True))),
        "twice": rows.assign(query="x"),
        "no rows": rows[:0],
        "few": rows[:3],
        "an empty text": rows.assign(positive=["a"] * 20 + [" "] * 16),
        "a hole": rows.assign(negative=["a"] * 30 + [None] * 6),
    }
    if kind in spoilt:
        spoilt[kind].to_csv(path, index=False)
    if kind == "a number":
        path = folder / "mine.jsonl"
        path.write_text("".join(json.dumps({"anchor": i, "positive": "b"}) + "\n" for i in range(20)))
    if kind == "longer lines":
        path.write_text("anchor,positive\n" + "a,b,c\n" * 20)
    if kind == "another kind":
        path = folder / "mine.txt"
        path.write_text("a\n")
    if kind == "damaged":
        path = folder / "mine.parquet"
        path.write_bytes(b"PAR1 no")
    return path


BAD = {
    "no anchor": "mine.csv has no column anchor; it has positive, negative",
    "no columns": "no column anchor and no column positive; it has a, b, c",
    "twice": "the columns 'anchor' and 'query': keep the one",
    "no rows": "mine.csv has 0 rows: at least 16",
    "few": "has 3 rows: at least 16",
    "an empty text": "column 'positive', row 20, holds ' '",
    "a hole": "column 'negative', row 30, holds ''.*or the whole column",
    "a number": "column 'anchor', row 0, holds 0",
    "longer lines": "mine.csv cannot be read as .csv",
    "another kind": "files of triplets end in .parquet, .csv, .jsonl, .tsv",
    "damaged": "mine.parquet cannot be read as .parquet",
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_learnt_from_is_refused_by_name_before_a_run(tmp_path, kind):
    notebook, path = notebooks.read(NOTEBOOK), bad(tmp_path, kind)
    with pytest.raises(RequestError, match=BAD[kind]):
        needs.check_own(notebook, setting(notebook, triplets=str(path), model=str(saved(tmp_path))))


def test_triplets_go_with_a_model_of_one_s_own(tmp_path):
    notebook, path = notebooks.read(NOTEBOOK), str(written(tmp_path))
    needs.check_own(notebook, setting(notebook, triplets=path, model=str(saved(tmp_path)), nest_by="2dmse"))
    wrong = {
        "give model as well": {"triplets": path},
        "give triplets as well": {"nest_by": "starbucks"},
        "vectors are made already": {"triplets": path, "vectors": "z.npy"},
    }
    for words, given in wrong.items():
        with pytest.raises(RequestError, match=words):
            triplets.check({name: setting(notebook, **given)[name] for name in triplets.GIVEN})


# ------------------------------------------------------------------------------------------------ how it learns


def own(tmp_path, columns=3, **how):
    return nesting.Own.of(str(saved(tmp_path, **how)), file=str(written(tmp_path, columns=columns)), widths=(8, 16))


def slow_mrl(z, sizes):
    """InfoNCE at scale 20, the mean over the anchors of the batch, summed over sizes: z (B, C, d), no copies in it."""
    total = 0
    for m in sizes:
        asked, others = normalize(z[:, 0, :m], dim=-1), normalize(z[:, 1:, :m].flatten(0, 1), dim=-1)
        total += cross_entropy(20 * asked @ others.T, torch.arange(len(z)) * (z.shape[1] - 1))
    return total


@pytest.mark.parametrize("columns", [2, 3])
def test_the_losses_are_those_of_the_methods(tmp_path, columns):
    task = own(tmp_path, columns)
    batch = task.rows()[torch.arange(0, 20, 5)]
    found = {}
    for method, name in nesting.METHODS.items():
        torch.manual_seed(7)
        found[method] = Objective(name).build(task, 0).eval()(*batch)[0]
    encoder = task.encoder(0).eval()
    torch.manual_seed(7)
    assert found["2dmse"] == MSE2D(encoder, sizes=(8, 16))(*batch)[0]
    assert found["starbucks"] == SRL(encoder, [(1, 8), (2, 16), (3, 32)])(*batch)[0]
    assert found["mrl"] == SRL(encoder, [(3, 8), (3, 16), (3, 32)], weight=0.0)(*batch)[0]
    assert not batch[2].any(), "no copies"
    torch.testing.assert_close(found["mrl"], slow_mrl(encoder(*batch[:2])[:, :, -1], (8, 16, 32)))


def test_texts_stand_behind_the_prompt_of_their_side(tmp_path):
    task = own(tmp_path, prompts=PROMPTS)
    ids, attention, _ = task.rows()[torch.tensor([4])]
    sides = [PROMPTS["query"], PROMPTS["document"], PROMPTS["document"]]
    for row, seen, side, text in zip(ids[0], attention[0], sides, ROWS[4], strict=True):
        assert row[seen.bool()].tolist() == task.encoder(0).tokenizer(side + text)["input_ids"]


def test_what_is_learnt_depends_on_the_file_and_not_on_its_name(tmp_path):
    task = own(tmp_path)
    before = task.key
    Path(task.file).write_text(Path(task.file).read_text().replace("guitar", "park"))
    assert task.key != before


# ------------------------------------------------------------------------------------------------ what comes out


@pytest.fixture
def collection(tmp_path):
    return {"collection": str(beir(tmp_path / "collection"))}


@pytest.mark.parametrize("method", nesting.METHODS)
def test_the_trained_model_is_judged_cut_and_left_as_it_is(tmp_path, collection, method, monkeypatch):
    monkeypatch.setattr(tasks, "READ", 10)  # what a study reads of a text is not what the model reads
    task = own(tmp_path, behind=[Normalize()], prompts=PROMPTS, length=20)
    folder, history = nesting.learnt(task, method, RECIPE, tmp_path / "nested")
    module = lab.trained(Objective(nesting.METHODS[method]), task, RECIPE, 0)
    assert len(history) == 3
    assert not torch.allclose(module.encoder.vectors(TEXTS), task.encoder(0).vectors(TEXTS), atol=1e-4), "it learnt"
    peer = SentenceTransformer(str(folder), device="cpu")
    assert (peer.max_seq_length, dict(peer.prompts)) == (20, PROMPTS)
    theirs = torch.from_numpy(peer.encode_query(TEXTS))
    torch.testing.assert_close(theirs, module.encoder.vectors(TEXTS, side="query"), rtol=0, atol=1e-6)
    layer = 3 if method == "mrl" else 2
    kept = nesting.shallower(folder, layer, tmp_path / "nested")
    assert (kept == folder) == (method == "mrl")
    mine = opened(collection | {"model": str(kept)})  # what is judged from here on
    states = module.encoder.encode(TEXTS, side="document")[:, layer]
    torch.testing.assert_close(mine.documents, normalize(states, dim=1), rtol=0, atol=1e-6)
    scores = pd.DataFrame([("prefix, float32", 8, "ndcg@10", 50.0)], columns=["method", "dim", "metric", "value"])
    told = f"{nesting.METHODS[method]}, 3 steps"
    left = leaving.leave(mine, str(kept), Way("prefix"), {"dim": 8}, (4, 8), scores, tmp_path / "model", told)
    found = torch.from_numpy(SentenceTransformer(str(left), device="cpu").encode_document(TEXTS))
    torch.testing.assert_close(found, normalize(mine.documents[:, :8], dim=1), rtol=0, atol=1e-6)
    assert f"Trained for this cut: {told}." in (left / "README.md").read_text()


def test_a_cut_is_worth_what_a_model_of_so_many_blocks_is_worth(tmp_path, collection):
    task = own(tmp_path, behind=[Normalize()])
    given = collection | {"model": task.backbone}
    found = nesting.worth(given, task.cuts("starbucks"), None, 36, 100)
    assert list(found) == [(1, 8), (2, 16), (3, 32)]
    for (n, m), quality in found.items():
        folder = nesting.shallower(Path(task.backbone), n, tmp_path / "cut")
        asked = Shrinking(opened(given | {"model": str(folder)}), 100)
        ids = nearest(Way("prefix"), asked, [m], ["float32"])["float32", m][0]
        assert quality.tolist() == asked.quality(ids).tolist()
    assert task.cuts("mrl") == ((3, 8), (3, 16), (3, 32))


def test_where_nobody_judged_the_last_layer_s_own_neighbours_are_looked_for(tmp_path):
    (tmp_path / "mine.txt").write_text("\n".join(TEXTS))
    task = own(tmp_path)
    found = nesting.worth(
        {"texts": str(tmp_path / "mine.txt"), "model": task.backbone}, [(1, 8), (3, 32)], None, 36, 36
    )
    states = normalize(task.encoder(0).encode(TEXTS), dim=-1)
    near = lambda z: (z @ z.T).fill_diagonal_(-2).topk(10)[1]  # noqa: E731
    small, whole = near(normalize(states[:, 1, :8], dim=1)), near(states[:, 3])
    recall = (small[:, :, None] == whole[:, None]).any(1).double().mean()
    assert found[1, 8].mean().item() == pytest.approx(recall.item())
    assert found[3, 32].tolist() == [1.0] * 36


def test_a_model_with_a_module_for_its_last_layer_alone_is_refused(tmp_path):
    from test_encoders_elsewhere import dense

    with pytest.raises(RequestError, match="trained for the state of its last layer alone"):
        own(tmp_path, behind=[dense()])


def test_depth_goes_down_from_the_whole_as_long_as_the_loss_holds_against_the_model_as_it_came():
    whole, bad = torch.ones(100), torch.ones(100)
    bad[:60] = 0
    before = {(1, 8): bad, (2, 16): bad, (3, 32): whole}
    after = {(1, 8): whole, (2, 16): whole, (3, 32): whole}
    assert nesting.depth(before, after, 2.0) == 1
    assert nesting.depth(before, after | {(2, 16): bad}, 2.0) == 3, "nothing below what does not hold"
    assert nesting.depth(before, after | {(3, 32): bad}, 2.0) == 3, "nothing holds: the whole"
    table = nesting.gained(before, after).set_index("layer")
    assert table.loc[2, ["as it came", "fine-tuned", "gained"]].tolist() == pytest.approx([40, 100, 60])
    assert table.loc[2, "low"] < 60 < table.loc[2, "high"]


def test_questions_that_were_learnt_by_heart_are_counted(tmp_path, collection):
    task = own(tmp_path)
    asked = Shrinking(opened(collection | {"model": task.backbone}), 100)
    assert nesting.by_heart(task, asked) == "36 of 36 questions asked below stand among the triplets as anchors."


def test_what_a_way_has_over_another_is_the_bootstrap_of_the_mean_over_seeds():
    draw = torch.Generator().manual_seed(0)
    seeds = [{(way, "float32", 8): torch.rand(60, generator=draw) for way in ("a", "b")} for _ in range(3)]
    (row,) = choosing.gains(seeds, "a", "b", [8]).to_dict("records")
    sides = [100 * sum(one[way, "float32", 8].double() for one in seeds).numpy() / 3 for way in ("a", "b")]
    expected = stats.bootstrap(*sides)
    assert row == pytest.approx({"dim": 8, "a − b": expected.mean, "low": expected.low, "high": expected.high})
