"""Sentence studies: pre-training under controls, a model adapted and scored everywhere, what pairs cost."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from small_texts import ROWS, TEXTS, encoder

from mrl_lab import cost, score, stats
from mrl_lab.claims.sentences import METRIC
from mrl_lab.claims.starbucks import AGAIN, BEST_WHOLE, at, claims
from mrl_lab.data import texts
from mrl_lab.encoders.tokens import MaskedRows, TextRows
from mrl_lab.errors import RequestError
from mrl_lab.study.sentences import adapting, costs, models, pretraining, setups, tests

TESTED = (tests.STSB, tests.SNLI, tests.SICK)
SETUP = setups.Setup(layers=2, d=32, triplets=36, steps=2, batch=4, words=60, before=2, tests=TESTED)
SPLIT = texts.Pairs(TEXTS[:12], TEXTS[3:15], [float(i % 6) for i in range(12)])


@pytest.fixture(autouse=True)
def small_texts(monkeypatch, tmp_path):
    """SNLI is 36 rows, each test 12 pairs; results are kept in a folder of the test's own."""
    pieces = encoder().tokenizer
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(setups, "tokenizer", lambda *_: pieces)
    monkeypatch.setattr(setups, "rows", lambda _: TextRows(pieces, ROWS, leave_out_copies=True))
    monkeypatch.setattr(pretraining, "rows", lambda *_: MaskedRows(pieces, TEXTS))
    monkeypatch.setattr(texts, "pairs", lambda name: dict.fromkeys(("train", "dev", "test"), SPLIT))
    monkeypatch.setattr(adapting, "SHOWN", 10)


# -------------------------------------------------------------------------------------------- starts


def test_a_setup_knows_its_pairs_and_widths():
    assert [(c.layer, c.dim) for c in setups.Setup().pairs] == [(1, 8), (2, 16), (3, 32), (4, 64)]
    assert setups.Setup().sizes == (4, 8, 16, 32, 64)
    assert setups.elsewhere().sizes == (8, 16, 32, 64, 128, 256, 384)
    with pytest.raises(RequestError, match="Did you mean 'SMAE'"):
        setups.Setup(start="SMEA")


def test_every_start_begins_with_the_weights_that_nothing_is_left_with():
    first = setups.encoder(SETUP, 0).state_dict()
    for start in pretraining.WAYS:
        given = setups.encoder(SETUP, 0)
        model = pretraining.build(replace(SETUP, start=start), given, 0)
        assert all(torch.equal(weight, first[name]) for name, weight in given.state_dict().items())
        words = model.model.bert.embeddings.word_embeddings.weight
        assert words is given.body.embeddings.word_embeddings.weight
        assert model.model.cls.predictions.decoder.weight is words, "the head is tied to the encoder's own words"


def test_ways_differ_in_what_they_learn_and_where():
    parts = {}
    for start in pretraining.WAYS:
        model = pretraining.build(replace(SETUP, start=start), setups.encoder(SETUP, 0), 0)
        parts[start] = list(model(*pretraining.rows(SETUP)[torch.arange(6)])[1])
    assert parts["MLM"] == ["mlm 2x32"]
    assert parts["MAE"] == ["mlm 2x32", "mae 2x32"]
    assert parts["SMAE"] == ["mlm 1x16", "mlm 2x32", "mae 1x16", "mae 2x32"]


def test_pre_training_moves_the_encoder_is_kept_and_differs_by_way():
    first = setups.encoder(SETUP, 0).encode(TEXTS[:3])
    found = {start: pretraining.begin(replace(SETUP, start=start), 0).encode(TEXTS[:3]) for start in setups.STARTS[:4]}
    assert torch.equal(found["nothing"], first)
    everything = list(found.values())
    assert all(not torch.equal(a, b) for i, a in enumerate(everything) for b in everything[:i])
    again = pretraining.begin(replace(SETUP, start="SMAE", lr=9.0, steps=7), 0)
    assert torch.equal(again.encode(TEXTS[:3]), found["SMAE"]), "how it is fine-tuned does not matter"


