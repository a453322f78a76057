"""Device and precision: chosen once with a reason, open to override, and refused when they cannot be."""

import pytest

from mrl_lab import device
from mrl_lab.errors import RequestError


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch):
    monkeypatch.delenv("MRL_LAB_DEVICE", raising=False)
    monkeypatch.delenv("MRL_LAB_PRECISION", raising=False)


@pytest.fixture
def with_a_card(monkeypatch):
    monkeypatch.setattr(device, "_available", lambda: ["cuda", "cpu"])
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)


def test_the_fastest_is_taken_with_its_reason(with_a_card):
    found = device.choose()
    assert (found.device, found.precision) == ("cuda", "bf16")
    assert "cuda, cpu" in found.reason


def test_a_wish_is_kept(with_a_card, monkeypatch):
    assert device.choose("cpu").device == "cpu"
    monkeypatch.setenv("MRL_LAB_DEVICE", "cpu")
    monkeypatch.setenv("MRL_LAB_PRECISION", "bf16")
    found = device.choose()
    assert (found.device, found.precision, found.reason) == ("cpu", "bf16", "asked for")


def test_one_line_says_hardware_precision_and_threads():
    line = device.choose("cpu").describe()
    assert line.startswith("cpu: ")
    assert "float32" in line
    assert "threads" in line
    assert "asked for" in line


@pytest.mark.parametrize(
    ("wish", "words"),
    [({"device": "gpu"}, "unknown device 'gpu'"), ({"precision": "int4"}, "bf16"), ({"device": "cuda"}, "only cpu")],
)
def test_what_cannot_be_is_refused(wish, words, monkeypatch):
    monkeypatch.setattr(device, "_available", lambda: ["cpu"])
    with pytest.raises(RequestError, match=words):
        device.choose(**wish)
