"""What is timed of sentence encoders: a step of each method, SMAE's two forms, a grid scored beside its encoding.

Encoders have random weights and texts random words: nothing here is learnt, so no data are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mrl_lab.encoders.texts import SentenceEncoder
    from mrl_lab.methods.starbucks import SMAE

WORDS = 2_000


def text_step() -> dict[str, Callable[[], object]]:
    """One training step, 32 triplets of 24 tokens, 6 blocks of 384 dims: plain, nested, and sentence-transformers."""
    import torch

    from mrl_lab.methods.mse2d import MSE2D
    from mrl_lab.methods.starbucks import SRL

    encoder = _encoder()
    draw = torch.Generator().manual_seed(0)
    batch = torch.randint(5, WORDS, (32, 3, 24), generator=draw), torch.ones(32, 3, 24, dtype=torch.long)
    models = {
        "plain": SRL(encoder, [(6, 384)]),
        "2DMSE": MSE2D(encoder),
        "Starbucks, 6 pairs": SRL(encoder),
    }
    ways = {name: _step(model, lambda model=model: model(*batch)[0]) for name, model in models.items()}
    return ways | _peer(encoder, *batch)


def smae() -> dict[str, Callable[[], object]]:
    """One step of SMAE, 4 pairs of a BERT of 128 dims with 30,522 words: logits everywhere, or where labelled."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from mrl_lab.methods.starbucks import SMAE

    shape = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    torch.manual_seed(0)
    model = SMAE(BertForMaskedLM(BertConfig(**shape)))  # the vocabulary is BERT's by default
    ids = torch.randint(1000, 30_522, (16, 32))
    labels, decoder_labels = (ids.where(torch.rand(16, 32) < share, -100) for share in (0.2, 0.4))
    masked = [ids.masked_fill(hidden >= 0, 103) for hidden in (labels, decoder_labels)]
    batch = masked[0], torch.ones_like(ids), labels, masked[1], decoder_labels
    return {
        "everywhere": _step(model, lambda: dense(model, *batch)),
        "where labelled": _step(model, lambda: model(*batch)[0]),
    }


def dense(model: SMAE, ids: Tensor, attention: Tensor, labels: Tensor, decoder_ids: Tensor, decoder_labels: Tensor):
    """Return SMAE's loss in the plain form: logits at every place, and the decoder run once a pair."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers.masking_utils import create_bidirectional_mask

    bert, head = model.model.bert, model.model.cls
    states, losses = bert(ids, attention_mask=attention, output_hidden_states=True).hidden_states, []
    for cut in model.pairs:
        h = states[cut.layer]
        zeroed = torch.cat([h[..., : cut.dim], torch.zeros_like(h[..., cut.dim :])], -1)  # (B, T, D)
        losses.append(cross_entropy(head(zeroed).flatten(0, 1), labels.flatten()))
        cls = head.predictions.transform(zeroed)[:, :1]
        seen = torch.cat([cls, bert.embeddings(decoder_ids)[:, 1:]], 1)
        decoded = model.block(seen, create_bidirectional_mask(model.model.config, seen, attention))
        losses.append(cross_entropy(head(decoded).flatten(0, 1), decoder_labels.flatten()))
    return torch.stack(losses).mean()


def grid() -> dict[str, Callable[[], object]]:
    """384 sentence pairs, 6 blocks of 384 dims: one encoding, and with it Spearman of 7 layers x 9 widths."""
    import random

    from mrl_lab import score
    from mrl_lab.encoders.texts import encode_each

    encoder, draw = _encoder(), random.Random(0)
    sides = [[" ".join(f"w{draw.randrange(WORDS - 5)}" for _ in range(12)) for _ in range(384)] for _ in range(2)]
    gold = [draw.random() for _ in range(384)]
    sizes = (2, 4, 8, 16, 32, 64, 128, 256, 384)
    return {
        "one encoding": lambda: encode_each(encoder, *sides),
        "encoding and grid": lambda: score.spearman_grid(*encode_each(encoder, *sides), gold, sizes),
    }


def _encoder() -> SentenceEncoder:
    """A BERT of MiniLM's shape with random weights, over words w0, w1, ..."""
    from transformers import BertTokenizer

    from mrl_lab.encoders.texts import small

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {word: i for i, word in enumerate(special + [f"w{i}" for i in range(WORDS - 5)])}
    return small(BertTokenizer(vocab=vocab), 384, 6, length=64).train()


def _step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    import torch

    update = torch.optim.AdamW(model.parameters(), 1e-5, fused=True)

    def way() -> None:
        update.zero_grad()
        loss().backward()
        update.step()

    return way


def _peer(encoder: SentenceEncoder, ids: Tensor, attention: Tensor) -> dict[str, Callable[[], object]]:
    """Return sentence-transformers' Matryoshka2dLoss on the same weights and batch."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    from mrl_lab.encoders.cutting import cut

    with TemporaryDirectory() as folder:
        theirs = SentenceTransformer(str(cut(encoder, 6, 384, f"{folder}/model")), device="cpu").train()
    theirs.truncate_dim = None
    dims = [384, 256, 128, 64, 32, 16]
    loss = losses.Matryoshka2dLoss(theirs, losses.MultipleNegativesRankingLoss(theirs), dims)
    columns = list(zip(ids.unbind(1), attention.unbind(1), strict=True))  # (B, C, T) -> C x (B, T)

    def total() -> Tensor:
        features = [{"input_ids": one.clone(), "attention_mask": seen.clone()} for one, seen in columns]
        found = loss(features, None)
        return sum(found.values()) if isinstance(found, dict) else found

    return {"Matryoshka2dLoss": _step(theirs, total)}
