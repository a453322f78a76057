"""Starbucks: SRL and SMAE against their plain, slow forms (numbers are those of the method's checklist)."""

import copy
from collections import Counter

import pytest
import torch
from small_texts import TEXTS, Fixed, encoder, tokenizer
from torch.nn.functional import cross_entropy, softmax

from mrl_lab import losses
from mrl_lab.cuts import Cut, prefix
from mrl_lab.encoders.texts import small_config
from mrl_lab.encoders.tokens import MaskedRows, TextRows, hide, whole_words
from mrl_lab.errors import RequestError
from mrl_lab.methods import starbucks
from mrl_lab.methods.starbucks import SMAE, SRL

NOTHING = torch.zeros(1, 1, 1)
PAIRS = ((1, 4), (2, 8), (3, 16))


def pairs_of(cuts):
    return [(cut.layer, cut.dim) for cut in cuts]


# ------------------------------------------------------------------------------------------------- pairs


def test_28_default_pairs_are_the_papers_and_fit_any_backbone():
    paper = [(2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768)]
    assert pairs_of(starbucks.default_pairs(12, 768)) == paper
    six = [(1, 16), (2, 32), (3, 64), (4, 128), (5, 256), (6, 384)]
    assert pairs_of(starbucks.default_pairs(6, 384)) == six
    assert pairs_of(starbucks.default_pairs(4, 128)) == [(1, 16), (2, 32), (3, 64), (4, 128)]
    for layers in range(1, 40):
        for d in (1, 2, 3, 8, 33, 1024):
            assert len(starbucks.check_pairs(starbucks.default_pairs(layers, d), layers, d)) <= 6


def test_28_lists_of_equal_layers_or_dims_are_baselines():
    assert len(starbucks.check_pairs([(3, 4), (3, 8), (3, 16)], 3, 16)) == 3
    assert len(starbucks.check_pairs([(1, 16), (2, 16), Cut(3, 16)], 3, 16)) == 3
    assert starbucks.check_pairs([(2, 8)], 3, 16, whole=False) == (Cut(2, 8),)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "empty"),
        ([(2, 4), (1, 8), (3, 16)], "not nested"),
        ([(1, 8), (2, 4), (3, 16)], "not nested"),
        ([(1, 8), (1, 8), (3, 16)], "not nested"),
        ([(0, 4), (3, 16)], "layers go from 1 to 3"),
        ([(1, 4), (4, 16)], "layers go from 1 to 3"),
        ([(1, 4), (3, 32)], "dims to 16"),
        ([(1, None), (3, 16)], "does not fit"),
        ([(1, 4), (2, 8)], "must be the whole model"),
        ([(1, 4, 2), (3, 16)], "a pair is a layer and a dim"),
        ([(1.0, 4), (3, 16)], "whole number"),
    ],
)
def test_28_wrong_lists_are_refused(pairs, words):
    with pytest.raises(RequestError, match=words):
        SRL(Fixed(), pairs)


# --------------------------------------------------------------------------------------------------- SRL


def kl(teacher, student):
    p, q = softmax(teacher, -1), softmax(student, -1)
    return (p * (p.log() - q.log())).sum() / len(p)


def slow_cosine_form(states, detach=False):
    """One term after the other, of the released STS loss."""
    terms = []
    for n, m in PAIRS:
        terms.append(losses.info_nce(states[:, :, n, :m]))
    for n, m in PAIRS[:-1]:
        teacher, student = states[:, :, -1, :m].reshape(-1, m), states[:, :, n, :m].reshape(-1, m)
        terms.append(0.3 * kl(teacher.detach() if detach else teacher, student))
    return terms


def slow_dot_form(states):
    """Query by query and passage by passage, of the released retrieval loss."""
    rows, columns = states.shape[:2]
    scores, terms = {}, []
    for n, m in PAIRS:
        passages = [states[i, c, n, :m] for i in range(rows) for c in range(1, columns)]
        queries = [states[i, 0, n, :m] for i in range(rows)]
        scores[n] = torch.stack([torch.stack([torch.dot(q, p) for p in passages]) for q in queries])
        terms.append(cross_entropy(scores[n], torch.arange(rows) * (columns - 1)))
    return terms + [kl(scores[3].detach(), scores[n]) for n, _ in PAIRS[:-1]]