def test_sentences_that_a_test_has_are_left_out(monkeypatch):
    monkeypatch.setattr(texts, "triplets", lambda: [("a", "b", "c"), ("a", TEXTS[0], "d"), ("e", "f", "g")])
    split = texts.Pairs(["s", "b"], ["t", "t"], [1.0, 2.0])
    parts = {"train": split, "dev": SPLIT, "test": SPLIT}
    monkeypatch.setattr(texts, "pairs", lambda name: parts)
    monkeypatch.setattr(pretraining, "_sentences", pretraining._sentences.__wrapped__)
    two = setups.Setup(triplets=2, tests=TESTED)
    kept, left_out = pretraining.sentences(two)
    assert kept == ["a", "b", "c", "d", "s", "t"]
    assert left_out == 1
    assert pretraining.sentences(setups.Setup(triplets=2)) == (kept[:4], 1), "no STS-B, none of its sentences"
    monkeypatch.setattr(texts, "captions", lambda: {"train": [("a", TEXTS[0], "k")], "test": [("l",)]})
    monkeypatch.setattr(texts, "paragraphs", lambda: [("article", "w"), ("article", TEXTS[4])])
    assert pretraining.sentences(replace(two, also=("multi30k", "wiki100"))) == ([*kept, "k", "w"], 2)
    with pytest.raises(RequestError, match="multi30k"):
        setups.Setup(also=("multi30",))


def test_a_rate_is_tried_on_each_seed_and_averaged():
    tuned = models.tune(["plain", "MRL"], SETUP, [1e-3, 5e-2], seeds=2)
    assert list(zip(tuned.method, tuned.lr, strict=True)) == [(m, lr) for m in ("plain", "MRL") for lr in (1e-3, 5e-2)]
    for row in tuned.itertuples():
        setup = replace(SETUP, lr=row.lr)
        grids_of = [models.grid(models.trained(row.method, setup, s), tests.STSB, "dev", setup)[0] for s in (0, 1)]
        means = [models.on_list(grid, setup).mean().item() for grid in grids_of]
        assert means[0] != means[1]
        assert row.validation == pytest.approx(sum(means) / 2)


def test_rates_of_both_stages_are_chosen_together():
    starts = {"nothing": SETUP, "longer": replace(SETUP, start="MLM", before=4)}
    tuned = models.tune_starts(starts, [1e-3, 2e-3], [1e-3])
    assert list(zip(tuned.start, tuned.before_lr, strict=True)) == [
        ("nothing", 1e-3),
        ("longer", 1e-3),
        ("longer", 2e-3),
    ]
    tuned["validation"] = [50.0, 60.0, 55.0]
    chosen = models.best_start(tuned, {name: replace(setup, steps=9) for name, setup in starts.items()})
    assert chosen["longer"] == replace(SETUP, start="MLM", before=4, steps=9, before_lr=1e-3, lr=1e-3)
    assert chosen["nothing"].start == "nothing"


def test_a_start_is_looked_at_before_it_is_fine_tuned():
    starts = {"nothing": SETUP, "MLM": replace(SETUP, start="MLM", lr=9.0)}
    table = models.untuned(starts, 0)
    for name, setup in starts.items():
        body = pretraining.begin(setup, 0).eval()
        x, y = (body.encode(side)[:, -1].double().numpy() for side in (SPLIT.sentence1, SPLIT.sentence2))
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        right = 100 * spearmanr([a @ b for a, b in zip(x, y, strict=True)], SPLIT.score).statistic
        unlike = np.mean([x[i] @ y[i - 1] for i in range(12)])
        assert table.loc[name].tolist() == pytest.approx([right, unlike], abs=1e-4)


# ------------------------------------------------------------------------------------------- adapting


def test_a_model_made_elsewhere_is_opened_once_and_never_changed(monkeypatch):
    made = encoder(layers=6, d=384)
    monkeypatch.setattr(setups, "_opened", lambda _: (made, "of these weights"))
    setup = setups.elsewhere(steps=1, batch=4)
    before = copy.deepcopy(made.state_dict())
    adapting.outcome("Starbucks", setup, 0, ["said"])
    assert all(torch.equal(weight, before[name]) for name, weight in made.state_dict().items())
    with pytest.raises(RequestError, match="6 layers of 384 dims"):
        setups.encoder(replace(setup, layers=4), 0)


