"""How good the best known configuration was, when: over time, over epochs, over trials.

Start with `incumbent`; `anytime_area` is one number for the whole of its curve.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytune_ahu.errors import SpecError
from raytune_ahu.results import Results

Over: TypeAlias = Literal["time_s", "epochs", "trials"]
"""What is spent: wall seconds of the run, epochs of all trials, or trials begun."""

Floats: TypeAlias = NDArray[np.float64]


def check_over(over: str) -> Over:
    """Return `over` if it is one of the axes.

    Raises:
        SpecError: If it is not.
    """
    for axis in get_args(Over):
        if over == axis:
            return axis  # type: ignore[no-any-return]  # get_args returns Any
    raise SpecError(f"over={over!r} must be one of {', '.join(get_args(Over))}")


def incumbent(results: Results) -> pd.DataFrame:
    """Follow the best value seen so far, of any trial at any epoch.

    Returns:
        One row a report, in the order of time: `time_s`, `epochs` (so far, repeated ones included),
        `trials` (begun so far), `value` (the incumbent's; NaN before the first finite one), `trial`
        and `resource` (where it was seen), `improved` (whether by this report).
    """
    reports = results.reports
    value = reports["value"].to_numpy()
    losses = np.where(np.isfinite(value), results.sign * value, np.inf)
    best = np.minimum.accumulate(losses) if len(losses) else losses
    before = np.concatenate([[np.inf], best[:-1]]) if len(best) else best
    improved = best < before
    holder = (
        np.maximum.accumulate(np.where(improved, np.arange(len(best)), -1)) if len(best) else best
    )
    known = holder >= 0
    at = np.where(known, holder, 0).astype(np.int64)
    begun = np.sort(results.trials["suggested_s"].to_numpy())
    return pd.DataFrame(
        {
            "time_s": reports["time_s"].to_numpy(),
            "epochs": reports["epochs_so_far"].to_numpy(),
            "trials": np.searchsorted(begun, reports["time_s"].to_numpy(), side="right"),
            "value": np.where(known, results.sign * best, np.nan),
            "trial": reports["trial"].take(at).where(known).array,
            "resource": reports["resource"].take(at).where(known).astype("Int64").array,
            "improved": improved,
        }
    )


def anytime_area(
    results: Results,
    over: Over = "time_s",
    *,
    since: float | None = None,
    until: float | None = None,
) -> float:
    """Mean value of the incumbent over a part of an axis: good early counts.

    Args:
        results: The run.
        over: The axis.
        since: Where to begin on it; None: at the first incumbent.
        until: Where to end on it; None: at the end of the run. The last value holds beyond it.

    Returns:
        The mean, in the metric's own units; NaN if there was no incumbent at its beginning.

    Raises:
        SpecError: If `over` is unknown.
    """
    curve = incumbent(results).dropna(subset="value")
    x = curve[check_over(over)].to_numpy(np.float64)
    value = curve["value"].to_numpy()
    end = until if until is not None else (x[-1] if len(x) else np.nan)
    begin = since if since is not None else (x[0] if len(x) else np.nan)
    if not len(x) or begin < x[0] or end < begin:
        return float("nan")
    first = np.searchsorted(x, begin, side="right") - 1
    x, value = x[first:], value[first:]
    x = np.maximum(x, begin)
    inside = x <= end
    x, value = x[inside], value[inside]
    widths = np.diff(x, append=end)
    if widths.sum() == 0:
        return float(value[-1])
    return float((widths * value).sum() / widths.sum())


def value_at(curve: pd.DataFrame, over: Over, grid: Floats) -> Floats:
    """Read a curve of `incumbent` at points of an axis; NaN before its first value."""
    x = curve[over].to_numpy(np.float64)
    at = np.searchsorted(x, grid, side="right") - 1
    values = np.concatenate([curve["value"].to_numpy(np.float64), [np.nan]])
    read: Floats = values[at]  # -1 is the NaN at the end
    return read
