"""Ranks of methods over tasks, and whether their differences are more than chance.

Demsar 2006, "Statistical comparisons of classifiers over multiple data sets": Friedman's test over
tasks, the critical difference of Nemenyi's, and Wilcoxon's signed-rank tests of the best method
against each other one with Holm's correction. A task counts once, with its mean over seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """What the tests say about n tasks and k methods."""

    n_tasks: int
    ranks: pd.Series
    """(k,) mean rank of each method, the best first; 1 is best, ties share their mean."""
    friedman_p: float
    """Probability of such ranks among equal methods; NaN for fewer than 3 methods."""
    critical_difference: float
    """Mean ranks further apart than this differ by Nemenyi's test."""
    wilcoxon_p: pd.Series
    """(k - 1,) of the best method against each other one, by Holm's correction."""


def mean_ranks(regret: pd.DataFrame) -> pd.Series:
    """Mean rank of each column over the rows, the best first; 1 is best."""
    return regret.rank(axis=1).mean().sort_values()


def compare(regret: pd.DataFrame) -> Comparison | None:
    """Test whether methods differ.

    Args:
        regret: (n tasks, k methods) mean over seeds, nothing missing.

    Returns:
        None for fewer than 2 methods or tasks.
    """
    n, k = regret.shape
    if n < 2 or k < 2:
        return None
    ranks = mean_ranks(regret)
    varies = k > 2 and bool((regret.max(axis=1) > regret.min(axis=1)).any())
    p = float(stats.friedmanchisquare(*regret.to_numpy().T).pvalue) if varies else np.nan
    q = float(stats.studentized_range.ppf(1 - LEVEL, k, np.inf)) / np.sqrt(2)
    best = ranks.index[0]
    pairs = {other: _wilcoxon(regret[best], regret[other]) for other in ranks.index[1:]}
    return Comparison(n, ranks, p, q * np.sqrt(k * (k + 1) / (6 * n)), holm(pd.Series(pairs)))


def _wilcoxon(first: pd.Series, second: pd.Series) -> float:
    if np.allclose(first, second):
        return 1.0
    return float(stats.wilcoxon(first, second).pvalue)


def holm(p: pd.Series) -> pd.Series:
    """Adjust p-values for their number: step down, never decreasing."""
    ordered = p.sort_values()
    factors = np.arange(len(p), 0, -1)
    adjusted = np.maximum.accumulate(np.minimum(ordered * factors, 1.0))
    return pd.Series(adjusted, ordered.index).reindex(p.index)


def cliques(ranks: pd.Series, difference: float) -> list[tuple[int, int]]:
    """Maximal runs (first, last) of sorted ranks that lie within the critical difference."""
    values = ranks.to_numpy()
    runs: list[tuple[int, int]] = []
    for first in range(len(values)):
        last = int(np.searchsorted(values, values[first] + difference, side="right")) - 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
