"""Sentence encoders: states of all layers, tokens, cut models that others open (numbers are those of the checklist)."""

import json
from itertools import product
from time import process_time
from types import SimpleNamespace

import pytest
import torch
from small_texts import ROWS, TEXTS, encoder, tokenizer
from torch import nn

from mrl_lab.encoders import texts
from mrl_lab.encoders.cutting import cut
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.encoders.texts import SentenceEncoder
from mrl_lab.encoders.tokens import TextRows, copies, wordpiece
from mrl_lab.errors import RequestError

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}


def body(kind):
    """A tiny transformers model of an architecture, with norms that differ from each other."""
    import transformers as tf

    torch.manual_seed(0)
    common = SIZES | {"vocab_size": len(tokenizer()), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    made = {
        "bert": lambda: tf.BertModel(tf.BertConfig(**common)),
        "roberta": lambda: tf.RobertaModel(tf.RobertaConfig(**common)),
        "mpnet": lambda: tf.MPNetModel(tf.MPNetConfig(**common)),
        "distilbert": lambda: tf.DistilBertModel(
            tf.DistilBertConfig(vocab_size=len(tokenizer()), dim=32, n_layers=3, n_heads=2, hidden_dim=48)
        ),
        "modernbert": lambda: tf.ModernBertModel(tf.ModernBertConfig(**common, cls_token_id=2, sep_token_id=3)),
        "llama": lambda: tf.LlamaModel(tf.LlamaConfig(**common)),
        "albert": lambda: tf.AlbertModel(tf.AlbertConfig(**common, embedding_size=16)),
    }[kind]()
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return made.eval()


KINDS = ["bert", "roberta", "mpnet", "distilbert", "modernbert", "llama"]


# ------------------------------------------------------------------------------------------------ states


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_1_and_2_every_layers_state_is_what_a_model_of_so_many_blocks_gives(kind, layer):
    model = SentenceEncoder(body(kind), tokenizer()).eval()
    assert (model.norm is None) == (kind not in ("modernbert", "llama"))
    ids, attention = model.tokens(TEXTS[:7])
    kept = model.keep(layer)
    with torch.no_grad():
        states = model(ids, attention)
        last = kept.body(input_ids=ids, attention_mask=attention).last_hidden_state
        for row, mask in enumerate(attention.bool()):
            torch.testing.assert_close(states[row, layer], last[row][mask].mean(0), rtol=0, atol=1e-6)
    assert len(states[0]) == model.layers + 1 == 4
    assert kept.layers == layer


def test_50_a_model_of_half_the_blocks_takes_about_half_the_time():
    whole = texts.small(tokenizer(), d=128, layers=6, length=32).eval()
    ids = torch.randint(5, len(tokenizer()), (16, 32))
    kept = {n: whole.keep(n) for n in (3, 6)}
    taken, threads = dict.fromkeys(kept, 9.0), torch.get_num_threads()
    torch.set_num_threads(1)  # others would wait for work, on the processor's time
    with torch.no_grad():
        for n, _ in product(kept, range(9)):
            before = process_time()
            kept[n](ids, torch.ones_like(ids))
            taken[n] = min(taken[n], process_time() - before)
    torch.set_num_threads(threads)
    assert 0.4 < taken[3] / taken[6] < 0.75, "by the processor's time, which other work hardly changes"


def test_2_without_the_closing_norm_a_shallow_layer_is_not_what_is_deployed():
    model = SentenceEncoder(body("modernbert"), tokenizer()).eval()
    deployed, model.norm = model.encode(TEXTS[:3]), None
    assert (deployed - model.encode(TEXTS[:3]))[:, 1:3].abs().max() > 0.1


def test_2_the_closing_norm_is_found_among_untrained_norms_that_are_all_alike():
    from transformers import ModernBertConfig, ModernBertModel

    config = ModernBertConfig(**SIZES, vocab_size=30, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    assert SentenceEncoder(ModernBertModel(config), tokenizer()).norm == "final_norm"


def test_states_keep_leading_axes_and_gradients():
    model = encoder()
    ids, attention = TextRows(model.tokenizer, ROWS)[torch.arange(5)]
    states = model(ids, attention)
    assert states.shape == (5, 3, 4, 32)
    torch.testing.assert_close(states[2, 1], model(ids[2, 1:2], attention[2, 1:2])[0], rtol=0, atol=1e-6)
    states.sum().backward()
    assert all(p.grad is not None for p in model.parameters()), "no parameter is idle, as several processes need"


@pytest.mark.parametrize("side", ["right", "left"])
def test_halves_of_a_batch_run_apart_where_much_is_padding_and_give_the_same(side, monkeypatch):
    model = encoder().eval()
    ids, attention = model.tokens([*TEXTS[:9], " ".join(TEXTS), *TEXTS[9:18]])
    if side == "left":
        ids, attention = ids.flip(1), attention.flip(1)
    seen, run = [], model.body.forward
    monkeypatch.setattr(model.body, "forward", lambda **given: seen.append(given["input_ids"].shape) or run(**given))
    apart = model(ids, attention)
    apart.sum().backward()
    gradient = model.body.embeddings.word_embeddings.weight.grad.clone()
    model.zero_grad()
    monkeypatch.setattr(texts, "ROWS_TO_SPLIT", 20)
    together = model(ids, attention)
    together.sum().backward()
    assert [rows for rows, _ in seen] == [10, 9, 19]
    assert (seen[0][1] < 10) == (side == "right"), "what no row of a half needs is left out"
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient, model.body.embeddings.word_embeddings.weight.grad, rtol=1e-4, atol=1e-4)


def test_a_batch_with_little_padding_runs_at_once(monkeypatch):
    model = encoder().eval()
    seen, run = [], model.body.forward
    monkeypatch.setattr(model.body, "forward", lambda **given: seen.append(given["input_ids"].shape) or run(**given))
    model(*model.tokens(TEXTS[:1] * 20))
    assert len(seen) == 1


def test_4_mean_pooling_divides_by_each_rows_own_tokens():
    model = encoder().eval()
    ids, attention = model.tokens(TEXTS[:4])
    wider = nn.functional.pad(ids, (0, 5)), nn.functional.pad(attention, (0, 5))
    torch.testing.assert_close(model(*wider), model(ids, attention), rtol=0, atol=1e-6)
    alone = torch.cat([model(*model.tokens([text])) for text in TEXTS[:4]])
    torch.testing.assert_close(alone, model(ids, attention), rtol=0, atol=1e-6)


def test_5_cls_pooling_takes_the_first_token_and_padding_is_on_the_right():
    model = encoder(pooling="cls").eval()
    model.tokenizer.padding_side = "left"
    ids, attention = model.tokens(TEXTS[:4])
    assert (ids[:, 0] == model.tokenizer.cls_token_id).all()
    hidden = model.body(ids, attention_mask=attention, output_hidden_states=True).hidden_states
    assert torch.equal(model(ids, attention)[:, 2], hidden[2][:, 0])
    left, seen = nn.functional.pad(ids, (2, 0)), nn.functional.pad(attention, (2, 0))
    hidden = model.body(left, attention_mask=seen, output_hidden_states=True).hidden_states
    assert torch.equal(model(left, seen)[:, 2], hidden[2][:, 2]), "the first token that is one"


def test_encode_gives_texts_in_their_order_and_leaves_the_mode_alone():
    model = encoder(dropout=0.5).train()
    states = model.encode(TEXTS, batch=5)
    assert model.training
    assert not states.requires_grad
    torch.testing.assert_close(states, model.eval()(*model.tokens(TEXTS)).detach(), rtol=0, atol=1e-6)
    assert model.encode([]).shape == (0, 4, 32)


def test_one_seed_gives_one_encoder_and_leaves_the_stream_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (texts.small(tokenizer(), 32, 2, seed=seed) for seed in (0, 0, 1))
    first.keep(1)
    assert torch.equal(before, torch.get_rng_state())
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert not torch.equal(first.encode(TEXTS[:1]), other.encode(TEXTS[:1]))


# ------------------------------------------------------------------------------------------------ models


def test_a_model_without_hidden_states_is_refused():
    class Closed(nn.Module):
        config = SimpleNamespace(num_hidden_layers=2, hidden_size=4)

        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

        def forward(self, input_ids, attention_mask, output_hidden_states):
            return SimpleNamespace(last_hidden_state=torch.zeros(*input_ids.shape, 4))

    with pytest.raises(RequestError, match="Closed does not give the hidden states of its 2 blocks"):
        SentenceEncoder(Closed(), tokenizer())


def test_a_model_whose_last_state_is_more_than_a_norm_away_is_refused():
    class Projected(nn.Module):
        config = SimpleNamespace(num_hidden_layers=1, hidden_size=4)

        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(4, 4)])
            self.norm = nn.LayerNorm(4)

        def forward(self, input_ids, attention_mask, output_hidden_states):
            h = input_ids[..., None] * torch.ones(4)
            return SimpleNamespace(hidden_states=(h, self.norm(self.blocks[0](h)) * 2))

    with pytest.raises(RequestError, match="more after its last block than a norm"):
        SentenceEncoder(Projected(), tokenizer())


