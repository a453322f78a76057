"""How rows are stored for an exact search: float32, float16, int8 or one bit a dim.

A stored table gives its own inner products, block by block; :func:`mrl_lab.search.exact` does not know which it is.

* float32, float16: as they are; half the bytes, the same time (a block is widened as it is read).
* int8: dim j is divided by a step s_j and rounded to -127 ... 127. Queries take the steps in, q_j s_j, and are rounded
  too, so that a score is one product of whole numbers, exact in int32. s_j is proportional to (max |x_j|)^(3/4): with
  the power 1 all dims of the rows use all steps, but queries q_j s_j fall off so fast that late dims round to nothing
  (recall@10 of float32's neighbours, 1024 trained dims: 0.855; with 3/4: 0.889; with 0, one step for all: 0.860).
* binary: the sign of x_j above its mean over the database, one bit; a score is the number of agreeing less that of
  disagreeing bits, m - 2 * Hamming distance, scaled to a cosine.
* signs: the same bits, but queries keep their numbers: sum_j (q_j - mean_j) s_j, scaled to a cosine.

Sources: Jégou et al., PAMI 2011, for asymmetric scores; the means are ours: after a ReLU no value is negative, and
signs about 0 would say nothing. ``bytes`` is what one stored row takes.

Measured (1,000,000 rows, 256 queries, k = 50, 2 cores with VNNI): int8 pays from 32 dims up, see
``mrl-lab bench shortlist``; float16 never did. Without such instructions the int8 product is the slow one (8,192 x 768
times 512 queries, AVX2: 5.6 s against 0.18 s), so whole numbers are multiplied as float32 there, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from mrl_lab.errors import RequestError, unknown
from mrl_lab.search import checks


class Stored:
    """A table (N, m) that multiplies itself with queries; made by :func:`store`.

    Attributes:
        rows: what is stored, a line a row. shape: (N, m). bytes: of one stored row. dtype: of raw scores.
    """

    dtype: torch.dtype

    def __init__(self, rows: Tensor, width: int) -> None:
        self.rows, self.shape, self.bytes = rows, (len(rows), width), rows.shape[1] * rows.element_size()

    def __len__(self) -> int:
        return len(self.rows)

    def prepare(self, queries: Tensor) -> Tensor:
        """Queries (Q, m) -> (m, Q), as :meth:`product` takes them."""
        raise NotImplementedError

    def product(self, rows: slice, prepared: Tensor, out: Tensor) -> None:
        """Write the raw scores (b, Q) of some rows into ``out``."""
        raise NotImplementedError

    def restore(self, scores: Tensor, queries: Tensor) -> Tensor:
        """Raw scores (Q, k) -> approximate inner products with the queries (Q, m)."""
        raise NotImplementedError


def _by_blocks(rows: Tensor, code: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the codes of rows (N, m), made a block at a time: what is made on the way is as large as the rows.

    In float32 at least, where half precision would round steps and means.
    """
    return torch.cat([code(block.to(torch.promote_types(rows.dtype, torch.float32))) for block in rows.split(2**16)])


EXACT = 2**24 // 127**2  # products of int8 whose sum float32 holds to the unit, whatever their order


def _integers(rows: Tensor, prepared: Tensor, out: Tensor) -> None:
    """Write the products of int8 rows (b, m) and queries (m, Q) into ``out`` (b, Q), int32 and exact."""
    if rows.is_cuda or _has_int8_products():
        torch._int_mm(rows, prepared, out=out)
        return
    out.zero_()
    for some, asked in zip(rows.split(EXACT, dim=1), prepared.split(EXACT), strict=True):
        out += (some.float() @ asked.float()).int()


@cache
def _has_int8_products() -> bool:
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


class Plain(Stored):
    """Floating point rows (N, m), kept as they are."""

    def __init__(self, rows: Tensor, like: Plain | None = None) -> None:
        super().__init__(rows, rows.shape[1])
        self.dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32

    def prepare(self, queries: Tensor) -> Tensor:
        return queries.to(self.dtype).T.contiguous()

    def product(self, rows: slice, prepared: Tensor, out: Tensor) -> None:
        torch.mm(self.rows[rows].to(self.dtype), prepared, out=out)

    def restore(self, scores: Tensor, queries: Tensor) -> Tensor:
        return scores


POWER = 0.75  # of the largest value of a dim, in its step


