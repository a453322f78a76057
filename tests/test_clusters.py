"""Studies of nested clusters on the digits: scores against peers, canvases and removal against the plain way."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from test_franca_weights import rasa_head, released, tensors
from torch.nn.functional import normalize, one_hot

from mrl_lab import data, lab, score, verdicts
from mrl_lab.claims import clustering
from mrl_lab.claims.clustering import claims
from mrl_lab.distil.teacher import evenness
from mrl_lab.encoders import ConvNet
from mrl_lab.errors import RequestError
from mrl_lab.lab import embed
from mrl_lab.methods import baselines, franca, rasa
from mrl_lab.methods.masks import CyclicMask, InverseBlockMask
from mrl_lab.plots import clusters as figures
from mrl_lab.study.clusters import canvases, cost, elsewhere, levels, prefixes, removal, students
from mrl_lab.study.pictures import states

SIZES = (4, 8, 16, 32)
STUDENT = students.Student(SIZES, prototypes=64, steps=6)
RECIPE = STUDENT.recipe(batch=64)
VIEWER = students.Student((16, 32), prototypes=32, encoder="vit", layers=1, flip=False, steps=6)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def task():
    return prefixes.Unlabelled(data.load("digits"), SIZES, probe=(32,))


@pytest.fixture(scope="module")
def digits(task):
    return task.data


@pytest.fixture(scope="module")
def made(digits):
    return canvases.canvases(digits, train=128, test=60, side=16, thing=6)


# ---------------------------------------------------------------------------------------------- scores


def test_38_weighted_knn_is_scikit_learns():
    draw = torch.Generator().manual_seed(0)
    database, z = (normalize(torch.randn(n, 8, generator=draw), dim=1) for n in (300, 40))
    y, asked = (torch.randint(5, (n,), generator=draw) for n in (300, 40))
    peer = KNeighborsClassifier(20, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute")
    for m in (4, 8):
        expected = peer.fit(database[:, :m].numpy(), y.numpy()).predict(z[:, :m].numpy())
        found = score.knn(z, database, y, asked, [m])[m]
        assert found == pytest.approx(100 * (expected == asked.numpy()).mean())


def test_39_purity_nesting_and_agreement_of_known_partitions():
    y = np.array([0, 0, 1, 1, 2, 2])
    assert score.purity(np.array([0, 0, 0, 0, 1, 1]), y) == pytest.approx(4 / 6)
    assert score.agreement(y, y)["AMI"] == pytest.approx(100)
    fine, coarse = np.arange(6), np.array([0, 0, 0, 0, 1, 1])
    assert score.nesting(coarse, fine) == pytest.approx(1)
    assert score.nesting(fine, coarse) < 0.5
    entropy = -sum(p * np.log(p) for p in (4 / 6, 2 / 6))
    other = np.array([0, 1, 0, 1, 0, 1])
    assert score.nesting(coarse, other) == pytest.approx(mutual_info_score(coarse, other) / entropy)
    with pytest.raises(RequestError, match="same items"):
        score.nesting(coarse, fine[:3])


def test_39_many_fine_clusters_look_nested_by_chance():
    draw = np.random.default_rng(0)
    coarse = draw.integers(4, size=200)
    few, many = draw.integers(8, size=200), draw.integers(100, size=200)
    assert score.nesting_null(coarse, many, 0) > score.nesting_null(coarse, few, 0) > 0
    assert score.nesting(coarse, many) == pytest.approx(score.nesting_null(coarse, many, 0), abs=0.1)


def test_evenness_is_the_entropy_of_use():
    assert evenness(torch.eye(8)).item() == pytest.approx(1)
    assert evenness(torch.eye(8)[[0] * 5]).item() == 0
    half = evenness(torch.eye(4)[[0, 0, 1, 1]]).item()
    assert half == pytest.approx(np.log(2) / np.log(4))


# -------------------------------------------------------------------------------------------- students


def test_every_head_starts_from_the_same_encoder_and_what_happens_on_the_way_is_watched(task):
    two = students.variants(STUDENT, ["slice", "none"]).values()
    for a, b in zip(*(lab.built(spec, task, 3).teacher.encoder.parameters() for spec in two), strict=True):
        assert torch.equal(a, b)
    history = lab.trained(STUDENT, task, RECIPE, 0).history
    assert len(history) == 6
    assert {"4 used", "32 entropy", "spread"} <= set(history)


def test_the_teacher_follows_its_student(task):
    begun, taught = lab.built(STUDENT, task, 0), lab.trained(STUDENT, task, RECIPE, 0)
    moved = [
        not torch.equal(a, b) for a, b in zip(begun.teacher.parameters(), taught.teacher.parameters(), strict=True)
    ]
    assert all(moved)
    assert taught.step.item() == 6


def test_features_of_the_convolutional_student_are_standardised(digits):
    shape, x, made = tuple(digits.train.images.shape[1:]), digits.train.images[:200], []
    for standardised in (False, True):
        torch.manual_seed(0)
        made.append(ConvNet(shape, 16, positions=False, standardised=standardised).train()(x))
    plain, z = made
    wanted = (plain - plain.mean(0)) / (plain.var(0, correction=0) + 1e-5).sqrt()  # BatchNorm's own 1e-5
    assert torch.allclose(z, wanted, atol=1e-4)
    assert isinstance(STUDENT.body(digits).standard, torch.nn.BatchNorm1d)


def test_a_collapse_is_told():
    trouble = franca.collapse(pd.DataFrame({"4 used": [0.1] * 5}))
    assert "4 used is 0.100" in trouble
    assert "Lower lr" in trouble


def test_a_batch_too_small_for_the_prototypes_is_refused():
    with pytest.raises(RequestError, match="batch of 64 or more"):
        STUDENT.recipe(batch=32)
    assert students.Student(SIZES, prototypes=64, head="wide").recipe(batch=32).batch == 32, "a control that cannot"


def test_an_unknown_encoder_is_refused(digits):
    with pytest.raises(RequestError, match="vit"):
        students.Student(SIZES, encoder="vti").body(digits)


def test_40_prefixes_stand_beside_random_dims_pca_and_floors(task, digits):
    found = lab.sweep({"slice": STUDENT}, task, RECIPE, [0]).set_index(["method", "metric", "dim"]).value
    f = states(lab.trained(STUDENT, task, RECIPE, 0).teacher.encoder, digits)
    assert found["slice", "knn", 8] == pytest.approx(score.knn(f.z, f.database, f.database_y, f.y, [8])[8])
    for way in ("random dims", "top variance"):  # all dims, in another order
        assert found[f"slice, {way}", "knn", 32] == pytest.approx(found["slice", "knn", 32], abs=0.5)
    assert found["slice", "top1", 32] > 50
    f = states(lab.trained(STUDENT, task, RECIPE, 0).teacher.encoder, digits, "validation")
    right = score.knn(f.z, f.database, f.database_y, f.y, SIZES)
    grid = lab.tune({"slice": STUDENT}, task, RECIPE, lr=[RECIPE.lr])
    assert grid.validation.item() == pytest.approx(sum(right.values()) / len(SIZES))
    floor = prefixes.floors(STUDENT, task, 0).set_index(["method", "dim"]).value
    assert floor["pixels", 64] > 90
    body = lab.built(STUDENT, task, 0).teacher.encoder
    z, database = (embed(body, x.images) for x in (digits.test, digits.train))
    assert floor["untrained", 4] == pytest.approx(
        score.knn(z, database, digits.train.labels, digits.test.labels, [4])[4]
    )


def test_a_step_with_five_levels_costs_little_more_and_what_it_keeps_is_counted(task):
    x = torch.ones(1000, requires_grad=True)
    assert cost.kept_bytes(lambda: (x.exp() * 2).sum()) == 4000  # the output of exp, and nothing else
    heads = students.variants(STUDENT, ["none", "slice"])
    table = cost.compared(heads, task, RECIPE, repeats=1)
    assert table.loc["none", ["time ratio", "memory ratio"]].tolist() == [1, 1]
    assert table.loc["slice", "memory ratio"] > 1


@pytest.fixture
def folder(tmp_path):
    """A tiny DINOv2 with registers, as transformers saves it; its 3 x 3 patches are no whole pixels of a canvas."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 6, "image_size": 18}
    torch.manual_seed(0)
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**small, num_register_tokens=2)).save_pretrained(tmp_path / "it")
    return tmp_path / "it"