def test_shared_blocks_and_unknown_poolings_are_refused():
    with pytest.raises(RequestError, match="AlbertModel has no list of 3 blocks"):
        SentenceEncoder(body("albert"), tokenizer())
    with pytest.raises(RequestError, match="Did you mean 'max'"):
        encoder(pooling="maximum")
    with pytest.raises(RequestError, match="multiple of 32"):
        texts.small(tokenizer(), 40)


def test_a_folder_of_sentence_transformers_opens_with_states_before_its_normalize(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize

    made = cut(encoder(), 3, 32, tmp_path / "made")
    peer = SentenceTransformer(str(made), device="cpu")
    peer.append(Normalize())
    peer.save(str(tmp_path / "saved"))
    states = pretrained(tmp_path / "saved").encode(TEXTS)
    torch.testing.assert_close(states, encoder().encode(TEXTS), rtol=0, atol=1e-6)
    norms = torch.from_numpy(peer.encode(TEXTS)).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(36))
    assert (states[:, 3].norm(dim=1) > 1.1).all()


def test_missing_weights_say_where_they_were_looked_for(tmp_path):
    with pytest.raises(RequestError, match="looked in the folder"):
        pretrained(tmp_path)


# --------------------------------------------------------------------------------------------------- cut


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_44_a_cut_model_is_opened_by_sentence_transformers_and_gives_the_same_vectors(tmp_path, kind, pooling):
    from safetensors import safe_open
    from sentence_transformers import SentenceTransformer

    model = SentenceEncoder(body(kind), tokenizer(), pooling, length=12).eval()
    some = [*TEXTS, "", "dog", "dog " * 2500]
    folder = cut(model, 2, 10, tmp_path / "new" / "model", similarity="dot")
    peer = SentenceTransformer(str(folder), device="cpu")
    theirs = torch.from_numpy(peer.encode(some))
    torch.testing.assert_close(theirs, model.encode(some)[:, 2, :10], rtol=0, atol=1e-6)
    unit = torch.from_numpy(peer.encode(some, normalize_embeddings=True))
    torch.testing.assert_close(unit, nn.functional.normalize(theirs, dim=1), rtol=0, atol=1e-6)
    assert (peer.similarity_fn_name, peer.get_embedding_dimension()) == ("dot", 10)
    with safe_open(folder / "model.safetensors", "pt") as file:
        numbers = {part for name in file.keys() for part in name.split(".") if part.isdigit()}  # noqa: SIM118
    assert numbers == {"0", "1"}, "two blocks and no more"
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["model"], "nothing is left beside it"