@pytest.mark.parametrize(("form", "slow"), [("cosine", slow_cosine_form), ("dot", slow_dot_form)])
def test_26_29_and_30_the_loss_is_the_sum_over_pairs_and_so_is_the_gradient(form, slow):
    model = SRL(Fixed(), PAIRS, form)
    states = model.encoder.states
    total, parts = model(NOTHING, NOTHING)
    assert list(parts) == ["1x4", "2x8", "3x16", "align 1x4", "align 2x8"]
    terms = slow(states)
    for ours, theirs in zip(parts.values(), terms, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad(term, states, retain_graph=True)[0] for term in terms]
    torch.testing.assert_close(torch.autograd.grad(total, states)[0], sum(gradients), rtol=0, atol=1e-10)


def test_29_the_teacher_can_be_detached_in_the_cosine_form():
    model = SRL(Fixed(), PAIRS, detach=True)
    expected = torch.autograd.grad(sum(slow_cosine_form(model.encoder.states, True)), model.encoder.states)[0]
    torch.testing.assert_close(torch.autograd.grad(model(NOTHING, NOTHING)[0], model.encoder.states)[0], expected)


def test_27_the_whole_model_alone_is_plain_training_and_pairs_do_not_touch_each_other():
    one, few, many = (SRL(Fixed(), pairs) for pairs in (PAIRS[2:], PAIRS[1:], PAIRS))
    total, parts = one(NOTHING, NOTHING)
    assert torch.equal(total, losses.info_nce(one.encoder.states[:, :, -1]))
    assert list(parts) == ["3x16"]
    smaller, larger = few(NOTHING, NOTHING)[1], many(NOTHING, NOTHING)[1]
    assert all(torch.equal(larger[name], value) for name, value in smaller.items())


def test_31_only_the_dot_form_sees_lengths():
    for form in ("cosine", "dot"):
        model = SRL(Fixed(), PAIRS, form, weight=0)
        before = model(NOTHING, NOTHING)[0].item()
        model.encoder.states.data *= 2
        assert (abs(model(NOTHING, NOTHING)[0].item() - before) < 1e-9) == (form == "cosine")


def test_labels_and_other_base_losses():
    model = SRL(Fixed(columns=2), PAIRS, base=losses.cosent, weight=0)
    labels = torch.tensor([0.1, 0.9, 0.3, 0.9])
    expected = sum(losses.cosent(model.encoder.states[:, :, n, :m], labels) for n, m in PAIRS)
    torch.testing.assert_close(model(NOTHING, NOTHING, labels)[0], expected)


def test_17_one_encoding_a_step_whatever_the_list():
    model = SRL(Fixed(), PAIRS)
    model(NOTHING, NOTHING)
    assert model.encoder.calls == 1


def test_32_drawn_pairs_of_the_list_keep_their_own_dims():
    model = SRL(Fixed(), PAIRS, draws=1, generator=torch.Generator().manual_seed(0))
    draws = Counter(model.draw() for _ in range(4000))
    assert set(draws) == {(Cut(1, 4), Cut(3, 16)), (Cut(2, 8), Cut(3, 16))}
    assert abs(draws[Cut(1, 4), Cut(3, 16)] - 2000) < 120


