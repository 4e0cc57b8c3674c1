"""Tables and plot of bench_search.py: from its raw results, one row per simulation."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID = np.linspace(0.0, 1.0, 21)[1:]
"""Shares of the budget at which the regret is read."""
COLUMNS = [f"regret_{share:.2f}" for share in GRID]
"""Column of the results for each share."""
LOWEST_DRAWN = 1e-3
"""Regrets below this are drawn here, as the axis is logarithmic."""
DASHED = ("Ray", "hpbandster")
"""Methods whose name contains one of these are not ours, and are drawn dashed."""


def mean_and_error(values: pd.Series) -> str:
    """Write mean and standard error over seeds."""
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ± {values.sem():.3f}"


def markdown(frame: pd.DataFrame) -> str:
    """Write a table of strings; the index is the first column."""
    lines = [
        [str(frame.index.name), *map(str, frame.columns)],
        ["---"] * (1 + len(frame.columns)),
        *([str(name), *map(str, row)] for name, row in zip(frame.index, frame.values, strict=True)),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def overall_table(results: pd.DataFrame, group: str) -> str:
    """Regret of each method at 25, 50 and 100 % of the budget, averaged over a group's tasks."""
    mine = results[results["group"] == group]
    table = {}
    for method in order(mine):
        rows = mine[mine["method"] == method]
        by_seed = rows.groupby("seed")[COLUMNS].mean()
        table[method] = {
            "25 %": mean_and_error(by_seed["regret_0.25"]),
            "50 %": mean_and_error(by_seed["regret_0.50"]),
            "100 %": mean_and_error(by_seed["regret_1.00"]),
            "model-based": f"{rows['model_share'].mean():.0%}",
            "trials": f"{rows['trials'].mean():.0f}",
            "seeds": len(by_seed),
            "s per run": f"{rows['seconds'].mean():.2f}",
        }
    return markdown(pd.DataFrame(table).T.rename_axis("method"))


def task_table(results: pd.DataFrame, column: str) -> str:
    """Regret of each method on each task at one share of the budget; the best mean in bold."""
    table: dict[str, dict[str, str]] = {}
    for task, rows in results.groupby("task", sort=False):
        means = rows.groupby("method")[column].mean()
        table[str(task)] = {
            method: (f"**{text}**" if means[method] == means.min() else text)
            for method in order(rows)
            for text in [mean_and_error(rows.loc[rows["method"] == method, column])]
        }
    return markdown(pd.DataFrame(table).T.rename_axis("task"))


def difference_table(results: pd.DataFrame, base: str) -> str:
    """Mean difference of the final regret to a baseline over the seeds both have."""
    table: dict[str, dict[str, str]] = {}
    for group, rows in results.groupby("group", sort=False):
        cells = rows.pivot_table(index="seed", columns=["method", "task"], values="regret_1.00")
        for method in order(rows):
            if method == base:
                continue
            both = (cells[method] - cells[base]).dropna()
            by_seed = both.mean(axis=1)
            table.setdefault(method, {})[str(group)] = (
                f"{by_seed.mean():+.3f} ± {by_seed.sem():.3f} (better on "
                f"{int((both.mean() < 0).sum())} of {both.shape[1]} tasks, {len(both)} seeds)"
            )
    return markdown(pd.DataFrame(table).T.fillna("").rename_axis("method"))


def order(rows: pd.DataFrame) -> list[str]:
    """Methods that occur, in the order of the results."""
    return [str(method) for method in rows["method"].unique()]


def versions() -> str:
    """Name the versions that produced the numbers."""
    names = ["numpy", "ConfigSpace", "ray", "hpbandster"]
    installed = [f"{n} {importlib.metadata.version(n)}" for n in names if find_spec(n) is not None]
    return f"Python {platform.python_version()}, {', '.join(installed)}, {os.cpu_count()} cores"


def write_report(results: pd.DataFrame, setup: list[str], baselines: Iterable[str]) -> str:
    """Assemble search.md.

    Args:
        results: One row per simulation: group, task, method, seed, trials, epochs, model_share,
            seconds and `COLUMNS`.
        setup: Paragraphs that say what was run.
        baselines: Methods that the others are compared with, seed by seed.
    """
    groups = list(results["group"].unique())
    parts = ["# Search on the virtual clock", *setup, "![regret over time](search.png)"]
    for group in groups:
        n_tasks = results.loc[results["group"] == group, "task"].nunique()
        parts += [
            f"## {group}: mean over {n_tasks} tasks, at shares of the budget",
            overall_table(results, group),
        ]
    for base in (method for method in baselines if method in order(results)):
        parts += [
            f"## Final regret minus that of {base}, same seeds (negative: better)",
            difference_table(results, base),
        ]
    parts += [
        "## Final regret per task",
        task_table(results, "regret_1.00"),
        "## Regret per task at a quarter of the budget",
        task_table(results, "regret_0.25"),
    ]
    return "\n\n".join(parts) + "\n"


def plot(results: pd.DataFrame, path: Path) -> None:
    """Draw regret over time: one large panel per group, one small panel per task."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image  # comes with matplotlib

    groups = list(results["group"].unique())
    tasks = list(results[["group", "task"]].drop_duplicates().itertuples(index=False))
    n_rows = -(-len(tasks) // 5)
    figure = plt.figure(figsize=(13, 4.6 + 2.1 * n_rows), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[4.6, 2.1 * n_rows])
    large = top.subplots(1, len(groups), squeeze=False)[0]
    small = bottom.subplots(n_rows, 5, squeeze=False).ravel()
    for axes in small[len(tasks) :]:
        axes.set_axis_off()
    for i, group in enumerate(groups):
        axes = large[i]
        mine = results[results["group"] == group]
        _curves(axes, mine, order(results), label=True)
        n_tasks = mine["task"].nunique()
        axes.set_title(f"{group}: mean of {n_tasks} tasks, band: ± 1 standard error over seeds")
        axes.set_ylabel("normalised regret")
        axes.set_xlabel("share of the budget")
        if i == 0:
            axes.legend(fontsize=8, frameon=False)
    for i, (group, task) in enumerate(tasks):
        axes = small[i]
        _curves(axes, results[results["task"] == task], order(results), label=False)
        axes.set_title(f"{group}: {task}" if group != "taskset" else task, fontsize=7)
        axes.tick_params(which="both", labelsize=6)
    figure.savefig(path, dpi=90, pil_kwargs={"compress_level": 9})
    plt.close(figure)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path)


def _curves(axes: Axes, rows: pd.DataFrame, methods: list[str], *, label: bool) -> None:
    for i, method in enumerate(methods):
        by_seed = rows[rows["method"] == method].groupby("seed")[COLUMNS].mean()
        if by_seed.empty:
            continue
        mean, error = by_seed.mean().to_numpy(), by_seed.sem().fillna(0.0).to_numpy()
        name = f"{method} ({len(by_seed)} seeds)" if label else None
        style = "--" if any(word in method for word in DASHED) else "-"
        axes.plot(
            GRID,
            np.maximum(mean, LOWEST_DRAWN),
            color=f"C{i}",
            linestyle=style,
            linewidth=1.4,
            label=name,
        )
        low = np.maximum(mean - error, LOWEST_DRAWN)
        axes.fill_between(GRID, low, mean + error, color=f"C{i}", alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.grid(visible=True, which="major", linewidth=0.3)
    axes.set_xlim(GRID[0], 1.0)
