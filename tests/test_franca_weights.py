"""Franca's released files: what they hold computes what their own code does, and nothing is dropped or made up."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm, linear, silu

from mrl_lab.encoders import franca_weights
from mrl_lab.encoders.patches import PretrainedViT
from mrl_lab.errors import RequestError

D, DEPTH, PATCH, GRID = 64, 4, 6, 3  # two chunks of two blocks; pictures of 18 pixels


def tensors(swiglu=True, chunks=2):
    """A backbone under the release's names, drawn at random."""
    draw = torch.Generator().manual_seed(0)

    def rand(*shape):
        return 0.3 * torch.randn(*shape, generator=draw)

    state = {"cls_token": rand(1, 1, D), "mask_token": rand(1, D), "pos_embed": rand(1, 1 + GRID * GRID, D)}
    state |= {"patch_embed.proj.weight": rand(D, 3, PATCH, PATCH), "patch_embed.proj.bias": rand(D)}
    wide = (int(4 * D * 2 / 3) + 7) // 8 * 8
    shapes = (
        {"mlp.w12": (2 * wide, D), "mlp.w3": (D, wide)} if swiglu else {"mlp.fc1": (4 * D, D), "mlp.fc2": (D, 4 * D)}
    )
    for i in range(DEPTH):
        at = f"blocks.{i // (DEPTH // chunks)}.{i}." if chunks else f"blocks.{i}."
        for name, shape in {"attn.qkv": (3 * D, D), "attn.proj": (D, D), **shapes}.items():
            state |= {f"{at}{name}.weight": rand(*shape), f"{at}{name}.bias": rand(shape[0])}
        for name in ("norm1", "norm2"):
            state |= {f"{at}{name}.weight": 1 + rand(D), f"{at}{name}.bias": rand(D)}
        state |= {f"{at}ls1.gamma": rand(D), f"{at}ls2.gamma": rand(D)}
    return state | {"norm.weight": 1 + rand(D), "norm.bias": rand(D)}


