"""A vocabulary, texts and encoders small enough to reason about."""

import json
from types import SimpleNamespace

import torch
from torch import nn

from mrl_lab.data import places
from mrl_lab.data import texts as data_texts
from mrl_lab.encoders import texts
from mrl_lab.study.sentences import pretraining, task

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = "a the two one man dog cat child plays run ##s ##ing sleep in on park mat guitar un ##believ ##able . ,"
WORDS = PIECES.split()
SUBJECTS = ("a man", "the dog", "two cats", "one child", "the unbelievable cat", "a dog")
DOINGS = ("plays guitar", "runs in the park", "sleeping on the mat", "plays in the park", "runs", "is unbelievable")
TEXTS = [f"{subject} {doing}" for subject in SUBJECTS for doing in DOINGS]
ROWS = [(TEXTS[i], TEXTS[(i + 1) % 36], TEXTS[(i + 7) % 36]) for i in range(36)]


def tokenizer():
    from transformers import BertTokenizer

    return BertTokenizer(vocab={word: i for i, word in enumerate(SPECIAL + WORDS)})


def encoder(layers=3, d=32, pooling="mean", dropout=0.0, seed=0, **how):
    """A BERT whose weights are large enough for its layers to differ."""
    built = texts.small(tokenizer(), d, layers, pooling=pooling, dropout=dropout, seed=seed, **how)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in built.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=draw)
    return built


class Fixed(nn.Module):
    """An encoder whose states (B, C, N+1, D) are parameters, so that every gradient can be seen."""

    def __init__(self, rows=4, columns=3, layers=3, d=16, seed=0):
        super().__init__()
        self.layers, self.d, self.calls = layers, d, 0
        draw = torch.Generator().manual_seed(seed)
        self.states = nn.Parameter(torch.randn(rows, columns, layers + 1, d, generator=draw, dtype=torch.float64))

    def forward(self, ids, attention):
        self.calls += 1
        return self.states


class Embedded(nn.Module):
    """Looks like a SentenceTransformer whose features already are the embeddings."""

    def get_embedding_dimension(self):
        return 16

    def forward(self, features):
        return features

    @staticmethod
    def features(z):
        """(B, C, d) -> a dict a column."""
        return [{"sentence_embedding": column} for column in z.unbind(1)]


def beir(folder):
    """A folder as BEIR has them: 36 texts, each the answer to its neighbour."""
    (folder / "qrels").mkdir(parents=True)
    line = lambda i, text: json.dumps({"_id": str(i), "title": "", "text": text}) + "\n"  # noqa: E731
    (folder / "corpus.jsonl").write_text("".join(line(i, text) for i, text in enumerate(TEXTS)))
    (folder / "queries.jsonl").write_text("".join(line(i, row[1]) for i, row in enumerate(ROWS)))
    rows = "".join(f"{i}\t{i}\t1\n" for i in range(36))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


PAIRS = data_texts.Pairs(TEXTS[:12], TEXTS[3:15], [float(i % 6) for i in range(12)])


def stand_in(monkeypatch, folder, pairs=lambda name: dict.fromkeys(("train", "dev", "test"), PAIRS)):
    """Let SNLI be 36 rows and each test 12 pairs, whatever is on this machine; keep results in a folder."""
    monkeypatch.setenv("MRL_LAB_CACHE", str(folder))
    monkeypatch.setenv("MRL_LAB_WORKERS", "1")  # another process would not know of it
    monkeypatch.setattr(data_texts, "triplets", lambda learns: ROWS)
    monkeypatch.setattr(data_texts, "pairs", pairs)
    monkeypatch.setattr(places, "ensure", lambda name: SimpleNamespace(key={name: "of these rows"}))
    for read in (task.tokenizer, task._rows, pretraining._rows, pretraining.sentences):
        read.cache_clear()