def opened(*paths, side=18):
    return elsewhere.opened(list(map(str, paths)), side)


def test_a_pretrained_transformer_from_disk_goes_through_the_same_scores(digits, made, folder, monkeypatch):
    (model,) = opened(folder)
    assert model.encoder.patches(made.data.test.images[:3]).shape == (3, 9, 32)
    found = elsewhere.scored(model, digits, made, steps=2, pictures=20)
    by_size = found[found.metric == "knn"]
    assert {name: rows.dim.tolist() for name, rows in by_size.groupby("method")} == {
        name: [2, 4, 8, 16, 32] for name in model.ways(*elsewhere.WAYS)
    }
    f = states(model.encoder, digits)
    right = score.knn(f.z, f.database, f.database_y, f.y, model.sizes)
    assert by_size[by_size.method == "pretrained it"].set_index("dim").value.to_dict() == pytest.approx(right)
    position = found[found.metric == "affine R2"].set_index("method").value
    ways = removal.removals(removal.Patches(torch.randn(4, 9, 32), torch.zeros(4, 9), (3, 3)), 0, 2)
    assert position.index.tolist() == [f"pretrained it, {way}" for way in ways], "no row stands for a student's"
    assert position["pretrained it, cross-covariance"] < 0.05 < position["pretrained it, raw"]
    monkeypatch.setattr(elsewhere, "states", lambda *_: pytest.fail("embedded again"))
    monkeypatch.setattr(elsewhere, "embedded", lambda *_: pytest.fail("embedded again"))
    again = elsewhere.scored(*opened(folder), digits, made, steps=2, pictures=20)
    pd.testing.assert_frame_equal(again, found)


