"""Speed side by side with the plain way and with peers: ratios of medians, measured in turn in one run.

``mrl-lab bench`` runs all of :data:`BENCHES`, ``mrl-lab bench step heads`` some. Each bench returns named
ways of doing one thing; they are run alternately after a warm-up, so that a slow moment of the machine hits
all of them, and their medians are compared with the first, the plain way. Of :data:`PEAKS` the memory is measured too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from mrl_lab.bench.sentences import grid, smae, text_step
from mrl_lab.clock import measure, peak_bytes, training_step
from mrl_lab.errors import unknown

Ways = dict[str, Callable[[], object]]


def step() -> Ways:
    """One training step, encoder and heads, batch 128: a plain head against MRL at 7 sizes."""
    import torch

    from mrl_lab.encoders import ConvNet
    from mrl_lab.methods import mrl

    draw = torch.Generator().manual_seed(0)
    x = torch.randint(256, (128, 1, 28, 28), dtype=torch.uint8, generator=draw)
    y = torch.randint(10, (128,), generator=draw)

    def one_step(sizes: tuple[int, ...], efficient: bool) -> Callable[[], None]:
        model = mrl.classifier(lambda: ConvNet((1, 28, 28), 128), sizes, 10, efficient=efficient)
        return training_step(model, 1e-3, (x, y))

    seven = (2, 4, 8, 16, 32, 64, 128)
    return {"plain": one_step((128,), False), "MRL": one_step(seven, False), "MRL-E": one_step(seven, True)}


def heads() -> Ways:
    """Forward and backward of MRL-E's logits alone (B 256, d 2048, C 1000, 9 sizes): slices against accumulation."""
    import torch

    from mrl_lab.methods.mrl import accumulated_products

    z = torch.randn(256, 2048, requires_grad=True)
    weight = torch.randn(1000, 2048, requires_grad=True)
    sizes = [2**i for i in range(3, 12)]

    def way(products: Callable[[], dict]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(sum(p.logsumexp(1).sum() for p in products().values()), (z, weight))

    return {
        "slices": way(lambda: {m: z[:, :m] @ weight[:, :m].T for m in sizes}),
        "accumulated": way(lambda: accumulated_products(z, weight, sizes)),
    }


def search() -> Ways:
    """Ten nearest of 100,000 vectors of 256 dims for 200 queries: faiss Flat against our exact search."""
    import torch

    from mrl_lab.search import brute_force, exact, store

    database, queries = store(torch.randn(100_000, 256)), torch.randn(200, 256)
    threads = torch.get_num_threads()
    return {
        "faiss Flat": lambda: brute_force(queries, database, 10, threads=threads),
        "exact": lambda: exact(queries, database, 10),
    }


def shortlist() -> Ways:
    """Ten nearest of 200,000 vectors of 1024 dims, 256 queries: all dims, or few and 50 candidates reranked."""
    import torch

    from mrl_lab.cuts import unit_prefix
    from mrl_lab.search import exact, nested, store

    database, queries = (unit_prefix(torch.randn(n, 1024), 1024) for n in (200_000, 256))
    settings = {"16 dims": (16, "float32"), "64 dims": (64, "float32"), "64 dims, int8": (64, "int8")}
    indexes = {name: nested(database, m, form=form) for name, (m, form) in settings.items()}
    ways: Ways = {name: lambda i=index: i.search(queries, 10, length=50) for name, index in indexes.items()}
    rows = store(database)
    return {"all dims": lambda: exact(queries, rows, 10)} | ways


def visual_tokens() -> Ways:
    """M3, forward and backward at 1, 4, 16, 36 and 144 tokens: five passes with five runs of the tower, or one step."""
    import torch

    from mrl_lab.encoders import llava_weights
    from mrl_lab.encoders.llava import Llava
    from mrl_lab.methods.m3 import M3

    llava = Llava(llava_weights.build(64, side=96, patch=8))
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (16, 3, 96, 96), dtype=torch.uint8, generator=draw)
    ids = torch.randint(3, 64, (16, 24), generator=draw)
    ids[:, 0] = 1
    labels = ids.where(torch.arange(24) % 6 > 3, -100)
    scales = (1, 4, 16, 36, 144)
    alone, together = [M3(llava, (t,)) for t in scales], M3(llava, scales)

    def separately() -> None:
        llava.zero_grad()
        for model in alone:
            (model(images, ids, labels)[0] / len(alone)).backward()

    def at_once() -> None:
        llava.zero_grad()
        together(images, ids, labels)[0].backward()

    return {"five passes": separately, "all scales": at_once}


