"""What repeated trainings say: mean and spread of each configuration, and whether two differ.

Takes the results of a run in which each configuration was trained with the same seeds
(`raytune_ahu.adapters.repeat` makes one). Start with `repeats`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytune_ahu.errors import SpecError
from raytune_ahu.results import At, Results
from raytune_ahu.results.schema import CONFIG
from raytune_ahu.types import TRIAL_SEED_KEY, TrialStatus

_SEED_COLUMN = CONFIG + TRIAL_SEED_KEY
_COLUMNS = (
    "rank", "trial", "n", "failed", "mean", "sd", "pairs", "difference", "ci_low", "ci_high",
    "p_value", "p_holm",
)  # fmt: skip


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of pairs, by Student's paired t-test."""

    n: int
    """Pairs."""
    difference: float
    """Mean of the first minus the second; NaN without a pair."""
    ci_low: float
    """Lower end of the 95 % confidence interval; NaN for fewer than two pairs."""
    ci_high: float
    """Its upper end."""
    p_value: float
    """Two-sided: how often a difference at least as large comes about where there is none."""


def repeats(
    results: Results, *, trials: Sequence[str] | None = None, at: At | None = None
) -> pd.DataFrame:
    """Compare configurations that were each trained with the same seeds.

    The first one (the best of the search) is tested against each other by a t-test paired by seed,
    which decides initialisation and order of the data; the p-values are corrected by Holm's method.
    Wilcoxon's test is no alternative for so few seeds: with five its p-value cannot be
    below 0.0625. That two do not differ beyond chance does not mean that they are equal: see the
    interval.

    Args:
        results: A run whose trials have a `trial_seed`. Configurations are ranked in the order in
            which they first come; only trials that were trained to their end count.
        trials: Names of the trials of the search that they come from, in the order of the ranks.
        at: Which value of a trial counts (see `Results.scores`); None: `any` for trainables whose
            checkpoints hold the weights of their best epoch, otherwise `last`.

    Returns:
        A row a configuration: `rank` (from 1), `trial`, `n` (seeds with a value), `failed` (seeds
        that diverged or failed), `mean` and `sd` (of the metric over seeds; NaN for one), `pairs`
        (seeds that it shares with the first), `difference` (the first's metric minus its own, mean
        over pairs), `ci_low`, `ci_high` (95 %), `p_value`, `p_holm`. The columns from `pairs` on
        are NaN (pairs: 0) for the first itself.

    Raises:
        SpecError: If the trials have no seed of their own.
    """
    if _SEED_COLUMN not in results.trials.columns:
        raise SpecError(
            f"the trials of run {results.name!r} have no {TRIAL_SEED_KEY}, so nothing was repeated "
            "there; repeat its best with --repeat-best"
        )
    table = _values(results, at)
    rows = []
    first: pd.Series[float] = pd.Series(dtype=float)
    for rank, (_, group) in enumerate(table.groupby("key", sort=False), start=1):
        value = group.set_index("seed")["value"]
        finite = value.dropna()
        first = finite if rank == 1 else first
        pairs = pd.concat([first, finite], axis=1, join="inner").to_numpy(np.float64)
        test = paired_difference(pairs[:0] if rank == 1 else pairs)
        rows.append(
            {
                "rank": rank,
                "trial": trials[rank - 1] if trials is not None else group["trial"].iloc[0],
                "n": len(finite),
                "failed": int(group["failed"].sum()),
                "mean": finite.mean(),
                "sd": finite.std(),
                "pairs": test.n,
                "difference": test.difference,
                "ci_low": test.ci_low,
                "ci_high": test.ci_high,
                "p_value": test.p_value,
            }
        )
    frame = pd.DataFrame(rows, columns=list(_COLUMNS[:-1]))
    return frame.assign(p_holm=holm(frame["p_value"].to_numpy(np.float64)))


def _values(results: Results, at: At | None) -> pd.DataFrame:
    """Columns key (the configuration), trial, seed, value (NaN: none), failed; one row a trial."""
    if at is None:
        keeps_best = results.spec is not None and results.spec.keep_best_at == "any"
        at = "any" if keeps_best else "last"
    ended = results.trials["status"] == TrialStatus.COMPLETED.value
    scored = dict(results.scores(at=at)[["trial", "value"]].to_numpy(object))
    names = [c for c in results.trials.columns if c.startswith(CONFIG) and c != _SEED_COLUMN]
    return pd.DataFrame(
        {
            "key": [repr(tuple(row)) for row in results.trials[names].to_numpy(object)],
            "trial": results.trials["trial"],
            "seed": results.trials[_SEED_COLUMN],
            "value": np.where(
                ended, [scored.get(t, math.nan) for t in results.trials["trial"]], math.nan
            ),
            "failed": results.trials["status"] == TrialStatus.FAILED.value,
        }
    )


def paired_difference(pairs: NDArray[np.float64]) -> PairedDifference:
    """Test whether the columns of `pairs`, (n, 2), differ in their mean."""
    from scipy.special import stdtr, stdtrit  # scipy.stats takes a second to import

    n = len(pairs)
    if n == 0:
        return PairedDifference(0, *[math.nan] * 4)
    differences = pairs[:, 0] - pairs[:, 1]
    mean = float(differences.mean())
    if n == 1:
        return PairedDifference(n, mean, math.nan, math.nan, math.nan)
    error = float(differences.std(ddof=1) / math.sqrt(n))
    if error <= 1e-9 * abs(mean):  # the same difference for every seed: how sure, nobody can say
        return PairedDifference(n, mean, math.nan, math.nan, 1.0 if mean == 0.0 else math.nan)
    half = error * float(stdtrit(n - 1, 0.975))
    p_value = 2 * float(stdtr(n - 1, -abs(mean / error)))
    return PairedDifference(n, mean, mean - half, mean + half, p_value)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct p-values, (m,), for their number by Holm's step-down method; NaN stay as they are.

    Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    corrected = np.full(len(p_values), math.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return corrected
