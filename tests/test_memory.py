"""What a step needs on a card: measured on a few rows, true of many, and said before the first one."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from mrl_lab import memory, train
from mrl_lab.data import load
from mrl_lab.errors import RequestError
from mrl_lab.lab import built
from mrl_lab.methods.adaptor import Adaptor
from mrl_lab.study.models import Contrast, Model
from mrl_lab.study.pictures import Pictures


@pytest.fixture(scope="module")
def digits():
    return Pictures(load("digits"))


def models(task):
    """A classifier, whose tensors grow with the batch, and an adaptor and InfoNCE, some of whose grow with B x B."""
    z = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    contrast = Contrast((4, 32), 32)
    return {
        "MRL": (built(Model((4, 32), 32), task, 0), task.rows()),
        "adaptor": (Adaptor(torch.eye(16), (4, 8)), TensorDataset(z)),
        "InfoNCE": (built(contrast, task, 0), contrast.rows(task)),
    }


@pytest.mark.parametrize("name", ["MRL", "adaptor", "InfoNCE"])
def test_what_few_rows_keep_says_what_many_keep(digits, name):
    model, rows = models(digits)[name]
    found = memory.step(model, rows, 96)
    batch = rows[torch.arange(96)]
    truly = memory.kept(lambda: model.train()(*batch)[0], but=[*model.parameters(), *model.buffers()])
    assert sum(one.bytes(96) for one in found.kept) == pytest.approx(sum(one.bytes for one in truly), rel=0.01)
    assert found.largest(96).bytes(96) == pytest.approx(max(one.bytes for one in truly), rel=0.01)


def test_weights_gradients_and_moments_are_counted():
    model = nn.Linear(10, 5)
    model.bias.requires_grad_(False)
    model.forward = lambda x: (nn.functional.linear(x, model.weight, model.bias).square().sum(), {})
    rows = TensorDataset(torch.randn(20, 10))
    weights, bias = 4 * 50, 4 * 5
    assert memory.step(model, rows, 16, "adamw").fixed == weights * 4 + bias
    assert memory.step(model, rows, 16, "sgd").fixed == weights * 3 + bias


def test_the_largest_is_told_by_its_shape(digits):
    found = {name: memory.step(*of, batch=96).largest(96).formula() for name, of in models(digits).items()}
    assert found == {"MRL": "B x 32 x 4 x 4", "adaptor": "B x (B - 1)", "InfoNCE": "B x 32 x 4 x 4"}


def test_measuring_leaves_the_model_and_the_random_streams_alone(digits):
    model, rows = models(digits)["InfoNCE"]
    before, state = {n: v.clone() for n, v in model.state_dict().items()}, torch.get_rng_state()
    memory.step(model, rows, 64)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_on_a_small_card_the_batch_that_would_fit_is_told_before_a_step(digits, monkeypatch):
    model, rows = models(digits)["MRL"]
    step = memory.step(model, rows, 512)
    monkeypatch.setattr(memory, "free", lambda device: step.bytes(100) / memory.USABLE + 1)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(RequestError, match=r"a step of 512 rows needs .* A batch of 100 would fit"):
        train.fit(model, rows, steps=2, batch=512)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert len(train.fit(model, rows, steps=2, batch=100)) == 2


def test_where_no_batch_fits_the_model_is_too_large(digits, monkeypatch):
    model, rows = models(digits)["MRL"]
    monkeypatch.setattr(memory, "free", lambda device: 1_000.0)
    with pytest.raises(RequestError, match="No batch fits: take a smaller model"):
        train.fit(model, rows, steps=1, batch=8)


def test_processes_share_the_batch(digits, monkeypatch):
    model, rows = models(digits)["MRL"]
    monkeypatch.setattr(memory, "free", lambda device: memory.step(model, rows, 512).bytes(100) / memory.USABLE + 1)
    card = SimpleNamespace(device=torch.device("cpu"), num_processes=4, autocast=torch.enable_grad)
    memory.check(model, rows, 400, "adamw", card)
    with pytest.raises(RequestError, match=r"a step of 128 rows needs .* A batch of 400 would fit"):
        memory.check(model, rows, 512, "adamw", card)


def test_on_a_cpu_nothing_is_asked():
    assert memory.free(torch.device("cpu")) is None


def test_rows_that_are_plain_tensors_are_kept_on_the_card_where_they_fit():
    rows, meta = TensorDataset(torch.zeros(1_000)), torch.device("meta")  # 4,000 bytes
    assert memory.near(rows, meta, 16_000).tensors[0].device == meta
    assert memory.near(rows, meta, 15_999) is rows
    assert memory.near(rows, torch.device("cpu")) is rows
    assert memory.near([1, 2], meta, 16_000) == [1, 2], "rows of another kind draw or pad for themselves"