def slow(state, x, chunks=2):
    """The release's forward, step by step: uint8 pictures -> all tokens after the last norm."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = conv2d((x.float() / 255 - mean) / std, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], PATCH)
    side, positions = x.shape[-1], state["pos_embed"]
    if side != GRID:
        square = positions[:, 1:].reshape(1, GRID, GRID, D).permute(0, 3, 1, 2)
        square = interpolate(square, scale_factor=((side + 0.1) / GRID,) * 2, mode="bicubic")
        positions = torch.cat([positions[:, :1], square.permute(0, 2, 3, 1).reshape(1, -1, D)], 1)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], 1) + positions
    for i in range(DEPTH):
        at = f"blocks.{i // (DEPTH // chunks)}.{i}." if chunks else f"blocks.{i}."

        def of(name, at=at):
            return state[f"{at}{name}.weight"], state[f"{at}{name}.bias"]

        q, k, v = linear(layer_norm(x, (D,), *of("norm1"), eps=1e-6), *of("attn.qkv")).chunk(3, -1)
        y = (q @ k.mT / math.sqrt(D)).softmax(-1) @ v  # one head of 64
        x = x + state[f"{at}ls1.gamma"] * linear(y, *of("attn.proj"))
        y = layer_norm(x, (D,), *of("norm2"), eps=1e-6)
        if f"{at}mlp.w12.weight" in state:
            gate, up = linear(y, *of("mlp.w12")).chunk(2, -1)
            y = linear(silu(gate) * up, *of("mlp.w3"))
        else:
            y = linear(gelu(linear(y, *of("mlp.fc1"))), *of("mlp.fc2"))
        x = x + state[f"{at}ls2.gamma"] * y
    return layer_norm(x, (D,), state["norm.weight"], state["norm.bias"], eps=1e-6)


def released(file, state, around="backbone.", **more):
    """Save as a release does: under "teacher", with what a training wraps around."""
    held = {f"{around}{name}": tensor for name, tensor in state.items()} | more
    torch.save({"teacher": held}, file)
    return file


def rasa_head(count=3, around=""):
    draw = torch.Generator().manual_seed(1)
    names = [*(f"pre_pos_layers.{i}.weight" for i in range(count)), "pos_pred.weight"]
    return {around + name: torch.randn(2, D, generator=draw) for name in names}


@pytest.mark.parametrize("around", ["", "backbone.", "module.backbone."])
@pytest.mark.parametrize("side", [18, 30])
def test_a_released_file_computes_what_its_own_code_does(tmp_path, around, side, capsys):
    state, x = tensors(), torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    heads = {"dino_head.mlp.0.weight": torch.zeros(3), "ibot_head.last_layer.weight_v": torch.zeros(3)}
    file = released(
        tmp_path / "franca_vitt6.pth",
        state,
        around,
        **{around.replace("backbone.", "") + k: v for k, v in heads.items()},
    )
    model = PretrainedViT(str(file), side=side).eval()
    with torch.no_grad():
        torch.testing.assert_close(model.tokens(x), slow(state, x), rtol=1e-4, atol=1e-4)
    assert (model.d, model.grid, model.looks.how) == (D, (side // PATCH,) * 2, "bicubic")
    assert "franca_vitt6.pth: 63 tensors of the backbone, dino_head, ibot_head left out" in capsys.readouterr().out


def test_dinov2_s_own_file_is_read_as_it_is(tmp_path):
    state, x = tensors(swiglu=False, chunks=0), torch.randint(256, (2, 3, 18, 18), dtype=torch.uint8)
    torch.save(state, tmp_path / "dinov2_vitt6_pretrain.pth")
    model = PretrainedViT(str(tmp_path / "dinov2_vitt6_pretrain.pth"), side=18).eval()
    with torch.no_grad():
        torch.testing.assert_close(model.tokens(x), slow(state, x, chunks=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("blocks.1.3.mlp.w12.weight"), "lacks .* such as encoder.layer.3.mlp.*Nothing was filled in"),
        (lambda s: s.pop("mask_token"), "lacks 1 weights, such as embeddings.mask_token"),
        (lambda s: s.pop("pos_embed"), "holds no tensor 'pos_embed'"),
        (lambda s: s.update(register_tokens=torch.zeros(1, 4, D)), "holds 1 tensors .* has no place for.*register_tok"),
        (
            lambda s: s.update({"norm.bias": torch.zeros(D + 1)}),
            "holds 1 weights of another shape .*layernorm.bias, .65,. in the place of .64,",
        ),
        (lambda s: s.update({"blocks.1.3.odd.weight": torch.zeros(1)}), "has no place for.*layer.3.odd.weight"),
    ],
)
def test_a_tensor_too_few_too_many_or_of_another_shape_is_an_error(tmp_path, change, words):
    state = tensors()
    change(state)
    with pytest.raises(RequestError, match=words):
        PretrainedViT(str(released(tmp_path / "it.pth", state)), side=18)


def test_what_is_no_file_of_tensors_is_refused_and_none_of_its_code_is_run(tmp_path):
    torch.save({"teacher": nn.Linear(2, 2)}, tmp_path / "module.pth")
    torch.save({"teacher": {"norm.weight": "a text"}}, tmp_path / "text.pth")
    (tmp_path / "cut.pth").write_bytes(released(tmp_path / "whole.pth", tensors()).read_bytes()[:5000])
    for name, words in {"module": "no Franca at", "text": "no dictionary of tensors", "cut": "no Franca at"}.items():
        with pytest.raises(RequestError, match=words):
            PretrainedViT(str(tmp_path / f"{name}.pth"), side=18)
    with pytest.raises(RequestError, match="pictures of side 20 are not whole patches"):
        PretrainedViT(str(tmp_path / "whole.pth"), side=20)


def test_the_planes_of_rasa_stand_in_the_file_or_beside_it(tmp_path):
    bare = released(tmp_path / "a.pth", tensors())
    assert franca_weights.planes(bare) == []
    held = rasa_head()
    torch.save(rasa_head(around="module."), tmp_path / "a_rasa.pth")
    inside = released(tmp_path / "b.pth", tensors(), "", **rasa_head(around="rasa_head."))
    for file in (bare, inside):
        found = franca_weights.planes(file)
        assert all(map(torch.equal, found, held.values())), "the last is the one that predicts"
        assert len(found) == 4
        PretrainedViT(str(file), side=18)
    torch.save(rasa_head() | {"pre_pos_layers.7.weight": torch.zeros(2, D)}, tmp_path / "a_rasa.pth")
    with pytest.raises(RequestError, match="RASA's planes are"):
        franca_weights.planes(bare)
