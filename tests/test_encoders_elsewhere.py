"""Models made elsewhere: each part of a folder is used as sentence-transformers uses it, or refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling
from small_texts import TEXTS, encoder, tokenizer
from torch import nn

from mrl_lab.encoders.cutting import cut
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.encoders.texts import POOLINGS, SentenceEncoder
from mrl_lab.errors import RequestError
from mrl_lab.study import judged
from mrl_lab.study.sentences import task

SOME = [*TEXTS[:9], "", "A DOG plays", " the  cat ", "dog " * 600, "two cats " * 7]
PROMPTS = {"query": "one child plays ", "document": "the park . ", "clustering": "a guitar "}


def plain(folder, length=512):
    """A BERT of three layers as transformers saves it, whose layers differ."""
    made = encoder(length=length)
    made.body.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder


def dense(wide=32, narrow=16, act=None):
    torch.manual_seed(1)
    return Dense(wide, narrow, activation_function=act or nn.Tanh())


def saved(tmp_path, pooling="mean", behind=(), length=512, half=False, lower=False, **how):
    """A folder as sentence-transformers saves it."""
    source = plain(tmp_path / "plain")
    how_many = {"add_pooling_layer": False} | ({"dtype": torch.float16} if half else {})
    first = Transformer(str(source), max_seq_length=length, do_lower_case=lower, model_kwargs=how_many)
    model = SentenceTransformer(modules=[first, Pooling(32, pooling), *behind], device="cpu", **how)
    model.save(str(tmp_path / "saved"), create_model_card=False)
    return tmp_path / "saved"


FOLDERS = {
    **{name: {"pooling": name} for name in POOLINGS},
    "cls and mean": {"pooling": ("cls", "mean")},
    "Normalize": {"behind": [Normalize()]},
    "cls, Normalize": {"pooling": "cls", "behind": [Normalize()]},
    "Dense": {"behind": [dense()]},
    "Dense, Normalize": {"behind": [dense(act=nn.Identity()), Normalize()]},
    "two Dense": {"behind": [dense(), dense(16, 24, nn.GELU()), Normalize()]},
    "LayerNorm": {"behind": [LayerNorm(32)]},
    "prompts": {"prompts": PROMPTS},
    "default prompt": {"prompts": PROMPTS, "default_prompt_name": "clustering"},
    "E5's prompts": {"prompts": {"query": "a ", "passage": "the "}},
    "8 tokens": {"length": 8},
    "lower case": {"lower": True},
    "truncated": {"truncate_dim": 8, "behind": [Normalize()]},
    "all of it": {
        "pooling": "cls",
        "behind": [dense(), Normalize()],
        "length": 20,
        "prompts": PROMPTS,
        "default_prompt_name": "clustering",
        "truncate_dim": 8,
        "similarity_fn_name": "dot",
    },
}


@pytest.mark.parametrize("name", FOLDERS)
def test_vectors_are_those_of_sentence_transformers(tmp_path, name):
    folder = saved(tmp_path, **FOLDERS[name])
    peer, ours = SentenceTransformer(str(folder), device="cpu"), pretrained(folder)
    ways = {None: peer.encode, "query": peer.encode_query, "document": peer.encode_document}
    for side, theirs in ways.items():
        torch.testing.assert_close(ours.vectors(SOME, side=side), torch.from_numpy(theirs(SOME)), rtol=0, atol=1e-6)
    assert ours.length == peer.max_seq_length
    assert ours.manner.similarity == peer.similarity_fn_name
    pooled = ours.encode(SOME)
    assert pooled.shape == (len(SOME), 4, ours.pool.get_embedding_dimension())
    features = peer.preprocess(SOME, prompt=peer.prompts.get(peer.default_prompt_name))
    with torch.no_grad():
        last = peer[1](peer[0](features))["sentence_embedding"]
    torch.testing.assert_close(pooled[:, 3], last, rtol=0, atol=1e-6)


def test_half_precision_is_opened_in_float32(tmp_path):
    folder = saved(tmp_path, pooling="cls", behind=[dense()], half=True)
    ours = pretrained(folder)
    assert {weight.dtype for weight in ours.parameters()} == {torch.float32}
    whole = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    torch.testing.assert_close(ours.vectors(SOME), torch.from_numpy(whole.encode(SOME)), rtol=0, atol=1e-6)
    as_it_is = torch.from_numpy(SentenceTransformer(str(folder), device="cpu").encode(SOME)).float()
    torch.testing.assert_close(ours.vectors(SOME), as_it_is, rtol=0, atol=2e-2)


def test_a_folder_of_transformers_has_mean_pooling_and_says_so(tmp_path, capsys):
    folder = plain(tmp_path / "mine")
    ours, peer = pretrained(folder), SentenceTransformer(str(folder), device="cpu")
    assert "mine: mean pooling, for nothing there says how" in capsys.readouterr().out
    torch.testing.assert_close(ours.vectors(SOME), torch.from_numpy(peer.encode(SOME)), rtol=0, atol=1e-6)
    asked = pretrained(folder, pooling="cls", length=9)
    assert (asked.pooling, asked.length, capsys.readouterr().out) == ("cls", 9, "")
    with pytest.raises(RequestError, match="says itself how its tokens are pooled"):
        pretrained(saved(tmp_path), pooling="cls")


def test_prompts_are_for_sides(tmp_path):
    ours = pretrained(saved(tmp_path, prompts=PROMPTS, default_prompt_name="clustering"))
    assert [ours.prompt(side) for side in (None, "query", "document")] == ["a guitar ", *list(PROMPTS.values())[:2]]
    with pytest.raises(RequestError, match="Did you mean 'query'"):
        ours.encode(TEXTS, side="querry")


# --------------------------------------------------------------------------------------------- refused


def test_modules_that_are_not_read_are_named(tmp_path):
    folder = saved(tmp_path)
    listed = json.loads((folder / "modules.json").read_text())
    for kind, place, words in [
        ("sentence_transformers.models.CNN", 1, "Transformer, CNN, Pooling: read here are"),
        ("my_code.Router", 2, "Transformer, Pooling, Router: read here are"),
        ("sentence_transformers.models.StaticEmbedding", 0, "StaticEmbedding, Transformer, Pooling"),
    ]:
        changed = [*listed[:place], {"idx": place, "name": "x", "path": "x", "type": kind}, *listed[place:]]
        (folder / "modules.json").write_text(json.dumps(changed))
        with pytest.raises(RequestError, match=words):
            pretrained(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: (d / "modules.json").write_text("{"), "no pretrained text encoder at"),
        (lambda d: (d / "1_Pooling" / "config.json").unlink(), "no pretrained text encoder at"),
        (lambda d: (d / "2_Dense" / "model.safetensors").unlink(), "no pretrained text encoder at"),
        (lambda d: without(d / "2_Dense", "linear.bias"), "(?s)no pretrained text encoder at.*linear.bias"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"), "no pretrained text encoder at"),
        (lambda d: without(d, "encoder.layer.2."), r"lacks 16 weights, such as encoder\.layer\.2\.attention"),
        (lambda d: without(d, "embeddings.LayerNorm.weight"), r"lacks 1 weights, such as embeddings\.LayerNorm"),
        (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "no pretrained text encoder at"),
        (lambda d: configured(d, "config.json", hidden_size=64), "no pretrained text encoder at"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, change, words):
    folder = saved(tmp_path, behind=[dense()])
    change(folder)
    with pytest.raises(RequestError, match=words):
        pretrained(folder)


def without(folder, lacking):
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith(lacking)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def configured(folder, name, **changes):
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def test_a_pooling_that_leaves_its_prompt_out_is_refused(tmp_path):
    folder = saved(tmp_path, prompts=PROMPTS)
    configured(folder / "1_Pooling", "config.json", include_prompt=False)
    with pytest.raises(RequestError, match="leaves out the tokens of its prompts"):
        pretrained(folder)


def test_what_is_read_in_another_way_is_refused(tmp_path):
    folder = saved(tmp_path)
    configured(folder, "sentence_bert_config.json", processing_kwargs={"text": {"max_length": 4}})
    with pytest.raises(RequestError, match="makes other vectors in sentence-transformers"):
        pretrained(folder)


def other(kind, folder):
    import transformers as tf

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    if kind == "t5":
        made = tf.T5EncoderModel(tf.T5Config(vocab_size=40, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2))
    elif kind == "clip":
        text = {**small, "vocab_size": 40, "bos_token_id": 2, "eos_token_id": 3}
        made = tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config={**small, "image_size": 16, "patch_size": 8}))
        tf.CLIPImageProcessor().save_pretrained(folder)
    else:
        made = tf.ViTModel(tf.ViTConfig(**small, image_size=16, patch_size=8))
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return made


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_models_of_another_kind_are_refused_with_what_is_supported(tmp_path, kind):
    made = other(kind, tmp_path / kind)
    with pytest.raises(RequestError, match="Use a BERT, RoBERTa, MPNet, DistilBERT or ModernBERT"):
        SentenceEncoder(made, tokenizer())
    with pytest.raises(RequestError, match="Use a BERT, RoBERTa, MPNet, DistilBERT or ModernBERT"):
        pretrained(tmp_path / kind)


def test_the_encoder_of_a_t5_is_read_as_sentence_transformers_reads_it(tmp_path):
    other("t5", tmp_path / "t5")
    ours, peer = pretrained(tmp_path / "t5"), SentenceTransformer(str(tmp_path / "t5"), device="cpu")
    torch.testing.assert_close(ours.vectors(SOME), torch.from_numpy(peer.encode(SOME)), rtol=0, atol=1e-6)
    assert (ours.norm, ours.layers) == ("encoder.final_layer_norm", 2)
    folder = cut(ours, 1, 8, tmp_path / "cut")
    theirs = torch.from_numpy(SentenceTransformer(str(folder), device="cpu").encode(SOME))
    torch.testing.assert_close(theirs, ours.encode(SOME)[:, 1, :8], rtol=0, atol=1e-6)


def test_a_tokenizer_without_padding_is_refused():
    made, words = encoder(), tokenizer()
    words.pad_token = None
    with pytest.raises(RequestError, match="no padding token"):
        SentenceEncoder(made.body, words)


# ------------------------------------------------------------------------------------------------- cut


CUTS = {
    "plain": ({}, 2),
    "Normalize": ({"behind": [Normalize()]}, 2),
    "cls, prompts": ({"pooling": "cls", "behind": [Normalize()], "prompts": PROMPTS, "length": 20}, 1),
    "lasttoken": ({"pooling": "lasttoken"}, 2),
    "cls and mean": ({"pooling": ("cls", "mean")}, 2),
    "default prompt, dot": (
        {"prompts": PROMPTS, "default_prompt_name": "clustering", "similarity_fn_name": "dot"},
        3,
    ),
    "Dense": ({"behind": [dense()]}, 3),
    "Dense, Normalize": ({"behind": [dense(), Normalize()]}, 3),
    "lower case": ({"lower": True, "behind": [Normalize()]}, 2),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_keeps_what_stands_around_the_blocks(tmp_path, name):
    how, layer = CUTS[name]
    ours = pretrained(saved(tmp_path, **how))
    folder = cut(ours, layer, 8, tmp_path / "cut")
    peer = SentenceTransformer(str(folder), device="cpu")
    ways = {None: peer.encode, "query": peer.encode_query, "document": peer.encode_document}
    unit = any(isinstance(module, Normalize) for module in how.get("behind", ()))
    for side, theirs in ways.items():
        whole = ours.vectors(SOME, side=side) if layer == 3 else ours.encode(SOME, side=side)[:, layer]
        expected = nn.functional.normalize(whole[:, :8], dim=1) if unit else whole[:, :8]
        torch.testing.assert_close(torch.from_numpy(theirs(SOME)), expected, rtol=0, atol=1e-6)
    assert (peer.truncate_dim, peer.get_embedding_dimension()) == (8, 8)
    assert peer.similarity_fn_name == how.get("similarity_fn_name", "cosine")
    assert {k: v for k, v in peer.prompts.items() if v} == how.get("prompts", {})
    assert peer.max_seq_length == ours.length
    again = pretrained(folder)
    torch.testing.assert_close(again.vectors(SOME), torch.from_numpy(peer.encode(SOME)), rtol=0, atol=1e-6)
    torch.testing.assert_close(again.encode(SOME), ours.encode(SOME)[:, : layer + 1], rtol=0, atol=1e-6)


def test_what_a_dense_was_trained_for_is_not_asked_of_lower_layers(tmp_path):
    ours = pretrained(saved(tmp_path, behind=[dense(), Normalize()]))
    for ask in (lambda: cut(ours, 2, 8, tmp_path / "cut"), lambda: ours.keep(2), ours.check_layers):
        with pytest.raises(RequestError, match="Dense 32 -> 16 stands behind the pooling"):
            ask()
    with pytest.raises(RequestError, match="cannot keep 17 dims of an embedding that has 16"):
        cut(ours, 3, 17, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    pretrained(cut(pretrained(saved(tmp_path / "unit", behind=[Normalize()])), 2, 8, tmp_path / "cut")).check_layers()


def test_a_cut_says_what_it_loses(tmp_path, capsys):
    ours = encoder()
    cut(ours, 3, 32, tmp_path / "whole", texts=TEXTS)
    said = capsys.readouterr().out
    assert "3 of 3 blocks, 32 of 32 numbers" in said
    assert "Of 36 texts 100% keep their nearest neighbour of the whole model, and similarities rank at 1.00" in said
    assert "Nothing says that it was trained for this cut" in said
    cut(ours, 1, 2, tmp_path / "little", texts=TEXTS, trained="Starbucks, 250 steps")
    said, card = capsys.readouterr().out, (tmp_path / "little" / "README.md").read_text()
    z, small = ours.vectors(TEXTS), ours.encode(TEXTS)[:, 1, :2]
    alike = [nn.functional.cosine_similarity(a[:, None], a[None], dim=2) - 3 * torch.eye(36) for a in (z, small)]
    share = (alike[0].argmax(1) == alike[1].argmax(1)).float().mean()
    assert share < 0.9
    for words in (
        f"Of 36 texts {share:.0%} keep",
        "1 of 3 blocks, 2 of 32 numbers",
        "Trained for this cut: Starbucks, 250",
    ):
        assert words in said
        assert words in card
    with pytest.raises(RequestError, match="3 to 2,000 different texts; got 1"):
        cut(ours, 1, 2, tmp_path / "no", texts=["a", "a"])


def test_where_a_cut_may_be_put(tmp_path, monkeypatch):
    ours = encoder()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(RequestError, match="is the folder you are in"):
        cut(ours, 1, 8, ".")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("later")
    (tmp_path / "file").write_text("mine")
    for name in ("new", "empty", "link", "dangling", "-dash", "sub/deep"):
        assert SentenceTransformer(str(cut(ours, 1, 8, name)), device="cpu").encode(TEXTS).shape == (36, 8)
    for name, words in {"file": "in use", "file/sub": "cannot be", "new": "in use", "sub": "in use"}.items():
        with pytest.raises(RequestError, match=words):
            cut(ours, 1, 8, name)
    assert {f.name for f in (tmp_path / "real").iterdir()} >= {"modules.json", "README.md"}


# ---------------------------------------------------------------------------------------------- studies


def test_studies_read_a_model_as_it_was_made(tmp_path, monkeypatch):
    from mrl_lab.data import texts

    how = {"pooling": "cls", "behind": [Normalize()], "prompts": PROMPTS, "default_prompt_name": "clustering"}
    folder = saved(tmp_path, **how)
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(texts, "triplets", lambda learns: [("a dog", "dog", "cat")])
    of_it = task.Sentences.of(str(folder), triplets=1)
    assert of_it.encoder(0).pooling == "cls"
    ids, _, _ = of_it.rows()[torch.tensor([0])]
    assert tokenizer().decode(ids[0, 0]) == "[CLS] a guitar a dog [SEP]", "trained on as it is read"
    configured(folder / "1_Pooling", "config.json", pooling_mode="mean")
    task.opened.cache_clear()
    assert task.Sentences.of(str(folder)).weights != of_it.weights, "another pooling is another model"
    with pytest.raises(RequestError, match="Dense 32 -> 16"):
        task.Sentences.of(str(saved(tmp_path / "other", behind=[dense()])))


def test_judged_texts_are_searched_with_the_models_own_vectors(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from mrl_lab.data import texts

    folder = saved(tmp_path, pooling="cls", behind=[dense(), Normalize()], prompts=PROMPTS)
    found, some = (SimpleNamespace(folder=folder, key=name) for name in ("mine", "some"))
    asked = SimpleNamespace(corpus={"1": TEXTS[0], "2": TEXTS[1]}, queries={"q": TEXTS[2]}, judged={"test": {"q": {}}})
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(texts, "retrieval_in", lambda found: asked)
    peer, z = SentenceTransformer(str(folder), device="cpu"), judged.vectors(found, some, 512)
    torch.testing.assert_close(z["corpus"], torch.from_numpy(peer.encode_document(TEXTS[:2])), rtol=0, atol=1e-6)
    torch.testing.assert_close(z["queries"], torch.from_numpy(peer.encode_query(TEXTS[2:3])), rtol=0, atol=1e-6)
