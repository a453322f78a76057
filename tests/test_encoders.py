"""Encoders: shapes, position, scaling, pretrained models from disk, and errors."""

import json
from types import SimpleNamespace

import pytest
import torch

from mrl_lab import encoders
from mrl_lab.encoders.patches import PretrainedViT
from mrl_lab.errors import RequestError


def pictures(n=6, shape=(1, 28, 28)):
    return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def data(x):
    channels = 1 if x.ndim == 2 else x.shape[1]
    return SimpleNamespace(train=SimpleNamespace(images=x), mean=(0.5,) * channels, std=(0.25,) * channels)


@pytest.mark.parametrize("kind", ["conv", "vit", "mlp"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 28, 56), (1, 8, 8)])
def test_every_encoder_gives_d_numbers(kind, shape):
    x = pictures(shape=shape)
    encoder = encoders.build(kind, data(x), 32)
    assert encoder.d == 32
    assert encoder(x).shape == (6, 32)


def test_conv_feature_is_post_relu_as_in_the_paper():
    x = pictures(n=64)
    assert (encoders.build("conv", data(x), 16)(x) >= 0).all()


def test_conv_tells_left_from_right_thanks_to_the_position_map():
    x = torch.zeros(2, 1, 28, 112, dtype=torch.uint8)
    x[0, :, 8:20, 32:44] = x[1, :, 8:20, 64:76] = 255  # the same square, moved by whole strides, far from the sides
    net = encoders.ConvNet((1, 28, 112), 16, mean=(0.0,), std=(1.0,)).eval()  # the background equals the padding
    told = (net(x)[0] - net(x)[1]).abs().max()
    torch.nn.init.zeros_(net.position)
    blind = (net(x)[0] - net(x)[1]).abs().max()
    assert told > 1e-4
    assert blind < 1e-6