def test_a_seed_stands_for_a_share_of_the_pictures(digits, made, folder):
    (model,) = opened(folder)
    found = elsewhere.scored(model, digits, made, (100, 101, 102), steps=1, pictures=10)
    prefix = found[(found.method == model.name) & (found.metric == "knn")]
    s = states(model.encoder, digits)
    for i, seed in enumerate((100, 101, 102)):
        right = score.knn(s.z[i::3], s.database, s.database_y, s.y[i::3], model.sizes)
        assert prefix[prefix.seed == seed].set_index("dim").value.to_dict() == pytest.approx(right)
    z = dict(zip(("train", "test"), canvases.embedded(model.encoder, made), strict=True))
    train, test = (side.share(1, 3) for side in removal.sides(z, made.at((3, 3))))
    assert torch.equal(train.z, z["train"][1::3])
    left = rasa.affine_r2(train.z, test.z, (3, 3))
    assert found[(found.method == f"{model.name}, raw") & (found.metric == "affine R2")].value.iloc[1] == left


def test_claims_on_a_pretrained_model_are_decided_by_its_rows(digits, made, folder, tmp_path):
    file = released(tmp_path / "franca_vitt6.pth", tensors())
    torch.save(rasa_head(), tmp_path / "franca_vitt6_rasa.pth")
    rows, judged = [], []
    for number, model in enumerate(opened(file, folder), 1):
        rows.append(elsewhere.scored(model, digits, made, (100, 101, 102), steps=1, pictures=10))
        judged += clustering.elsewhere(number, model.name, model.sizes, bool(model.planes))
    found = verdicts.judge(judged, pd.concat(rows), "minutes").set_index("id")
    assert found.index.tolist() == ["P1a", "P1b", "P1c", "P2a", "P2b"]
    assert (found.seeds == 3).all()
    assert found.ours.notna().all()
    assert found.verdict["P1c"] == "contradicted", "planes drawn at random take no position out"


