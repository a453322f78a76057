"""Backbones made elsewhere: torchvision's names, the released MRL format with its blur and heads, timm's by name."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import batch_norm, conv2d, linear, max_pool2d

from mrl_lab.encoders import backbones
from mrl_lab.errors import RequestError

SIDE, CLASSES = 64, 5


def tensors(deep=True, blur=False, width=8):
    """A ResNet under torchvision's names, drawn at random: stages of 1, 2, 1, 1 blocks; d = 8 width (4 of it deep)."""
    draw, state = torch.Generator().manual_seed(0), {}

    def norm(name, c):
        state[f"{name}.weight"] = 1 + 0.1 * torch.randn(c, generator=draw)
        state[f"{name}.bias"] = 0.1 * torch.randn(c, generator=draw)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(c, generator=draw)
        state[f"{name}.running_var"] = 1 + torch.rand(c, generator=draw)

    def conv(name, out, into, k, strided=False):
        weight = torch.randn(out, into, k, k, generator=draw) / (into * k * k) ** 0.5
        blurred = blur and strided and into >= 16
        state[f"{name}.conv.weight" if blurred else f"{name}.weight"] = weight
        if blurred:
            state[f"{name}.blur_filter"] = (torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16).repeat(
                into, 1, 1, 1
            )

    conv("conv1", 16, 3, 7)
    norm("bn1", 16)
    into = 16
    for stage, blocks in enumerate((1, 2, 1, 1)):
        c = width * 2**stage
        for b in range(blocks):
            at, strided, out = f"layer{stage + 1}.{b}", stage > 0 and b == 0, 4 * c if deep else c
            shapes = [(c, into, 1), (c, c, 3), (out, c, 1)] if deep else [(c, into, 3), (c, c, 3)]
            for i, (o, n, k) in enumerate(shapes, 1):
                conv(f"{at}.conv{i}", o, n, k, strided and i == (2 if deep else 1))
                norm(f"{at}.bn{i}", o)
            if strided or into != out:
                conv(f"{at}.downsample.0", out, into, 1, strided)
                norm(f"{at}.downsample.1", out)
            into = out
    return state


def slow(state, x):
    """torchvision's forward, step by step: pictures scaled already -> pooled features (B, d)."""

    def conv(name, x, stride=1):
        blurred = f"{name}.blur_filter" in state
        if blurred:
            x = conv2d(x, state[f"{name}.blur_filter"], padding=1, groups=x.shape[1])
        weight = state[f"{name}.conv.weight" if blurred else f"{name}.weight"]
        return conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(name, x):
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return batch_norm(x, *parts)

    x = max_pool2d(norm("bn1", conv("conv1", x, 2)).relu(), 3, 2, 1)
    for stage in range(4):
        b = 0
        while f"layer{stage + 1}.{b}.bn1.weight" in state:
            at, stride = f"layer{stage + 1}.{b}", 2 if stage > 0 and b == 0 else 1
            deep = f"{at}.bn3.weight" in state
            y = norm(f"{at}.bn1", conv(f"{at}.conv1", x, 1 if deep else stride)).relu()
            y = norm(f"{at}.bn2", conv(f"{at}.conv2", y, stride if deep else 1))
            y = norm(f"{at}.bn3", conv(f"{at}.conv3", y.relu())) if deep else y
            if f"{at}.downsample.1.weight" in state:
                x = norm(f"{at}.downsample.1", conv(f"{at}.downsample.0", x, stride))
            x, b = (x + y).relu(), b + 1
    return x.mean((2, 3))


