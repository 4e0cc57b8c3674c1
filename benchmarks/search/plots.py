"""Pictures of the report: regret over time, and critical differences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image  # comes with matplotlib

from benchmarks.search.ranking import Comparison, cliques
from benchmarks.search.store import REGRETS, SHARES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_DRAWN = 1e-3
"""Regrets below this are drawn here, as the axis is logarithmic."""
COLOURS = [*plt.get_cmap("tab10").colors, *plt.get_cmap("Dark2").colors]  # type: ignore[attr-defined]


def style_of(method: str, methods: list[str]) -> dict[str, Any]:
    """Colour and line of a method; those of others are dashed."""
    ours = method.startswith("ours:")
    return {
        "color": COLOURS[methods.index(method) % len(COLOURS)],
        "linestyle": "-" if ours else "--",
        "linewidth": 1.8 if ours else 1.2,
    }


def plot_regret(rows: pd.DataFrame, methods: list[str], title: str, path: Path) -> None:
    """Draw the regret over time: one large panel for the mean of tasks, one small one per task."""
    names = list(rows["task"].unique())
    n_rows = -(-len(names) // 4)
    figure = plt.figure(figsize=(12, 5 + 2.1 * n_rows), layout="constrained")
    top, bottom = np.ravel(figure.subfigures(2, 1, height_ratios=[5, 2.1 * n_rows]))
    axes = top.subplots()
    _curves(axes, rows, methods)
    axes.set_title(f"{title}: mean of {len(names)} tasks, band: ± 1 standard error over seeds")
    axes.set_ylabel("normalised regret")
    axes.set_xlabel("share of the budget")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    small = bottom.subplots(n_rows, 4, squeeze=False).ravel()
    for name, panel in zip(names, small, strict=False):
        _curves(panel, rows[rows["task"] == name], methods)
        panel.set_title(name, fontsize=7)
        panel.tick_params(which="both", labelsize=6)
    for panel in small[len(names) :]:
        panel.set_axis_off()
    _save(figure, path)


def _curves(axes: Axes, rows: pd.DataFrame, methods: list[str]) -> None:
    for method in methods:
        by_seed = rows[rows["method"] == method].groupby("seed")[list(REGRETS)].mean()
        if by_seed.empty:
            continue
        mean, error = by_seed.mean().to_numpy(), by_seed.sem().fillna(0.0).to_numpy()
        look = style_of(method, methods)
        label = f"{method} ({len(by_seed)} seeds)"
        axes.plot(SHARES, np.maximum(mean, LOWEST_DRAWN), label=label, **look)
        low = np.maximum(mean - error, LOWEST_DRAWN)
        high = np.maximum(mean + error, LOWEST_DRAWN)
        axes.fill_between(SHARES, low, high, color=look["color"], alpha=0.12, linewidth=0)
    axes.set_yscale("log")
    axes.grid(visible=True, which="major", linewidth=0.3)
    axes.set_xlim(SHARES[0], 1.0)


def plot_ranks(comparisons: dict[str, Comparison], path: Path) -> None:
    """Draw mean ranks; bars join methods that Nemenyi's test cannot tell apart."""
    heights = [1.2 + 0.16 * len(c.ranks) for c in comparisons.values()]
    figure, panels = plt.subplots(
        len(comparisons), 1, squeeze=False, figsize=(9, sum(heights)), layout="constrained",
        height_ratios=heights,
    )  # fmt: skip
    for (title, comparison), axes in zip(comparisons.items(), panels.ravel(), strict=True):
        _ranks(axes, title, comparison)
    _save(figure, path)


def _ranks(axes: Axes, title: str, comparison: Comparison) -> None:
    ranks, k = comparison.ranks, len(comparison.ranks)
    half = -(-k // 2)
    joined = cliques(ranks, comparison.critical_difference)
    below = -0.35 * (len(joined) + 1)
    for i, (method, rank) in enumerate(ranks.items()):
        left = i < half
        y = below - 0.6 * (i if left else k - 1 - i) - 0.3
        end = 1 - 0.03 * k if left else k + 0.03 * k
        axes.plot([rank, rank, end], [0, y, y], color="black", linewidth=0.8)
        axes.text(end, y, f" {method} {rank:.2f} ", fontsize=8, va="center",
                  ha="right" if left else "left",
                  weight="bold" if str(method).startswith("ours:") else "normal")  # fmt: skip
    for i, (first, last) in enumerate(joined):
        y = -0.35 * (i + 1)
        axes.plot([ranks.iloc[first] - 0.04, ranks.iloc[last] + 0.04], [y, y], "k", linewidth=3)
    axes.plot([1, 1 + comparison.critical_difference], [0.75, 0.75], "k", linewidth=1.5)
    axes.text(1, 0.85, f"critical difference {comparison.critical_difference:.2f}", fontsize=8)
    axes.plot([1, k], [0, 0], color="black", linewidth=1)
    for tick in range(1, k + 1):
        axes.plot([tick, tick], [0, 0.15], color="black", linewidth=1)
        axes.text(tick, 0.2, str(tick), fontsize=8, ha="center")
    axes.set_title(
        f"{title}: mean rank over {comparison.n_tasks} tasks "
        f"(Friedman p = {comparison.friedman_p:.2g})",
        fontsize=9, pad=12,
    )  # fmt: skip
    axes.set_xlim(1 - 0.45 * k, k + 0.45 * k)
    axes.set_axis_off()


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=90, pil_kwargs={"compress_level": 9})
    plt.close(figure)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path)