def beyond(model, data):
    return elsewhere.beyond_random(model, data).pivot(index="dim", columns="metric", values="value")


def test_what_the_first_dims_are_beyond_random_ones(digits, folder, monkeypatch):
    (model,) = opened(folder)
    s, gain = states(model.encoder, digits), beyond(model, digits)
    assert gain.index.tolist() == [2, 4, 8, 16], "at the whole width there is nothing to choose"
    for m, row in gain.iterrows():
        draws = [prefixes.knn(s, lambda z, m=m, i=i: baselines.random_dims(z, m, i)) for i in range(20)]
        prefix = prefixes.knn(s, lambda z, m=m: baselines.first_dims(z, m))
        assert row[elsewhere.BEYOND] == pytest.approx(prefix - np.mean(draws), abs=1e-3)
        half = row[f"{elsewhere.BEYOND}, high"] - row[elsewhere.BEYOND]
        assert half == pytest.approx(row[elsewhere.BEYOND] - row[f"{elsewhere.BEYOND}, low"])
        assert half > 2.09 * np.std(draws, ddof=1), "draws differ, and so may a prefix"


def made_up(digits, seed, by_dim):
    """Features (., 32) of which each dim says something of the class, as much as ``by_dim``."""
    draw = torch.Generator().manual_seed(seed)
    says = by_dim * torch.randn(10, 32, generator=draw)
    labels = {"database": digits.train.labels, "queries": digits.test.labels}
    return {part: says[y] + torch.randn(len(y), 32, generator=draw) for part, y in labels.items()}


def test_nested_dims_are_told_from_those_that_are_alike(digits, folder, monkeypatch):
    (model,) = opened(folder)

    def low(seed, by_dim):
        monkeypatch.setattr(elsewhere, "_features", lambda *_: made_up(digits, seed, by_dim))
        return beyond(model, digits)[f"{elsewhere.BEYOND}, low"]

    nested = 1.2 * 0.8 ** torch.arange(32.0)
    assert (low(0, nested)[[2, 4, 8]] > 0).all(), "nested"
    assert (low(0, nested.flip(0)) < 0).all(), "the other way round"
    told = [(low(seed, torch.full((32,), 0.5)) > 0) for seed in range(6)]
    assert sum(map(sum, told)) <= 3, "of 24, one in forty may seem so by chance"
    assert not any(map(all, told)), "and none at every size"


def test_weights_made_elsewhere_are_noted_by_the_checksum_of_each_file(folder, digits, made):
    (folder / "README.md").write_text("not read")
    (folder / "training_args.bin").write_bytes(b"not read either")
    (model,) = opened(folder)
    digests = {record["file"]: record["sha256"] for record in model.provenance}
    assert digests == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("config.json", "model.safetensors")
    }
    assert {record["name"] for record in model.provenance} == {"it"}
    assert {record["place"] for record in model.provenance} == {"a folder of one's own"}
    first = elsewhere.scored(model, digits, made, steps=1, pictures=10)
    torch.nn.init.normal_(model.encoder.body.encoder.layer[0].mlp.fc1.weight)
    model.encoder.body.save_pretrained(folder)
    again = elsewhere.scored(*opened(folder), digits, made, steps=1, pictures=10)
    assert not again.value.equals(first.value), "other weights in the same folder are another result"


def test_franca_s_file_stands_beside_another_model_with_its_own_planes_of_position(folder, tmp_path, digits, made):
    file = released(tmp_path / "franca_vitt6.pth", tensors())
    torch.save(rasa_head(), tmp_path / "franca_vitt6_rasa.pth")
    franca_, other = opened(file, folder)
    assert (franca_.name, other.name, franca_.sizes) == ("pretrained franca_vitt6", "pretrained it", (4, 8, 16, 32, 64))
    assert [record["file"] for record in franca_.provenance] == ["franca_vitt6.pth", "franca_vitt6_rasa.pth"]
    found = elsewhere.scored(franca_, digits, made, steps=1, pictures=10).set_index(["method", "metric"]).value
    z = dict(zip(("train", "test"), canvases.embedded(franca_.encoder, made), strict=True))
    train, test = removal.sides(z, made.at((3, 3)))
    for w in rasa_head().values():  # the release: plane by plane, that of the last head too
        q = torch.linalg.qr(w.T)[0]
        train, test = (side.after(lambda z, q=q: z - z @ q @ q.T) for side in (train, test))
    expected = rasa.affine_r2(train.z, test.z, (3, 3))
    assert found["pretrained franca_vitt6, RASA, its own planes", "affine R2"] == pytest.approx(expected, abs=1e-3)
    with pytest.raises(RequestError, match="models of one name"):
        opened(file, file)


