"""What the notebook on clusters draws: training curves, masks, pictures by cluster, patches in colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mrl_lab import stats
from mrl_lab.plots.pictures import picture_grid
from mrl_lab.plots.style import looks, seeds_in_words


def over_training(history: pd.DataFrame, sizes: Sequence[int]) -> Figure:
    """Draw, by step, the share of prototypes in use and how evenly they are used, for each level."""
    fig = Figure(figsize=(8.4, 3.2), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    window = max(1, len(history) // 20)
    for ax, (what, label) in zip(axes, (("used", "prototypes in use"), ("entropy", "evenness of use")), strict=True):
        for i, m in enumerate(m for m in sizes if f"{m} {what}" in history):
            smooth = history[f"{m} {what}"].rolling(window, min_periods=1).mean()
            ax.plot(history["step"], smooth, linewidth=1 + 0.4 * i, label=f"level {m}")
        ax.set(xlabel="step", ylabel=f"{label} (share)", ylim=(0, 1.02))
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper left", ncols=len(labels))
    return fig


def side_by_side(scores: pd.DataFrame, left: Sequence[str], right: Sequence[str]) -> Figure:
    """Draw two groups of metrics for every method: a point each with its 95 % t-interval over seeds, a row a method."""
    fig = Figure(figsize=(8.4, 3.4), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    methods = list(dict.fromkeys(scores["method"]))
    look_of = looks([*left, *right])
    for ax, metrics in zip(axes, (left, right), strict=True):
        for i, metric in enumerate(metrics):
            table = stats.intervals(scores[scores["metric"] == metric], ["method"]).set_index("method").loc[methods]
            error = ((table["high"] - table["low"]) / 2).fillna(0)
            places = np.arange(len(methods)) + 0.16 * (i - (len(metrics) - 1) / 2)
            how = {"color": look_of[metric].colour, "marker": look_of[metric].marker, "linestyle": "", "label": metric}
            ax.errorbar(table["mean"], places, xerr=error, **how)
    axes[0].set(yticks=range(len(methods)), yticklabels=methods, xlabel="position: R², held out")
    axes[0].invert_yaxis()
    axes[1].set(xlabel="content: accuracy (%), held out")
    fig.legend(loc="outside upper left", ncols=len(left) + len(right), title=seeds_in_words(scores))
    return fig


def visibility(kinds: Mapping, batch: int = 4000, drawn: int = 4) -> Figure:
    """Draw some masks of each kind (white: hidden), and last how often each place is hidden."""
    pictures, labels = [], []
    for name, masks in kinds.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = masks(batch)
        made = made[made.any(1)].float().unflatten(1, masks.grid)
        share = made.mean(0)
        pictures += [*made[:drawn].numpy(), share.numpy()]  # the same shades for all kinds: black never, white always
        labels += [name, *[""] * (drawn - 1), f"hidden {100 * share.min():.0f} to {100 * share.max():.0f} %"]
    return picture_grid(pictures, labels, columns=drawn + 1)


def by_cluster(images: Tensor, clusters: np.ndarray, columns: int = 8) -> Figure:
    """Draw pictures (n, C, H, W) sorted by their clusters (n,), the largest first, each with its cluster's number."""
    sizes = pd.Series(clusters).map(pd.Series(clusters).value_counts()).to_numpy()
    order = np.lexsort((clusters, -sizes))
    return picture_grid(images[order].numpy(), [f"cluster {c}" for c in clusters[order]], columns)


def colours(z: Tensor, grid: tuple[int, int], axes: Tensor, mean: Tensor) -> np.ndarray:
    """Return patches (t, D) as a picture (h, w, 3) of their first three principal components, each from 0 to 1."""
    shown = (z - mean) @ axes  # (t, D) (D, 3) -> (t, 3)
    low, high = shown.amin(0), shown.amax(0)
    return ((shown - low) / (high - low).clamp(min=1e-9)).unflatten(0, grid).numpy()


def principal(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first three principal axes (D, 3) and the mean (D,) of patches (n, t, D)."""
    flat = z.flatten(0, 1)
    mean = flat.mean(0)
    return torch.linalg.svd(flat - mean, full_matrices=False)[2][:3].T, mean
