"""Several runs side by side: incumbents on one grid, with their spread, and ranks.

Start with `compare`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from raytune_ahu.analysis.progress import Over, anytime_area, check_over, incumbent, value_at
from raytune_ahu.errors import SpecError
from raytune_ahu.results import Results
from raytune_ahu.results.results import names_of

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Runs on one grid."""

    metric: str
    """What all of them tune."""
    over: Over
    """The axis of the grid."""
    grid: pd.DataFrame
    """One row a group and point: `group`, `x`, `n` (runs with an incumbent there), `center` (median
    of their incumbents), `low`, `high` (quartiles), `mean_rank` (1 is best; among all runs of the
    same data set, averaged over the group; runs without an incumbent share the last places)."""
    runs: pd.DataFrame
    """One row a run: `run`, `group`, `dataset`, `seed`, `trials`, `epochs`, `wall_s`, `value` (of
    the incumbent at the end of the grid), `area` (mean incumbent from where all runs have one, see
    `anytime_area`; NaN if one never has), `rank` (by `value`, within the data set)."""


def compare(
    runs: Sequence[Results],
    *,
    groups: Sequence[str] | None = None,
    over: Over = "time_s",
    n_points: int = 60,
) -> Comparison:
    """Compare runs at equal budget: the grid ends where the shortest of them ends.

    Args:
        runs: Two or more, with the same metric and mode.
        groups: A label for each run; runs with equal labels are summarised together. None: by
            searcher and scheduler where they differ, otherwise each run is its own group.
        over: What the budget is measured in.
        n_points: Points of the grid, at least 2.

    Raises:
        SpecError: If there are fewer than two runs, they have different metrics, one has no
            reports, or the labels are not one a run.
    """
    check_over(over)
    _check(runs, groups, n_points)
    names = names_of(runs)
    labels = list(groups) if groups is not None else _labels(runs, names)
    datasets = [_dataset(run) for run in runs]
    curves = [incumbent(run) for run in runs]
    end = min(float(curve[over].iloc[-1]) for curve in curves)
    since = max(_first(curve, over) for curve in curves)
    grid = np.linspace(0.0, end, n_points)
    losses = np.array(
        [run.sign * value_at(curve, over, grid) for run, curve in zip(runs, curves, strict=True)]
    )
    ranks = _ranks(losses, datasets)
    last = runs[0].sign * losses[:, -1]
    table = pd.DataFrame(
        {
            "run": names,
            "group": labels,
            "dataset": datasets,
            "seed": pd.array([run.seed for run in runs], dtype="Int64"),
            "trials": [len(run.trials) for run in runs],
            "epochs": [int(run.trials["epochs_run"].sum()) for run in runs],
            "wall_s": [run.wall_s for run in runs],
            "value": last,
            "area": [anytime_area(run, over, since=since, until=end) for run in runs],
            "rank": ranks[:, -1],
        }
    )
    points = pd.concat(
        [
            _summary(label, grid, runs[0].sign * losses[rows], ranks[rows])
            for label in dict.fromkeys(labels)
            for rows in [np.flatnonzero(np.array(labels) == label)]
        ],
        ignore_index=True,
    )
    return Comparison(runs[0].metric, over, points, table)


def _check(runs: Sequence[Results], groups: Sequence[str] | None, n_points: int) -> None:
    if len(runs) < 2:
        raise SpecError(f"compare needs at least two runs, not {len(runs)}")
    if n_points < 2:
        raise SpecError(f"n_points={n_points} must be at least 2")
    first = runs[0]
    for run in runs:
        if (run.metric, run.mode) != (first.metric, first.mode):
            raise SpecError(
                f"run {run.name!r} has {run.metric} ({run.mode}) and run {first.name!r} "
                f"{first.metric} ({first.mode}); only runs with the same metric can be compared"
            )
        if run.reports.empty:
            raise SpecError(f"run {run.name!r} has no reports yet; leave it out")
    if groups is not None and len(groups) != len(runs):
        raise SpecError(f"groups={list(groups)} must be {len(runs)} labels, one for each run")


def _labels(runs: Sequence[Results], names: Sequence[str]) -> list[str]:
    """By searcher and scheduler, and by data set where these differ; else each run by its name."""
    if any(run.spec is None for run in runs):
        return list(names)
    found = [f"{run.spec.search_label} + {run.spec.scheduler}" for run in runs if run.spec]
    datasets = [_dataset(run) for run in runs]
    if len(set(datasets)) > 1:
        found = [f"{label} on {data}" for label, data in zip(found, datasets, strict=True)]
    return found if len(set(found)) > 1 else list(names)


def _first(curve: pd.DataFrame, over: Over) -> float:
    """Where a run has its first incumbent; infinity if it has none."""
    known = curve.dropna(subset="value")
    return float(known[over].iloc[0]) if len(known) else math.inf


def _dataset(run: Results) -> str:
    """What a run was trained on, as far as it is known; empty for stock Ray Tune's."""
    if run.spec is None:
        return ""
    return str(run.spec.settings.get("dataset", run.spec.trainable))


def _ranks(losses: _Floats, datasets: Sequence[str]) -> _Floats:
    """Rank the runs (rows) at each point (column) among those of the same data set, ties shared.

    Where the data set of a run is not known, all are taken to have the same.
    """
    ranks = np.empty_like(losses)
    if "" in datasets:
        datasets = [""] * len(datasets)
    for name in set(datasets):
        rows = np.flatnonzero(np.array(datasets) == name)
        known = np.where(np.isnan(losses[rows]), np.inf, losses[rows])
        ranks[rows] = stats.rankdata(known, axis=0)
    return ranks


def _summary(label: str, grid: _Floats, values: _Floats, ranks: _Floats) -> pd.DataFrame:
    counted = (~np.isnan(values)).sum(axis=0)
    center, low, high = (np.full(len(grid), np.nan) for _ in range(3))
    some = counted > 0
    if some.any():
        quartiles = np.nanquantile(values[:, some], [0.25, 0.5, 0.75], axis=0)
        low[some], center[some], high[some] = quartiles
    return pd.DataFrame(
        {
            "group": label,
            "x": grid,
            "n": counted,
            "center": center,
            "low": low,
            "high": high,
            "mean_rank": ranks.mean(axis=0),
        }
    )
