"""LLaVA taken apart equals transformers' own; checkpoints come back whole or not at all."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

from mrl_lab.encoders import llava_weights
from mrl_lab.encoders.llava import Llava, collapse, expand, place_of, sources
from mrl_lab.errors import RequestError

WORDS, IMAGE, N, B = 40, 1, 16, 3


def small(**how):
    return llava_weights.build(WORDS, d=32, tower_layers=2, **how)


@pytest.fixture
def body():
    return small()


@pytest.fixture
def talk():
    """Pictures, ids with the picture at different places, labels of two answers of different lengths, padding."""
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(B, 3, 32, 32, generator=draw) * 2 - 1
    ids = torch.randint(3, WORDS, (B, 9), generator=draw)
    ids[torch.arange(B), [0, 1, 2]] = IMAGE
    ids[2, 7:] = 0
    labels = torch.full_like(ids, -100)
    labels[:, 5:7] = ids[:, 5:7]
    labels[0, 8] = ids[0, 8]
    return images, ids, labels


def tokens_of(llava, images):
    return llava.project(llava.patches(images))


# ------------------------------------------------------------------------------- transformers agrees


@pytest.mark.parametrize("feature_layer", [-1, -2, [-2, -1]])
def test_14_with_all_tokens_logits_and_loss_are_those_of_transformers(talk, feature_layer):
    images, ids, labels = talk
    body = small(feature_layer=feature_layer)
    llava = Llava(body)
    logits, targets, row = llava.logits([tokens_of(llava, images)], ids, labels)
    source = sources(place_of(ids, IMAGE), ids.shape[1], N)
    stretched = labels.gather(1, source)
    stock = body(input_ids=expand(ids, IMAGE, N), pixel_values=images, labels=stretched)
    assert torch.allclose(cross_entropy(logits[0], targets), stock.loss, atol=1e-6)
    says = stretched.roll(-1, 1) >= 0  # the positions before supervised ones
    assert torch.allclose(logits[0], stock.logits[says], atol=1e-5)
    assert row.tolist() == [0] * 3 + [1] * 2 + [2] * 2


def test_13_coarser_tokens_go_the_way_that_transformers_offers_for_them(body, talk):
    """Its forward and generate take visual tokens that are made already, as mm_encoder_outputs."""
    images, ids, labels = talk
    llava = Llava(body.eval())
    coarse = tokens_of(llava, images)[:, :4]
    made = body.get_image_features(pixel_values=images, return_dict=True)
    made.pooler_output = list(coarse)
    prompt = expand(ids, IMAGE, 4)
    stock = body(input_ids=prompt, mm_encoder_outputs={"image": made}).logits
    says = labels.gather(1, sources(place_of(ids, IMAGE), 9, 4)).roll(-1, 1) >= 0
    assert torch.allclose(llava.logits([coarse], ids, labels)[0][0], stock[says], atol=1e-5)
    prompt = prompt[:, :-2]  # without padding
    theirs = body.generate(input_ids=prompt, mm_encoder_outputs={"image": made}, max_new_tokens=4, do_sample=False)
    ours = llava.generate(coarse, ids[:, :-2], max_new_tokens=4)
    assert torch.equal(ours, theirs[:, prompt.shape[1] :])


def test_13_a_prompt_filled_on_the_left_is_continued_as_it_is_alone(body, talk):
    images, ids, _ = talk
    llava = Llava(body.eval())
    with torch.no_grad():  # weights as drawn hardly look at other tokens, whichever they are
        for p in body.model.language_model.parameters():
            p.mul_(1 if p.ndim == 1 else 10)
    tokens = tokens_of(llava, images[:2])
    filled = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids[:2, :6]], 1)
    filled[1, :3] = torch.tensor([5, 6, 7])  # the second prompt is longer
    mask = torch.ones_like(filled).bool()
    mask[0, :3] = False
    both = llava.generate(tokens, filled, mask=mask, max_new_tokens=3)
    alone = [llava.generate(tokens[i : i + 1], filled[i : i + 1, 3 * (1 - i) :], max_new_tokens=3) for i in (0, 1)]
    assert torch.equal(both, torch.cat(alone))


# -------------------------------------------------------------------------------------- the place


def slow_expand(row, t):
    out = []
    for token in row:
        out += [token] * (t if token == IMAGE else 1)
    return out


@pytest.mark.parametrize("t", [0, 1, 4, 9])
def test_8_as_many_placeholders_as_tokens_at_every_scale(talk, t):
    _, ids, _ = talk
    stretched = expand(ids, IMAGE, t)
    assert ((stretched == IMAGE).sum(1) == t).all()
    assert stretched.tolist() == [slow_expand(row, t) for row in ids.tolist()]


@pytest.mark.parametrize("t", [1, 4, 16])
def test_8_the_run_that_a_processor_writes_becomes_one(talk, t):
    _, ids, _ = talk
    assert torch.equal(collapse(expand(ids, IMAGE, t), IMAGE), ids)


def test_9_padding_and_what_follows_the_last_answer_change_nothing(body, talk):
    images, ids, labels = talk
    llava, other = Llava(body), ids.clone()
    other[2, 7:] = 17
    other[1, 7:] = 3
    tokens = tokens_of(llava, images)
    assert torch.equal(llava.logits([tokens], ids, labels)[0], llava.logits([tokens], other, labels)[0])


def test_uint8_pictures_are_scaled_as_a_processor_does(body):
    llava = Llava(body, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    x = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8)
    scaled = torch.stack([(x[:, c] / 255 - m) / s for c, (m, s) in enumerate([(0.5, 0.2), (0.4, 0.3), (0.3, 0.4)])], 1)
    assert torch.allclose(llava.patches(x), llava.patches(scaled), atol=1e-5)


class Plumbing(nn.Module):
    """A tower whose features are the mean colours of the patches: nothing mixes."""

    dtype = torch.float32

    def forward(self, pixels, output_hidden_states):
        means = nn.functional.avg_pool2d(pixels, 8).flatten(2).mT  # (B, 3, 4, 4) -> (B, 16, 3)
        means = nn.functional.pad(means, (0, 29))  # to the tower's width
        return type("Out", (), {"hidden_states": (torch.cat([means[:, :1], means], 1),)})


def test_15_patches_are_in_raster_order_and_one_stays_one(body, talk):
    images, _, _ = talk
    body.model.vision_tower = Plumbing()
    body.config.vision_feature_layer = 0
    llava = Llava(body)
    changed = images.clone()
    changed[:, :, 8:16, 16:24] += 1  # row 1, column 2 of 4 x 4 patches
    moved = (llava.patches(images) != llava.patches(changed)).any(2)
    assert moved.nonzero()[:, 1].tolist() == [1 * 4 + 2] * B


# --------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("feature_layer", [-1, -2])
@pytest.mark.parametrize("train_tower", [True, False])
def test_11_the_tower_learns_exactly_where_the_switch_and_the_feature_layer_say(talk, feature_layer, train_tower):
    images, ids, labels = talk
    body = small(feature_layer=feature_layer)
    llava = Llava(body, train_tower=train_tower)
    logits, targets, _ = llava.logits([tokens_of(llava, images)], ids, labels)
    cross_entropy(logits[0], targets).backward()
    behind = ("post_layernorm", "encoder.layers.1.") if feature_layer == -2 else ("post_layernorm",)
    for name, p in body.model.vision_tower.named_parameters():
        assert p.requires_grad == train_tower
        if not train_tower or name.startswith(behind):
            assert p.grad is None, name
        elif "k_proj.bias" not in name:  # to a key's bias the softmax is blind
            assert p.grad.abs().max() > 1e-7, name
    assert all(p.grad.abs().max() > 0 for p in body.model.multi_modal_projector.parameters())


def test_frozen_language_model_passes_gradients_on_and_takes_none(body, talk):
    images, ids, labels = talk
    llava = Llava(body, train_language=False)
    logits, targets, _ = llava.logits([tokens_of(llava, images)], ids, labels)
    cross_entropy(logits[0], targets).backward()
    assert all(p.grad is None for p in [*body.model.language_model.parameters(), *body.lm_head.parameters()])
    assert body.model.vision_tower.embeddings.class_embedding.grad.abs().max() > 0


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("shape", [(B, 1, 32, 32), (B, 4, 32, 32), (B, 3, 28, 28), (3, 32, 32)])
def test_pictures_of_a_wrong_size_or_mode_are_refused(body, shape):
    with pytest.raises(RequestError, match=r"must be \(B, 3, 32, 32\)"):
        Llava(body).patches(torch.zeros(shape))


def broken(talk, what):
    images, ids, labels = (x.clone() for x in talk)
    if what == "no image":
        ids[1][ids[1] == IMAGE] = 5
    if what == "two images":
        ids[1, 4] = IMAGE
    if what == "fewer pictures":
        images = images[:2]
    if what == "no words":
        ids, labels = ids[:, :1] * 0 + IMAGE, labels[:, :1]
    if what == "no answer":
        labels[1] = -100
    if what == "out of the vocabulary":
        labels[0, 5] = WORDS
    if what == "a word beyond it":
        ids[0, 2] = WORDS
    if what == "shapes":
        labels = labels[:, 1:]
    return images, ids, labels


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no image", "row 1 has 0 image tokens"),
        ("two images", r"row 1 has 2 image tokens.*collapse\(\)"),
        ("fewer pictures", "2 pictures for 3 questions"),
        ("no words", "needs an answer"),
        ("no answer", "needs an answer"),
        ("out of the vocabulary", "id 40, but the vocabulary ends at 39"),
        ("a word beyond it", "id 40, but the vocabulary ends at 39"),
        ("shapes", "one shape"),
    ],
)
def test_what_does_not_go_together_is_refused(body, talk, what, words):
    llava = Llava(body)
    images, ids, labels = broken(talk, what)
    with pytest.raises(RequestError, match=words):
        llava.logits([tokens_of(llava, images)], ids, labels)


def test_an_empty_question_and_uneven_runs_are_refused(body, talk):
    llava = Llava(body)
    with pytest.raises(RequestError, match="a question is empty"):
        llava.generate(llava.no_tokens(1), torch.tensor([[IMAGE]]))
    with pytest.raises(RequestError, match=r"different lengths: \[2, 1\]"):
        collapse(torch.tensor([[IMAGE, IMAGE, 5], [IMAGE, 4, 5]]), IMAGE)


# ----------------------------------------------------------------------------------------- weights


def in_own_format(body, folder, leave_out="", **changes):
    """Write ``body`` as LLaVA's own code would, the tower under its double name."""
    renamed = {}
    for name, weight in body.state_dict().items():
        name = name.replace("model.vision_tower.", "model.vision_tower.vision_tower.vision_model.")
        name = name.replace("multi_modal_projector.linear_1", "mm_projector.0")
        name = name.replace("multi_modal_projector.linear_2", "mm_projector.2").replace("language_model.", "")
        if not leave_out or leave_out not in name:
            renamed[name] = weight.contiguous()
    folder.mkdir()
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    body.config.vision_config.save_pretrained(folder / "tower")
    text = body.config.text_config.to_dict()
    kept = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "rms_norm_eps",
    )
    own = {"mm_vision_tower": str(folder / "tower"), "mm_vision_select_layer": -1, "model_type": "llava"}
    own |= {"matryoshka_vis_token_scale": [1, 4, 16], "architectures": ["LlavaLlamaForCausalLM"]}
    (folder / "config.json").write_text(json.dumps({name: text[name] for name in kept} | own | changes))
    return folder


