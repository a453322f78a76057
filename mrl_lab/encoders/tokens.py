"""Tokens: texts in, batches of token ids out, as they are or with whole words masked.

:class:`TextRows` and :class:`MaskedRows` are what the training loop draws from: tokenised once, padded on the right
by batch. Masking is that of SMAE (Starbucks, arXiv 2410.13230, and its code): one shuffled list of words serves two
copies of a text, so what the first copy hides the second hides too, and chosen tokens become [MASK] in 80 of 100
cases, a random token in 10, and stay in 10, drawn anew for each copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_TOKENS = 2**31 - 1  # a tokenizer that knows no limit says 10^30, which it cannot count to
UNLABELLED = -100  # what cross-entropy leaves out

# -------------------------------------------------------------------------------------------- texts


def wordpiece(texts: Iterable[str], size: int = 8000) -> PreTrainedTokenizerBase:
    """Learn a vocabulary of at most ``size`` lower-case word pieces and return a BERT tokenizer of it.

    The same texts give the same pieces in the same places, in every process: weights that one has trained are of use
    to another. tokenizers' own trainer numbers the letters inside words in the order of a hash table, and breaks ties
    by number; so these letters are given to it in order.

    Raises:
        RequestError: see :func:`check_texts`.
    """
    from transformers import BertTokenizer

    texts, empty = list(texts), BertTokenizer()
    check_texts(texts)
    steps = empty.backend_tokenizer
    words = steps.pre_tokenizer.pre_tokenize_str(steps.normalizer.normalize_str("\n".join(texts)))
    inside = sorted({letter for word, _ in words for letter in word[1:]})
    found = empty.train_new_from_iterator(
        texts, vocab_size=size, new_special_tokens=[f"##{letter}" for letter in inside], show_progress=False
    )
    return BertTokenizer(vocab=found.get_vocab())


def check_texts(texts: Sequence[str]) -> None:
    """Check that ``texts`` is a list of strings; an empty string is one.

    Raises:
        RequestError: one string, or names the first row that is none, or that holds half a character.
    """
    if isinstance(texts, str):
        raise RequestError("texts is one string: give a list of texts, such as [text].")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise RequestError(f"row {row} of the texts is {text!r}, a {type(text).__name__}: every row must be a str.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"row {row} of the texts holds {text[error.start]!a} at place {error.start}, which is half a character "
                "(a lone surrogate) and no text: read the file as UTF-8, or drop it by "
                "text.encode('utf-8', 'ignore').decode()."
            ) from error


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, prompt: str = "") -> list[Tensor]:
    """Return the token ids of each text, special tokens included, cut after ``length`` of them.

    ``prompt`` stands before each text, as a model made elsewhere may want it. An empty text is its special tokens
    alone, and has an embedding like any other.

    Raises:
        RequestError: see :func:`check_texts`.
    """
    check_texts(texts)
    if not texts:
        return []
    texts, length = [prompt + text for text in texts], min(length, MOST_TOKENS)
    return [torch.tensor(ids) for ids in tokenizer(texts, truncation=True, max_length=length)["input_ids"]]


def pad_right(ids: Sequence[Tensor], tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
    """Return token ids (B, T) padded to the longest and attention (B, T), 1 where a token is."""
    attention = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
    return pad_sequence(list(ids), batch_first=True, padding_value=tokenizer.pad_token_id), attention


class TextRows:
    """Rows of C texts each; ``rows[index]`` -> ids and attention (B, C, T), then labels (B,) or copies.

    Args:
        texts: n rows of C texts: anchor, match and hard negatives, or a pair.
        labels: one number a row, if any.
        leave_out_copies: give :func:`copies` in place of labels, for InfoNCE to leave out.
        length: most tokens of a text. prompt: stands before each.

    Raises:
        RequestError: rows of different numbers of texts, texts that are no strings, labels that do not fit.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[Sequence[str]],
        labels: Sequence[float] | None = None,
        *,
        leave_out_copies: bool = False,
        length: int = 128,
        prompt: str = "",
    ) -> None:
        widths = {len(row) for row in texts}
        if len(widths) != 1 or any(isinstance(row, str) for row in texts):
            raise RequestError(f"every row needs the same number of texts; got rows of {sorted(widths)} texts.")
        if labels is not None and (len(labels) != len(texts) or leave_out_copies):
            raise RequestError(f"give one label a row ({len(texts)} rows), or leave out copies, which labels cannot.")
        self.tokenizer, self.columns, self.leave_out_copies = tokenizer, widths.pop(), leave_out_copies
        self.ids = tokenise(tokenizer, [text for row in texts for text in row], length, prompt)
        self.labels = None if labels is None else torch.tensor(labels, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.ids) // self.columns

    def __getitem__(self, index: Tensor) -> tuple[Tensor, ...]:
        chosen = [self.ids[i * self.columns + c] for i in index.tolist() for c in range(self.columns)]
        ids, attention = (t.unflatten(0, (-1, self.columns)) for t in pad_right(chosen, self.tokenizer))  # (B, C, T)
        if self.leave_out_copies:
            return ids, attention, copies(ids)
        return (ids, attention) if self.labels is None else (ids, attention, self.labels[index])


