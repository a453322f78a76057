"""Sentence studies: pre-training under controls, a model adapted and scored everywhere, what steps take."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from small_texts import PAIRS as SPLIT
from small_texts import TEXTS, encoder, stand_in

from mrl_lab import cost, lab, score, verdicts
from mrl_lab.claims.sentences import METRIC
from mrl_lab.claims.starbucks import AGAIN, BEST_WHOLE, at, claims
from mrl_lab.data import places, texts
from mrl_lab.errors import RequestError
from mrl_lab.lab import Recipe
from mrl_lab.study.sentences import adapting, costs, pretraining, tests
from mrl_lab.study.sentences import task as tasks
from mrl_lab.study.sentences.adapting import Adapted
from mrl_lab.study.sentences.objectives import METHODS, Objective, named
from mrl_lab.study.sentences.pretraining import WAYS, Pretraining
from mrl_lab.study.sentences.task import Sentences

TESTED = (tests.STSB, tests.SNLI, tests.SICK)
HOW = {"layers": 2, "d": 32, "triplets": 36, "words": 60, "tests": TESTED}
TASK, HEAVY = Sentences(**HOW), Adapted(**HOW, sets=(*TESTED, "said"))
RECIPE = Recipe(steps=2, batch=4, lr=1e-3, clip=1.0)
STARTS = {"nothing": None} | {way: Pretraining(way, RECIPE) for way in WAYS}


@pytest.fixture(autouse=True)
def small_texts(monkeypatch, tmp_path):
    """SNLI is 36 rows, each test 12 pairs; results are kept in a folder of the test's own."""
    stand_in(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(adapting, "SHOWN", 10)


@pytest.fixture
def trainings(monkeypatch):
    """What was trained."""
    calls, fit = [], lab.fit
    monkeypatch.setattr(lab, "fit", lambda *args, **how: calls.append(how) or fit(*args, **how))
    return calls


# -------------------------------------------------------------------------------------------- starts


def test_a_task_knows_its_pairs_and_widths(monkeypatch):
    assert [(c.layer, c.dim) for c in Sentences().pairs] == [(1, 8), (2, 16), (3, 32), (4, 64)]
    assert Sentences().sizes == (4, 8, 16, 32, 64)
    monkeypatch.setattr(tasks, "opened", lambda _: (SimpleNamespace(layers=6, d=384), "of these weights"))
    assert Sentences.of(tasks.MINILM).sizes == (8, 16, 32, 64, 128, 256, 384)
    assert Sentences.of("") == Sentences()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Pretraining("SMEA", RECIPE), "Did you mean 'SMAE'"),
        (lambda: Sentences(also=("multi30",)), "multi30k"),
    ],
)
def test_what_is_not_known_is_said_before_any_work(make, said):
    with pytest.raises(RequestError, match=said):
        make()


def test_every_start_begins_with_the_weights_that_nothing_is_left_with():
    first = TASK.encoder(0).body.state_dict()
    for way in WAYS:
        model = lab.built(STARTS[way], TASK, 0).model
        assert all(torch.equal(weight, first[name]) for name, weight in model.bert.state_dict().items())
        words = model.bert.embeddings.word_embeddings.weight
        assert model.cls.predictions.decoder.weight is words, "the head is tied to the encoder's own words"


def test_ways_differ_in_what_they_learn_and_where():
    rows = STARTS["SMAE"].rows(TASK)[torch.arange(6)]
    parts = {way: list(lab.built(STARTS[way], TASK, 0)(*rows)[1]) for way in WAYS}
    assert parts["MLM"] == ["mlm 2x32"]
    assert parts["MAE"] == ["mlm 2x32", "mae 2x32"]
    assert parts["SMAE"] == ["mlm 1x16", "mlm 2x32", "mae 1x16", "mae 2x32"]


def test_pre_training_moves_the_encoder_is_done_once_and_differs_by_way(trainings):
    found = [TASK.encoder(0).encode(TEXTS[:3])] + [STARTS[way].read(TASK, 0).encode(TEXTS[:3]) for way in WAYS]
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
    count = len(trainings)
    lab.sweep({"after": Objective("Starbucks", start=STARTS["SMAE"])}, TASK, replace(RECIPE, lr=0.1, steps=1), [0])
    assert len(trainings) == count + 1, "how it is fine-tuned does not matter"