@pytest.mark.parametrize("form", ["transformers", "own"])
def test_23_a_checkpoint_comes_back_with_every_weight(body, talk, tmp_path, form):
    images, ids, labels = talk
    if form == "own":
        opened = llava_weights.pretrained(str(in_own_format(body, tmp_path / "own")))
    else:
        body.save_pretrained(tmp_path / "saved")
        opened = llava_weights.pretrained(str(tmp_path / "saved"))
    ours, theirs = body.state_dict(), opened.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    before, after = Llava(body.eval()), Llava(opened)
    moved = ids.masked_fill(ids == IMAGE, opened.config.image_token_id)
    assert opened.config.image_token_id == (WORDS if form == "own" else IMAGE)  # there it is no word
    expected = before.logits([tokens_of(before, images)[:, :4]], ids, labels)[0]
    assert torch.equal(after.logits([tokens_of(after, images)[:, :4]], moved, labels)[0], expected)


def test_llava_1_5_s_own_files_of_tensors_take_the_tower_that_they_name(body, talk, tmp_path, capsys):
    """As liuhaotian/llava-v1.5-7b: .bin in shards, no tower inside; and CLIP whole, with its text model, beside it."""
    from transformers import CLIPConfig, CLIPModel

    folder = in_own_format(body, tmp_path / "own", leave_out="vision_tower")
    clip = CLIPModel(CLIPConfig(vision_config=body.config.vision_config.to_dict(), projection_dim=32))
    clip.vision_model.load_state_dict(body.model.vision_tower.state_dict())
    clip.save_pretrained(folder / "tower")
    state = load_file(folder / "model.safetensors")
    names, parts = list(state), ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    where = {name: parts[i % 2] for i, name in enumerate(names)}
    for part in parts:
        torch.save({name: state[name] for name in names if where[name] == part}, folder / part)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "model.safetensors").unlink()
    opened = llava_weights.pretrained(str(folder))
    ours, theirs = body.state_dict(), opened.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert f"holds no vision tower: that of {folder / 'tower'} was taken" in capsys.readouterr().out