def test_a_folder_of_ones_own_is_adapted_and_results_are_of_its_weights(tmp_path):
    def saved(seed):
        model = encoder(layers=2, d=32, seed=seed)
        model.body.save_pretrained(tmp_path / "mine")
        model.tokenizer.save_pretrained(tmp_path / "mine")
        setups._opened.cache_clear()
        return setups.elsewhere(str(tmp_path / "mine"), steps=1, batch=4), model

    (first, model), (second, _) = saved(0), saved(1)
    assert (first.layers, first.d, first.weights == second.weights) == (2, 32, False)
    assert first == saved(0)[0]
    assert torch.equal(setups.encoder(first, 0).encode(TEXTS), model.encode(TEXTS))
    assert torch.equal(adapting.outcome("untouched", first, 0, ["said"])["said"], model.encode(adapting.said(first)))
    with pytest.raises(RequestError, match="not those that this run began with"):
        setups.encoder(second, 0)  # its folder holds the first one's again
    (record,) = setups.provenance(first.start)
    assert (record["name"], record["sha256"], str(tmp_path) in str(record)) == ("mine", first.weights, False)
    with pytest.raises(RequestError, match="no pretrained text encoder at"):
        setups.elsewhere(str(tmp_path))


def test_an_outcome_is_what_each_set_says_and_a_table_of_it():
    found = adapting.outcome("plain", SETUP, 0, ["STS-B", "graded SNLI", "SICK-R", "said"])
    assert found["cosines of STS-B spearman"].shape == (12, 2)
    assert found["said"].shape == (10, 3, 32)
    rows = adapting.table(found, SETUP, "plain", 0)
    assert set(rows.metric) == {"STS-B spearman", "graded SNLI spearman", "SICK-R spearman"}
    assert len(rows) == 3 * 2 * len(SETUP.sizes)
    assert set(rows.n) == {12}
    expected = 100 * spearmanr(found["cosines of STS-B spearman"][:, 0], SPLIT.score).statistic
    first = rows[(rows.metric == METRIC) & (rows.layer == 1) & (rows.dim == 16)]
    assert first.value.item() == pytest.approx(expected, abs=1e-4)


def test_untouched_is_the_start_and_training_moves_it():
    untouched, plain = (adapting.outcome(method, SETUP, 0, ["said"])["said"] for method in ("untouched", "plain"))
    assert torch.equal(untouched, setups.encoder(SETUP, 0).encode(adapting.said(SETUP)))
    assert not torch.equal(untouched, plain)


def test_a_separate_model_is_scored_at_its_own_cut_alone():
    rows = adapting.scored("separate", SETUP, 0, ["STS-B"], (1, 16))
    assert list(zip(rows.layer, rows.dim, strict=True)) == [(1, 16)]


def test_semeval_is_a_correlation_a_year_and_a_collection_a_value_a_pair(monkeypatch):
    years = {"2012 a": SPLIT, "2012 b": SPLIT, "2013 a": SPLIT}
    monkeypatch.setattr(texts, "pairs", lambda name: years)
    corpus = {str(i): text for i, text in enumerate(TEXTS)}
    asked = texts.Retrieval(corpus, {"q": TEXTS[4], "r": TEXTS[9]}, {"test": {"q": {"4": 1}, "r": {"9": 1}}})
    monkeypatch.setattr(texts, "retrieval", lambda name: asked)
    found = adapting.outcome("untouched", SETUP, 0, ["STS12-16", "SciFact", "Cranfield"])
    rows = adapting.table(found, SETUP, "untouched", 0)
    assert {m: set(part.n) for m, part in rows.groupby("metric")} == {
        "STS12 spearman": {24}, "STS13 spearman": {12}, "SciFact ndcg@10": {2}, "SciFact mrr@10": {2},
        "Cranfield ndcg@10": {2}, "Cranfield mrr@10": {2},
    }  # fmt: skip
    searched = rows[rows.metric == "SciFact mrr@10"]
    assert list(zip(searched.layer, searched.dim, searched.value, strict=True)) == [(1, 16, 100), (2, 32, 100)]


def test_a_watched_training_ends_where_the_training_ends():
    history = adapting.watched("Starbucks", SETUP, 0, [1, 2])
    assert list(history.step) == [1, 1, 2, 2]
    assert list(history.method[:2]) == ["layer 1, 16 dims", "layer 2, 32 dims"]
    end = adapting.outcome("Starbucks", SETUP, 0, ["STS-B dev"])["STS-B dev spearman"]
    assert history.value[2:].tolist() == pytest.approx(models.on_list(end, SETUP).tolist())