def test_sentences_that_a_test_has_are_left_out(monkeypatch):
    monkeypatch.setattr(texts, "triplets", lambda learns: [("a", "b", "c"), ("a", TEXTS[0], "d"), ("e", "f", "g")])
    split = texts.Pairs(["s", "b"], ["t", "t"], [1.0, 2.0])
    monkeypatch.setattr(texts, "pairs", lambda name: {"train": split, "dev": SPLIT, "test": SPLIT})
    kept, left_out = pretraining.sentences(2, (), TESTED)
    assert kept == ["a", "b", "c", "d", "s", "t"]
    assert left_out == 1
    assert pretraining.sentences(2, (), (tests.SNLI,)) == (kept[:4], 1), "no STS-B, none of its sentences"
    monkeypatch.setattr(texts, "captions", lambda: {"train": [("a", TEXTS[0], "k")], "test": [("l",)]})
    monkeypatch.setattr(texts, "paragraphs", lambda: [("article", "w"), ("article", TEXTS[4])])
    assert pretraining.sentences(2, ("multi30k", "wiki100"), TESTED) == ([*kept, "k", "w"], 2)
    pretraining.sentences.cache_clear()


@pytest.mark.parametrize("task", [TASK, HEAVY], ids=["light", "heavy"])
def test_a_rate_is_tried_on_each_seed_and_averaged_over_the_list_or_at_a_separate_models_own_pair(task):
    methods = {"plain": Objective("plain"), "separate": Objective("separate", (1, 16))}
    tuned = lab.tune(methods, task, RECIPE, lr=[1e-3, 5e-2], seeds=[0, 1])
    assert sorted(zip(tuned.method, tuned.lr, strict=True)) == [(m, lr) for m in methods for lr in (1e-3, 5e-2)]
    for row in tuned.itertuples():
        models = [lab.trained(methods[row.method], TASK, replace(RECIPE, lr=row.lr), seed).encoder for seed in (0, 1)]
        grid = sum(TASK.grid(model, tests.STSB, "dev")[0] for model in models) / 2
        if row.method == "plain":
            assert row.validation == pytest.approx(TASK.on_list(grid).mean().item())
            assert row.whole == pytest.approx(grid[2, -1].item())
        else:
            assert row.validation == pytest.approx(grid[1, TASK.sizes.index(16)].item())
            assert np.isnan(row.whole)
    assert set(lab.best(tuned, RECIPE, by="validation")) == set(methods)


# ------------------------------------------------------------------------------------------- adapting


def test_a_model_made_elsewhere_is_opened_once_and_never_changed(monkeypatch):
    made = encoder(layers=6, d=384)
    monkeypatch.setattr(tasks, "opened", lambda _: (made, "of these weights"))
    task = Adapted.of("mine", triplets=36)
    before = copy.deepcopy(made.state_dict())
    lab.learn(Objective("Starbucks"), task, replace(RECIPE, steps=1), 0)
    assert all(torch.equal(weight, before[name]) for name, weight in made.state_dict().items())
    with pytest.raises(RequestError, match="6 layers of 384 dims"):
        replace(task, layers=4).encoder(0)


def test_a_folder_of_ones_own_is_adapted_and_results_are_of_its_weights(tmp_path):
    def saved(seed):
        model = encoder(layers=2, d=32, seed=seed)
        model.body.save_pretrained(tmp_path / "mine")
        model.tokenizer.save_pretrained(tmp_path / "mine")
        tasks.opened.cache_clear()
        return Adapted.of(str(tmp_path / "mine"), triplets=36, sets=("said",)), model

    (first, model), (second, _) = saved(0), saved(1)
    assert (first.layers, first.d, first.weights == second.weights) == (2, 32, False)
    assert first == saved(0)[0]
    assert torch.equal(first.encoder(0).encode(TEXTS), model.encode(TEXTS))
    assert torch.equal(lab.outcome(Objective("plain"), first, None, 0)["said"], model.encode(first.said()))
    with pytest.raises(RequestError, match="not those that this run began with"):
        second.encoder(0)  # its folder holds the first one's again
    (record,) = tasks.provenance(first.backbone)
    assert (record["name"], record["sha256"], str(tmp_path) in str(record)) == ("mine", first.weights, False)
    assert tasks.provenance("") == []
    with pytest.raises(RequestError, match="no pretrained text encoder at"):
        Adapted.of(str(tmp_path))