def copies(ids: Tensor) -> Tensor:
    """Return which candidates of InfoNCE are no negatives, (B, B (C - 1)), from token ids (B, C, T).

    A candidate is none for row i if its text is row i's anchor, or the match of any row with the same anchor. Row
    i's own match, at column i (C - 1), is never left out.
    """
    rows, columns, _ = ids.shape
    _, number = ids.flatten(0, 1).unique(dim=0, return_inverse=True)
    number = number.view(rows, columns)  # equal texts have equal numbers
    anchors, matches, candidates = number[:, 0], number[:, 1], number[:, 1:].flatten()  # (B, C - 1) -> (B (C - 1),)
    same_anchor = anchors[:, None] == anchors  # (B, B)
    is_match = matches[:, None] == candidates  # (B, B (C - 1)): of which row a candidate is a match
    known = (anchors[:, None] == candidates) | (same_anchor.int() @ is_match.int() > 0)
    every = torch.arange(rows)
    known[every, every * (columns - 1)] = False
    return known


# ---------------------------------------------------------------------------------------- whole words


class MaskedRows:
    """Texts with whole words hidden; ``rows[index]`` -> ids, attention, labels, decoder ids, decoder labels (B, T).

    Labels are :data:`UNLABELLED` wherever nothing is hidden: special tokens and padding always are.

    Args:
        texts: n texts, each of a word at least.
        encoder, decoder: share of tokens to hide in the first and in the second copy (SMAE: 0.2 and 0.4).
        length: most tokens of a text.

    Raises:
        RequestError: shares out of order, or a text without a word.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        *,
        encoder: float = 0.2,
        decoder: float = 0.4,
        length: int = 128,
    ) -> None:
        if not 0 < encoder <= decoder < 1:
            raise RequestError(f"shares to hide need 0 < encoder <= decoder < 1; got {encoder} and {decoder}.")
        self.tokenizer, self.shares = tokenizer, (encoder, decoder)
        self.ids = tokenise(tokenizer, texts, length)
        names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.continues = torch.tensor([name.startswith("##") for name in names])
        self.special = torch.zeros(len(names), dtype=torch.bool)
        self.special[tokenizer.all_special_ids] = True
        self._check()

    def _check(self) -> None:
        for row, ids in enumerate(self.ids):
            if self.special[ids].all():
                raise RequestError(f"row {row} of the texts has no word to hide: leave it out.")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        chosen = [self.ids[i] for i in index.tolist()]
        ids, attention = pad_right(chosen, self.tokenizer)
        hidden = [hide(whole_words(one, self.continues, self.special), len(one), self.shares) for one in chosen]
        first, second = (pad_sequence([masks[copy] for masks in hidden], batch_first=True) for copy in (0, 1))
        (seen, labels), (decoder_seen, decoder_labels) = self._replace(ids, first), self._replace(ids, second)
        return seen, attention, labels, decoder_seen, decoder_labels

    def _replace(self, ids: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return ids with 80 % of the hidden ones masked and 10 % random, and the labels, both (B, T)."""
        chance = torch.rand(ids.shape)
        replaced = torch.where(hidden & (chance < 0.8), self.tokenizer.mask_token_id, ids)
        replaced = torch.where(hidden & (chance >= 0.9), torch.randint(len(self.special), ids.shape), replaced)
        return replaced, ids.masked_fill(~hidden, UNLABELLED)


def whole_words(ids: Tensor, continues: Tensor, special: Tensor) -> list[list[int]]:
    """Return the places of each word's tokens in ids (T,), without special tokens.

    Args:
        continues: (V,), true for pieces that go on with a word ("##ing"). special: (V,).
    """
    words: list[list[int]] = []
    for place, (goes_on, apart) in enumerate(zip(continues[ids].tolist(), special[ids].tolist(), strict=True)):
        if apart:
            continue
        if goes_on and words:
            words[-1].append(place)
        else:
            words.append([place])
    return words


def hide(words: Sequence[Sequence[int]], tokens: int, shares: Sequence[float]) -> list[Tensor]:
    """Choose words at random and return what each copy hides, one (T,) mask a share; a smaller share hides a subset.

    Each copy takes words in one shuffled order while they fit into max(1, round(share * tokens)) tokens, special
    tokens counted in ``tokens``; a word that no longer fits is passed over.
    """
    order = torch.randperm(len(words)).tolist()
    rooms = [max(1, round(share * tokens)) for share in shares]
    masks = torch.zeros(len(shares), tokens, dtype=torch.bool)
    for word in (words[i] for i in order):
        for copy in reversed(range(len(rooms))):  # the largest share first: what it passes over, all pass over
            if len(word) > rooms[copy]:
                break
            rooms[copy] -= len(word)
            masks[copy, word] = True
    return list(masks)
