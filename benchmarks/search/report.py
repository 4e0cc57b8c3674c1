"""Tables and plots of the search benchmark, from its store of results.

    python benchmarks/search/report.py benchmarks/results/search.csv [more.csv ...] [--out DIR]

Written beside the first store, or to --out: search.md, a plot of the regret over time for each
suite and number of workers, and one of mean ranks for each number of workers. A seed of a method
counts if all tasks of the suite have it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd

from benchmarks.search import plots, store
from benchmarks.search.methods import METHODS, OURS_BY_DEFAULT, STOCK
from benchmarks.search.ranking import Comparison, compare, mean_ranks
from benchmarks.search.store import REGRETS, SHARES, column
from benchmarks.tables import markdown, mean_and_error

READ_AT = (0.1, 0.25, 0.5, 1.0)
"""Shares of the budget in the tables."""
RANKED_AT = (0.25, 0.5, 1.0)
TARGETS_AT = (0.1, 0.25, 1.0)
TESTED_AT = (0.25, 1.0)
TABLES = ("lcbench", "taskset")
"""Suites of learning curves; the others are synthetic."""
MIN_SEEDS = 5
"""Seeds that a method needs to be ranked."""


class Setting(NamedTuple):
    """What was the same for all methods, besides the suite."""

    workers: int
    budget: float
    failing: float
    resume_s: float
    charge_method: float

    def __str__(self) -> str:
        words = [f"{self.workers} workers, {self.budget:g} full trainings each"]
        words += [f"{self.failing:.0%} of trials crash"] if self.failing else []
        words += [f"{self.resume_s:g} s per resumption"] if self.resume_s else []
        words += [f"{self.charge_method:g} s per CPU second"] if self.charge_method else []
        return ", ".join(words)

    @property
    def slug(self) -> str:
        """Part of file names."""
        words = [f"w{self.workers}", f"b{self.budget:g}"]
        words += [f"f{self.failing:g}"] if self.failing else []
        words += [f"r{self.resume_s:g}"] if self.resume_s else []
        words += [f"c{self.charge_method:g}"] if self.charge_method else []
        return "-".join(words)


# ------------------------------------------------------------------------------- choosing the rows


def settings(rows: pd.DataFrame) -> Iterator[tuple[Setting, pd.DataFrame]]:
    """Split rows by what was the same for all methods."""
    names = list(Setting._fields)
    for _, group in rows.groupby(names, sort=True):
        first = group.iloc[0]
        yield Setting(int(first["workers"]), *(float(first[name]) for name in names[1:])), group


def whole_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of those seeds of a method that all tasks of these rows have."""
    n_tasks = rows["task"].nunique()
    n_here = rows.groupby(["method", "seed"])["task"].transform("nunique")
    return rows[n_here == n_tasks]


def in_order(rows: pd.DataFrame) -> list[str]:
    """Methods that occur, in the order of the table of methods."""
    there = set(rows["method"])
    return [m for m in METHODS if m in there] + sorted(there - set(METHODS))