def test_rates_are_tried_on_dev_and_averaged_over_seeds_and_the_list_or_at_a_separate_models_own_pair():
    tuned = adapting.tune(["plain"], SETUP, [1e-3, 5e-2], 2, [(1, 16)])
    assert list(zip(tuned.method, tuned.lr, strict=True)) == [
        ("plain", 1e-3), ("plain", 5e-2), ("separate (1, 16)", 1e-3), ("separate (1, 16)", 5e-2)
    ]  # fmt: skip
    for row in tuned.itertuples():
        how = {} if row.method == "plain" else {"cut": (1, 16)}
        found = [
            adapting.outcome(row.method.split()[0], replace(SETUP, lr=row.lr), seed, ["STS-B dev"], **how)
            for seed in (0, 1)
        ]
        grid = sum(one["STS-B dev spearman"] for one in found) / 2
        if how:
            assert row.validation == pytest.approx(grid[1, 1].item())
            assert np.isnan(row.whole)
        else:
            assert row.validation == pytest.approx((grid[1, 1] + grid[2, 2]).item() / 2)
            assert row.whole == pytest.approx(grid[2, 2].item())


def test_the_best_rate_for_the_whole_may_be_another_than_along_the_list():
    tuned = pd.DataFrame({"method": ["plain", "plain", "separate (1, 16)"], "lr": [1e-3, 5e-2, 1e-3]})
    tuned = tuned.assign(validation=[50.0, 60.0, 40.0], whole=[80.0, 70.0, np.nan])
    assert {name: setup.lr for name, setup in models.best(tuned, SETUP).items()} == {
        "plain": 5e-2,
        "separate (1, 16)": 1e-3,
    }
    assert models.best(tuned, SETUP, by="whole") == {"plain": replace(SETUP, lr=1e-3)}


def test_the_bootstrap_over_pairs_is_of_mean_correlations(monkeypatch):
    draw = np.random.default_rng(0)
    gold = draw.integers(6, size=200).astype(float)
    good, bad = (torch.tensor(gold[:, None] + noise * draw.normal(size=(200, 2))) for noise in (1.0, 4.0))
    items = np.column_stack([good, gold])
    by_hand = np.mean([100 * spearmanr(column, gold).statistic for column in good.T.numpy()])
    assert adapting.mean_spearman(items) == pytest.approx(by_hand)
    test = texts.Pairs([""] * 200, [""] * 200, gold.tolist())
    monkeypatch.setattr(texts, "pairs", lambda name: {"test": test})
    well, badly = ({f"cosines of {METRIC}": side} for side in (good, bad))
    found = adapting.over_pairs(well, badly, [0, 1], tests.STSB)
    assert 10 < found.low < found.mean < found.high < 100
    assert found.mean == pytest.approx(by_hand - adapting.mean_spearman(np.column_stack([bad, gold])))
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


def test_a_pair_costs_less_the_smaller_it_is_and_the_whole_is_the_encoder():
    whole = setups.encoder(SETUP, 0)
    speed = pd.DataFrame({"metric": "sentences a second", "layer": [1, 2, 1, 2], "value": [9.0, 5.0, 11.0, 5.0]})
    found = costs.of_pairs(whole, SETUP, speed)
    assert list(found["sentences a second"]) == [10.0, 5.0]
    assert list(found.bytes) == [64, 128]
    assert found.parameters[1] == sum(weight.numel() for weight in whole.parameters())
    assert found.flops[1] == 2 * found.flops[0]


def test_ways_of_reading_are_timed_in_turn():
    found = costs.reading(SETUP, 2)
    assert found.groupby("method")["value"].count().to_dict() == dict.fromkeys(pretraining.WAYS, 2)


def test_a_ratio_of_training_times_a_repeat():
    found = costs.training(SETUP, 2)
    assert set(found.method) == {"plain", "Starbucks", "separate"}
    ratios = found[found.metric == "training time over all separate"]
    seconds = found[found.metric == "seconds a step"]
    alone = seconds[(seconds.method == "separate") & (seconds.seed == 1)].value.sum()
    one = seconds[(seconds.method == "Starbucks") & (seconds.seed == 1)].value.item()
    assert ratios.value.tolist()[1] == pytest.approx(one / alone)
    assert (seconds.value > 0).all()


