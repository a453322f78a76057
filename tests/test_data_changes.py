"""Corruptions and views: changed pictures that are the same again for the same seed."""

import pytest
import torch

from mrl_lab.data.corrupt import KINDS, STRENGTHS, corrupt
from mrl_lab.data.views import TwoViews, view
from mrl_lab.errors import RequestError


@pytest.fixture(scope="module")
def pictures():
    """Smooth blobs (12, 3, 20, 28), so that every kind of damage shows."""
    y, x = torch.meshgrid(torch.linspace(-2, 2, 20), torch.linspace(-2, 2, 28), indexing="ij")
    centres = torch.linspace(-1, 1, 12).view(-1, 1, 1)
    blobs = torch.exp(-((x - centres) ** 2) * 6 - (y + centres) ** 2 * 2)
    return (255 * blobs[:, None] * torch.tensor([1.0, 0.6, 0.3]).view(1, 3, 1, 1)).to(torch.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_grows_with_strength_and_follows_its_seed(pictures, kind):
    worse = [corrupt(pictures, kind, strength, seed=0) for strength in STRENGTHS]
    damage = [(w.float() - pictures.float()).abs().mean().item() for w in worse]
    assert 0 < damage[0] < damage[1] < damage[2]
    assert all(w.dtype == torch.uint8 and w.shape == pictures.shape for w in worse)
    torch.manual_seed(7)  # nothing is drawn from the global generator
    assert torch.equal(worse[1], corrupt(pictures, kind, 2, seed=0))
    if kind in ("noise", "rotation"):
        assert not torch.equal(worse[1], corrupt(pictures, kind, 2, seed=1))


def test_blur_keeps_a_plain_picture_and_the_light_of_a_point():
    plain = torch.full((1, 1, 9, 9), 100, dtype=torch.uint8)
    assert torch.equal(corrupt(plain, "blur", 3), plain)
    point = torch.zeros(1, 1, 31, 31, dtype=torch.uint8)
    point[..., 15, 15] = 255
    spread = corrupt(point, "blur", 1).float()
    assert spread.sum() == pytest.approx(255, rel=0.05)
    assert torch.equal(spread, spread.transpose(2, 3))


def test_rotation_turns_without_stretching():
    """A bar in a wide picture keeps its length, whatever the picture's shape."""
    bar = torch.zeros(2, 1, 40, 80, dtype=torch.uint8)
    bar[:, :, 18:22, 30:50] = 255
    turned = corrupt(bar, "rotation", 2).float()
    assert turned.sum((1, 2, 3)) == pytest.approx(bar.float().sum((1, 2, 3)), rel=0.05)
    for picture in turned[:, 0]:
        y, x = (picture > 127).nonzero().T.float()
        along = ((x.max() - x.min()) ** 2 + (y.max() - y.min()) ** 2) ** 0.5
        assert along == pytest.approx(20, abs=3)


def test_contrast_keeps_the_mean(pictures):
    assert corrupt(pictures, "contrast", 3).float().mean() == pytest.approx(pictures.float().mean().item(), abs=1)


def test_batches_do_not_matter_to_what_needs_no_draw(pictures):
    one_by_one = torch.cat([corrupt(picture[None], "blur", 2) for picture in pictures])
    assert torch.equal(one_by_one, corrupt(pictures, "blur", 2))


@pytest.mark.parametrize(
    ("kind", "strength", "words"),
    [("fog", 1, "unknown corruption 'fog'"), ("nois", 1, "Did you mean 'noise'"), ("blur", 4, "unknown strength 4")],
)
def test_unknown_corruptions_are_refused(pictures, kind, strength, words):
    with pytest.raises(RequestError, match=words):
        corrupt(pictures, kind, strength)


def test_corruptions_and_views_are_for_pictures_of_bytes(pictures):
    with pytest.raises(RequestError, match="uint8 pictures"):
        corrupt(pictures.float(), "blur", 1)
    with pytest.raises(RequestError, match="uint8 pictures"):
        TwoViews(torch.zeros(5, 3))


# ------------------------------------------------------------------------------------------------------ views


def test_two_views_differ_and_follow_the_global_seed(pictures):
    rows = TwoViews(pictures)
    assert len(rows) == 12
    torch.manual_seed(0)
    a, b = rows[torch.tensor([3, 5, 7])]
    assert a.shape == b.shape == (3, 3, 20, 28)
    assert a.dtype == torch.uint8
    assert all(not torch.equal(left, right) for left, right in zip(a, b, strict=True))
    torch.manual_seed(0)
    again = rows[torch.tensor([3, 5, 7])]
    assert torch.equal(a, again[0])
    assert torch.equal(b, again[1])


def test_a_view_is_nearer_to_its_own_picture_than_to_others(pictures):
    torch.manual_seed(0)
    far = torch.cdist(view(pictures).flatten(1).float(), pictures.flatten(1).float())  # (12, 12)
    assert (far.argmin(1) - torch.arange(12)).abs().float().mean() < 2.5


def test_views_of_one_batch_are_changed_each_on_its_own(pictures):
    torch.manual_seed(0)
    same = view(pictures[:1].expand(8, -1, -1, -1))
    assert len({picture.numpy().tobytes() for picture in same}) == 8


def test_crops_are_shifted():
    point = torch.zeros(50, 1, 21, 21, dtype=torch.uint8)
    point[..., 10, 10] = 255
    torch.manual_seed(0)
    seen = [picture.nonzero().float().mean(0) for picture in view(point).squeeze(1) == 255]
    places = torch.stack([place for place in seen if not place.isnan().any()])
    assert (places.std(0) > 0.5).all(), "every crop was taken from the middle"


def test_only_flipped_views_change_sides():
    """Light on the left stays there unless flipping is asked for; then about half of the views have it right."""
    left = torch.zeros(200, 1, 16, 32, dtype=torch.uint8)
    left[..., :12] = 255
    torch.manual_seed(0)
    on_the_left = [
        (v[..., :16].float().sum((1, 2, 3)) > v[..., 16:].float().sum((1, 2, 3)))
        for v in (view(left), view(left, True))
    ]
    assert on_the_left[0].all()
    assert 60 < on_the_left[1].sum() < 140