class Int8(Stored):
    """One byte a value, in steps of its dim; in those of ``like``, where it is given, what is larger is cut off."""

    dtype = torch.int32

    def __init__(self, rows: Tensor, like: Int8 | None = None) -> None:
        self.steps = self._steps(rows) if like is None else like.steps
        codes = _by_blocks(rows, lambda block: (block / self.steps).round().clamp(-127, 127).to(torch.int8))
        super().__init__(codes, rows.shape[1])

    @staticmethod
    def _steps(rows: Tensor) -> Tensor:
        largest = torch.maximum(rows.amax(0), -rows.amin(0)).float().clamp(min=1e-12)  # (m,)
        return largest**POWER * (largest ** (1 - POWER)).max() / 127

    def prepare(self, queries: Tensor) -> Tensor:
        stretched = queries * self.steps
        return (stretched / self._unit(stretched)).round().to(torch.int8).T.contiguous()

    def product(self, rows: slice, prepared: Tensor, out: Tensor) -> None:
        _integers(self.rows[rows], prepared, out)

    def restore(self, scores: Tensor, queries: Tensor) -> Tensor:
        return scores * self._unit(queries * self.steps)

    @staticmethod
    def _unit(stretched: Tensor) -> Tensor:
        return (stretched.abs().amax(1, keepdim=True) / 127).clamp(min=1e-30)  # (Q, 1)


class Binary(Stored):
    """One bit a value: above its mean over the database, or over that of ``like``, or not."""

    dtype = torch.int32

    def __init__(self, rows: Tensor, like: Binary | None = None) -> None:
        means = rows.mean(0, dtype=torch.promote_types(rows.dtype, torch.float32))  # (m,)
        self.means = means if like is None else like.means
        packed = _by_blocks(rows, lambda block: torch.from_numpy(np.packbits((block > self.means).numpy(), axis=1)))
        super().__init__(packed, rows.shape[1])

    def prepare(self, queries: Tensor) -> Tensor:
        return self._signs(queries).T.contiguous()

    def _signs(self, queries: Tensor) -> Tensor:
        return torch.where(queries > self.means, 1, -1).to(torch.int8)

    def product(self, rows: slice, prepared: Tensor, out: Tensor) -> None:
        bits = np.unpackbits(self.rows[rows].numpy(), axis=1, count=self.shape[1])  # (b, m) of 0 and 1
        _integers(torch.from_numpy(bits).view(torch.int8), prepared, out)

    def restore(self, scores: Tensor, queries: Tensor) -> Tensor:
        signs = self._signs(queries).sum(1, keepdim=True)  # sum of (2 b - 1) s = 2 sum of b s - sum of s
        return (2 * scores - signs) / self.shape[1]


class Signs(Binary):
    """The same bits, asked by queries that keep their numbers: a sum of these with signs, above the means."""

    dtype = torch.float32

    def prepare(self, queries: Tensor) -> Tensor:
        return (queries - self.means).float().T.contiguous()

    def product(self, rows: slice, prepared: Tensor, out: Tensor) -> None:
        bits = np.unpackbits(self.rows[rows].numpy(), axis=1, count=self.shape[1])  # (b, m) of 0 and 1
        torch.mm(torch.from_numpy(bits).float(), prepared, out=out)

    def restore(self, scores: Tensor, queries: Tensor) -> Tensor:
        return (2 * scores - (queries - self.means).sum(1, keepdim=True)) / self.shape[1] ** 0.5


def _half(rows: Tensor, like: Plain | None = None) -> Plain:
    half, long = rows.half(), checks.lengths(rows)
    lost = ~((checks.lengths(half) - long).abs() <= 0.01 * long)  # overflown, or rounded to nothing
    if lost.any():
        raise RequestError(
            f"row {int(lost.nonzero()[0, 0])} of database does not fit float16, which holds 6e-8 to 65,504: scale the "
            "rows, as unit_rows does."
        )
    return Plain(half)


FORMS = {"float32": Plain, "float16": _half, "int8": Int8, "binary": Binary}  # queries in the form of the rows
STORED = {**FORMS, "signs": Signs}


def store(rows: checks.Rows, form: str = "float32", like: Stored | None = None) -> Stored:
    """Return rows (N, m) stored in one of :data:`STORED`, checked and ready for :func:`mrl_lab.search.exact`.

    "float32" keeps the rows as they are, whatever their type, and copies nothing.

    Args:
        like: others in the same form, whose steps and means are taken: parts of one database are stored alike.

    Raises:
        RequestError: an unknown form, or rows that :func:`mrl_lab.search.checks.database` refuses.
    """
    if form not in STORED:
        raise unknown("form", form, STORED)
    return STORED[form](checks.database(rows), like)
