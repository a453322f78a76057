"""Contents: what a source holds, whatever container it came in, by a digest over the rows of each part.

The hub and the authors of a set keep its rows in other files than the folder layout, and no file's checksum tells that
they are the same. So the readers' rows are compared: of texts, letters and digits without case, since containers differ
in how they part words and marks; of numbers, three decimals; of pictures, the pixels. The order of rows does not count.

Three sets are known in part alone. CIFAR-10 under ``MRL_LAB_DATA`` is JPEG, so that its pixels are nobody else's: its
labels count. NLVR's scenes are each drawn in six orders of their boxes: sentences and answers count. all-nli was never
had here: the commit, the checksum that the hub declares, and the number of triplets that its card states count.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from mrl_lab.data import catalogue, texts
from mrl_lab.data.places import Found
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from mrl_lab.data.rows import Rows

Contents = dict[str, Iterable[tuple]]  # part -> rows


def check(found: Found, recorded: dict[str, str]) -> None:
    """See that fetched files hold the rows that are recorded.

    Raises:
        RequestError: names the parts that do not; or no rows are recorded.
    """
    have = of(found)
    other = [part for part in recorded.keys() | have.keys() if have.get(part) != recorded.get(part)]
    if other:
        raise RequestError(f"its rows are not those recorded here, in {', '.join(sorted(other))}")


def of(found: Found) -> dict[str, str]:
    """Return {part: digest over its rows} of verified files, whatever container they are.

    Raises:
        RequestError: files that their reader cannot read, or a set that has no reader here.
    """
    name = catalogue.DERIVED.get(found.name, found.name)
    if name not in READERS:
        raise RequestError(f"nothing is recorded of the rows of {name}")
    try:
        return {part: digest(rows) for part, rows in READERS[name](found).items()}
    except RequestError:
        raise
    except Exception as error:  # a container of another layout breaks its reader in any way there is
        raise RequestError(
            f"it is laid out in another way than is known here ({type(error).__name__}: {error})"
        ) from error


def digest(rows: Iterable[tuple]) -> str:
    """Return a SHA-256 over rows of texts, numbers and bytes, in any order."""
    each = sorted(hashlib.sha256(b"\x1f".join(map(_plain, row))).digest() for row in rows)
    return hashlib.sha256(b"".join(each)).hexdigest()


def _plain(value: str | float | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        letters = unicodedata.normalize("NFKD", value).casefold()
        return "".join(c for c in letters if c.isalnum()).encode()
    return f"{value:.3f}".encode()


# ------------------------------------------------------------------------------------------------ one kind each


def _pairs(found: Found) -> Contents:
    return {part: zip(p.sentence1, p.sentence2, p.score, strict=True) for part, p in texts.pairs_in(found).items()}


def _years(found: Found) -> Contents:
    years: dict[str, list[tuple]] = {}
    for subset, rows in _pairs(found).items():
        years.setdefault(subset.split()[0], []).extend(rows)
    return years


def _collection(found: Found) -> Contents:
    whole = texts.retrieval_in(found)
    judged = {part: [(q, d, g) for q in by for d, g in by[q].items()] for part, by in whole.judged.items()}
    return {"corpus": whole.corpus.items(), "queries": whole.queries.items(), **judged}


def _count(found: Found) -> Contents:
    return {"train": [(len(texts.triplets_in(found)),)]}


def _splits(found: Found) -> dict[str, Rows]:
    from mrl_lab.data import pictures

    parts = pictures.READERS[catalogue.DERIVED.get(found.name, found.name)](found)
    return {"train": parts.train, "test": parts.test}


def _pictures(found: Found) -> Contents:
    return {part: _decoded(rows) for part, rows in _splits(found).items()}


def _decoded(rows: Rows) -> Iterator[tuple[int, bytes]]:
    import torch

    for index in torch.arange(len(rows)).split(1000):
        for label, image in zip(rows.labels[index].tolist(), rows.images(index), strict=True):
            yield label, image.numpy().tobytes()


def _labels(found: Found) -> Contents:
    return {part: [(label,) for label in rows.labels.tolist()] for part, rows in _splits(found).items()}


def _sentences(found: Found) -> Contents:
    from mrl_lab.data import questions

    asked = questions.READERS[found.name](found)
    return {part: zip(some.questions, some.answers, strict=True) for part, some in asked.items()}


READERS: dict[str, Callable[[Found], Contents]] = {
    **dict.fromkeys(("stsb", "sick"), _pairs),
    "sts12-16": _years,
    "multi30k": texts.captions_in,
    "all-nli": _count,
    **dict.fromkeys(("scifact", "cranfield"), _collection),
    "fashion_mnist": _pictures,
    "cifar10": _labels,
    "nlvr": _sentences,
}
