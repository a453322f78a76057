"""A database larger than memory: whole vectors in a file, inverted lists of their prefixes in another, beside it.

Lists of the first D_s numbers find K candidates; only these K rows are read from the file of whole vectors, to be put
in order. Both are memory-mapped: a query touches the pages of a few lists and of K rows, the system keeps those in
memory that it has room for, and what a process must hold is the centroids.

    vectors.npy     (N, d) float16, written block by block               :func:`write`
    prefixes.faiss  centroids, and where the lists lie                   :func:`build`
    prefixes.lists  faiss's OnDiskInvertedLists, 2 D_s + 8 bytes a row

Lists are filled a block at a time and merged, as faiss advises for databases that do not fit (its wiki, "Indexes that
do not fit in RAM"); so no step holds more than a block. :func:`opened` gives what :func:`mrl_lab.search.nested` gives
for rows in memory, and finds the same.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from mrl_lab.cuts import check_sizes, unit_prefix
from mrl_lab.errors import RequestError
from mrl_lab.search import checks
from mrl_lab.search.ann import Ivf, faiss_threads
from mrl_lab.search.flat import Found, exact
from mrl_lab.search.nested import Nested

VECTORS, INDEX, LISTS = "vectors.npy", "prefixes.faiss", "prefixes.lists"
BLOCK = 2**18  # rows that are held at once
LEARNT = 64  # rows a list from which centroids are made
SPARE = 2**30  # bytes of a disk that are left to others


def needed(n: int, d: int, m: int) -> int:
    """Bytes that a database of n rows takes while it is built: vectors, lists, and the lists before they are merged."""
    return n * (2 * d + 2 * (2 * m + 8))


def check_room(folder: Path, n: int, d: int, m: int) -> None:
    """Refuse what the disk of ``folder``, which need not be there yet, cannot hold.

    Raises:
        RequestError: says what is needed, what is free, and where.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free, wanted = shutil.disk_usage(there).free, needed(n, d, m) + SPARE
    if wanted > free:
        raise RequestError(
            f"{n:,} vectors of {d} numbers take {wanted / 1e9:.1f} GB of disk with their index, and {there} has "
            f"{free / 1e9:.1f} GB free: make room, or set MRL_LAB_CACHE to a folder on a larger disk."
        )


# ------------------------------------------------------------------------------------------------- writing


def write(folder: Path, blocks: Iterable[Tensor], n: int, d: int) -> None:
    """Write n rows of d numbers, given as blocks (b, d) of floats, as float16; only a block is held.

    Raises:
        RequestError: blocks that are not n rows of d finite numbers.
    """
    header = {"descr": "<f2", "fortran_order": False, "shape": (n, d)}
    written = 0
    with (folder / VECTORS).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            rows = checks.table(block.half())
            written += len(rows)
            if rows.shape[1] != d or written > n:
                raise RequestError(f"a block {tuple(rows.shape)}: {n} rows of {d} numbers were announced.")
            rows.numpy().tofile(file)
    if written != n:
        raise RequestError(f"{written} rows were given: {n} rows of {d} numbers were announced.")


def vectors(folder: Path) -> Tensor:
    """Return the whole vectors (N, d), float16, as they lie in their file: a row is read when it is asked for."""
    return checks.floats(np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False), "vectors")


def blocks(folder: Path, rows: int = BLOCK) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of its first row, and each block (b, d) of the vectors, in memory, one at a time."""
    for start in range(0, len(vectors(folder)), rows):
        yield start, vectors(folder)[start : start + rows].clone()  # mapped anew, so that pages are let go


# ------------------------------------------------------------------------------------------------- the index


def build(folder: Path, m: int, *, lists: int | None = None, threads: int = 1, rows: int = BLOCK) -> float:
    """Sort the prefixes of ``m`` numbers, normalised after the cut, into lists on disk; return the seconds it took.

    Args:
        lists: sqrt(N) by default: four times as many, as faiss advises, take four times as long to fill.

    Raises:
        RequestError: sizes that the vectors do not have, or more lists than rows.
    """
    import faiss
    from faiss.contrib.ondisk import merge_ondisk

    n, d = vectors(folder).shape
    check_sizes([m], d)
    lists = checks.number("lists", round(n**0.5) if lists is None else lists, 1, n)
    began = time.perf_counter()
    index = faiss.index_factory(m, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.by_residual, index.cp.min_points_per_centroid = False, 1
    with faiss_threads(threads), TemporaryDirectory(dir=folder) as parts:
        index.train(_some(folder, m, max(1, n // (LEARNT * lists)), rows))
        shards = [_shard(index, start, _prefixes(block, m), Path(parts)) for start, block in blocks(folder, rows)]
        merge_ondisk(index, shards, str((folder / LISTS).absolute()))
        faiss.write_index(index, str(folder / INDEX))
    return time.perf_counter() - began


def _prefixes(block: Tensor, m: int) -> np.ndarray:
    return unit_prefix(block, m).numpy()


def _some(folder: Path, m: int, step: int, rows: int) -> np.ndarray:
    """Prefixes of every step-th row, from blocks."""
    return np.concatenate([_prefixes(block[-start % step :: step], m) for start, block in blocks(folder, rows)])


def _shard(index, start: int, prefixes: np.ndarray, parts: Path) -> str:
    """Write an index of some rows, numbered from ``start``, and empty it again."""
    import faiss

    index.add_with_ids(prefixes, np.arange(start, start + len(prefixes)))
    file = str(parts / f"{start}.faiss")
    faiss.write_index(index, file)
    index.reset()
    return file


def opened(folder: Path, threads: int = 1) -> Nested:
    """Return the database, to be searched as one in memory; ``probes`` is its effort. Only centroids are read yet.

    The folder must lie where it was built: faiss keeps the place of the lists.
    """
    import faiss

    index = faiss.read_index(str(folder / INDEX))
    z = vectors(folder)
    return Nested(Ivf(index, threads, 0.0, index.nlist), z, index.d, z.shape[1])


def exactly(folder: Path, queries: Tensor, k: int, rows: int = BLOCK) -> Found:
    """Return what exact search at all dims finds, cosines (Q, k) and ids (Q, k), reading a block at a time."""
    d = queries.shape[1]
    scores, ids = torch.zeros(len(queries), 0), torch.zeros(len(queries), 0, dtype=torch.long)
    for start, block in blocks(folder, rows):
        found = exact(unit_prefix(queries, d), unit_prefix(block, d), min(k, len(block)))
        scores, ids = torch.cat([scores, found[0]], 1), torch.cat([ids, found[1] + start], 1)
        best = scores.sort(dim=1, descending=True, stable=True)  # rows of earlier blocks stay before equal ones
        scores, ids = best.values[:, :k], ids.gather(1, best.indices[:, :k])
    return scores, ids