def heads(kind, d):
    """The last layer under the names of the release."""
    draw = torch.Generator().manual_seed(1)
    sizes = {"MRL": [8 * 2**i for i in range((d // 8).bit_length())], "FF": [16]}.get(kind, [d])
    names = {"MRL": [f"fc.nesting_classifier_{i}" for i in range(len(sizes))], "MRL-E": ["fc.nesting_classifier_0"]}
    state = {}
    for name, m in zip(names.get(kind, ["fc"]), sizes, strict=True):
        state[f"{name}.weight"] = torch.randn(CLASSES, m, generator=draw)
        state[f"{name}.bias"] = torch.randn(CLASSES, generator=draw)
    return state


def scaled(x):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return (x.float() / 255 - mean) / std


X = torch.randint(256, (2, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_under_torchvision_s_names_computes_what_torchvision_does(tmp_path, deep, suffix):
    state, file = tensors(deep), tmp_path / f"resnet{suffix}"
    d = 256 if deep else 64
    held = state | heads("plain", d)
    save_file(held, file) if suffix == ".safetensors" else torch.save(held, file)
    found = backbones.opened(str(file), side=SIDE)
    assert (found.kind, found.sizes, found.encoder.d) == ("FF", (d,), d)
    with torch.no_grad():
        torch.testing.assert_close(found.encoder.eval()(X), slow(state, scaled(X)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "name", "sizes"),
    [
        ("MRL", "r50_mrl1_e0_ff2048.pt", (8, 16, 32, 64, 128, 256)),
        ("MRL-E", "anything.pt", (8, 16, 32, 64, 128, 256)),
        ("FF", "r50_mrl0_e0_ff16.pt", (16,)),
        ("old MRL-E", "r50_mrl1_e1_ff2048.pt", (8, 16, 32, 64, 128, 256)),
    ],
)
def test_the_released_mrl_format_with_blur_and_heads(tmp_path, kind, name, sizes):
    state, held = tensors(blur=True), heads(kind, 256)
    assert any(n.endswith("blur_filter") for n in state)
    torch.save({f"module.{n}": t for n, t in (state | held).items()}, tmp_path / name)
    found = backbones.opened(str(tmp_path / name), side=SIDE)
    assert (found.kind, found.sizes) == (kind.removeprefix("old "), sizes)
    with torch.no_grad():
        z = found.encoder.eval()(X)
        torch.testing.assert_close(z, slow(state, scaled(X)), rtol=1e-4, atol=1e-4)
        plain = {n.replace(".conv.weight", ".weight"): t for n, t in state.items() if "blur_filter" not in n}
        assert (z - slow(plain, scaled(X))).abs().max() > 0.01, "the blur is no small thing"
        for m, (weight, bias) in found.heads.items():
            layer = [n for n in held if n.endswith("weight") and held[n].shape[1] == m]
            expected = linear(z[:, :m], held[layer[0]], held[layer[0].replace("weight", "bias")])
            assert torch.equal(linear(z[:, :m], weight, bias), expected)
    assert set(found.heads) == (set(sizes) if kind in ("MRL", "FF") else {256})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layer2.1.conv2.weight"), "lacks 1 weights"),
        (lambda s: s.update({"layer2.1.se.weight": torch.zeros(2)}), "holds 1 tensors .*no place for.*se.weight"),
        (lambda s: s.pop("conv1.weight"), "no tensors of a ResNet by torchvision's names"),
        (lambda s: s.update({"bn1.bias": torch.zeros(3)}), "holds 1 weights of another shape"),
        (lambda s: s.pop("fc.bias"), "heads have a weight and a bias each"),
        (lambda s: s["layer2.0.conv2.blur_filter"].mul_(2), "another filter than"),
    ],
)
def test_a_tensor_too_few_too_many_or_other_is_an_error(tmp_path, change, words):
    state = tensors(blur=True) | heads("plain", 256)
    change(state)
    torch.save(state, tmp_path / "it.pth")
    with pytest.raises(RequestError, match=words):
        backbones.opened(str(tmp_path / "it.pth"), side=SIDE)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "it.pt")
    with pytest.raises(RequestError, match="no ResNet at"):
        backbones.opened(str(tmp_path / "it.pt"))


def test_a_folder_of_transformers_is_opened_and_timm_s_says_what_it_needs(tmp_path):
    from transformers import ResNetConfig, ResNetModel, ViTImageProcessorPil

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path / "resnet")
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path / "resnet")
    found = backbones.opened(str(tmp_path / "resnet"))
    assert (found.encoder.d, found.kind, found.sizes) == (16, "none", ())
    assert found.encoder(X).shape == (2, 16)
    (tmp_path / "timm").mkdir()
    about = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "model_type": "timm_wrapper"}
    (tmp_path / "timm" / "config.json").write_text(json.dumps(about))
    with pytest.raises(RequestError, match="timm"):
        backbones.opened(str(tmp_path / "timm"))


def test_many_pictures_are_embedded_some_at_a_time_with_the_same_result(tmp_path):
    torch.save(tensors(deep=False), tmp_path / "it.pth")
    encoder = backbones.opened(str(tmp_path / "it.pth"), side=32).encoder.eval()
    x = torch.randint(256, (70, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    sizes = []
    encoder.body.register_forward_hook(lambda _, __, out: sizes.append(len(out.pooler_output)))
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), torch.cat([encoder(one[None]) for one in x]), rtol=1e-4, atol=1e-5)
    assert sizes[:3] == [32, 32, 6]