def test_random_pairs_are_as_many_as_the_list_and_come_evenly_from_its_grid():
    model = SRL(Fixed(), PAIRS, pool="grid", draws=2, generator=torch.Generator().manual_seed(0))
    draws = [model.draw() for _ in range(8000)]
    assert all(len(set(draw)) == 3 and draw[-1] == Cut(3, 16) for draw in draws)
    counts = Counter(cut for draw in draws for cut in draw[:-1])
    assert set(counts) == {Cut(n, m) for n in (1, 2, 3) for m in (4, 8, 16)} - {Cut(3, 16)}
    assert sum((c - 2000) ** 2 / 2000 for c in counts.values()) < 24.3, "chi-square, 7 degrees, p = 0.001"
    model(NOTHING, NOTHING)
    again = SRL(Fixed(), PAIRS, pool="grid", draws=2, generator=torch.Generator().manual_seed(0))
    assert [again.draw() for _ in range(9)] == draws[:9]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"form": "cos"}, "Did you mean 'cosine'"),
        ({"pool": "all"}, "Allowed: list, grid"),
        ({"draws": 3}, "2 stand below the last of this list"),
    ],
)
def test_wrong_requests(how, words):
    with pytest.raises(RequestError, match=words):
        SRL(Fixed(), PAIRS, **how)


def test_49_a_separate_model_trains_at_its_own_width_and_depth():
    model = SRL(Fixed(layers=2), [(2, 8)], whole=False)
    total, parts = model(NOTHING, NOTHING)
    (gradient,) = torch.autograd.grad(total, model.encoder.states)
    assert list(parts) == ["2x8"]
    assert gradient[..., 8:].abs().max() == 0
    assert gradient[:, :, :2].abs().max() == 0
    model.encoder.states.data[..., 8:] = 99.0
    assert torch.equal(model(NOTHING, NOTHING)[0], total)


def test_46_a_tiny_model_learns_32_triplets_at_every_pair():
    from mrl_lab.train import fit

    torch.manual_seed(0)
    rows = [(TEXTS[i], f"{TEXTS[(7 * i + 3) % 36]} .", f"{TEXTS[(11 * i + 5) % 36]} ,") for i in range(32)]
    model = SRL(encoder())
    triplets = TextRows(model.encoder.tokenizer, rows)
    fit(model, triplets, steps=150, batch=32, lr=3e-3, schedule="constant", weight_decay=0.0)
    states = model.encoder(*triplets[torch.arange(32)])
    for cut in model.pairs:
        scores = losses.candidate_scores(prefix(states[:, :, cut.layer], cut.dim))
        assert torch.equal(scores.argmax(1), 2 * torch.arange(32)), cut


# -------------------------------------------------------------------------------------------------- SMAE


@pytest.fixture(scope="module")
def bert():
    from transformers import BertForMaskedLM

    torch.manual_seed(0)
    model = BertForMaskedLM(small_config(tokenizer(), 32, 3, dropout=0.0)).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


@pytest.fixture
def masked():
    torch.manual_seed(1)
    return MaskedRows(tokenizer(), [*TEXTS[:5], TEXTS[0] + " , " + TEXTS[9]])[torch.arange(6)]


def slow_smae(model, block, pairs, ids, attention, labels, decoder_ids, decoder_labels):
    """The plain form: heads over all places, the decoder once a pair, loss by loss, as the released code has it."""
    from transformers.masking_utils import create_bidirectional_mask

    states = model.bert(ids, attention_mask=attention, output_hidden_states=True).hidden_states
    transform, vocabulary = model.cls.predictions.transform, model.cls.predictions.decoder
    total, parts = 0.0, {}
    for n, m in pairs:
        zeroed = torch.cat([states[n][..., :m], torch.zeros_like(states[n][..., m:])], -1)
        transformed = transform(zeroed)
        mlm = cross_entropy(vocabulary(transformed).flatten(0, 1), labels.flatten())
        words = model.bert.embeddings(decoder_ids)
        words = torch.cat([transformed[:, :1], words[:, 1:]], 1)
        decoded = block(words, create_bidirectional_mask(model.config, words, attention))
        mae = cross_entropy(model.cls(decoded).flatten(0, 1), decoder_labels.flatten())
        parts |= {f"mlm {n}x{m}": mlm, f"mae {n}x{m}": mae}
        total = total + (mlm + mae) / 2
    return total / len(pairs), parts


