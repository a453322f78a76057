"""A backbone made elsewhere on pictures of one's own, tiny and on disk: cut as it is, by its heads, tuned, searched."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_backbones import heads, tensors

from mrl_lab import lab
from mrl_lab.errors import RequestError
from mrl_lab.methods import mrl
from mrl_lab.study import backbones

SIDE = 64


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Five classes of stripes of different widths, and a released MRL model that knows five classes."""
    place, draw = tmp_path_factory.mktemp("mine"), np.random.default_rng(0)
    for c in range(5):
        (place / "pictures" / f"class {c}").mkdir(parents=True)
        for i in range(12):
            stripes = 127 + 90 * np.sin(np.arange(SIDE) / (1 + c) + draw.uniform(0, 6))
            noisy = np.clip(stripes[None, :, None] + draw.normal(0, 20, (SIDE, SIDE, 3)), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(place / "pictures" / f"class {c}" / f"{i}.png")
    state = {f"module.{n}": t for n, t in (tensors(blur=True) | heads("MRL", 256)).items()}
    torch.save(state, place / "r50_mrl1_e0_ff2048.pt")
    return place


def opened(mine):
    return backbones.ready(str(mine / "r50_mrl1_e0_ff2048.pt"), str(mine / "pictures"), SIDE)


def test_as_it_is_it_is_cut_in_every_way_and_asked_by_its_own_heads(mine):
    task = opened(mine)
    assert (task.d, task.sizes, len(task.data.classes)) == (256, (8, 16, 32, 64, 128, 256), 5)
    found = backbones.as_it_is(task)
    by_way = found[found.metric == "1nn"].groupby("method").dim.apply(list).to_dict()
    assert set(by_way) == {f"backbone, {way}" for way in ("first dims", "random dims", "random projection", "SVD")}
    assert all(sizes == list(task.sizes) for sizes in by_way.values())
    whole = found[(found.metric == "1nn") & (found.dim == 256)].set_index("method").value
    assert whole["backbone, first dims"] == whole["backbone, random dims"]
    own = found[found.method == "backbone, its own MRL"].set_index("dim").value
    z = lab.embed(task.encoder(256), task.data.test.images)
    held = heads("MRL", 256)
    for i, m in enumerate(task.sizes):
        logits = z[:, :m] @ held[f"fc.nesting_classifier_{i}.weight"].T + held[f"fc.nesting_classifier_{i}.bias"]
        assert own[m] == pytest.approx(100 * (logits.argmax(1) == task.data.test.labels).float().mean().item())


def test_mrl_e_s_single_head_is_sliced(mine, tmp_path):
    torch.save(tensors() | heads("MRL-E", 256), tmp_path / "efficient.pt")
    found = backbones.backbones.opened(str(tmp_path / "efficient.pt"), SIDE)
    model = backbones.with_heads(found)
    assert isinstance(model.head, mrl.SlicedHead)
    z, held = torch.rand(3, 256), heads("MRL-E", 256)
    weight, bias = held["fc.nesting_classifier_0.weight"], held["fc.nesting_classifier_0.bias"]
    for m, logits in model.head(z).items():
        torch.testing.assert_close(logits, z[:, :m] @ weight[:, :m].T + bias)


def test_fine_tuning_begins_with_the_backbone_and_moves_it(mine):
    task = opened(mine)
    begun = backbones._plan(task)[backbones.NESTED].build(task, 0).encoder.state_dict()
    released = task.encoder(256).state_dict()
    assert all(torch.equal(begun[name], released[name]) for name in released)
    found = backbones.tuned(task, passes=4.0, seeds=[0], rates=[1e-3])
    assert set(found.method) == {backbones.NESTED, backbones.FULL}
    at = found[(found.metric == "1nn")].groupby("method").dim.apply(list)
    assert at[backbones.NESTED] == at[backbones.FULL] == list(task.sizes), "both are asked at every size"
    recipe = backbones._recipes(task, 4.0, (1e-3,))
    after = lab.trained(backbones._plan(task)[backbones.NESTED], task, recipe[backbones.NESTED], 0).encoder.state_dict()
    assert not torch.equal(
        after["body.embedder.embedder.convolution.weight"], released["body.embedder.embedder.convolution.weight"]
    )
    blur = "body.encoder.stages.1.layers.0.layer.1.convolution.blur"
    assert torch.equal(after[blur], released[blur]), "the blur is no weight"


def test_its_vectors_are_searched_by_a_prefix_and_all(mine):
    task = opened(mine)
    found = backbones.searched(task, passes=1.0, rates=[1e-3], lengths=(20, 10_000))
    ways = {
        f"{m}, {way}"
        for m in ("backbone", backbones.NESTED, backbones.FULL)
        for way in ("single-shot", "K = 20, D_r = 256")
    }
    assert set(found.method) == ways, "no list longer than the database"
    n = len(task.data.train)
    one = found[(found.method == "backbone, K = 20, D_r = 256") & (found.dim == 8)]
    assert one.flops.item() == n * 8 + 20 * 256
    assert (found.value.between(0, 100)).all()


def test_other_weights_under_the_same_name_are_another_task(mine, tmp_path):
    import shutil

    shutil.copytree(mine, tmp_path / "mine")
    first = opened(tmp_path / "mine").key
    assert first == opened(mine).key
    torch.save(tensors() | heads("MRL", 256), tmp_path / "mine" / "r50_mrl1_e0_ff2048.pt")
    assert opened(tmp_path / "mine").key != first


def test_one_goes_with_the_other(mine):
    assert backbones.ready("none", "none") is None
    for given in (("none", str(mine / "pictures")), (str(mine / "r50_mrl1_e0_ff2048.pt"), "none")):
        with pytest.raises(RequestError, match="go together"):
            backbones.ready(*given)
    with pytest.raises(RequestError, match="256 dims, not 128"):
        opened(mine).encoder(128)
