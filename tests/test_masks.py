"""CyclicMask and its controls: how many cells, what shape, and how evenly (numbers are the method's checklist's)."""

import pytest
import torch
from scipy.stats import chisquare

from mrl_lab.errors import RequestError
from mrl_lab.methods.masks import MASKS, BlockMask, CyclicMask, InverseBlockMask, RandomMask, block

GRID, CELLS = (7, 9), 63


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("grid", [(7, 9), (16, 16), (1, 12), (2, 20), (20, 2)])
def test_35_exactly_n_cells_are_hidden(kind, grid):
    masked = torch.arange(grid[0] * grid[1]).repeat(4)
    assert torch.equal(MASKS[kind](grid).draw(masked).sum((1, 2)), masked)


def rectangle_less_a_tail(cells):
    """Whether true cells (H, W) are a rectangle whose last row may end early (so 1 x w or any row may be short)."""
    rows, columns = cells.any(1).nonzero().flatten(), cells.any(0).nonzero().flatten()
    inside = cells[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    last = inside[-1].long()
    return bool(inside[:-1].all()) and bool((last.diff() <= 0).all())


def test_35_blocks_are_rectangles_less_a_tail():
    visible = ~InverseBlockMask(GRID).draw(torch.arange(1, CELLS).repeat(3))
    assert all(rectangle_less_a_tail(cells) for cells in visible)
    hidden = BlockMask(GRID).draw(torch.arange(1, CELLS).repeat(3))
    assert all(rectangle_less_a_tail(cells) for cells in hidden)


def test_35_cyclic_blocks_are_rolled_rectangles_so_they_hang_together_on_the_torus():
    height, width = GRID
    wrapped = 0
    for visible in ~CyclicMask(GRID).draw(torch.arange(1, CELLS - 1)):
        rolls = [visible.roll((i, j), (0, 1)) for i in range(height) for j in range(width)]
        assert any(rectangle_less_a_tail(cells) for cells in rolls)
        wrapped += not rectangle_less_a_tail(visible)
    assert wrapped > CELLS / 4


def test_35_shape_is_log_uniform_between_flat_and_tall():
    visible = block((64, 64), torch.full((3000,), 900))
    rows, columns = visible.any(2).sum(1), visible.any(1).sum(1)
    ratio = (rows / columns).log()  # from log 0.3 = -1.2 to 1.2, but for what rounding up to whole cells adds
    shares = [((ratio > low) & (ratio < low + 0.6)).float().mean().item() for low in (-1.2, -0.6, 0.0, 0.6)]
    assert ratio.abs().max() < 1.25
    assert shares == pytest.approx([0.25] * 4, abs=0.04)


def one_visible_cell(kind, hidden, draws=5000):
    """How often each cell is the one that is picked at random among the visible ones of a mask: (t,).

    One cell a mask, because cells of one rectangle go together, which a chi-square test of all of them would not allow.
    """
    visible = (~MASKS[kind](GRID).draw(torch.full((draws,), hidden))).flatten(1).float()
    return torch.bincount(torch.multinomial(visible, 1).flatten(), minlength=CELLS)


@pytest.mark.parametrize("hidden", [6, 24, 40])
def test_36_cyclic_masks_show_every_cell_equally_often(hidden):
    assert chisquare(one_visible_cell("cyclic", hidden)).pvalue > 0.001
    assert chisquare(one_visible_cell("random", hidden)).pvalue > 0.001
    assert chisquare(one_visible_cell("inverse block", hidden)).pvalue < 1e-9
    assert hidden < CELLS / 3 or chisquare(one_visible_cell("block", hidden)).pvalue < 1e-9


def test_36_share_of_masks_that_hide_a_cell_on_16_by_16():
    """0.375 everywhere with the roll; without it the middle is always visible and corners hardly ever."""
    for kind, lowest, highest in (("cyclic", 0.35, 0.4), ("inverse block", 0.0, 0.95)):
        hidden = MASKS[kind]((16, 16)).draw(torch.full((5000,), 96)).float().mean(0)
        assert hidden.mean() == pytest.approx(0.375, abs=1e-6)
        if kind == "cyclic":
            assert lowest < hidden.min() < hidden.max() < highest
        else:
            assert hidden.min() == lowest
            assert hidden.max() > highest


def test_35_half_of_a_batch_is_masked_at_ratios_from_every_bin():
    masks = CyclicMask((16, 16))(40)
    hidden = masks.sum(1)
    assert masks.shape == (40, 256)
    assert (hidden > 0).sum() == 20
    ratios = (hidden[hidden > 0] / 256).sort().values
    bins = torch.linspace(0.1, 0.65, 21)
    assert (ratios >= bins[:-1] - 1 / 256).all(), "one in each bin, rounded down to whole cells"
    assert (ratios <= bins[1:]).all()
    assert (hidden[:20] > 0).sum() not in (0, 20), "which pictures is random"


@pytest.mark.parametrize(("batch", "share", "masked"), [(1, 0.5, 0), (3, 0.5, 1), (4, 0.0, 0), (4, 1.0, 4)])
def test_small_batches_and_shares(batch, share, masked):
    masks = RandomMask(GRID, share=share)(batch)
    assert (masks.sum(1) > 0).sum() == masked


def test_the_seed_fixes_the_masks():
    def drawn(seed):
        torch.manual_seed(seed)
        return CyclicMask(GRID)(10)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"grid": (1, 1)}, "at least 2 patches"),
        ({"ratio": (0.1, 1.0)}, "between 0 and 1"),
        ({"ratio": (0.6, 0.1)}, "the smaller first"),
        ({"share": 1.5}, "from 0 to 1"),
    ],
)
def test_wrong_masks_are_refused(wrong, words):
    with pytest.raises(RequestError, match=words):
        CyclicMask(**({"grid": GRID} | wrong))