def test_38_labelled_places_and_one_decoder_pass_give_the_plain_loss_and_gradients(bert, masked):
    model = SMAE(bert, [(1, 8), (2, 16), (3, 32)])
    with torch.no_grad():
        model.block.attention.self.query.weight += 0.1
    fast, parts = model(*masked)
    slow, expected = slow_smae(bert, model.block, [(1, 8), (2, 16), (3, 32)], *masked)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(
        {name: part.item() for name, part in expected.items()}, abs=1e-12
    )
    names, weights = zip(*model.named_parameters(), strict=True)
    assert len(names) > 70
    ours, theirs = (torch.autograd.grad(loss, weights, allow_unused=True) for loss in (fast, slow))
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=name)


def test_35_at_full_width_and_the_last_layer_the_mlm_is_berts_own(bert, masked):
    ids, attention, labels, *_ = masked
    total, parts = SMAE(bert, [(3, 32)], autoencode=False)(*masked)
    torch.testing.assert_close(total, bert(ids, attention_mask=attention, labels=labels).loss, rtol=0, atol=1e-12)
    assert list(parts) == ["mlm 3x32"]


class States(torch.nn.Module):
    """A BERT whose hidden states are given, so that their gradients can be seen."""

    def __init__(self, bert, states):
        super().__init__()
        self.embeddings, self.encoder, self.states = bert.embeddings, bert.encoder, states

    def forward(self, ids, attention_mask, output_hidden_states):
        return type("Out", (), {"hidden_states": self.states})


@pytest.fixture
def by_hand(bert, masked):
    """SMAE at (2, 16) over given states, and those states."""
    ids, attention, *_ = masked
    states = [h.detach().requires_grad_() for h in bert.bert(ids, attention, output_hidden_states=True).hidden_states]
    model = SMAE(copy.deepcopy(bert), [(2, 16), (3, 32)])
    model.model.bert = States(model.model.bert, states)
    return model, states


def test_36_masked_language_modelling_moves_labelled_places_and_leading_dims_alone(by_hand, masked):
    model, states = by_hand
    labelled = masked[2] >= 0
    (gradient,) = torch.autograd.grad(model(*masked)[1]["mlm 2x16"], states[2])
    assert gradient[..., 16:].abs().max() == 0
    assert gradient[~labelled].abs().max() == 0
    assert (gradient[labelled][:, :16].abs() > 0).all()


def test_37_auto_encoding_moves_the_leading_dims_of_cls_alone(by_hand, masked):
    model, states = by_hand
    loss = model(*masked)[1]["mae 2x16"]
    (gradient,) = torch.autograd.grad(loss, states[2])
    assert gradient[:, 1:].abs().max() == 0
    assert gradient[:, 0, 16:].abs().max() == 0
    assert (gradient[:, 0, :16].abs() > 0).any(1).all()
    states[2].data[:, 0, 0] += 1
    assert model(*masked)[1]["mae 2x16"] != loss


def test_39_and_40_embeddings_and_head_are_shared_and_the_decoders_block_is_not(bert, masked, tmp_path):
    model = SMAE(bert, [(1, 8), (3, 32)])
    own = {id(p) for p in model.parameters()} - {id(p) for p in bert.parameters()}
    assert own == {id(p) for p in model.block.parameters()}
    first = bert.bert.encoder.layer[0]
    assert torch.equal(model.block.output.dense.weight, first.output.dense.weight), "it starts as the first block"
    words = bert.bert.embeddings.word_embeddings.weight
    assert bert.cls.predictions.decoder.weight is words
    parts = model(*masked)[1]
    by_part = [torch.autograd.grad(parts[f"{kind} 1x8"], words, retain_graph=True)[0] for kind in ("mlm", "mae")]
    assert all(gradient.abs().sum() > 0 for gradient in by_part)
    bert.save_pretrained(tmp_path)
    again = type(bert).from_pretrained(tmp_path)
    assert again.state_dict().keys() == bert.state_dict().keys()


def test_an_empty_batch_of_labels_gives_0_and_other_models_are_refused(bert, masked):
    ids, attention, labels, decoder_ids, _ = masked
    nothing = torch.full_like(labels, -100)
    assert SMAE(bert)(ids, attention, nothing, decoder_ids, nothing)[0] == 0
    with pytest.raises(RequestError, match="not a BertModel"):
        SMAE(bert.bert)
    with pytest.raises(RequestError, match="not nested"):
        SMAE(bert, [(2, 8), (1, 16), (3, 32)])


