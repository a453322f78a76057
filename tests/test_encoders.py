"""Encoders: shapes, position, scaling, pretrained models from disk, and errors."""

from types import SimpleNamespace

import pytest
import torch

from mrl_lab import encoders
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