def test_scaling_is_by_channel_and_takes_bytes_or_floats():
    x = pictures(shape=(3, 4, 4))
    scale = encoders.Scale((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    expected = torch.stack([(x[:, c] / 255 - m) / s for c, m, s in ((0, 0.1, 0.5), (1, 0.2, 0.6), (2, 0.3, 0.7))], 1)
    assert torch.allclose(scale(x), expected, atol=1e-6)
    assert torch.allclose(scale(x.float() / 255), expected, atol=1e-6)


def test_vectors_get_an_mlp():
    x = torch.randn(20, 9)
    assert encoders.build("conv", data(x), 8)(x).shape == (20, 8)


@pytest.fixture(params=["vit", "resnet"])
def checkpoint(request, tmp_path):
    """A tiny untrained model on disk, as transformers saves it."""
    from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTImageProcessor, ViTModel

    if request.param == "vit":
        sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 16}
        model = ViTModel(ViTConfig(hidden_size=16, patch_size=8, **sizes))
    else:
        model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    model.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pretrained_model_opens_from_a_folder(checkpoint, channels):
    x = pictures(shape=(channels, 28, 28))
    encoder = encoders.build(str(checkpoint), data(x), 8)
    assert encoder.d == 16  # its own width, whatever was asked
    z = encoder.eval()(x)
    assert z.shape == (6, 16)
    assert torch.equal(z, encoders.build(str(checkpoint), data(x), 8).eval()(x))  # trained weights, not random ones


@pytest.mark.parametrize(
    ("kind", "shape", "d", "words"),
    [
        ("convnet", (1, 28, 28), 16, "Did you mean 'conv'"),
        ("conv", (1, 6, 6), 16, "8 x 8 or more"),
        ("vit", (1, 28, 30), 32, "divisible by 4"),
        ("vit", (1, 28, 28), 20, "d by 32"),
    ],
)
def test_wrong_requests(kind, shape, d, words):
    with pytest.raises(RequestError, match=words):
        encoders.build(kind, data(pictures(shape=shape)), d)


def test_missing_weights_say_where_they_were_looked_for(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="looked in the folder"):
        encoders.pretrained(str(tmp_path))


SETTINGS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


class SlowMobileNet:
    """MobileNetV2 as its paper's table 2 lists it (t, c, n, s), layer by layer, under torchvision's names."""

    def __init__(self):
        self.state, self.draw = {}, torch.Generator().manual_seed(0)
        self.steps = [self.unit("features.0.0", "features.0.1", 3, 32, 3, 2)]
        channels, number = 32, 1
        for expand, out, repeats, stride in SETTINGS:
            for i in range(repeats):
                self.steps.append(self.block(f"features.{number}.conv", channels, out, expand, stride if i == 0 else 1))
                channels, number = out, number + 1
        self.steps.append(self.unit("features.18.0", "features.18.1", 320, 1280, 1))
        self.state["classifier.1.weight"] = torch.zeros(1000, 1280)

    def rand(self, *shape):
        return torch.randn(*shape, generator=self.draw)

    def unit(self, convolve, norm, c_in, c_out, kernel, stride=1, groups=1, relu=True):
        self.state[f"{convolve}.weight"] = self.rand(c_out, c_in // groups, kernel, kernel) / (c_in // groups) ** 0.5
        names = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        self.state |= dict(zip(names, [1 + 0.1 * self.rand(c_out), *(0.1 * self.rand(2, c_out))], strict=False))
        self.state[names[3]] = 1 + 0.1 * self.rand(c_out).abs()
        weight, (scale, shift, mean, var) = self.state[f"{convolve}.weight"], [self.state[n] for n in names]

        def run(x):
            x = torch.nn.functional.conv2d(x, weight, None, stride, kernel // 2, 1, groups)
            x = torch.nn.functional.batch_norm(x, mean, var, scale, shift, False, 0.0, 1e-5)
            return x.clamp(0, 6) if relu else x

        return run

    def block(self, name, c_in, c_out, expand, stride):
        wide, parts = c_in * expand, []
        if expand > 1:
            parts.append(self.unit(f"{name}.0.0", f"{name}.0.1", c_in, wide, 1))
        at = len(parts)
        parts.append(self.unit(f"{name}.{at}.0", f"{name}.{at}.1", wide, wide, 3, stride, wide))
        parts.append(self.unit(f"{name}.{at + 1}", f"{name}.{at + 2}", wide, c_out, 1, relu=False))

        def run(x):
            y = x
            for part in parts:
                y = part(y)
            return x + y if stride == 1 and c_in == c_out else y

        return run

    def __call__(self, x):
        x = (x.float() / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        for step in self.steps:
            x = step(x)
        return x.mean((2, 3))


def test_mobilenet_with_torchvisions_weights_computes_what_the_paper_lists(tmp_path):
    slow = SlowMobileNet()
    torch.save(slow.state, tmp_path / "weights.pth")
    encoder = encoders.mobilenet_v2(tmp_path / "weights.pth", side=64).eval()
    x = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), slow(x), rtol=1e-3, atol=1e-4)
    assert encoder.d == 1280


def test_other_weights_are_refused(tmp_path):
    torch.save({"features.0.0.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "weights.pth")
    with pytest.raises(RequestError, match="MobileNetV2"):
        encoders.mobilenet_v2(tmp_path / "weights.pth")


# ---------------------------------------------------------------------------------------- made elsewhere

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SMALL = TINY | {"image_size": 16, "patch_size": 8}


def vision(kind, folder):
    """A tiny untrained model of another maker, as transformers saves it, with a processor."""
    import transformers as tf

    torch.manual_seed(0)
    made = {
        "vit": lambda: tf.ViTModel(tf.ViTConfig(**SMALL)),
        "no pooler": lambda: tf.ViTModel(tf.ViTConfig(**SMALL), add_pooling_layer=False),
        "dinov2": lambda: tf.Dinov2Model(tf.Dinov2Config(**SMALL, mlp_ratio=2)),
        "siglip": lambda: tf.SiglipVisionModel(tf.SiglipVisionConfig(**SMALL)),
        "bert": lambda: tf.BertModel(tf.BertConfig(**TINY, vocab_size=40)),
        "clip": lambda: tf.CLIPModel(tf.CLIPConfig(text_config=TINY | {"vocab_size": 40}, vision_config=SMALL)),
    }[kind]()
    made.save_pretrained(folder)
    tf.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return made.eval()


def edited(folder, leave_out):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if leave_out not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("opens", [encoders.pretrained, lambda folder: PretrainedViT(folder, side=16)])
@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        ("vit", "layernorm.weight"),
        ("dinov2", "layer.1."),
        ("dinov2", "embeddings.cls_token"),
    ],
)
def test_vision_models_that_lack_weights_are_refused_not_filled_at_random(tmp_path, opens, kind, lacking):
    vision(kind, tmp_path)
    edited(tmp_path, lacking)
    with pytest.raises(
        RequestError, match=rf"lacks \d+ weights, such as [\w.]*{lacking}.*Nothing was filled in at random"
    ):
        opens(str(tmp_path))


def test_a_pooler_without_weights_is_left_out(tmp_path):
    made, x = vision("no pooler", tmp_path), pictures(shape=(3, 16, 16))
    z = encoders.pretrained(str(tmp_path)).eval()(x)
    with torch.no_grad():
        expected = made(pixel_values=(x.float() / 255 - 0.5) / 0.5).last_hidden_state.mean(1)
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("opens", "kind", "words"),
    [
        (PretrainedViT, "bert", "BertModel at .* has no square patches"),
        (PretrainedViT, "clip", "CLIPModel at .* has no square patches"),
        (lambda folder: PretrainedViT(folder, side=16), "siglip", r"SiglipVisionModel makes tokens \(1, 4, 32\)"),
        (lambda folder: PretrainedViT(folder, side=24), "vit", "ViTModel makes no features of pictures .*24, 24"),
        (encoders.pretrained, "bert", "BertModel makes no features of pictures"),
        (encoders.pretrained, "clip", "CLIPModel makes no features of pictures"),
    ],
)
def test_models_of_another_kind_are_refused_by_name(tmp_path, opens, kind, words):
    vision(kind, tmp_path)
    with pytest.raises(RequestError, match=words):
        opens(str(tmp_path))


ASKED = {
    "mean and deviation": {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
    "no normalising": {"do_normalize": False},
    "bicubic": {"resample": 3},
}


@pytest.mark.parametrize("name", ASKED)
def test_pictures_are_seen_as_a_models_own_processor_shows_them(tmp_path, name):
    from transformers import AutoImageProcessor

    made, x = vision("vit", tmp_path), pictures(shape=(3, 28, 28))
    config = tmp_path / "preprocessor_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | ASKED[name]))
    pixels = AutoImageProcessor.from_pretrained(tmp_path)(list(x), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = made(pixel_values=pixels)
    ours = encoders.pretrained(str(tmp_path)).eval()
    assert (ours.scale(ours.looks.resized(x)) - pixels).abs().mean() < 0.005, "a processor rounds to bytes"
    torch.testing.assert_close(ours(x), out.pooler_output, rtol=0, atol=0.02)
    patches = PretrainedViT(str(tmp_path), side=16).eval()
    torch.testing.assert_close(patches(x), out.last_hidden_state[:, 0], rtol=0, atol=0.05)


def test_a_processor_that_is_not_followed_is_refused(tmp_path):
    vision("vit", tmp_path)
    config = tmp_path / "preprocessor_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"resample": 0}))
    for opens in (encoders.pretrained, PretrainedViT):
        with pytest.raises(RequestError, match="by filter 0"):
            opens(str(tmp_path))
