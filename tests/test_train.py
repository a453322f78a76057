"""The loop: it learns, equals a hand-written loop, resumes bit-equal, shares work, and stops on bad losses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from mrl_lab.device import choose
from mrl_lab.errors import RequestError
from mrl_lab.methods import mrl
from mrl_lab.train import SCHEDULES, batches, fit

SCRIPT = Path(__file__).with_name("fit_script.py")


class Net(nn.Module):
    d = 8

    def __init__(self, dropout=0.0):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x):
        return self.body(x)


def rows(n=200):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=draw)
    return TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())


def model(dropout=0.0):
    return mrl.classifier(lambda: Net(dropout), (2, 8), 3)


def test_it_learns_and_logs_each_size():
    history = fit(model(), rows(), steps=60, batch=50, lr=0.03)
    assert list(history.columns) == ["step", "lr", "total", "2", "8"]
    assert history.total.iloc[-1] < 0.6 * history.total.iloc[0]
    assert torch.allclose(torch.tensor(history["2"] + history["8"]), torch.tensor(history.total), atol=1e-5)


def test_equals_a_plain_loop():
    ours, plain = model(), model()
    data = rows()
    fit(ours, data, steps=7, batch=32, lr=0.02, optimizer="sgd", schedule="cosine", weight_decay=0.0, seed=5)
    update = torch.optim.SGD(plain.parameters(), 0.02, momentum=0.9)
    order = batches(len(data), 32, seed=5)
    for step in range(7):
        update.param_groups[0]["lr"] = 0.02 * SCHEDULES["cosine"](step / 7)
        x, y = data[next(order)]
        z = plain.encoder(x)
        loss = sum(cross_entropy(plain.head.linear(m)(z[:, :m]), y) for m in (2, 8))
        update.zero_grad()
        loss.backward()
        update.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_linear_schedule_is_transformers_own_after_a_tenth_of_warm_up():
    from transformers import get_linear_schedule_with_warmup

    update = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    theirs = get_linear_schedule_with_warmup(update, num_warmup_steps=20, num_training_steps=200)
    for step in range(200):
        assert SCHEDULES["linear"](step / 200) == pytest.approx(theirs.get_last_lr()[0])
        update.step()
        theirs.step()


def test_each_pass_draws_every_row_once_and_reshuffles():
    drawn = batches(100, 25, seed=1)
    first, second = (torch.cat([next(drawn) for _ in range(4)]) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert not torch.equal(first, second)
    later = batches(100, 25, seed=1, start=5)
    assert torch.equal(next(later), second[25:50])


@pytest.mark.parametrize("stop", [9, 13])
def test_resuming_is_bit_equal(tmp_path, stop):
    """Dropout draws from the random stream, so the stream must be restored too."""
    how = {"steps": 25, "batch": 40, "lr": 0.02, "seed": 3}

    def interrupt(step):
        if step == stop:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    whole = model(dropout=0.3)
    history = fit(whole, rows(), **how)
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        fit(model(dropout=0.3), rows(), checkpoint=tmp_path / "c", save_every=4, after_step=interrupt, **how)
    torch.manual_seed(77)
    resumed = model(dropout=0.3)
    again = fit(resumed, rows(), checkpoint=tmp_path / "c", save_every=4, **how)
    assert history.equals(again)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert [f.name for f in tmp_path.iterdir()] == ["c"]


def test_a_loss_that_is_not_finite_names_step_and_size():
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.steps = nn.Parameter(torch.ones(1)), 0

        def forward(self, x, y):
            self.steps += 1
            bad = self.w.sum() * (float("nan") if self.steps == 4 else 1.0)
            return self.w.sum() + bad, {4: self.w.sum(), 16: bad}

    with pytest.raises(FloatingPointError, match=r"step 3 \(part: 16;"):
        fit(Breaks(), rows(), steps=10, batch=10)


def test_parts_may_differ_from_step_to_step():
    class Draws(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.steps = nn.Parameter(torch.ones(1)), 0

        def forward(self, x, y):
            self.steps += 1
            return self.w.sum(), {self.steps % 2: self.w.sum()}

    history = fit(Draws(), rows(), steps=4, batch=10, lr=1e-3)
    assert history["0"].isna().tolist() == [True, False, True, False]


# Rows that are compared with each other at eight sizes: 4 MB a table, and a loss of 4 bytes that the log keeps.
GROWS = """
import resource, torch
from torch.utils.data import TensorDataset
from mrl_lab.methods.adaptor import Adaptor
from mrl_lab.train import fit
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peaks = []
model = Adaptor(torch.eye(16), range(2, 17, 2))
note = lambda step: peaks.append(peak())
fit(model, TensorDataset(torch.randn(1024, 16)), steps=40, batch=1024, lr=0.01, after_step=note)
print(peaks[-1] / peaks[9])
"""


def test_memory_does_not_grow_with_the_steps():
    told = subprocess.run([sys.executable, "-c", GROWS], check=True, capture_output=True, text=True).stdout
    assert float(told) < 1.2


def test_hook_runs_after_each_update_and_progress_is_short():
    seen, said = [], []
    fit(model(), rows(), steps=55, batch=10, after_step=seen.append, say=said.append)
    assert seen == list(range(55))
    assert 1 <= len(said) <= 11


def test_only_unfrozen_parameters_move():
    frozen = model()
    frozen.encoder.requires_grad_(False)
    before = frozen.encoder.body[0].weight.clone()
    fit(frozen, rows(), steps=3, batch=10)
    assert torch.equal(before, frozen.encoder.body[0].weight)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps": 0}, "at least 1 step"),
        ({"lr": 0.0}, "above 0"),
        ({"batch": 201}, "1 to 200"),
        ({"batch": 0}, "1 to 200"),
        ({"optimizer": "adam"}, "adamw"),
        ({"schedule": "liner"}, "one-cycle"),
    ],
)
def test_wrong_settings_are_refused_before_the_first_step(wrong, words):
    net = model()
    before = net.encoder.body[0].weight.clone()
    with pytest.raises(RequestError, match=words):
        fit(net, rows(), **({"steps": 2, "batch": 10} | wrong))
    assert torch.equal(before, net.encoder.body[0].weight)


def test_device_choice_has_a_reason_and_refuses_what_is_not_there(monkeypatch):
    assert choose("cpu").describe().startswith("cpu: ")
    assert "best of what torch sees" in choose().reason
    monkeypatch.setenv("MRL_LAB_PRECISION", "bf16")
    assert choose("cpu").precision == "bf16"
    with pytest.raises(RequestError, match="cpu, cuda, mps"):
        choose("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="torch sees only"):
            choose("cuda")


def losses_under(command: list[str], out: Path) -> dict:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MRL_LAB_DEVICE": "cpu"}
    subprocess.run([*command, str(SCRIPT), str(out)], check=True, env=environment)
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The losses of each kind of method by one process, and by two: --multi_gpu, for --cpu would start one alone."""
    folder = tmp_path_factory.mktemp("processes")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    one, two = losses_under([sys.executable], folder / "one.json"), losses_under(launch, folder / "two.json")
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    return one, two


KINDS = ["MRL", "MRL, contrastive", "2DMSE", "Starbucks", "ESE", "SMAE", "M3", "Franca, ConvNet", "Franca, ViT"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "adaptor", "sparse codes"])
def test_two_processes_equal_one_at_the_same_global_batch(both, kind):
    one, two = (losses[kind] for losses in both)
    assert len(one) == 12
    assert len(set(one)) == 12
    assert one == pytest.approx(two, rel=1e-4)


def test_there_is_a_kind_for_each_method(both):
    assert list(both[0]) == [*KINDS, "adaptor", "sparse codes"]