def test_a_backbone_reads_first_with_the_head_of_its_own_file(tmp_path, capsys):
    from transformers import BertForMaskedLM, DistilBertConfig, DistilBertModel

    made, folder = encoder(layers=2, d=32), tmp_path / "mine"
    whole = BertForMaskedLM(made.body.config)
    whole.bert.load_state_dict(made.body.state_dict(), strict=False)
    torch.nn.init.normal_(whole.cls.predictions.transform.dense.weight)
    whole.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    task = Sentences.of(str(folder), triplets=36, tests=TESTED)
    begun = Pretraining("SMAE", RECIPE).build(task, 0).model
    ours, theirs = begun.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "drawn" not in capsys.readouterr().out
    read = Pretraining("SMAE", RECIPE).read(task, 0)
    weight = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(read.body.state_dict()[weight], made.body.state_dict()[weight])
    last = lab.sweep({"after": Objective("Starbucks", start=STARTS["SMAE"])}, task, RECIPE, [0])
    assert set(last.layer) == {1, 2}
    made.body.save_pretrained(tmp_path / "headless")
    made.tokenizer.save_pretrained(tmp_path / "headless")
    Pretraining("MLM", RECIPE).build(Sentences.of(str(tmp_path / "headless"), triplets=36), 0)
    assert "headless has no head that guesses words: it is drawn at random" in capsys.readouterr().out
    small = {"vocab_size": len(made.tokenizer), "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
    DistilBertModel(DistilBertConfig(**small)).save_pretrained(tmp_path / "other")
    made.tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(RequestError, match="is a DistilBertModel: pre-training here slices the head of a BERT"):
        Pretraining("MLM", RECIPE).build(Sentences.of(str(tmp_path / "other"), triplets=36), 0)


def test_what_is_kept_of_a_heavy_model_is_what_each_set_says_and_no_weight(trainings, monkeypatch):
    found = lab.outcome(Objective("plain"), HEAVY, RECIPE, 0)
    assert found["cosines of STS-B spearman"].shape == (12, 2)
    assert found["said"].shape == (10, 3, 32)
    assert not [name for name in found if "weight" in name]
    rows = lab.sweep(named("plain"), HEAVY, RECIPE, [0])
    assert set(rows.metric) == {f"{test} spearman" for test in ("STS-B dev", *TESTED)}
    assert len(rows) == 4 * 2 * len(HEAVY.sizes)
    assert set(rows.n) == {12}
    expected = 100 * spearmanr(found["cosines of STS-B spearman"][:, 0], SPLIT.score).statistic
    first = rows[(rows.metric == METRIC) & (rows.layer == 1) & (rows.dim == 16)]
    assert first.value.item() == pytest.approx(expected, abs=1e-4)
    lab.tune(named("plain"), HEAVY, RECIPE, lr=[RECIPE.lr])
    assert len(trainings) == 1, "tuned, swept and looked into, and trained once"
    lab.sweep(named("plain"), replace(HEAVY, sets=()), RECIPE, [0])
    assert len(trainings) == 2, "what else is asked needs the weights again"


def test_what_is_not_trained_is_the_start_and_training_moves_it():
    untouched, plain = (lab.outcome(Objective("plain"), HEAVY, how, 0)["said"] for how in (None, RECIPE))
    assert torch.equal(untouched, TASK.encoder(0).encode(HEAVY.said()))
    assert not torch.equal(untouched, plain)
    swept = lab.sweep(named("plain"), TASK, {"plain": None}, [0])
    grid, _ = TASK.grid(TASK.encoder(0), tests.STSB)
    assert swept[swept.metric == METRIC].value.tolist() == grid[1:].flatten().tolist()


@pytest.mark.parametrize("task", [TASK, HEAVY], ids=["light", "heavy"])
def test_a_separate_model_is_scored_at_its_own_cut_alone(task):
    rows = lab.sweep({"separate": Objective("separate", (1, 16))}, replace(task, tests=(tests.STSB,)), RECIPE, [0])
    assert set(zip(rows.layer, rows.dim, strict=True)) == {(1, 16)}


@pytest.mark.parametrize("task", [TASK, HEAVY], ids=["light", "heavy"])
def test_results_are_of_the_files_that_were_read(task, trainings, monkeypatch):
    for version, count in (("one", 1), ("one", 1), ("two", 2)):
        monkeypatch.setattr(places, "ensure", lambda name, version=version: SimpleNamespace(key={name: version}))
        lab.asked(Objective("plain"), task, RECIPE, 0)
        assert len(trainings) == count, version


def test_semeval_is_a_correlation_a_year_and_a_collection_a_value_a_pair(monkeypatch):
    years = {"2012 a": SPLIT, "2012 b": SPLIT} | {f"20{year} a": SPLIT for year in range(13, 17)}
    monkeypatch.setattr(texts, "pairs", lambda name: years if name == "sts12-16" else {"dev": SPLIT, "test": SPLIT})
    corpus = {str(i): text for i, text in enumerate(TEXTS)}
    asked = texts.Retrieval(corpus, {"q": TEXTS[4], "r": TEXTS[9]}, {"test": {"q": {"4": 1}, "r": {"9": 1}}})
    monkeypatch.setattr(texts, "retrieval", lambda name: asked)
    rows = lab.asked(Objective("plain"), replace(HEAVY, sets=("STS12-16", "SciFact", "Cranfield")), None, 0)
    assert {m: set(part.n) for m, part in rows.groupby("metric")} == {
        "STS12 spearman": {24}, **{f"STS{year} spearman": {12} for year in range(13, 17)},
        "SciFact ndcg@10": {2}, "SciFact mrr@10": {2},
        "Cranfield ndcg@10": {2}, "Cranfield mrr@10": {2}, "STS-B dev spearman": {12},
    }  # fmt: skip
    searched = rows[rows.metric == "SciFact mrr@10"]
    assert list(zip(searched.layer, searched.dim, searched.value, strict=True)) == [(1, 16, 100), (2, 32, 100)]


def test_for_search_it_learns_from_queries_and_rates_are_chosen_on_others(monkeypatch):
    answers = {f"t{i}": {str(i): 1} for i in range(8)}
    queries = {f"t{i}": TEXTS[i][::-1] for i in range(8)} | {"q": TEXTS[9]}
    corpus = {str(i): text for i, text in enumerate(TEXTS)}
    whole = texts.Retrieval(corpus, queries, {"train": answers, "test": {"q": {"9": 1, "4": 1}}})
    monkeypatch.setattr(texts, "retrieval", lambda name: whole)
    monkeypatch.setattr(texts, "triplets", {"snli": [], "scifact": list(zip(*3 * [iter(TEXTS)], strict=False))}.get)
    task = adapting.Searching(layers=2, d=32, triplets=6, words=60, sets=("SciFact by dot",))
    both, one = named("plain, dot", "Starbucks, dot"), Objective("Starbucks, dot")
    found = lab.outcome(one, task, RECIPE, 0)
    encoder = lab.trained(one, Sentences(layers=2, d=32, triplets=6, words=60, length=96, learns="scifact"), RECIPE, 0)
    for place, cut in enumerate(task.pairs):
        z, asked = (encoder.encoder.encode(some)[:, cut.layer, : cut.dim] for some in (TEXTS, [queries["t4"]]))
        rank = (z @ asked[0]).argsort(descending=True).tolist().index(4)
        by_hand = 100 / np.log2(2 + rank) if rank < 10 else 0.0  # nDCG@10 of one answer, by the raw product
        assert found["queries of SciFact dev by dot ndcg@10"][1, place] == pytest.approx(by_hand, abs=1e-4)
    assert lab.tune(both, task, RECIPE, lr=[1e-3]).validation.notna().all()
    rows = lab.sweep(both, task, RECIPE, [0])
    rows = rows[rows.metric == "SciFact by dot ndcg@10"]
    assert set(zip(rows.layer, rows.dim, rows.n, strict=True)) == {(1, 16, 1), (2, 32, 1)}


def test_the_bootstrap_over_pairs_is_of_mean_correlations(monkeypatch):
    draw = np.random.default_rng(0)
    gold = draw.integers(6, size=200).astype(float)
    good, bad = (torch.tensor(gold[:, None] + noise * draw.normal(size=(200, 2))) for noise in (1.0, 4.0))
    items = np.column_stack([good, gold])
    by_hand = np.mean([100 * spearmanr(column, gold).statistic for column in good.T.numpy()])
    assert score.mean_spearman(items) == pytest.approx(by_hand)
    test = texts.Pairs([""] * 200, [""] * 200, gold.tolist())
    monkeypatch.setattr(texts, "pairs", lambda name: {"test": test})
    well, badly = ({f"cosines of {METRIC}": side} for side in (good, bad))
    found = adapting.over_pairs(well, badly, [0, 1], tests.STSB)
    assert 10 < found.low < found.mean < found.high < 100
    assert found.mean == pytest.approx(by_hand - score.mean_spearman(np.column_stack([bad, gold])))
    assert adapting.over_pairs(well, well, [1], tests.STSB).mean == 0


def test_the_bootstrap_over_queries_is_of_the_collection_that_was_asked_for():
    of = {"queries of SciFact ndcg@10": torch.tensor([[80.0, 60.0, 0.0], [70.0, 50.0, 0.0]])}  # (Q, |S|)
    minus = {"queries of SciFact ndcg@10": torch.tensor([[50.0, 40.0, 90.0], [60.0, 50.0, 90.0]])}
    of["queries of Cranfield ndcg@10"] = minus["queries of Cranfield ndcg@10"] = torch.ones(3, 3)
    found = adapting.over_queries(of, minus, [0, 1], "SciFact")
    assert (found.mean, found.low, found.high, found.n) == (15, 5, 25, 2)
    assert adapting.over_queries(of, minus, [0, 1], "Cranfield").mean == 0


# ---------------------------------------------------------------------------------------------- costs


def test_multiply_adds_are_those_of_the_blocks_matrices():
    config = encoder(layers=3).body.config
    d, wide, tokens = 32, 128, 5
    assert cost.multiply_adds(config, 2, tokens) == 2 * (
        tokens * (4 * d * d + d * wide + wide * d)  # every token through six matrices
        + tokens * tokens * d * 2  # queries with keys, weights with values
    )


def test_steps_of_all_methods_are_timed_in_turn_each_on_the_rows_it_learns_from():
    separate = [Objective("separate", (1, 16)), Objective("separate", (2, 32))]
    found = costs.steps({"plain": Objective("plain"), "separate": separate, "SMAE": STARTS["SMAE"]}, TASK, RECIPE, 2)
    counts = found.groupby(["method", "dim"], dropna=False)["value"].count()
    assert {(m, None if np.isnan(dim) else dim): n for (m, dim), n in counts.items()} == {
        ("plain", None): 2, ("separate", 16): 2, ("separate", 32): 2, ("SMAE", None): 2,
    }  # fmt: skip
    assert (found.value > 0).all()
    assert set(found.metric) == {"seconds a step"}


# --------------------------------------------------------------------------------------------- claims

PAIRS, SMALL = [(1, 16), (2, 32), (3, 64), (4, 128)], [(1, 8), (2, 16), (3, 32), (4, 64)]
SIZES = (8, 16, 32, 64, 128)


def table(better, ratio):
    """All cells the claims ask for, three seeds: 50, and what ``better`` says of a method, with a little noise."""
    rows = []
    named = [
        *METHODS,
        BEST_WHOLE,
        "separate",
        *(at(method, lr) for method in ("plain", "2DMSE", "Starbucks", "random pairs") for lr in (3e-4, 1e-3)),
        *(f"Starbucks after {start}" for start in (*STARTS, "MLM for longer")),
    ]
    for seed in range(3):
        for place, method in enumerate(named):
            for n in range(1, 5):
                values = {m: 50 + better.get(method, 0.0) + 0.01 * seed * (place + n) for m in SIZES}
                how = {"method": method, "metric": METRIC, "seed": seed, "n": 9}
                rows += [row | {"layer": n} for row in score.tidy(values, **how)]
        for n in range(1, 5):
            fast = {"metric": "speed-up over N / n", "value": 0.9 + 0.01 * seed + 0.001 * n}
            rows.append({"method": "2DMSE", "seed": seed, "layer": n, "n": 9} | fast)
        timed = {"metric": "training time over all separate", "value": ratio + 0.001 * seed}
        rows.append({"method": "Starbucks", "seed": seed} | timed)
    return score.table(rows)


def test_verdicts_follow_the_table():
    asked = claims(4, SIZES, PAIRS, SMALL)
    assert {"S1", "S2", "C10", "C10a", "C10b", "C13", *AGAIN} == {claim.id for claim in asked}
    better = {"Starbucks": 9.0, "separate": 9.5, "2DMSE": 5.0, "Starbucks after SMAE": 2.0}
    better |= {"Starbucks after MLM": 1.0, "Starbucks after MLM for longer": 1.0, "2DMSE, no KL": 4.0}
    shown = verdicts.judge(asked, table(better, 0.44), "hour").set_index("id").verdict
    assert (shown[["S1", "S2", "C1", "C6", "C7", "C8", "C10", "C10a", "C10b", "C13"]] == "shown").all()
    worse = {"Starbucks": -3.0, "Starbucks after MLM": 3.0, "Starbucks after MLM for longer": 3.0}
    not_shown = verdicts.judge(asked, table(worse, 0.9), "hour").set_index("id").verdict
    assert (not_shown[["S1", "S2", "C6", "C7", "C8", "C10", "C10a", "C10b", "C13"]] == "contradicted").all()


CHOSEN = {"plain": 1e-3, BEST_WHOLE: 3e-4, "2DMSE": 3e-4, "Starbucks": 1e-3, "random pairs": 1e-3}


def test_a_comparison_is_asked_again_at_each_equal_rate_that_it_is_not_already_made_at():
    names = {
        claim.id: [claim.what.name, *(c.name for c in claim.sides if "both at" in c.name)]
        for claim in claims(4, SIZES, PAIRS, SMALL, CHOSEN)
    }
    assert names["C7"] == [
        "Starbucks − random pairs, mean of pairs",  # both at 0.001 as they are
        "Starbucks − random pairs, mean of pairs, both at 0.0003",
    ]
    assert [name.removeprefix("Starbucks − 2DMSE, mean of pairs") for name in names["C6"]] == [
        "", ", both at 0.0003", ", both at 0.001"
    ]  # fmt: skip
    assert len(names["S2"]) == 3
    assert len(names["C2"]) == 2, "2DMSE and plain's best whole have one rate"
    for alone in ("C5", "C8", "C3", "C12", "C14"):
        assert len(names[alone]) == 1


def test_what_holds_at_each_ones_own_rate_only_is_told_beside_the_verdict():
    better = {"Starbucks": 9.0, at("Starbucks", 3e-4): 9.0, "plain": 1.0}
    asked = [claim for claim in claims(4, SIZES, PAIRS, SMALL, CHOSEN) if claim.id == "C6"]
    found = verdicts.detail(asked, table(better, 0.4), "hour").set_index("condition").verdict
    assert found["Starbucks − 2DMSE, mean of pairs"] == "shown"
    assert found["Starbucks − 2DMSE, mean of pairs, both at 0.0003"] == "shown"
    assert found["Starbucks − 2DMSE, mean of pairs, both at 0.001"] == "contradicted"


def test_each_control_of_smae_has_a_verdict_of_its_own():
    asked = claims(4, SIZES, PAIRS, SMALL)
    better = {"Starbucks after SMAE": 2.0, "Starbucks after MAE": 2.0, "Starbucks after MLM for longer": 2.0}
    found = verdicts.detail(asked, table(better, 0.4), "hour").set_index("condition").verdict
    told = {other: found[f"SMAE − {other}, mean of the three smallest pairs"] for other in STARTS if other != "SMAE"}
    assert told == {"nothing": "shown", "MLM": "shown", "MAE": "contradicted"}
    assert found["SMAE − MLM for longer, mean of the three smallest pairs"] == "contradicted"