# ----------------------------------------------------------------------------------------------- masking


def test_33_whole_words_are_hidden_together_and_the_first_copys_are_among_the_seconds():
    torch.manual_seed(0)
    long = " ".join(TEXTS)
    rows = MaskedRows(tokenizer(), [long, *TEXTS[:3]], encoder=0.2, decoder=0.4, length=300)
    for _ in range(20):
        ids, attention, labels, decoder_ids, decoder_labels = rows[torch.arange(4)]
        first, second = labels >= 0, decoder_labels >= 0
        assert not (first & ~second).any()
        assert not (second & (attention == 0)).any()
        for row, one in enumerate(rows.ids):
            assert not second[row, [0, len(one) - 1]].any(), "[CLS] and [SEP]"
            for word in whole_words(one, rows.continues, rows.special):
                assert first[row, word].unique().numel() == 1
                assert second[row, word].unique().numel() == 1
            assert torch.equal(torch.where(second[row, : len(one)], decoder_labels[row, : len(one)], one), one)
            untouched = ~first[row, : len(one)]
            assert torch.equal(ids[row, : len(one)][untouched], one[untouched])
            assert torch.equal(decoder_ids[row, : len(one)][~second[row, : len(one)]], one[~second[row, : len(one)]])


def test_33_words_are_runs_of_pieces_between_special_tokens():
    rows = MaskedRows(tokenizer(), ["the unbelievable cats ."])
    assert tokenizer().convert_ids_to_tokens(rows.ids[0].tolist()) == (
        ["[CLS]", "the", "un", "##believ", "##able", "cat", "##s", ".", "[SEP]"]
    )
    assert whole_words(rows.ids[0], rows.continues, rows.special) == [[1], [2, 3, 4], [5, 6], [7]]


def test_34_how_many_are_hidden_and_how():
    torch.manual_seed(0)
    rows = MaskedRows(tokenizer(), [" ".join(TEXTS)], length=300)
    tokens, mask = len(rows.ids[0]), tokenizer().mask_token_id
    kinds = Counter()
    for _ in range(100):
        ids, _, labels, _, decoder_labels = rows[torch.tensor([0])]
        for hidden, share in ((labels >= 0, 0.2), (decoder_labels >= 0, 0.4)):
            assert 0 <= round(share * tokens) - hidden.sum() <= 2, "the longest word has 3 tokens"
        chosen = labels >= 0
        kinds["mask"] += (ids[chosen] == mask).sum().item()
        kinds["kept"] += (ids[chosen] == labels[chosen]).sum().item()
        kinds["all"] += chosen.sum().item()
    assert abs(kinds["mask"] / kinds["all"] - 0.8) < 0.03
    assert abs(kinds["kept"] / kinds["all"] - 0.1) < 0.03
    first, second = (rows[torch.tensor([0])] for _ in "12")
    assert not torch.equal(first[2], second[2]), "every pass hides other words"


def test_34_a_word_that_does_not_fit_is_passed_over_and_one_token_at_least_is_aimed_at():
    torch.manual_seed(0)
    for _ in range(50):
        first, second = hide([[1, 2, 3], [4], [5]], 7, (0.2, 0.4))  # room for 1 and for 3 tokens
        assert (first.sum(), second.sum()) in ((1, 2), (0, 3))
        assert hide([[1]], 3, (0.01,))[0].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("texts", "how", "words"),
    [
        (["a man", ""], {}, "row 1 of the texts has no word"),
        (["a man", 3], {}, "row 1 of the texts is 3, a int"),
        (["a man"], {"encoder": 0.5}, "0 < encoder <= decoder < 1"),
    ],
)
def test_texts_that_cannot_be_masked(texts, how, words):
    with pytest.raises(RequestError, match=words):
        MaskedRows(tokenizer(), texts, **how)
