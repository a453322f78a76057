"""A database larger than memory, made and measured: what is found, in how long, held in how much memory.

**Made**, seeded, since no data set of this size comes from a package index. Rows are normalised(c + 0.7 e): c one of
sqrt(N) topics, e of the row alone, both with normal numbers of variance 1 / j in dim j, so that the first dims carry
more, as those of a nested embedding do: a quarter of 256 holds 77 % of the variance. A query is a row with 0.12 e'
added; its neighbours are that row and others of its topic. It is a database to be timed: what it says of recall, it
says of this spectrum and not of anybody's embeddings.

**Measured** in a process of its own, whose peak of memory is then that of this database and nothing else; pages of
mapped files that it has touched are counted in. A search is *cold* where the system was told to forget the files
(``posix_fadvise``, where there is one) and they are opened anew, and *warm* when the same queries are asked again. One
query at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mrl_lab import clock, files, score, search, workers
from mrl_lab.errors import RequestError
from mrl_lab.lab import kept
from mrl_lab.search import Nested, ondisk

K, LENGTH = 10, 100
PROBES = (1, 4, 16, 64)
OWN, ASKED = 0.7, 0.12  # of a row beside its topic; of a query beside its row
METHOD = "lists on disk + rerank"
LATER = 100_000_000  # rows, on paper


def made(n: int, d: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield n rows (b, d) of length 1, block by block; the same for the same seed."""
    topics = _normal(round(n**0.5), d, _seeded(seed))
    for block, start in enumerate(range(0, n, ondisk.BLOCK), 1):
        draw = _seeded(seed + block)
        own = _normal(min(ondisk.BLOCK, n - start), d, draw)
        of = torch.randint(len(topics), (len(own),), generator=draw)
        yield normalize(own.mul_(OWN).add_(topics[of]), dim=1, out=own)


def _seeded(seed: int) -> torch.Generator:
    """Return what draws the same numbers for the same seed."""
    return torch.Generator().manual_seed(seed)


def _normal(n: int, d: int, draw: torch.Generator) -> Tensor:
    """Normal numbers (n, d), of variance 1 / j in dim j from 1 on."""
    return torch.randn(n, d, generator=draw).div_(torch.arange(1, d + 1).sqrt())


def asked(folder: Path, queries: int, seed: int = 0) -> Tensor:
    """Queries (Q, d) of length 1 near rows that are drawn from the whole file."""
    z, draw = ondisk.vectors(folder), _seeded(seed - 1)
    rows = z[torch.randint(len(z), (queries,), generator=draw)].float()
    return normalize(rows + ASKED * _normal(*rows.shape, draw), dim=1)


