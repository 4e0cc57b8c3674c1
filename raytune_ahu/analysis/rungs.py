"""Can low epochs be trusted to rank? The rank correlation between rungs, and what follows from it.

Start with `rung_correlation`; `grace_advice` puts it into words.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from raytune_ahu.results import Results
from raytune_ahu.seeding import generator

_RESAMPLES = 1000
_LEAST = 5  # trials below which a rank correlation says nothing
_TRUSTED = (
    0.6  # Spearman's rho from which a level ranks well enough to stop two thirds of the trials
)
_COVERAGE = 0.9

_Floats = NDArray[np.float64]


def rung_correlation(results: Results, *, seed: int = 0) -> pd.DataFrame:
    """Correlate the ranks of the same trials at a lower and at a higher resource.

    The pairs are each rung level and every higher one; and, below the first level, the resources at
    which it could have begun (the level divided by eta, again and again). Trials that diverged are
    left out. Who reached the higher level was chosen at the lower one, which makes the correlation
    among them smaller than it would be among all: a high one can be trusted, a low one need not be
    the epochs' fault (`reached` says how strict the choice was).

    Args:
        results: The run.
        seed: Seed of the resampling.

    Returns:
        Columns `low`, `high`, `n` (trials with finite values at both), `reached` (share of those
        with a value at `low`), `spearman` and its 90 % interval `ci_low`, `ci_high` (percentile
        bootstrap over trials, 1,000 resamples), `kendall` (tau-b). NaN where n is below 5 or all
        values are equal.
    """
    values = results.curves()
    rng = generator(seed, "analysis", "rungs")
    rows = []
    for low, high in _pairs(results):
        if low not in values.index or high not in values.index:
            continue
        x, y = values.loc[low].to_numpy(np.float64), values.loc[high].to_numpy(np.float64)
        both = np.isfinite(x) & np.isfinite(y)
        at_low = int(np.isfinite(x).sum())
        reached = both.sum() / at_low if at_low else np.nan
        rows.append((low, high, int(both.sum()), reached, *_correlate(x[both], y[both], rng)))
    names = ["low", "high", "n", "reached", "spearman", "ci_low", "ci_high", "kendall"]
    return pd.DataFrame(rows, columns=names)


def _pairs(results: Results) -> Iterator[tuple[int, int]]:
    levels = list(results.rung_levels)
    if not levels:
        return
    earlier = [levels[0]]
    while earlier[-1] >= results.reduction_factor:
        earlier.append(earlier[-1] // results.reduction_factor)
    yield from ((low, levels[0]) for low in reversed(earlier[1:]))
    for i, low in enumerate(levels):
        for high in levels[i + 1 :]:
            yield low, high


def _correlate(
    x: _Floats, y: _Floats, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    if len(x) < _LEAST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan, np.nan, np.nan
    rho = float(stats.spearmanr(x, y).statistic)
    tau = float(stats.kendalltau(x, y).statistic)
    chosen = rng.integers(0, len(x), size=(_RESAMPLES, len(x)))
    drawn = _row_correlation(stats.rankdata(x[chosen], axis=1), stats.rankdata(y[chosen], axis=1))
    tail = (1 - _COVERAGE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return rho, float(low), float(high), tau


def _row_correlation(x: _Floats, y: _Floats) -> _Floats:
    """Pearson's correlation of each row of x (r, n) with the same row of y; NaN if one is flat."""
    dx = x - x.mean(axis=1, keepdims=True)
    dy = y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((dx**2).sum(axis=1) * (dy**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation: _Floats = (dx * dy).sum(axis=1) / scale
    return correlation


def grace_advice(results: Results, *, seed: int = 0) -> str:
    """Say whether the grace period was right, and what to set it to if not."""
    levels = results.rung_levels
    if len(levels) < 2:
        return "Trials were not stopped early, so there is no grace period to judge."
    first = levels[0]
    table = rung_correlation(results, seed=seed)
    later = table[(table["low"] == first) & (table["n"] >= 2 * _LEAST)].dropna(subset="spearman")
    if later.empty:
        return (
            f"Too few trials went beyond epoch {first} to say whether it ranks them well "
            f"({2 * _LEAST} with different values are needed)."
        )
    row = later.iloc[-1]
    told = (
        f"Epoch {first} ranks trials as epoch {row['high']:.0f} does with a rank correlation of "
        f"{row['spearman']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f}, {row['n']:.0f} "
        "trials that got so far)"
    )
    if row["ci_low"] >= _TRUSTED:
        return f"{told}: a grace period of {first} was right{_could_be_lower(table, first)}."
    if row["ci_high"] < _TRUSTED:
        better = _first_trusted(table, levels)
        fix = (
            f"--grace-period {better}"
            if better
            else "a longer grace period, or none (--scheduler none)"
        )
        return f"{told}: epoch {first} is too early to judge; use {fix}."
    return f"{told}: too uncertain to change the grace period of {first}; more trials will tell."


def _could_be_lower(table: pd.DataFrame, first: int) -> str:
    earlier = table[(table["high"] == first) & (table["ci_low"] >= _TRUSTED)]
    if earlier.empty:
        return ""
    low = int(earlier["low"].min())
    return f", and epoch {low} ranks nearly the same: --grace-period {low} would save more"


def _first_trusted(table: pd.DataFrame, levels: tuple[int, ...]) -> int | None:
    for low in levels[1:-1]:
        above = table[(table["low"] == low) & table["spearman"].notna()]
        if len(above) and above["spearman"].iloc[-1] >= _TRUSTED:
            return low
    return None
