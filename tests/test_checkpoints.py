"""LLaVA-1.5 and M3 checkpoints, tiny ones of the real classes on disk: asked as their own code asks, at every scale."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_llava import in_own_format

from mrl_lab.data import questions
from mrl_lab.encoders import llava_prompts, llava_weights
from mrl_lab.errors import RequestError
from mrl_lab.study.tokens import checkpoint

SIDE = 48  # pixels, patches of 2: a grid of 24 x 24 as LLaVA-1.5's
TEXT = "A chat between curious user and an artificial intelligence assistant gives helpful detailed polite answers to "
TEXT += "the user's questions USER ASSISTANT What is on mat How many cats are there cat dog one two , . : ? '"
SPECIAL = ["<unk>", "<s>", "</s>"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))


def words(*more):
    """A tokenizer that begins a text with <s>, as Llama's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = dict.fromkeys([*SPECIAL, *more, *TEXT.split(), "\n", "user's"])
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Punctuation()]
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **named, additional_special_tokens=list(more))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{format: folder} of the same weights in transformers' format and in LLaVA's own."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    place, tokenizer = tmp_path_factory.mktemp("checkpoints"), words("<image>")
    body = llava_weights.build(len(tokenizer), side=SIDE, patch=2, image_token=3, feature_layer=-1, seed=1)
    with torch.no_grad():
        for p in body.parameters():
            p.mul_(1 if p.ndim == 1 else 6)  # as drawn it says the same to everything
    body.save_pretrained(place / "tiny-hf")
    tokenizer.save_pretrained(place / "tiny-hf")
    size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    CLIPImageProcessorPil(**size).save_pretrained(place / "tiny-hf")
    in_own_format(body, place / "tiny-m3", image_aspect_ratio="pad")
    words("<image>").save_pretrained(place / "tiny-m3")
    return {"transformers": place / "tiny-hf", "own": place / "tiny-m3"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A folder with three pictures of different shapes and their questions."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for name, shape in {"wide.png": (40, 90, 3), "high.jpg": (120, 50, 3), "grey.png": (48, 48)}.items():
        Image.fromarray(draw.integers(256, size=shape, dtype=np.uint8)).save(folder / name)
    rows = [
        {"image": "wide.png", "question": "What is on the mat?", "answer": "cat"},
        {"image": "high.jpg", "question": "How many cats are there?", "answer": "two"},
        {"image": "grey.png", "question": "What is there?"},
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return questions.own(folder)


# ------------------------------------------------------------------------------------- as their own code does


def test_in_transformers_format_pictures_and_prompts_are_those_of_its_processor(folders, asked):
    from transformers import AutoImageProcessor, LlavaProcessor

    from mrl_lab.encoders.llava import collapse

    folder = folders["transformers"]
    one = checkpoint.opened(str(folder))
    stock = LlavaProcessor(
        AutoImageProcessor.from_pretrained(folder), words("<image>"), patch_size=2, num_additional_image_tokens=1
    )
    stock.vision_feature_select_strategy = "default"
    for i, file in enumerate(asked.files):
        text = f"USER: <image>\n{asked.questions[i]} ASSISTANT:"
        theirs = stock(images=Image.open(file).convert("RGB"), text=text, return_tensors="pt")
        pixels, ids = one.read(asked, i)
        assert torch.equal(pixels, theirs["pixel_values"])
        assert torch.equal(ids, collapse(theirs["input_ids"], 3))


def slow_tokens(prompt, tokenizer, image_token):
    """LLaVA's tokenizer_image_token: words between marks, each begun, with one beginning of text in the end."""
    chunks = [tokenizer(chunk).input_ids for chunk in prompt.split("<image>")]
    out = [tokenizer.bos_token_id]
    for i, chunk in enumerate(chunks):
        assert chunk[0] == tokenizer.bos_token_id
        out += [image_token] * (i > 0) + chunk[1:]
    return out


def slow_square(picture):
    """LLaVA's expand2square and CLIP's way from there, pixel by pixel where it can be."""
    wide, high = picture.size
    side = max(wide, high)
    colour = [int(x * 255) for x in (0.48145466, 0.4578275, 0.40821073)]
    out = np.empty((side, side, 3), dtype=np.uint8)
    out[:] = colour
    top, left = (side - high) // 2, (side - wide) // 2
    out[top : top + high, left : left + wide] = np.asarray(picture)
    small = np.asarray(Image.fromarray(out).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return torch.tensor((small - mean) / std, dtype=torch.float32).permute(2, 0, 1)


def test_in_llava_s_own_format_they_are_those_of_its_code(folders, asked):
    one = checkpoint.opened(str(folders["own"]))
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    for i, file in enumerate(asked.files):
        pixels, ids = one.read(asked, i)
        prompt = f"{system} USER: <image>\n{asked.questions[i]} ASSISTANT:"
        image_token = len(words("<image>"))  # one beyond the words
        assert ids[0].tolist() == slow_tokens(prompt, words("<image>"), image_token)
        torch.testing.assert_close(pixels[0], slow_square(Image.open(file).convert("RGB")), rtol=0, atol=1e-6)


def test_without_pad_a_picture_is_cut_to_its_middle(folders, tmp_path):
    body = llava_weights.pretrained(str(folders["own"]))
    folder = in_own_format(body, tmp_path / "cut")
    words("<image>").save_pretrained(folder)
    picture = Image.fromarray(np.random.default_rng(1).integers(256, size=(40, 90, 3), dtype=np.uint8))
    found = llava_prompts.of(str(folder), body.config).picture(picture)
    hf = llava_prompts.of(str(folders["transformers"]), body.config.__class__.from_pretrained(folders["transformers"]))
    assert torch.equal(found, hf.picture(picture))


# -------------------------------------------------------------------------------------------- answers and costs


@pytest.mark.parametrize("form", ["transformers", "own"])
def test_with_all_tokens_answers_are_those_of_stock_generation_and_fewer_are_asked_at_every_scale(folders, asked, form):
    from transformers import LlavaForConditionalGeneration

    from mrl_lab.encoders.llava import expand

    one = checkpoint.opened(str(folders[form]))
    assert one.scales == (1, 9, 36, 144, 576)
    said = checkpoint.answers(one, asked, new_tokens=6)
    assert said.groupby("tokens").size().to_dict() == dict.fromkeys(one.scales, 3)
    how = {"max_new_tokens": 6, "do_sample": False}
    stock = LlavaForConditionalGeneration.from_pretrained(folders["transformers"]).eval()
    for i in range(3):
        pixels, ids = one.read(asked, i)
        ids = ids.masked_fill(ids == one.prompts.image_token, 3)
        whole = expand(ids, 3, 576)
        made = stock.generate(input_ids=whole, pixel_values=pixels, attention_mask=torch.ones_like(whole), **how)
        at = said[(said.question == asked.questions[i]) & (said.tokens == 576)].said.item()
        assert at == one.prompts.answer(made[0, whole.shape[1] :])
    assert said[said.tokens < 576].said.nunique() > 1
    wide = checkpoint.table(said)
    assert wide.shape == (3, 5)
    assert wide.loc[("wide.png", "What is on the mat?", "cat"), 9] == said[said.tokens == 9].said.iloc[0]


def test_an_answer_ends_where_the_words_say_it_does(folders, asked):
    one = checkpoint.opened(str(folders["own"]))  # has no generation_config.json
    pixels, ids = one.read(asked, 0)
    visual = checkpoint.seen(one, pixels)[576]
    assert len(checkpoint.said(one, visual, ids, 6).split()) == 6
    first = one.model.llava.generate(visual, ids, max_new_tokens=6)[0, 0].item()
    one.prompts.tokenizer.eos_token = one.prompts.tokenizer.convert_ids_to_tokens(first)
    assert len(checkpoint.said(one, visual, ids, 6).split()) == 1


def test_answers_are_kept_for_the_weights_and_the_questions_they_are_of(folders, asked, monkeypatch):
    one = checkpoint.opened(str(folders["own"]))
    found = checkpoint.answers(one, asked, new_tokens=2)
    monkeypatch.setattr(checkpoint, "seen", lambda *_: pytest.fail("asked again"))
    pd.testing.assert_frame_equal(checkpoint.answers(one, asked, new_tokens=2), found)
    assert {r["file"] for r in one.provenance} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert one.name == "checkpoint tiny-m3"


def test_what_is_right_counts_questions_with_an_answer_alone(folders, asked):
    one = checkpoint.opened(str(folders["own"]))
    rows = [("a", "Cat. ", "cat", 1), ("b", "dog", "cat", 1), ("c", "anything", None, 1), ("a", "a cat", "cat", 9)]
    said = pd.DataFrame(rows, columns=["question", "said", "answer", "tokens"])
    found = checkpoint.scored(one, said).set_index("tokens")
    assert found.value.to_dict() == {1: 50.0, 9: 0.0}
    assert found.n.to_dict() == {1: 2, 9: 1}
    assert checkpoint.scored(one, said[said.answer.isna()]).empty


def test_cost_is_measured_beside_the_formula(folders, asked):
    one = checkpoint.opened(str(folders["own"]))
    found = checkpoint.costs(one, asked, least=1)
    assert found.index.tolist() == [1, 9, 36, 144, 576]
    assert found["prefill, formula (TFLOPs)"].is_monotonic_increasing
    assert found.iloc[-1][["formula (% of all tokens)", "measured (% of all tokens)"]].tolist() == [100, 100]
    assert (found["all, measured (ms)"] > 0).all()


# --------------------------------------------------------------------------------------------- what is refused


def test_a_checkpoint_without_words_or_whose_words_know_no_picture_is_refused(folders, tmp_path):
    body = llava_weights.pretrained(str(folders["own"]))
    folder = in_own_format(body, tmp_path / "wordless")
    with pytest.raises(RequestError, match=r"no tokenizer of a LLaVA at.*tokenizer\.json of llava-hf"):
        llava_prompts.of(str(folder), body.config)
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15")
    with pytest.raises(RequestError, match=r"no tokenizer of a LLaVA at.*sentencepiece"):
        llava_prompts.of(str(folder), body.config)
    import shutil

    shutil.copytree(folders["transformers"], tmp_path / "blind")
    words().save_pretrained(tmp_path / "blind")
    with pytest.raises(RequestError, match="do not make '<image>' token 3"):
        checkpoint.opened(str(tmp_path / "blind"))


def test_a_question_with_a_picture_s_mark_is_refused(folders):
    one = checkpoint.opened(str(folders["own"]))
    with pytest.raises(RequestError, match="holds '<image>'"):
        one.prompts.question("What is in <image>?")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is no JSON"),
        ('["a"]', "line 2 lacks a text"),
        ('{"image": "wide.png"}', "line 2 lacks a text"),
        ('{"image": "wide.png", "question": "?", "answer": 3}', "line 2 lacks a text"),
        ('{"image": "none.png", "question": "?"}', "line 2: none.png is no picture"),
        ('{"image": "q.jsonl", "question": "?"}', "line 2: q.jsonl is no picture"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, line, message):
    Image.new("RGB", (8, 8)).save(tmp_path / "wide.png")
    (tmp_path / "q.jsonl").write_text('{"image": "wide.png", "question": "?"}\n' + line + "\n")
    with pytest.raises(RequestError, match=message):
        questions.own(tmp_path)


def test_a_folder_has_one_list_with_a_question_at_least(tmp_path):
    with pytest.raises(RequestError, match=r"has 0 files \.jsonl"):
        questions.own(tmp_path)
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(RequestError, match="holds no question"):
        questions.own(tmp_path)
    (tmp_path / "b.jsonl").write_text("\n")
    with pytest.raises(RequestError, match=r"has 2 files \.jsonl"):
        questions.own(tmp_path)