def test_dinov3_goes_the_same_way(tmp_path, digits):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    made = DINOv3ViTModel(DINOv3ViTConfig(**small, patch_size=6, image_size=18, num_register_tokens=4)).eval()
    made.save_pretrained(tmp_path / "dinov3")
    kind = {"image_processor_type": "DINOv3ViTImageProcessorFast", "crop_size": None, "do_center_crop": None}
    asked = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 2}
    scaled = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "size": {"height": 18, "width": 18}}
    (tmp_path / "dinov3" / "preprocessor_config.json").write_text(json.dumps(kind | asked | scaled))
    (model,) = opened(tmp_path / "dinov3")
    x, looks = digits.test.images[:3], model.encoder.looks
    assert (looks.mean, looks.std, looks.how) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bilinear"), "without torchvision"
    with torch.no_grad():
        whole = made(pixel_values=model.encoder.scale(model.encoder.looks.resized(x))).last_hidden_state
    torch.testing.assert_close(model.encoder(x), whole[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.encoder.patches(x), whole[:, 5:], rtol=0, atol=1e-5)


def test_what_is_no_transformer_for_these_pictures_is_refused(folder):
    with pytest.raises(RequestError, match="whole patches of 6"):
        opened(folder, side=20)
    with pytest.raises(RequestError, match="no vision transformer"):
        opened(folder / "nowhere")


def test_levels_stand_beside_k_means_with_as_many_clusters(task):
    longer = replace(STUDENT, steps=20)  # after six, two to four prototypes are in use: nothing nests yet
    plain = students.variants(longer, ["none"])["none"]
    found = (
        levels.clustered(longer, plain, task, longer.recipe(batch=64), 0).set_index(["method", "metric", "dim"]).value
    )
    for m, k in {4: 16, 8: 16, 16: 32, 32: 64}.items():
        assert found["slice", "clusters", m] <= k
        assert found["none, k-means", "clusters", m] <= k
        assert abs(found["shuffled labels", "AMI", m]) < 5
        assert found["slice, k-means of the prefix", "AMI", m] > 10
    assert 0 <= found["slice", "nesting by chance", 8] <= found["slice", "nesting", 8] <= 100


# ----------------------------------------------------------------------------------- canvases and removal


def test_a_patch_has_the_label_of_most_of_its_pixels(digits, made):
    from mrl_lab.data.scenes import scenes

    whole = scenes(digits, train=128, test=60, side=16, thing=6)["test"]
    assert torch.equal(whole.images, made.data.test.images)
    for i in range(20):
        pixels = torch.full((16, 16), made.empty)
        for r in range(2):
            for c in range(2):
                top, left = whole.corners[i, 0, r], whole.corners[i, 1, c]
                if whole.grids[i, r, c] >= 0:
                    pixels[top : top + 6, left : left + 6] = whole.grids[i, r, c]
        for p in range(16):
            block = pixels[p // 4 * 4 : p // 4 * 4 + 4, p % 4 * 4 : p % 4 * 4 + 4]
            counts = block.flatten().bincount(minlength=11)
            assert counts[made.test_y[i, p]] == counts.max()
    assert torch.equal(made.at((4, 4)).test_y, made.test_y)
    assert made.at((8, 8)).train_y.shape == (128, 64)
    whole = one_hot(pixels, 11).bool()  # of the last canvas; 5 x 5 patches of 3.2 pixels touch 4 or 5 of them
    for p, label in enumerate(made.at((5, 5)).test_y[19]):
        r, c = p // 5 * 16 / 5, p % 5 * 16 / 5
        touched = whole[int(r) : -int(-(r + 3.2) // 1), int(c) : -int(-(c + 3.2) // 1)]
        counts = touched.flatten(0, 1).sum(0)
        assert counts[label] == counts.max()


@pytest.fixture(scope="module")
def patches():
    """Features in which position is affine in some dims, and content sits in others."""
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(3, (200, 16), generator=draw)
    z = torch.randn(200, 16, 24, generator=draw)
    z[..., :2] += 4 * rasa.positions((4, 4)).float()
    z[..., 2] += 3 * rasa.positions((4, 4)).float().square().sum(1)
    z[..., 5:8] += 4 * one_hot(y, 3)
    return [removal.Patches(z[half], y[half], (4, 4)) for half in (slice(0, 100), slice(100, 200))]


def test_exact_removals_take_affine_position_and_leave_content(patches):
    train, test = patches
    ways = removal.removals(train, 0, steps=3)
    assert set(ways) >= {"raw", "RASA, as released", "RASA, orthogonal", "cross-covariance", "LEACE", "6 random dims"}
    found = {name: removal.probed(train.after(way), test.after(way), 9, 0, 100) for name, way in ways.items()}
    assert found["raw"]["affine R2"] > 0.6
    for exact in ("cross-covariance", "LEACE"):
        assert found[exact]["affine R2"] < 0.02
        assert found[exact]["patch knn"] == pytest.approx(found["raw"]["patch knn"], abs=3)
    assert found["6 random dims"]["affine R2"] > 0.3
    assert found["raw"]["place"] > found["mean of each place"]["place"]
    assert found["mean of each place"]["place"] < 10  # chance is 6.25


def test_probes_are_those_of_scikit_learn(patches):
    train, test = patches
    found = removal.probed(train, test, 9, 0, 100)
    where = rasa.positions((4, 4)).numpy()
    z, _, place = train.flat()
    asked, _, asked_place = test.flat()
    r2 = LinearRegression().fit(z, where[place]).score(asked, where[asked_place])
    assert found["affine R2"] == pytest.approx(r2, abs=0.01)
    curved = removal.quadratic((4, 4)).numpy()
    assert curved[5].tolist() == pytest.approx([1 / 36] * 3)
    middle = rasa.positions((4, 4)).numpy() - 0.5
    assert middle.T @ (curved - curved.mean(0)) == pytest.approx(0), "nothing affine is in it"
    r2 = LinearRegression().fit(z, curved[place]).score(asked, curved[asked_place])
    assert found["quadratic R2"] == pytest.approx(r2, abs=0.02)


def test_clusters_that_are_places_have_no_spatial_entropy():
    place = torch.arange(16).repeat(40)  # 40 pictures
    even = torch.arange(40).repeat_interleave(16)  # each cluster stands once at every place
    assert removal.entropy_of_places(place.numpy(), place.numpy()) == pytest.approx(0)
    assert removal.entropy_of_places(even.numpy(), place.numpy()) == pytest.approx(1)
    z = torch.eye(16)[place] + 0.05 * torch.randn(640, 16, generator=torch.Generator().manual_seed(0))
    found = removal.spatial_entropy(z, place, 0)
    assert found["spatial entropy"] < 0.1
    assert 0.5 < found["spatial entropy by chance"] < 1, "few members cannot stand everywhere"


def test_removal_is_scored_on_a_trained_student(made):
    found = removal.scored(VIEWER, made, RECIPE, 0, steps=2, pictures=30)
    assert set(found.metric) == {
        *("affine R2", "quadratic R2", "MLP R2", "place"),
        *("patch knn", "thing knn", "segmentation"),
        *("spatial entropy", "spatial entropy by chance"),
    }
    assert found.groupby("method").size().nunique() == 1
    assert found.notna()["value"].all()


def test_every_block_is_looked_at_before_and_after_the_removal(made):
    spec = replace(VIEWER, layers=2)
    found = removal.by_layer(spec, made, RECIPE, 0, pictures=30)
    table = found.pivot_table(index="layer", columns=["metric", "method"], values="value")
    assert table.index.tolist() == [1, 2]
    assert set(found.metric) == {"affine R2 by layer", "patch knn by layer", "thing knn by layer"}
    encoder = lab.trained(spec, made, RECIPE, 0).teacher.encoder
    z = dict(zip(("train", "test"), canvases.embedded(encoder, made), strict=True))
    last = removal.sides(z, made)  # the last block's are the features themselves
    r2 = rasa.affine_r2(last[0].z, last[1].z, made.grid)
    assert table["affine R2 by layer", "raw"][2] == pytest.approx(r2)
    assert table["affine R2 by layer", "raw"][1] != pytest.approx(r2)
    assert (table["affine R2 by layer", "cross-covariance"] < 0.05).all()


# --------------------------------------------------------------------------------------- figures, claims


def test_figures_show_levels_masks_clusters_and_patches(task, digits):
    history = lab.trained(STUDENT, task, RECIPE, 0).history
    fig = figures.over_training(history, SIZES)
    assert [len(ax.lines) for ax in fig.axes] == [4, 4]
    kinds = {"with the roll": CyclicMask((4, 4)), "without": InverseBlockMask((4, 4))}
    told = [ax.get_title() for ax in figures.visibility(kinds, 500, 2).axes]
    even, uneven = (np.diff([int(x) for x in t.split() if x.isdigit()])[0] for t in told if t.startswith("hidden"))
    assert even < uneven
    fig = figures.by_cluster(digits.test.images[:6], np.array([2, 1, 2, 0, 2, 1]), columns=3)
    assert [ax.get_title() for ax in fig.axes] == [f"cluster {c}" for c in (2, 2, 2, 1, 1, 0)]


def test_ways_stand_side_by_side_with_their_intervals():
    rows = [
        {"method": m, "metric": k, "seed": s, "value": v + 0.1 * s}
        for m, v in (("raw", 0.5), ("LEACE", 0.0))
        for k in ("affine R2", "patch knn")
        for s in range(3)
    ]
    left, right = figures.side_by_side(score.table(rows), ["affine R2"], ["patch knn"]).axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["raw", "LEACE"]
    (points,) = left.containers
    assert points.lines[0].get_xdata().tolist() == pytest.approx([0.6, 0.1])
    assert len(right.containers) == 1


def test_colours_are_the_first_components_of_patches(patches):
    axes, mean = figures.principal(patches[0].z)
    picture = figures.colours(patches[0].z[0], (4, 4), axes, mean)
    assert picture.shape == (4, 4, 3)
    assert picture.min() == 0
    assert picture.max() == 1
    flat = patches[0].z.flatten(0, 1)
    assert ((flat - mean) @ axes).var(0)[0] >= flat.var(0).max()


def test_claims_are_decided_by_cells_that_the_studies_fill(task, made):
    heads = students.variants(STUDENT, ["slice", "none", "proj", "many", "wide"])
    tables = [lab.sweep(heads, task, RECIPE, [0])]
    tables.append(levels.clustered(heads["slice"], heads["none"], task, RECIPE, 0))
    tables.append(removal.scored(VIEWER, made, RECIPE, 0, steps=2, pictures=30))
    tables.append(removal.by_layer(VIEWER, made, RECIPE, 0, pictures=30))
    judged = verdicts.judge(claims(SIZES, 16, "4 random dims", masks=False), pd.concat(tables), "minutes")
    assert judged.id.tolist() == ["F1", "F1a", "F1b", "F1c", "F2", "F3", "F3b", "R1", "R1b", "R2", "R3", "R4", "R5"]
    behind = verdicts.detail(claims(SIZES, 16, "4 random dims", masks=False), pd.concat(tables), "minutes")
    assert not behind.note.str.contains("no score").any(), behind.note.tolist()
    assert "F4" in [c.id for c in claims(SIZES, 16, "4 random dims")]
