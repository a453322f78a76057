"""Multi-crop views, and the vision transformer that reads them, hides patches and shows its tokens."""

import pytest
import torch

from mrl_lab.data.crops import MultiCrop, crops
from mrl_lab.encoders.patches import PatchViT
from mrl_lab.errors import RequestError


def ramps(n=64, side=16):
    """Pictures whose red grows to the right and whose green grows downwards, both from 60 to 180."""
    ramp = torch.linspace(60, 180, side)
    x = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), torch.full((side, side), 120.0)])
    return x.expand(n, -1, -1, -1).to(torch.uint8)


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


def test_rows_give_crops_and_masks_of_the_right_shape():
    rows = MultiCrop(ramps(), small=3, side=8, masks=lambda n: torch.arange(n * 4).view(n, 4) % 2 == 0)
    large, small, masks = rows[torch.arange(5)]
    assert len(rows) == 64
    assert (large.shape, small.shape, masks.shape) == ((5, 2, 3, 16, 16), (5, 3, 3, 8, 8), (5, 2, 4))
    assert large.dtype == small.dtype == torch.uint8
    large, small = MultiCrop(ramps(), small=0)[torch.arange(5)]
    assert (large.shape, small.shape) == ((5, 2, 3, 16, 16), (5, 0, 3, 16, 16))


def slopes(area, flip=False):
    """Change of red to the right and of green downwards, a pixel: (n,), (n,). Contrast jitter averages out."""
    red, green = (crops(ramps()[:, i : i + 1].float(), 4, (16, 16), area, flip).flatten(0, 2).float() for i in (0, 1))
    return red.diff(dim=2).mean((1, 2)), green.diff(dim=1).mean((1, 2))


@pytest.mark.parametrize(("area", "side"), [(1.0, 1.0), (0.25, 0.5), (0.09, 0.3)])
def test_crops_keep_the_asked_share_of_each_side(area, side):
    for slope in slopes((area, area)):
        assert slope.mean().item() == pytest.approx(side * 8, rel=0.07)


def test_half_of_the_crops_are_mirrored_left_to_right_only():
    right, down = slopes((0.5, 1.0), flip=True)
    assert (right > 0).float().mean().item() == pytest.approx(0.5, abs=0.12)
    assert (down > 0).all()


@pytest.mark.parametrize("axis", [2, 3])
def test_crops_come_from_all_over_the_picture(axis):
    """Half of the picture is black: small crops are black, bright or cross the edge, as often as the area says."""
    x = torch.zeros(64, 1, 20, 20)
    x.narrow(axis, 10, 10).fill_(200)
    cut = crops(x, 8, (9, 9), (0.04, 0.04), flip=False).flatten(0, 2).float()
    black, bright = (cut.amax((1, 2)) < 3), (cut.amin((1, 2)) > 60)
    for share in (black, bright):
        assert share.float().mean().item() == pytest.approx(0.375, abs=0.08)  # of 0.8 for a side of 0.2, half less 0.1


def test_crops_are_of_their_own_picture():
    x = torch.zeros(6, 1, 8, 8)
    x[::2] = 200
    bright = crops(x, 3, (4, 4), (0.3, 1.0), flip=True).flatten(2).amax(2) > 0
    assert torch.equal(bright, (torch.arange(6) % 2 == 0)[:, None].expand(6, 3))


def test_views_differ_and_the_seed_fixes_them():
    rows = MultiCrop(ramps(), small=2, side=8)

    def drawn(seed):
        torch.manual_seed(seed)
        return rows[torch.arange(4)]

    assert all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    large = drawn(1)[0]
    assert not torch.equal(large[:, 0], large[:, 1])
    assert not torch.equal(large, drawn(2)[0])


def test_some_coloured_crops_turn_grey_and_grey_pictures_stay_one_channel():
    x = crops(ramps(200).float(), 4, (8, 8), (0.5, 1.0), flip=False).flatten(0, 1).float()
    grey = ((x[:, 0] - x[:, 1]).abs() + (x[:, 1] - x[:, 2]).abs()).amax((1, 2)) == 0
    assert grey.float().mean().item() == pytest.approx(0.2, abs=0.06)
    assert crops(ramps()[:, :1].float(), 2, (8, 8), (0.5, 1.0), flip=False).shape == (64, 2, 1, 8, 8)


@pytest.mark.parametrize("wrong", [{"large_area": (0.0, 1.0)}, {"small_area": (0.5, 0.3)}, {"large_area": (0.5, 1.5)}])
def test_wrong_areas_are_refused(wrong):
    with pytest.raises(RequestError, match="above 0 and at most 1"):
        MultiCrop(ramps(), **wrong)
    with pytest.raises(RequestError, match="uint8 pictures"):
        MultiCrop(ramps().float())


# ------------------------------------------------------------------------------------------- encoder


@pytest.fixture
def vit():
    return PatchViT((3, 16, 16), 32, layers=2, patch=4).eval()


def test_tokens_are_class_then_patches_and_small_crops_have_fewer(vit):
    x = ramps(2)
    tokens = vit.tokens(x)
    assert tokens.shape == (2, 1 + 16, 32)
    assert vit.grid == (4, 4)
    assert torch.equal(vit(x), tokens[:, 0])
    assert torch.equal(vit.patches(x), tokens[:, 1:])
    assert vit.tokens(x[:, :, :8, :8]).shape == (2, 1 + 4, 32)


def test_what_is_under_a_hidden_patch_does_not_matter(vit):
    x, mask = ramps(1), torch.zeros(1, 16, dtype=torch.bool)
    mask[0, 6] = True  # row 1, column 2 of the 4 x 4 grid: raster order
    changed = x.clone()
    changed[:, :, 4:8, 8:12] = 0
    assert torch.equal(vit.tokens(x, mask), vit.tokens(changed, mask))
    assert not torch.allclose(vit.tokens(x), vit.tokens(changed), atol=1e-3)
    assert not torch.allclose(vit.tokens(x), vit.tokens(x, mask), atol=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"shape": (3, 16, 12)}, {"shape": (3, 18, 18)}, {"d": 30, "heads": 4}], ids=["oblong", "odd", "heads"]
)
def test_shapes_that_cannot_work_are_refused(wrong):
    with pytest.raises(RequestError, match="square pictures of whole patches"):
        PatchViT(**({"shape": (3, 16, 16), "d": 32, "patch": 4} | wrong))