# --------------------------------------------------------------------------------------------- claims

PAIRS, SMALL = [(1, 16), (2, 32), (3, 64), (4, 128)], [(1, 8), (2, 16), (3, 32), (4, 64)]
SIZES = (8, 16, 32, 64, 128)


def table(better, ratio):
    """All cells the claims ask for, three seeds: 50, and what ``better`` says of a method, with a little noise."""
    rows = []
    named = [
        *models.METHODS,
        BEST_WHOLE,
        "separate",
        *(at(method, lr) for method in ("plain", "2DMSE", "Starbucks", "random pairs") for lr in (3e-4, 1e-3)),
        *(f"Starbucks after {start}" for start in (*setups.STARTS[:4], "MLM for longer")),
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
    shown = stats.judge(asked, table(better, 0.44), "hour").set_index("id").verdict
    assert (shown[["S1", "S2", "C1", "C6", "C7", "C8", "C10", "C10a", "C10b", "C13"]] == "shown").all()
    worse = {"Starbucks": -3.0, "Starbucks after MLM": 3.0, "Starbucks after MLM for longer": 3.0}
    not_shown = stats.judge(asked, table(worse, 0.9), "hour").set_index("id").verdict
    assert (not_shown[["S1", "S2", "C6", "C7", "C8", "C10", "C10a", "C10b", "C13"]] == "not shown").all()


def test_a_longer_mlm_that_fell_behind_the_shorter_is_no_win_for_smae():
    better = {"Starbucks after SMAE": 2.0, "Starbucks after MLM": 2.0, "Starbucks after MLM for longer": -3.0}
    found = stats.judge(claims(4, SIZES, PAIRS, SMALL), table(better, 0.4), "hour").set_index("id").verdict
    assert found["C10a"] == "not shown"


CHOSEN = {"plain": 1e-3, BEST_WHOLE: 3e-4, "2DMSE": 3e-4, "Starbucks": 1e-3, "random pairs": 1e-3}


def test_a_comparison_is_asked_again_at_each_equal_rate_that_it_is_not_already_made_at():
    names = {claim.id: [c.name for c in claim.conditions] for claim in claims(4, SIZES, PAIRS, SMALL, CHOSEN)}
    assert names["C7"] == [
        "Starbucks − random pairs, mean of pairs",  # both at 0.001 as they are
        "Starbucks − random pairs, mean of pairs, both at 0.0003",
    ]
    assert [name.removeprefix("Starbucks − 2DMSE, mean of pairs") for name in names["C6"]] == [
        "", ", both at 0.0003", ", both at 0.001"
    ]  # fmt: skip
    assert len(names["S2"]) == 3
    assert len(names["C2"]) == 2, "2DMSE and plain's best whole have one rate"
    assert names["C12"] == [c.name for c in next(c for c in claims(4, SIZES, PAIRS, SMALL) if c.id == "C12").conditions]
    for alone in ("C5", "C8", "C3", "C14"):
        assert not any("both at" in name for name in names[alone])


def test_what_holds_at_each_ones_own_rate_only_is_not_shown():
    better = {"Starbucks": 9.0, at("Starbucks", 3e-4): 9.0, "plain": 1.0}
    asked = claims(4, SIZES, PAIRS, SMALL, CHOSEN)
    found = stats.judge(asked, table(better, 0.4), "hour").set_index("id")
    assert found.verdict["C7"] == "shown"
    assert found.verdict["C6"] == "not shown"
    assert "both at 0.001" in found.note["C6"]
    better[at("Starbucks", 1e-3)] = 9.0
    assert stats.judge(asked, table(better, 0.4), "hour").set_index("id").verdict["C6"] == "shown"
    better[at("plain", 3e-4)] = 11.0
    found = stats.judge(asked, table(better, 0.4), "hour").set_index("id")
    assert found.verdict["S2"] == "not shown"
    assert "plain" in found.note["S2"]


def test_smae_must_beat_both_controls():
    asked = claims(4, SIZES, PAIRS, SMALL)
    found = stats.judge(asked, table({"Starbucks after SMAE": 2.0, "Starbucks after MAE": 2.0}, 0.4), "hour")
    verdicts = found.set_index("id").verdict
    assert verdicts["C10b"] == "shown"
    assert verdicts["C10"] == "not shown"