def lacking(n: int, d: int) -> str:
    """Say what keeps :func:`measured` from being made here, or nothing."""
    try:
        ondisk.check_room(files.cache_folder(), n, d, d // 4)
    except RequestError as error:
        return str(error)
    return ""


@kept
def measured(n: int, d: int, queries: int = 200, seed: int = 0) -> pd.DataFrame:
    """Make a database of n vectors of d numbers on disk, search it, remove it; rows of what it cost and found.

    D_s is a quarter of d, K = 100. Rows of the method "lists on disk + rerank" with ``dim`` = D_s and ``n``:

    * "recall@10, p probes", "cold ms, p probes" and "warm ms, p probes" a query (no cold ones where the system cannot
      be told to forget)
    * "GB in memory" (peak), "GB in memory before", "GB on disk", "bytes a row", "build microseconds a row", "lists"
    * "exact seconds a query" of exact search in blocks, all queries together

    Raises:
        RequestError: the disk of the lab's cache has no room for it; nothing is made then.
    """
    cache = files.cache_folder()
    ondisk.check_room(cache, n, d, d // 4)
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache, prefix="larger-than-memory-") as folder:
        found = workers.apart(_measured, Path(folder), n, d, queries, seed)
    rows = []
    for metric, value in found.items():
        rows += score.tidy({d // 4: value}, method=METHOD, metric=metric, seed=seed, n=n)
    return score.table(rows)


def _measured(folder: Path, n: int, d: int, queries: int, seed: int) -> dict[str, float]:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # of this process alone: faiss prints there what it does to files
    threads, before = torch.get_num_threads(), clock.peak_of_process()
    ondisk.write(folder, made(n, d, seed), n, d)
    seconds = ondisk.build(folder, d // 4, threads=threads)
    z = asked(folder, queries, seed)
    began = time.perf_counter()
    truth = ondisk.exactly(folder, z, K)[1]
    found = {"exact seconds a query": (time.perf_counter() - began) / queries}
    for probes in PROBES:
        found |= {f"{what}, {probes} probes": value for what, value in _asked(folder, z, truth, probes).items()}
    taken = sum(os.stat(file).st_size for file in folder.iterdir())
    found |= {"GB on disk": taken / 1e9, "bytes a row": taken / n, "build microseconds a row": 1e6 * seconds / n}
    found["lists"] = ondisk.opened(folder).first.lists
    return found | {"GB in memory before": before / 1e9, "GB in memory": clock.peak_of_process() / 1e9}


def _asked(folder: Path, z: Tensor, truth: Tensor, probes: int) -> dict[str, float]:
    """Recall, and median milliseconds a query, when files are forgotten and when they are known."""
    forgotten = _forget(folder)
    index = ondisk.opened(folder)
    first, ids = _one_by_one(index, z, probes)
    again, _ = _one_by_one(index, z, probes)
    recall = 100 * search.recall(truth)(ids, torch.arange(len(z))).mean().item()
    told = {"recall@10": recall, "warm ms": 1e3 * again}
    return told | ({"cold ms": 1e3 * first} if forgotten else {})


def _one_by_one(index: Nested, z: Tensor, probes: int) -> tuple[float, Tensor]:
    """Median seconds of a query, and ids (Q, 10)."""
    seconds, ids = [], []
    for query in z.split(1):
        began = time.perf_counter()
        ids.append(index.search(query, K, length=LENGTH, probes=probes)[1])
        seconds.append(time.perf_counter() - began)
    return median(seconds), torch.cat(ids)


def _forget(folder: Path) -> bool:
    """Have the system drop what it holds of these files, which nobody has mapped; False where it cannot be told to."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


# ------------------------------------------------------------------------------------------------ telling


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """One row a number of probes: recall@10, cold ms and warm ms a query."""
    parts = found["metric"].str.extract(r"^(?P<what>.+), (?P<probes>\d+) probes$")
    rows = found.assign(what=parts["what"], probes=parts["probes"].astype(float)).dropna(subset=["what"])
    return rows.astype({"probes": int}).pivot_table(index="probes", columns="what", values="value")


def on_paper(found: pd.DataFrame, rows: int = LATER) -> str:
    """Say what was measured in a sentence, and what a vector's figures make of ``rows`` vectors."""
    at, n = dict(zip(found["metric"], found["value"], strict=True)), int(found["n"].iloc[0])
    warm = summary(found)["warm ms"]
    last = warm.iloc[-1]
    size, hours = rows * at["bytes a row"] / 1e9, rows * at["build microseconds a row"] / 3.6e9
    times = (rows / n) ** 0.5
    return (
        f"{n:,} vectors: {at['GB on disk']:.2f} GB on disk, at most {at['GB in memory']:.2f} GB in memory "
        f"({at['GB in memory before']:.2f} before anything was made), {at['bytes a row']:.0f} bytes and "
        f"{at['build microseconds a row']:.0f} microseconds of building a vector. Exact search, read in blocks, takes "
        f"{at['exact seconds a query']:.3f} s a query, all of them together.\n\n"
        f"**{rows:,} vectors on paper**, by these figures of a vector: {size:,.0f} GB on disk. With lists as the "
        f"square root of the rows, {times:.1f} times as many and as long as here, {hours:,.1f} to {times * hours:,.1f} "
        f"hours of building and, looking into {warm.index[-1]} lists, {last:.1f} to {times * last:.1f} ms a query that "
        "is warm: the first if the lists were none of the cost, the second if they were all of it. Not measured."
    )