def test_44_a_cut_model_opens_here_again_and_warns_of_no_random_weights(tmp_path, caplog):
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    model = encoder()
    folder = cut(model, 2, 8, tmp_path / "model")
    logging.enable_propagation()  # so that caplog sees what transformers reports
    SentenceTransformer(str(folder), device="cpu")
    logging.disable_propagation()
    assert "MISSING" not in caplog.text
    torch.testing.assert_close(pretrained(folder).encode(TEXTS), model.encode(TEXTS)[:, :3], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "dim", "how", "words"),
    [
        (4, 8, {}, "cannot keep 4 blocks of an encoder that has 3"),
        (0, 8, {}, "cannot keep 0 blocks"),
        (2, 33, {}, "cannot keep 33 dims"),
        (2, 8, {"similarity": "cos"}, "Did you mean 'cosine'"),
    ],
)
def test_wrong_cuts_write_nothing(tmp_path, layer, dim, how, words):
    with pytest.raises(RequestError, match=words):
        cut(encoder(), layer, dim, tmp_path / "model", **how)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_never_writes_over_something(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RequestError, match="in use"):
        cut(encoder(), 1, 8, tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


# ------------------------------------------------------------------------------------------------- texts


def test_odd_texts_are_encoded_and_long_ones_cut():
    model = encoder(length=16)
    ids, attention = model.tokens(["", "dog", "dog " * 2500, "\x00☃"])
    assert ids.shape == (4, 16)
    assert attention.sum(1).tolist()[:3] == [2, 3, 16]
    assert model.encode(["", "dog"]).isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["a", 7], "row 1 of the texts is 7, a int"),
        (["a", None], "row 1 of the texts is None"),
        (["a", float("nan")], "row 1 of the texts is nan, a float"),
        ("a dog", "give a list of texts"),
    ],
)
def test_rows_that_are_no_texts_are_named(wrong, words):
    for use in (encoder().tokens, encoder().encode):
        with pytest.raises(RequestError, match=words):
            use(wrong)


