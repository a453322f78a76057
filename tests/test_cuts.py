"""Cuts: sizes are checked, a prefix is cut before it is normalised."""

import pytest
import torch

from mrl_lab.cuts import Cut, check_sizes, halvings, prefix, stored_bytes, unit_prefix
from mrl_lab.errors import RequestError


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([], "empty"),
        ([0, 4], "from 1"),
        ([-2], "from 1"),
        ([2.0, 4], "whole"),
        ([True, 4], "whole"),
        ([4, 2], r"\[2, 4\]"),
        ([2, 2, 4], r"not repeat.*\[2, 4\]"),
        ([4, 128], "128 is larger.*64"),
    ],
)
def test_wrong_sizes_are_refused_with_the_mend(sizes, words):
    with pytest.raises(RequestError, match=words):
        check_sizes(sizes, dim=64)


def test_odd_but_lawful_sizes_are_kept():
    assert check_sizes([3, 7, 64], 64) == (3, 7, 64)


def test_halvings_are_the_papers_sets():
    assert halvings(2048, 8) == (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
    assert halvings(768, 12) == (12, 24, 48, 96, 192, 384, 768)


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"layer": -1}, {"tokens": 0}, {"dim": 2.5}, {"dim": True}])
def test_a_cut_must_be_possible(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Cut(**wrong)


def test_prefix_is_normalised_after_the_cut():
    z = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    for m in (1, 4, 16):
        unit = unit_prefix(z, m)
        assert torch.allclose(unit.norm(dim=1), torch.ones(50), atol=1e-6)
        slice_of_unit = torch.nn.functional.normalize(z, dim=1)[:, :m]
        assert torch.allclose(unit, slice_of_unit) == (m == 16)


def test_prefix_wider_than_the_embedding_is_refused():
    with pytest.raises(RequestError, match="keep 17 dims"):
        prefix(torch.zeros(2, 16), 17)


def test_bytes():
    assert stored_bytes(2048) == 8192


def test_sizes_may_be_thinned_out_and_have_a_least_number():
    assert halvings(128, smallest=2, factor=4) == (2, 8, 32, 128)
    assert check_sizes([2, 8, 32], 32, least=3) == (2, 8, 32)
    with pytest.raises(RequestError, match="at least 3 sizes"):
        check_sizes([8, 16], 32, least=3)
