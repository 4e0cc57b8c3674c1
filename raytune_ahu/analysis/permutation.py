"""Permutation importance: how much worse a forest predicts once a parameter's values are shuffled.

Breiman: Random Forests (2001), out of bag: every trial is predicted by the trees that were not
fitted to it. Start with `permutation_excess`.
"""

from __future__ import annotations

import numpy as np

from raytune_ahu.analysis.forest import Forest
from raytune_ahu.analysis.population import Population
from raytune_ahu.search.kde import impute_inactive
from raytune_ahu.search.model import Floats
from raytune_ahu.space import SearchSpace


def permutation_excess(
    forest: Forest,
    x: Floats,
    y: Floats,
    population: Population,
    rng: np.random.Generator,
) -> Floats:
    """Return by how much each trial's squared error grows when a parameter is shuffled.

    A parameter is shuffled among the trials in which it is active. Where others depend on it, they
    follow: those that its new value makes inactive go, those that it makes active take their value
    from a trial that has them. A change that would make a forbidden combination is not made.

    Args:
        forest: Fitted to x and y.
        x: (n, d) coordinates, NaN where inactive.
        y: (n,) what is predicted.
        population: Says which parameters others depend on.
        rng: Shuffles, 2 to 10 times (the less, the more trials there are).

    Returns:
        (d, n) mean growth; NaN for trials that every tree has seen.
    """
    before = np.square(y - forest.out_of_bag(x))
    excess = np.zeros((x.shape[1], len(x)))
    repeats = min(10, max(2, 1000 // max(len(x), 1)))
    for j in range(x.shape[1]):
        for _ in range(repeats):
            shuffled = _shuffled(x, j, population, rng)
            excess[j] += np.square(y - forest.out_of_bag(shuffled)) - before
    return excess / repeats


def _shuffled(x: Floats, j: int, population: Population, rng: np.random.Generator) -> Floats:
    rows = np.flatnonzero(~np.isnan(x[:, j]))
    drawn = x[rng.permutation(rows), j]
    changed = x.copy()
    if population.space is None or j not in population.parents:
        changed[rows, j] = drawn
        return changed
    n_choices = population.space.n_choices
    filled = impute_inactive(x, n_choices, rng)
    for row, value in zip(rows, drawn, strict=True):
        if value != x[row, j]:
            vector = filled[row].copy()
            vector[j] = value
            changed[row] = _legal(population.space, vector, x[row])
    return changed


def _legal(space: SearchSpace, vector: Floats, otherwise: Floats) -> Floats:
    """A vector with NaN where it makes parameters inactive; `otherwise` where it is forbidden."""
    configuration = space.try_decode(vector)
    return otherwise if configuration is None else space.encode(configuration)
