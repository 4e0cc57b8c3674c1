"""What the searcher has proposed, and what came of it: the model's trials beside random ones.

Start with `suggestions` (one row a trial) and `suggestion_advice` (the same in words).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from raytune_ahu.analysis.progress import incumbent, value_at
from raytune_ahu.results import Results
from raytune_ahu.types import model_level

_LEAST = 5  # trials of each kind below which a comparison says nothing
_LUCK = 0.1  # p-value from which a difference may be luck
_CERTAIN = 0.001  # p-value below which its size says no more


def suggestions(results: Results) -> pd.DataFrame:
    """Set what was expected of each suggestion beside what it has really gained.

    The gain is counted from the incumbent at the time of the suggestion: the best value that any
    trial had reported by then, at any epoch. A trial that was stopped early has gained what it had
    gained until then; the expectation is for a full training.

    Returns:
        One row a trial, in the order of suggestion: `trial`, `number` (from 1), `by_model` (whether
        a model proposed it), `level` (rung level that the model spoke for; <NA>: no model), `share`
        (of the suggestions so far that a model made), `expected` (expected improvement; NaN: not
        on record), `gained` (by the trial's best value, at least 0; NaN where there was no
        incumbent to improve on, or the trial has no finite value yet), `completed` (whether it was
        trained to the end). `expected` and `gained` are in units of the metric.
    """
    trials = results.trials
    levels = [None if pd.isna(origin) else model_level(origin) for origin in trials["origin"]]
    by_model = np.array([str(o).startswith("model@") for o in trials["origin"]], dtype=bool)
    number = np.arange(1, len(trials) + 1)
    suggested = trials["suggested_s"].to_numpy(np.float64)
    before = value_at(incumbent(results), "time_s", suggested)
    before[np.isnan(suggested)] = np.nan
    best = trials["best_value"].to_numpy(np.float64)
    gained = np.maximum(results.sign * (before - best), 0.0)
    barren = (trials["status"] == "failed").to_numpy() & np.isnan(best) & ~np.isnan(before)
    return pd.DataFrame(
        {
            "trial": trials["trial"].array,
            "number": number,
            "by_model": by_model,
            "level": pd.array(levels, dtype="Int64"),
            "share": np.cumsum(by_model) / number,
            "expected": trials["expected_improvement"].to_numpy(np.float64),
            "gained": np.where(barren, 0.0, gained),
            "completed": (trials["status"] == "completed").to_numpy(),
        }
    )


def suggestion_advice(results: Results) -> str:
    """Say whether the model proposes better trials than chance, and whether it expects rightly.

    Trials are compared at the first rung level, which all of them reach; those that failed before
    or diverged count as the worst. The p-value is that of the two-sided Mann-Whitney test.

    Returns:
        One or two sentences; empty where no model has proposed anything.
    """
    table = suggestions(results)
    if not table["by_model"].any():
        return ""
    told = (_compared(results, table), _expected(results, table))
    return " ".join(sentence for sentence in told if sentence)


def _compared(results: Results, table: pd.DataFrame) -> str:
    if not results.rung_levels:
        return ""
    level = results.rung_levels[0]
    losses = _losses_at(results, level)
    is_random = (results.trials["origin"] == "random").to_numpy(bool, na_value=False)
    by_model, by_chance = (
        losses[chosen & ~np.isnan(losses)] for chosen in (table["by_model"].to_numpy(), is_random)
    )
    if min(len(by_model), len(by_chance)) < _LEAST:
        return (
            f"Too few trials to compare those of the model with random ones at epoch {level}: "
            f"{len(by_model)} and {len(by_chance)}, {_LEAST} of each are needed."
        )
    test = stats.mannwhitneyu(by_chance, by_model)
    share = float(test.statistic) / (len(by_model) * len(by_chance))
    p = float(test.pvalue)
    told = f"p = {p:.2g}" if p >= _CERTAIN else f"p < {_CERTAIN}"
    luck = "; it may be luck" if p >= _LUCK else ""
    return (
        f"At epoch {level} the median {results.metric} of {len(by_model)} model-based trials is "
        f"{_median(results, by_model)}, of {len(by_chance)} random ones "
        f"{_median(results, by_chance)}: in {share:.0%} of all pairs the model-based trial is the "
        f"better one ({told}{luck})."
    )


def _losses_at(results: Results, level: int) -> NDArray[np.float64]:
    """The loss of each trial at a resource; +inf: diverged or failed, NaN: not there yet."""
    reports = results.reports[results.reports["resource"] == level]
    value = results.sign * reports["value"].to_numpy(np.float64)
    seen = dict(zip(reports["trial"], np.where(np.isfinite(value), value, np.inf), strict=True))
    failed = (results.trials["status"] == "failed").to_numpy()
    other = np.where(failed, np.inf, np.nan)
    pairs = zip(results.trials["trial"], other, strict=True)
    return np.array([seen.get(trial, loss) for trial, loss in pairs], dtype=np.float64)


def _median(results: Results, losses: NDArray[np.float64]) -> str:
    """The median in the metric's own orientation."""
    middle = float(np.median(losses))
    return f"{results.sign * middle:.4g}" if np.isfinite(middle) else "not finite"


def _expected(results: Results, table: pd.DataFrame) -> str:
    known = table.dropna(subset=["expected", "gained"])
    if known.empty:
        return ""
    stopped = int((~known["completed"]).sum())
    until = f" ({stopped} of them as far as they were trained)" if stopped else ""
    return (
        f"The model expected its {len(known)} trials to gain {known['expected'].mean():.2g} of "
        f"{results.metric} each on average over the incumbent; they have gained "
        f"{known['gained'].mean():.2g}{until}."
    )
