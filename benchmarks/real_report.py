"""Tables and plot of bench_real_search.py: from its reports, one row per epoch that was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tables import DASHED, markdown, mean_and_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARES = (0.25, 0.5, 1.0)
"""Shares of the budget at which the best error is read."""
RUN = ["dataset", "method", "seed"]
"""Columns that name a run."""


def cut(reports: Sequence[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """Keep the first `budget` reports in the order of their time, and count them from 1.

    Args:
        reports: Reports of one run, with the `seconds` at which each arrived.
        budget: Epochs in total.

    Raises:
        ValueError: If there are fewer: the run has not spent its budget.
    """
    if len(reports) < budget:
        raise ValueError(f"the run ended after {len(reports)} of {budget} epochs")
    in_order = sorted(reports, key=lambda report: float(report["seconds"]))
    return [{"spent": i, **report} for i, report in enumerate(in_order[:budget], start=1)]


def best_so_far(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest finite error up to each epoch; 1 where there is none yet.

    Args:
        errors: [epochs] Validation errors in the order in which they were reported.
    """
    finite = np.where(np.isfinite(errors), errors, 1.0)
    best: NDArray[np.float64] = np.minimum.accumulate(finite)
    return best


def curves(reports: pd.DataFrame) -> pd.DataFrame:
    """Best error so far: one row per seed, one column per epoch spent.

    Args:
        reports: Reports of one method on one data set.
    """
    rows = {
        seed: best_so_far(run.sort_values("spent")["error"].to_numpy(float))
        for seed, run in reports.groupby("seed")
    }
    lengths = {len(row) for row in rows.values()}
    if len(lengths) > 1:
        raise ValueError(f"runs of one method have spent {sorted(lengths)} epochs: not the same")
    columns = pd.RangeIndex(1, 1 + max(lengths), name="spent")
    frame = pd.DataFrame.from_dict(rows, orient="index")
    return frame.set_axis(columns, axis="columns")


def at_shares(curve: pd.DataFrame) -> pd.DataFrame:
    """Read curves at `SHARES` of the budget: one row per seed, a column per share."""
    budget = curve.shape[1]
    return pd.DataFrame({share: curve[max(1, round(share * budget))] for share in SHARES})


def model_share(reports: pd.DataFrame) -> float:
    """Share of the trials whose configuration a model proposed."""
    return float(reports.drop_duplicates([*RUN, "trial"])["model_based"].mean())


def mean_and_range(values: pd.Series) -> str:
    """Write mean and range over seeds, in percent."""
    text = f"{values.mean():.2%}".replace("%", " %")
    if len(values) < 2:
        return text
    return f"{text} ({100 * values.min():.2f} to {100 * values.max():.2f})"


def dataset_table(reports: pd.DataFrame, dataset: str) -> str:
    """Best validation error of each method at shares of the budget, and what it took."""
    table = {}
    for method, mine in _by_method(reports[reports["dataset"] == dataset]):
        runs = mine.groupby("seed")
        full = mine["epoch"] == mine["max_epochs"]
        table[method] = {
            **{f"{s:.0%}".replace("%", " %"): mean_and_range(v) for s, v in _shares(mine).items()},
            "model-based": f"{model_share(mine):.0%}".replace("%", " %"),
            "trials": f"{runs['trial'].nunique().mean():.0f}",
            "in full": f"{full.groupby(mine['seed']).sum().mean():.0f}",
            "s per run": f"{runs['seconds'].max().mean():.0f}",
            "s per epoch": f"{mine['epoch_s'].mean():.2f}",
            "seeds": len(runs),
        }
    return markdown(pd.DataFrame(table).T.rename_axis("method"))


def difference_table(reports: pd.DataFrame, base: str) -> str:
    """Best error minus that of a method, in percentage points, over the seeds that both have."""
    table: dict[str, dict[str, str]] = {}
    for dataset, mine in reports.groupby("dataset", sort=False):
        read = {method: at_shares(curves(rows)) for method, rows in _by_method(mine)}
        for method in read.keys() - {base} if base in read else ():
            both = (read[method] - read[base]).dropna() * 100
            if both.empty:
                continue
            ahead = (both[SHARES[-1]] > 0).sum()
            table[f"{dataset}: {method}"] = {
                **{f"{s:.0%}".replace("%", " %"): mean_and_error(both[s]) for s in SHARES},
                f"{base} ahead at the end": f"{ahead} of {len(both)} seeds",
            }
    return markdown(pd.DataFrame(table).T.sort_index().rename_axis("data set: method"))


def write_report(reports: pd.DataFrame, setup: Sequence[str], base: str) -> str:
    """Write the whole report in Markdown.

    Args:
        reports: One row per epoch: `RUN`, spent, seconds, trial, epoch, error, epoch_s,
            model_based, max_epochs.
        setup: Paragraphs that say what was run.
        base: Method that the others are compared with, seed by seed.
    """
    parts = ["# Search with real training", *setup, "![best error](real_search.png)"]
    for dataset in reports["dataset"].unique():
        parts += [
            f"## {dataset}: best validation error so far, at shares of the budget",
            dataset_table(reports, dataset),
        ]
    if {base} < set(reports["method"]):
        parts += [
            f"## Best error minus that of {base}, same seeds, percentage points (positive: worse)",
            difference_table(reports, base),
        ]
    return "\n\n".join(parts) + "\n"


def plot(reports: pd.DataFrame, path: Path) -> None:
    """Draw the best error against the epochs spent, one panel per data set."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import PercentFormatter

    datasets = list(reports["dataset"].unique())
    colors = {method: f"C{i}" for i, (method, _) in enumerate(_by_method(reports))}
    figure, panels = plt.subplots(
        1, len(datasets), figsize=(6.2 * len(datasets), 4.4), squeeze=False, layout="constrained"
    )
    for axes, dataset in zip(panels[0], datasets, strict=True):
        for method, mine in _by_method(reports[reports["dataset"] == dataset]):
            curve = curves(mine)
            spent = curve.columns.to_numpy()
            style = "--" if any(word in method for word in DASHED) else "-"
            label = f"{method}, {len(curve)} seed{'s' * (len(curve) > 1)}"
            axes.plot(spent, curve.mean(), color=colors[method], linestyle=style, label=label)
            axes.fill_between(
                spent, curve.min(), curve.max(), color=colors[method], alpha=0.15, linewidth=0
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_minor_formatter(PercentFormatter(1.0))
        axes.tick_params(which="both", labelsize=8)
        axes.set_xlim(1, spent[-1])
        axes.set_title(f"{dataset}: mean of the seeds, band: their range", fontsize=10)
        axes.set_xlabel("epochs trained, by all trials together")
        axes.set_ylabel("best validation error so far")
        axes.grid(visible=True, which="both", linewidth=0.3)
        axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _shares(reports: pd.DataFrame) -> dict[float, pd.Series]:
    read = at_shares(curves(reports))
    return {share: read[share] for share in SHARES}


def _by_method(reports: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The reports of each method, in the order in which methods first appear."""
    return [(str(method), rows) for method, rows in reports.groupby("method", sort=False)]