def test_of_a_file_of_tensors_no_code_is_run(body, tmp_path):
    folder = in_own_format(body, tmp_path / "own")
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": nn.Linear(2, 2)}, folder / "pytorch_model.bin")
    with pytest.raises(RequestError, match="no LLaVA at"):
        llava_weights.pretrained(str(folder))


@pytest.mark.parametrize("lacking", ["lm_head", "vision_model.encoder.layers.0.mlp", "mm_projector.2"])
def test_23_a_checkpoint_that_lacks_weights_is_refused_not_filled_at_random(body, tmp_path, lacking):
    folder = in_own_format(body, tmp_path / "own", leave_out=lacking)
    with pytest.raises(RequestError, match=r"lacks \d+ weights.*not a whole LLaVA"):
        llava_weights.pretrained(str(folder))


def test_a_llava_next_is_refused_by_name(body, tmp_path):
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig, LlavaNextForConditionalGeneration

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32}
    vision, text = CLIPVisionConfig(**small, image_size=32, patch_size=8), LlamaConfig(**small, vocab_size=WORDS)
    config = LlavaNextConfig(vision_config=vision, text_config=text, image_grid_pinpoints=[[32, 64]])
    LlavaNextForConditionalGeneration(config).save_pretrained(tmp_path / "next")
    with pytest.raises(RequestError, match=r"no LLaVA-1\.5: it is a llava_next"):
        llava_weights.pretrained(str(tmp_path / "next"))
    saved = json.loads((tmp_path / "next" / "config.json").read_text())
    (tmp_path / "next" / "config.json").write_text(json.dumps(saved | {"model_type": "llava"}))
    with pytest.raises(RequestError, match=r"holds 1 weights that a LLaVA-1\.5 has no place for.*image_newline"):
        llava_weights.pretrained(str(tmp_path / "next"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mm_patch_merge_type": "spatial_unpad"}, "merges patches by 'spatial_unpad'"),
        ({"image_aspect_ratio": "anyres"}, "of pictures 'anyres'"),
        ({"model_type": "llava_mistral"}, "it is a llava_mistral"),
    ],
)
def test_own_format_of_another_llava_is_refused_by_name(body, tmp_path, changes, words):
    with pytest.raises(RequestError, match=words):
        llava_weights.pretrained(str(in_own_format(body, tmp_path / "own", **changes)))


def test_own_format_says_what_is_taken_from_the_tower(body, tmp_path):
    opened = llava_weights.pretrained(str(in_own_format(body, tmp_path / "own", mm_vision_select_feature="cls_patch")))
    assert opened.config.vision_feature_select_strategy == "full"


def test_23_no_weights_is_an_error_that_says_how_to_get_them(body, tmp_path):
    with pytest.raises(RequestError, match=r"no LLaVA at.*hf download"):
        llava_weights.pretrained(str(tmp_path / "nothing"))
    body.config.save_pretrained(tmp_path / "configuration alone")
    with pytest.raises(RequestError, match=r"no LLaVA at.*hf download"):
        llava_weights.pretrained(str(tmp_path / "configuration alone"))


def test_weights_of_another_shape_are_refused(body, tmp_path):
    folder = in_own_format(body, tmp_path / "own")
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": WORDS + 1}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        RequestError, match=r"holds 2 weights of another shape than its LLaVA has, such as lm_head.weight, .40, 32. in"
    ):
        llava_weights.pretrained(str(folder))


def test_small_models_are_fixed_by_the_seed_and_leave_the_stream_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = small(), small(), small(seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    with pytest.raises(RequestError, match="patch must divide side"):
        small(patch=7)