def levels() -> Ways:
    """One training step of self-distillation (128 pictures, d 64 as in 06): a single head, and Franca's five levels."""
    import torch

    from mrl_lab.data.crops import MultiCrop
    from mrl_lab.encoders import ConvNet
    from mrl_lab.methods.franca import franca

    draw = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (128, 1, 28, 28), dtype=torch.uint8, generator=draw)
    crops = MultiCrop(pictures, small=2, side=16)[torch.arange(128)]

    def one_step(head: str) -> Callable[[], None]:
        body = lambda: ConvNet((1, 28, 28), 64, positions=False, standardised=True)  # noqa: E731
        model = franca(body, (4, 8, 16, 32, 64), steps=100, head=head, prototypes=64, patches=False)
        update = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3, fused=True)

        def way() -> None:
            update.zero_grad()
            model(*crops)[0].backward()
            update.step()
            model.after_step(0)

        return way

    return {"one head": one_step("none"), "five levels": one_step("slice"), "five, shared": one_step("shared")}


def removal() -> Ways:
    """Position out of 500,000 patches of 192 dims (8 x 8 grid): RASA by eight ridge steps, and in closed form."""
    import torch

    from mrl_lab.methods import rasa

    grid, places = (8, 8), rasa.positions((8, 8)).float()
    z = torch.randn(7813, 64, 192, generator=torch.Generator().manual_seed(0))
    z[..., :2] += places
    return {
        "RASA, 8 steps": lambda: rasa.rasa(rasa.RidgeHead(z, grid), 192, 8),
        "LEACE": lambda: rasa.leace(z, grid),
        "cross-covariance": lambda: rasa.remove_cross_covariance(z, grid),
    }


def start() -> Ways:
    """Start-up: a bare interpreter against one that imports mrl_lab."""

    def way(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    return {"bare interpreter": way("pass"), "import mrl_lab": way("import mrl_lab")}


_ALL = (step, heads, search, shortlist, visual_tokens, levels, removal, text_step, smae, grid, start)
BENCHES = {f.__name__: f for f in _ALL}
PEAKS = ("smae",)


def main(names: list[str], out: Path | None = None) -> int:
    """Run the named benches (all when none is named), print a table, and save ``bench.csv`` under ``out``.

    Raises:
        RequestError: a name that is not in :data:`BENCHES`.
    """
    for name in names:
        if name not in BENCHES:
            raise unknown("bench", name, BENCHES)
    rows = [row for name in names or BENCHES for row in _compare(name)]
    if out is not None:
        import pandas as pd

        out.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).round(3).to_csv(out / "bench.csv", index=False)
    return 0


def _compare(name: str) -> list[dict]:
    """Run one bench, print its lines, return its rows."""
    print(f"{name}: {(BENCHES[name].__doc__ or '').partition(chr(10))[0]}", flush=True)  # python -OO drops docstrings
    ways, rows, plain = BENCHES[name](), [], None
    for way, times in measure(ways).items():
        middle = 1e3 * median(times)
        plain = plain or middle
        print(f"  {way:18s} {middle:9.2f} ms  x {middle / plain:5.2f}   ({len(times)} runs)", flush=True)
        rows.append({"bench": name, "way": way, "milliseconds": middle, "ratio": middle / plain, "n": len(times)})
    return [row | {"megabytes": _told_peak(row["way"], ways[row["way"]])} for row in rows] if name in PEAKS else rows


def _told_peak(way: str, run: Callable[[], object]) -> float:
    found = peak_bytes(run) / 1e6
    print(f"  {way:18s} {found:9.0f} MB at its peak", flush=True)
    return found
