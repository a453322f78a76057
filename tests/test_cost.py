"""Cost by formula: the paper's table, and weights counted in real modules."""

import pytest
from transformers import CLIPVisionConfig, LlamaConfig, LlamaForCausalLM, LlavaConfig

from mrl_lab import cost
from mrl_lab.encoders import llava_weights
from mrl_lab.errors import RequestError

LLAVA = LlavaConfig()  # transformers' defaults have the shape of LLaVA-1.5-7B


@pytest.mark.parametrize(("tokens", "tera"), [(576, 8.0), (144, 2.2), (36, 0.9), (9, 0.5), (1, 0.4)])
def test_16_prefill_is_that_of_table_9(tokens, tera):
    assert cost.prefill_flops(LLAVA.text_config, tokens + 30) / 1e12 == pytest.approx(tera, rel=0.05)


def test_the_shape_of_llava():
    assert cost.language_parameters(LLAVA.text_config) == pytest.approx(6.476e9, rel=1e-3)
    assert cost.kv_bytes(LLAVA.text_config, 1) == 524_288
    assert cost.kv_bytes(LLAVA.text_config, 576) == pytest.approx(302e6, rel=1e-3)
    assert cost.tower_flops(LLAVA.vision_config) == pytest.approx(0.38e12, rel=0.02)


def test_16_tiles_times_tokens():
    rows = cost.by_scale(LLAVA, (576, 144, 36, 9, 1), text_tokens=30, tiles=5)
    assert [row["visual"] for row in rows] == [2880, 720, 180, 45, 5]
    assert rows[0]["prefill"] == cost.prefill_flops(LLAVA.text_config, 2910)
    assert rows[0]["bytes"] == cost.kv_bytes(LLAVA.text_config, 2910)


def test_the_encoder_limits_what_fewer_tokens_save():
    full, one = cost.by_scale(LLAVA, (576, 1), text_tokens=30)
    assert full["prefill"] / one["prefill"] > 19
    assert full["flops"] / one["flops"] == pytest.approx(10.5, abs=0.1)
    assert full["flops"] - full["prefill"] == one["flops"] - one["prefill"]


@pytest.mark.parametrize("grouped", [{}, {"num_key_value_heads": 2}, {"head_dim": 24}])
def test_parameters_are_those_of_a_real_module(grouped):
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, vocab_size=10, **grouped
    )
    counted = sum(p.numel() for name, p in LlamaForCausalLM(config).named_parameters() if "_proj" in name)
    assert cost.language_parameters(config) == counted


def test_tower_counts_two_for_each_weight_and_token():
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = CLIPVisionConfig(**shape, image_size=32, patch_size=8)
    weights = 2 * (4 * 64 * 64 + 2 * 64 * 128)
    patches = 2 * 3 * 8 * 8 * 64 * 16
    assert cost.tower_flops(config) == patches + 2 * weights * 17 + 2 * 4 * 64 * 17 * 17


def test_the_small_model_has_a_cost_too():
    config = llava_weights.build(40).config
    one, full = cost.by_scale(config, (1, 16), text_tokens=8)
    assert one["bytes"] == 9 * 2 * 2 * 64 * 2
    assert 0 < one["prefill"] < full["prefill"]
    assert cost.projector_flops(config, 16) == 2 * 16 * (64 * 64 + 64 * 64)


def test_wrong_numbers_are_refused():
    with pytest.raises(RequestError, match="at least 0"):
        cost.by_scale(LLAVA, (1, 9), text_tokens=-1)
    with pytest.raises(RequestError, match="tiles 1"):
        cost.by_scale(LLAVA, (1, 9), text_tokens=30, tiles=0)
