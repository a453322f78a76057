"""The bench runs its ways in turn and compares medians with the first one."""

import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from mrl_lab import bench, clock
from mrl_lab.bench import sentences
from mrl_lab.errors import RequestError


def test_ways_are_run_in_turn_after_a_warm_up():
    order = []
    ways = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = clock.measure(ways, least=3, seconds_at_least=0.0)
    assert order == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_ratio_is_to_the_first_way_and_is_saved(tmp_path, monkeypatch, capsys):
    def naps():
        """Two naps."""
        return {"short": lambda: time.sleep(0.01), "long": lambda: time.sleep(0.03)}

    monkeypatch.setitem(bench.BENCHES, "naps", naps)
    assert bench.main(["naps"], tmp_path) == 0
    saved = pd.read_csv(tmp_path / "bench.csv")
    assert saved.way.tolist() == ["short", "long"]
    assert saved.ratio[0] == 1
    assert saved.ratio[1] == pytest.approx(saved.milliseconds[1] / saved.milliseconds[0], abs=0.01)
    assert saved.ratio[1] > 1
    assert "naps: Two naps." in capsys.readouterr().out


def test_the_published_step_with_seven_sizes_costs_at_most_a_tenth_more_than_a_plain_one():
    """Measured by ``mrl-lab bench`` on an idle machine, which these tests do not have."""
    saved = pd.read_csv(Path(__file__).parent.parent / "reports" / "bench.csv")
    step = saved[saved.bench == "step"].set_index("way").ratio
    assert step.index.tolist() == list(bench.step())
    assert step.max() <= 1.10


def test_smaes_dense_form_is_the_same_loss():
    """What is compared by the clock does the same work."""
    from small_texts import TEXTS, tokenizer
    from transformers import BertForMaskedLM

    from mrl_lab.encoders.texts import small_config
    from mrl_lab.encoders.tokens import MaskedRows
    from mrl_lab.methods.starbucks import SMAE

    torch.manual_seed(0)
    model = SMAE(BertForMaskedLM(small_config(tokenizer(), 32, 3, dropout=0.0)))
    batch = MaskedRows(tokenizer(), TEXTS)[torch.arange(5)]
    torch.testing.assert_close(sentences.dense(model, *batch), model(*batch)[0])


def test_smae_where_labelled_holds_half_of_the_memory_at_most():
    ways = bench.smae()
    assert clock.peak_bytes(ways["where labelled"]) < 0.5 * clock.peak_bytes(ways["everywhere"])


def test_the_peak_of_memory_is_what_was_held_at_once():
    held = torch.zeros(500_000)  # there before: not counted

    def run() -> None:
        one = held + 1  # 2 MB
        two = torch.cat([one, one])  # and 4: the peak
        del one
        torch.relu_(two).sum()

    assert clock.peak_bytes(run) == pytest.approx(6e6, rel=0.001)


def test_unknown_bench_is_refused():
    with pytest.raises(RequestError, match="step"):
        bench.main(["stepp"], None)