def competitors(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows without those of variants of our default, which are named after a comma."""
    return rows[~rows["method"].str.contains(",")]


def common(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of those seeds that all methods have; methods with fewer than `MIN_SEEDS` do not count.

    Nor do variants of our default.
    """
    rows = competitors(rows)
    rows = rows[rows.groupby("method")["seed"].transform("nunique") >= MIN_SEEDS]
    n_methods = rows["method"].nunique()
    n_here = rows.groupby("seed")["method"].transform("nunique")
    return rows[n_here == n_methods]


# ---------------------------------------------------------------------------------------- tables


def regret_table(rows: pd.DataFrame) -> str:
    """Regret at shares of the budget: mean over tasks, in brackets the median over tasks."""
    table = {}
    for method in in_order(rows):
        mine = rows[rows["method"] == method]
        by_seed = mine.groupby("seed")[list(REGRETS)].mean()
        by_task = mine.groupby("task")[list(REGRETS)].mean()
        cells = {
            f"{share:.0%}": f"{mean_and_error(by_seed[name])} ({by_task[name].median():.3f})"
            for share in READ_AT
            for name in [column(share)]
        }
        table[method] = cells | {
            "seeds": str(len(by_seed)),
            "trials": f"{mine['trials'].mean():.0f}",
            "model-based": f"{mine['model_share'].mean():.0%}",
        }
    return markdown(pd.DataFrame(table).T.rename_axis("method"))


def cost_table(rows: pd.DataFrame) -> str:
    """CPU time of the methods themselves."""
    table = {}
    for method in in_order(rows):
        mine = rows[rows["method"] == method]
        all_ms = 1e3 * mine["method_cpu_s"].sum() / mine["trials"].sum()
        table[method] = {
            "ms per suggestion": f"{1e3 * mine['suggest_cpu_s'].mean():.2f}",
            "95th percentile": f"{1e3 * mine['suggest_cpu_s_p95'].mean():.2f}",
            "all calls, ms per trial": f"{all_ms:.2f}",
            "s per run": f"{mine['method_cpu_s'].mean():.2f}",
        }
    return markdown(pd.DataFrame(table).T.rename_axis("method"))


def rank_table(rows: pd.DataFrame) -> str:
    """Mean rank per task and seed, over the seeds that all methods have."""
    shared = common(rows)
    if shared.empty:
        return f"Too few seeds: no methods have {MIN_SEEDS} in common."
    table = {}
    for share in RANKED_AT:
        cells = shared.pivot_table(
            index=["task", "seed"], columns="method", values=column(share), sort=False
        )
        table[f"{share:.0%}"] = mean_ranks(cells.dropna())
    frame = pd.DataFrame(table).reindex(in_order(shared)).map("{:.2f}".format)
    n_seeds = shared["seed"].nunique()
    return (
        f"{markdown(frame.rename_axis('method'))}\n\n{n_seeds} seeds are common to these methods."
    )


def saving_table(rows: pd.DataFrame) -> str | None:
    """Share of the budget after which the mean over seeds is as good as stock Ray's at the end.

    Per task, then averaged; a task on which that is never reached counts as 1.
    """
    means = rows.groupby(["task", "method"])[list(REGRETS)].mean()
    if STOCK not in rows["method"].unique():
        return None
    table = {}
    for method in in_order(rows):
        shares = [
            time_to_reach(means.loc[(task, method)].to_numpy(), means.loc[(task, STOCK)].iloc[-1])
            for task in rows["task"].unique()
        ]
        reached = [share for share in shares if share is not None]
        whole = [1.0 if share is None else share for share in shares]
        table[method] = {
            "share of the budget": f"{np.mean(whole):.2f}",
            "median task": f"{np.median(whole):.2f}",
            "reached on": f"{len(reached)} of {len(shares)} tasks",
        }
    return markdown(pd.DataFrame(table).T.rename_axis("method"))


def time_to_reach(curve: np.ndarray, target: float) -> float | None:
    """Share of the budget at which a falling curve reaches a target; None: never."""
    at = np.flatnonzero(curve <= target)
    if not len(at):
        return None
    i = int(at[0])
    if i == 0:
        return float(SHARES[0])
    fallen = (curve[i - 1] - target) / (curve[i - 1] - curve[i])
    return float(SHARES[i - 1] + fallen * (SHARES[i] - SHARES[i - 1]))


def target_table(rows: pd.DataFrame) -> str | None:
    """Our default beside the best peer, at shares of the budget."""
    by_method = rows.groupby("method")[list(REGRETS)].mean()
    ours = by_method[by_method.index == OURS_BY_DEFAULT]
    peers = by_method[~by_method.index.str.startswith("ours:")]
    if ours.empty or peers.empty:
        return None
    table = {}
    for share in TARGETS_AT:
        mine, theirs = ours[column(share)], peers[column(share)]
        ratio = mine.min() / theirs.min() if theirs.min() > 0 else np.nan
        table[f"{share:.0%}"] = {
            "our default": f"{mine.idxmin()} {mine.min():.4f}",
            "best peer": f"{theirs.idxmin()} {theirs.min():.4f}",
            "ours / peer": f"{ratio:.2f}",
        }
    return markdown(pd.DataFrame(table).T.rename_axis("share"))


def task_table(rows: pd.DataFrame, share: float) -> str:
    """Regret of each method on each task; the best mean in bold."""
    cells = rows.pivot_table(index="task", columns="method", values=column(share), sort=False)
    cells = cells[in_order(rows)]
    best = cells.min(axis=1)
    shown = cells.apply(
        lambda col: [
            f"**{x:.3f}**" if x <= low else f"{x:.3f}" for x, low in zip(col, best, strict=True)
        ]
    )
    return markdown(shown.T.rename_axis("method"))


def test_table(comparison: Comparison) -> str:
    """Mean ranks over tasks, and Wilcoxon's test against the best."""
    frame = pd.DataFrame(
        {
            "mean rank": comparison.ranks.map("{:.2f}".format),
            "p against the best": comparison.wilcoxon_p.map("{:.3f}".format),
        }
    ).reindex(comparison.ranks.index)
    return markdown(frame.fillna("").rename_axis("method"))


def comparisons(rows: pd.DataFrame) -> dict[str, Comparison]:
    """Tests over all tasks of these rows, at shares of the budget."""
    found = {}
    for share in TESTED_AT:
        cells = rows.pivot_table(index=["suite", "task"], columns="method", values=column(share))
        result = compare(cells.dropna(axis=1))
        if result is not None:
            found[f"{share:.0%} of the budget"] = result
    return found


# ---------------------------------------------------------------------------------- the whole page


def write(rows: pd.DataFrame, folder: Path, stem: str) -> Path:
    """Write the page and its plots; return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["# Search on the virtual clock", *describe(rows)]
    for setting, group in settings(rows):
        parts.append(f"## {setting}")
        whole = [whole_seeds(part) for _, part in group.groupby("suite", sort=True)]
        parts += _recorded(group)
        parts += _tests(pd.concat(whole), setting, folder, stem)
        for part in whole:
            if not part.empty:
                parts += _suite(part, setting, folder, stem)
    path = folder / f"{stem}.md"
    path.write_text("\n\n".join(parts) + "\n")
    print(f"written to {folder}: {path.name} and its plots")
    return path


def _recorded(rows: pd.DataFrame) -> list[str]:
    """All tables of curves together, where there are several suites of them."""
    recorded = rows[rows["suite"].isin(TABLES)]
    if recorded["suite"].nunique() < 2:
        return []
    mine = whole_seeds(recorded)
    titled = {
        "All tables of curves: mean regret ± standard error over seeds (median over tasks)": (
            regret_table(mine)
        ),
        f"All tables of curves: budget needed to be as good as {STOCK} at the end": (
            saving_table(mine)
        ),
        "All tables of curves: our default beside the best peer": target_table(mine),
    }
    return [part for title, text in titled.items() if text for part in (f"**{title}**", text)]


def _suite(rows: pd.DataFrame, setting: Setting, folder: Path, stem: str) -> list[str]:
    suite = str(rows["suite"].iloc[0])
    picture = f"{stem}_{suite}_{setting.slug}.png"
    drawn = competitors(rows)
    plots.plot_regret(drawn, in_order(drawn), f"{suite}, {setting}", folder / picture)
    titled = {
        "Mean regret ± standard error over seeds (median over tasks) at shares of the budget": (
            regret_table(rows)
        ),
        "Mean rank per task and seed at shares of the budget": rank_table(rows),
        f"Budget needed to be as good as {STOCK} at the end": saving_table(rows),
        "Our default beside the best peer": target_table(rows),
        "CPU time of the method": cost_table(rows),
        "Regret per task at a quarter of the budget": task_table(rows, 0.25),
        "Final regret per task": task_table(rows, 1.0),
    }
    parts = [f"### {suite}: {rows['task'].nunique()} tasks, {setting}", f"![regret]({picture})"]
    for title, text in titled.items():
        parts += [f"**{title}**", text] if text is not None else []
    return parts


def _tests(rows: pd.DataFrame, setting: Setting, folder: Path, stem: str) -> list[str]:
    is_table = rows["suite"].isin(TABLES)
    shared = common(rows[is_table] if is_table.any() else rows)
    n_seeds = shared["seed"].nunique()
    found = comparisons(shared)
    if not found:
        return []
    picture = f"{stem}_ranks_{setting.slug}.png"
    plots.plot_ranks(found, folder / picture)
    parts = [f"![mean ranks]({picture})"]
    for title, comparison in found.items():
        parts += [
            f"**Ranks over {comparison.n_tasks} tasks at {title}**, "
            f"{n_seeds} seeds that all these methods have: Friedman p = "
            f"{comparison.friedman_p:.2g}, critical difference (Nemenyi, 5 %) "
            f"{comparison.critical_difference:.2f}; p of Wilcoxon's signed-rank test by Holm.",
            test_table(comparison),
        ]
    return parts


def describe(rows: pd.DataFrame) -> list[str]:
    """Say what was run, in paragraphs."""
    versions = sorted({part for text in rows["versions"] for part in str(text).split(", ")})
    return [
        f"Python {platform.python_version()}, {os.cpu_count()} cores; {', '.join(versions)}.",
        "Normalised regret: (incumbent - best) / (median final value - best), clipped at 1, the "
        "incumbent being the best validation value seen at any epoch. The budget is in virtual "
        "seconds; a full training counts the task's median epoch. Grace period 1, reduction factor "
        "3. TaskSet: 50 recorded steps, each one virtual second. LCBench: 51 epochs with each "
        "configuration's own duration, as predicted by the surrogate network of YAHPO Gym, so "
        "without noise between epochs. Going on with a paused trial and the time of the methods "
        "are free unless a heading says otherwise. A trial whose value is not finite ends, for all "
        "methods. The configurations of a table are finite in number, so a regret of 0 is "
        "possible.",
    ]


def main() -> None:
    """Write the report of one or several stores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stores", type=Path, nargs="+", metavar="STORE")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--methods", nargs="+", default=["*"], metavar="NAME",
                        help="names or patterns of the methods to show")  # fmt: skip
    arguments = parser.parse_args()
    first = arguments.stores[0]
    rows = store.read(*arguments.stores)
    shown = [m for m in rows["method"].unique() if any(fnmatch(m, p) for p in arguments.methods)]
    write(rows[rows["method"].isin(shown)], arguments.out or first.parent, first.stem)


if __name__ == "__main__":
    main()