def test_rows_of_texts_are_padded_by_batch_and_carry_labels():
    rows = TextRows(tokenizer(), [("a dog", "the cat plays"), ("dog", "dog"), ("", "a")], [0.5, 1, 2])
    ids, attention, labels = rows[torch.tensor([1, 0])]
    assert len(rows) == 3
    assert ids.shape == attention.shape == (2, 2, 5)
    assert tokenizer().decode(ids[1, 1]) == "[CLS] the cat plays [SEP]"
    assert labels.tolist() == [1, 0.5]
    assert rows[torch.tensor([1])][0].shape == (1, 2, 3)
    assert len(TextRows(tokenizer(), ROWS)[torch.tensor([0])]) == 2


@pytest.mark.parametrize(
    ("rows", "how", "words"),
    [
        ([("a", "b"), ("a",)], {}, r"rows of \[1, 2\] texts"),
        (["ab", "cd"], {}, "same number of texts"),
        ([("a", "b")], {"labels": [1, 2]}, "one label a row"),
        ([("a", "b")], {"labels": [1], "leave_out_copies": True}, "leave out copies"),
        ([("a", 1)], {}, "row 1 of the texts is 1"),
    ],
)
def test_wrong_rows(rows, how, words):
    with pytest.raises(RequestError, match=words):
        TextRows(tokenizer(), rows, **how)


def slow_copies(rows):
    found = []
    for i, (anchor, *_) in enumerate(rows):
        known = {anchor} | {row[1] for row in rows if row[0] == anchor}
        for j, (_, *candidates) in enumerate(rows):
            found += [text in known and not (i == j and c == 0) for c, text in enumerate(candidates)]
    return torch.tensor(found).view(len(rows), -1)


def test_23_copies_of_the_match_are_no_negatives():
    rows = [("a", "dog", "cat"), ("the", "dog", "man"), ("a", "child", "park"), ("mat", "two", "a"), ("on", "in", "in")]
    found = TextRows(tokenizer(), rows, leave_out_copies=True)[torch.arange(5)][2]
    assert torch.equal(found, slow_copies(rows))
    assert found.sum() == 8
    pairs = [row[:2] for row in rows]
    assert torch.equal(copies(TextRows(tokenizer(), pairs)[torch.arange(5)][0]), slow_copies(pairs))


def test_a_vocabulary_is_learned_from_texts():
    learned = wordpiece(TEXTS, 80)
    assert len(learned) <= 80
    assert learned.decode(learned("A dog RUNS")["input_ids"], skip_special_tokens=True) == "a dog runs"
    assert texts.small(learned, 32, 1).encode(TEXTS[:2]).shape == (2, 2, 32)


def test_the_same_texts_give_the_same_vocabulary_each_time():
    """tokenizers' trainer breaks ties by the order of a hash table, which is another one each time."""
    first, *others = (wordpiece(TEXTS, 200).get_vocab() for _ in range(4))
    assert all(vocabulary == first for vocabulary in others)
    assert set(first) >= {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##o"}


@pytest.mark.parametrize("text", ["bad \ud83d text", "\udc80", "half a pair \udfff"])
def test_half_a_character_is_named_by_its_row(text):
    model = encoder()
    asks = [model.encode, model.vectors, model.tokens, wordpiece, lambda some: TextRows(tokenizer(), [some])]
    for ask in asks:
        with pytest.raises(RequestError, match=r"row 1 of the texts holds '\\ud.*half a character"):
            ask(["a dog", text])
    assert model.encode(["a whole \U0001f600 character"]).isfinite().all()
