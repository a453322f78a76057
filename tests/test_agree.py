"""Two modules that agree are told so, two that do not are told where; a reader's function is told what is wrong."""

import pytest
import torch
from torch import nn

from mrl_lab import agree
from mrl_lab.errors import RequestError


class Sum(nn.Module):
    """A loss with a weight that counts, one that cannot count, and a switch that breaks it."""

    def __init__(self, factor: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(3, 1), nn.Parameter(torch.ones(1))
        self.factor, self.bias = factor, bias

    def forward(self, x):
        z = self.layer(x)
        idle = (z + self.idle).sub(self.idle).mul(0.5)  # what it adds it takes away again
        return self.factor * (z / 2 + idle).square().mean() + self.bias, {}


def test_modules_that_agree_are_told_so_whatever_weights_they_began_with():
    told = agree.same(Sum(), Sum(), torch.randn(5, 3))
    assert "same loss" in told
    assert "same gradients" in told


@pytest.mark.parametrize(
    ("other", "where"),
    [(Sum(factor=1.01), "differs by"), (Sum(bias=0.1), "the loss differs by"), (Sum(factor=-1), "differs")],
)
def test_modules_that_do_not_agree_are_told_where(other, where):
    with pytest.raises(AssertionError, match=where):
        agree.same(Sum(), other, torch.randn(5, 3))


def test_modules_of_other_weights_cannot_be_compared():
    with pytest.raises(RequestError, match="other weights"):
        agree.same(nn.Linear(3, 1), nn.Linear(2, 1), torch.randn(5, 3))


RIGHT = lambda z, m: z[:, :m] * 2  # noqa: E731
TRIES = [(torch.ones(2, 4), 2), (torch.ones(1, 4), 3)]


@pytest.mark.parametrize(
    ("yours", "told"),
    [
        (lambda z, m: z[:, :m] + z[:, :m], "Right, on 2 inputs."),
        (lambda z, m: ..., "returns nothing"),
        (lambda z, m: None, "returns nothing"),
        (lambda z, m: z * 2, "on 2 dims the shape is (2, 4), it should be (2, 2)"),
        (lambda z, m: z[:, :m], "on 2 dims the largest difference from the right answer is 1"),
        (lambda z, m: z[:, :m] * 2 + (m == 3), "on 3 dims the largest difference"),
        (lambda z, m: 1 / 0, "ZeroDivisionError on 2 dims"),
    ],
)
def test_a_reader_s_answer_is_judged_and_told_on_which_input_it_fails(yours, told):
    assert told in agree.answer(yours, RIGHT, TRIES, lambda given: f"{given[1]} dims")
