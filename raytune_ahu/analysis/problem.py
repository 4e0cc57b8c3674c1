"""What a forest is fitted to: the trials of a run as points of a population, and its resamples.

Start with `problem_of`. Symbols: n trials that have a value, d parameters that vary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from raytune_ahu.analysis.configurations import columns_of, encode_trials
from raytune_ahu.analysis.effects import Effects, decompose
from raytune_ahu.analysis.forest import Flags, Forest
from raytune_ahu.analysis.observed import observed_strata, of_columns
from raytune_ahu.analysis.population import Population, dimension_of, of_space
from raytune_ahu.analysis.targets import Target, targets
from raytune_ahu.errors import SpecError
from raytune_ahu.results import Results
from raytune_ahu.search.model import Floats, Ints
from raytune_ahu.seeding import derive_seed, generator
from raytune_ahu.space import SearchSpace

WANTED_PER_PARAMETER = 4
"""Trials for each parameter, below which importance means nothing."""
_TREES, _TREES_RESAMPLED = 64, 16
_LARGEST_RESAMPLE = 400  # trials a resample, beyond which its spread is scaled instead


@dataclass(frozen=True)
class Problem:
    """What a forest is fitted to."""

    population: Population
    """The configurations that it is asked about."""
    x: Floats
    """(n, all parameters) coordinates, NaN where inactive."""
    metric: Floats
    """(n,) values in the metric's own units."""
    varied: Ints
    """(d,) numbers of the parameters that have more than one value."""
    notes: tuple[str, ...]
    """What was taken and changed, in words."""

    @property
    def y(self) -> Floats:
        """(n,) the values about 0 with unit variance."""
        scale = self.metric.std()
        return np.asarray((self.metric - self.metric.mean()) / (scale if scale > 0 else 1.0))


def problem_of(results: Results, at: Target) -> Problem:
    """Read the trials of a run that have a value.

    Raises:
        SpecError: If no parameter varied, there are not more trials with a value than parameters
            that varied, or `at` is unknown.
    """
    explained = targets(results, at)
    rows = results.trials["trial"].isin(explained.trials).to_numpy()
    population, x = _encoded(results, rows)
    varied = np.array(
        [j for j in range(x.shape[1]) if len(np.unique(x[~np.isnan(x[:, j]), j])) > 1],
        dtype=np.int64,
    )
    n, d = int(rows.sum()), len(varied)
    if n and not d:
        raise SpecError(
            f"no hyperparameter of run {results.name!r} has different values in the "
            f"{n} trials that have one of {results.metric}; let some vary"
        )
    if n <= d or n < 2:
        raise SpecError(
            f"{n} trials with a value of {results.metric} must be more than the {d} "
            f"hyperparameters that vary; run at least {max(d + 1 - n, 2 - n)} more "
            f"({WANTED_PER_PARAMETER * max(d, 1)} in all tell something)"
        )
    fixed = {j: _only(x[:, j]) for j in range(x.shape[1]) if j not in varied}
    notes = (*explained.notes, *population.notes)
    return Problem(population.holding(fixed), x, explained.metric, varied, notes)


def _only(column: Floats) -> float:
    """The one value of a column; NaN where there is none."""
    there = column[~np.isnan(column)]
    return float(there[0]) if len(there) else math.nan


def _encoded(results: Results, rows: Flags) -> tuple[Population, Floats]:
    """The population, and the coordinates of the trials that are wanted."""
    space = results.space
    if space is None:
        columns = [
            [cell for cell, wanted in zip(column, rows, strict=True) if wanted]
            for column in columns_of(results)
        ]
        return of_columns(results.parameters, columns)
    x = encode_trials(results, space)[rows] if len(rows) else np.empty((0, len(space.names)))
    return of_space(space) or _as_observed(space, x), x


def _as_observed(space: SearchSpace, x: Floats) -> Population:
    domains = {p.name: p.domain for p in space.declaration.parameters}
    dimensions = tuple(dimension_of(name, domains[name]) for name in space.names)
    note = "the conditions have too many combinations: those that the trials had are weighted"
    return Population(dimensions, observed_strata(dimensions, x), space=space, notes=(note,))


def fit_forest(
    problem: Problem, seed: int, n_trees: int = _TREES, rows: Ints | None = None
) -> Forest:
    """Fit a forest to all trials, or to the rows of some."""
    chosen = np.arange(len(problem.y)) if rows is None else rows
    return Forest(
        problem.population.dimensions,
        problem.x[chosen],
        problem.y[chosen],
        seed=derive_seed(seed, "analysis", "forest"),
        n_trees=n_trees,
    )


def resampled_effects(
    problem: Problem, seed: int, n_bootstrap: int, *, pairs: bool = True
) -> Iterator[Effects]:
    """Decompose forests that were fitted to trials drawn with replacement."""
    n = len(problem.y)
    for b in range(n_bootstrap):
        rng = generator(seed, "analysis", "resample", b)
        rows = rng.integers(n, size=min(n, _LARGEST_RESAMPLE))
        forest = fit_forest(problem, derive_seed(seed, "analysis", b), _TREES_RESAMPLED, rows)
        yield decompose(forest, problem.population, rng, pairs=pairs)


def resample_scale(n: int) -> float:
    """By how much the estimate varies less than one from a resample."""
    return math.sqrt(min(n, _LARGEST_RESAMPLE) / n)
