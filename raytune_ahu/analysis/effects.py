"""How much of a forest's variance each parameter, and each pair of them, accounts for (fANOVA).

From Hutter, Hoos, Leyton-Brown: An Efficient Approach for Assessing Hyperparameter Importance (ICML
2014): a leaf is a box, so means of a tree over all other parameters are sums over its leaves,
exact and without sampling. Three things differ. The function that is decomposed is the forest's
mean prediction; there, the shares of single trees are averaged, each of which has also fitted noise
that averages out of the forest. An inactive parameter has no value: see `Effects`. And integrals
are sums over the population's grid. Start with `decompose`.

Symbols: l leaves, s strata, d parameters, g_j grid points; mu_sj (g_j + 1,) the measure of
parameter j in stratum s; w_slj = sum of mu_sj over the points that leaf l takes in.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from raytune_ahu.analysis.forest import Forest, Leaves
from raytune_ahu.analysis.population import Population, Stratum
from raytune_ahu.search.model import Floats

_SAMPLES = 4096  # configurations from which the variance of the forest is taken

Pair: TypeAlias = tuple[int, int]
Singles: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Effects:
    """The decomposition of a function f over a population.

    With A_j the configurations in which parameter j is active:

    - main effect of j: P(A_j) Var(E[f | x_j] | A_j). What being active changes by itself is not
      counted; it belongs to the parent, whose values decide it.
    - pairwise effect of i and j: P(A_i, A_j) (Var(E[f | x_i, x_j] | A_i, A_j) - the same with x_i
      alone - the same with x_j alone); 0 at least.

    In a space without conditions these are the functional ANOVA's. They and the effects of higher
    order add up to Var(f), unless combinations are forbidden, which makes parameters depend on each
    other: the effects then overlap.
    """

    variance: float
    """Var(f), from 4,096 configurations in a Latin hypercube; never below the largest effect."""
    main: Floats
    """(d,) main effects."""
    pairs: dict[Pair, float]
    """Pairwise effects, of i < j; empty if they were not wanted."""
    curves: tuple[Floats, ...]
    """For each parameter (g_j,): E[f | x_j], NaN where it has no mass."""


class _Sums:
    """Adds up, leaf by leaf, the means at the points of each parameter and pair."""

    def __init__(self, population: Population, *, pairs: bool) -> None:
        self._strata = population.strata
        self._sizes = [len(dim) for dim in population.dimensions]
        d = len(self._sizes)
        self.one = [np.zeros(g) for g in self._sizes]
        self.mass_one = [np.zeros(g) for g in self._sizes]
        self.two: dict[Pair, Floats] = {}
        self.mass_two: dict[Pair, Floats] = {}
        self._pairs = [
            (i, j)
            for i, j in itertools.combinations(range(d), 2)
            if pairs and any(s.is_active(i) and s.is_active(j) for s in self._strata)
        ]
        for i, j in self._pairs:
            self.two[i, j] = np.zeros((self._sizes[i], self._sizes[j]))
            self.mass_two[i, j] = np.zeros((self._sizes[i], self._sizes[j]))
        for stratum in self._strata:
            self._weigh(stratum)

    def _weigh(self, stratum: Stratum) -> None:
        for j, mass in enumerate(self.mass_one):
            mass += stratum.weight * stratum.measures[j][:-1]
        for (i, j), mass in self.mass_two.items():
            mass += stratum.weight * np.outer(stratum.measures[i][:-1], stratum.measures[j][:-1])

    def add(self, forest: Forest, leaves: Leaves) -> None:
        """Take in some leaves."""
        starts = forest.starts
        boxes = [
            leaves.accept[:, starts[j] : starts[j + 1]].astype(np.float32)
            for j in range(len(self._sizes))
        ]
        coefficients: dict[tuple[int, int, bytes, bytes], tuple[Floats, Floats, Floats]] = {}
        for stratum in self._strata:
            w = np.array([box @ mu for box, mu in zip(boxes, stratum.measures, strict=True)])
            total = stratum.weight * leaves.value * np.prod(w, axis=0)
            # A leaf without mass in a parameter has none of its points either: 0 for 1 / 0.
            with np.errstate(divide="ignore"):
                inverse = np.where(w > 0, 1.0 / w, 0.0)
            for j, box in enumerate(boxes):
                if stratum.is_active(j):
                    at_points = (total * inverse[j]).astype(np.float32) @ box
                    self.one[j] += stratum.measures[j][:-1] * at_points[:-1]
            for i, j in self._pairs:
                if stratum.is_active(i) and stratum.is_active(j):
                    mu_i, mu_j = stratum.measures[i], stratum.measures[j]
                    key = (i, j, mu_i.tobytes(), mu_j.tobytes())
                    share = total * inverse[i] * inverse[j]
                    known = coefficients.get(key)
                    both = share if known is None else known[2] + share
                    coefficients[key] = (mu_i, mu_j, both)
        for (i, j, _, _), (mu_i, mu_j, share) in coefficients.items():
            self._add_pair((i, j), (mu_i, mu_j), share, (boxes[i], boxes[j]))

    def _add_pair(
        self, pair: Pair, mu: tuple[Floats, Floats], share: Floats, boxes: tuple[Singles, Singles]
    ) -> None:
        rows, columns = np.flatnonzero(mu[0][:-1]), np.flatnonzero(mu[1][:-1])
        weighted = share.astype(np.float32)[:, None]
        left, right = boxes[0][:, rows], boxes[1][:, columns]
        # the weights go to the narrower side
        at_points = (
            (left * weighted).T @ right if len(rows) < len(columns) else left.T @ (right * weighted)
        )
        self.two[pair][np.ix_(rows, columns)] += np.outer(mu[0][rows], mu[1][columns]) * at_points


def decompose(
    forest: Forest, population: Population, rng: np.random.Generator, *, pairs: bool = True
) -> Effects:
    """Decompose a forest's mean prediction over a population.

    Exact on the population's grid, but for the total variance. Predictions should be centred about
    0: sums are in single precision.

    Args:
        forest: The function.
        population: The distribution of configurations.
        rng: Draws the configurations for the total variance.
        pairs: Whether pairwise effects are wanted.
    """
    sums = _Sums(population, pairs=pairs)
    with threadpool_limits(limits=1):  # many small products: more threads would only wait
        for leaves in forest.leaves():
            sums.add(forest, leaves)
    main = np.array(
        [_variance(s, m) * m.sum() for s, m in zip(sums.one, sums.mass_one, strict=True)]
    )
    two = {}
    for pair, summed in sums.two.items():
        mass = sums.mass_two[pair]
        own = sum(_variance(summed.sum(axis=a), mass.sum(axis=a)) for a in (0, 1))
        two[pair] = max(0.0, (_variance(summed, mass) - own) * float(mass.sum()))
    with np.errstate(invalid="ignore", divide="ignore"):
        curves = tuple(s / m for s, m in zip(sums.one, sums.mass_one, strict=True))
    sampled = float(np.var(forest.predict(population.sample(_SAMPLES, rng))))
    variance = max(sampled, float(main.max(initial=0.0)))
    return Effects(variance=variance, main=main, pairs=two, curves=curves)


def _variance(summed: Floats, mass: Floats) -> float:
    """Variance of summed / mass, weighted by mass."""
    there = mass > 0
    if not there.any():
        return 0.0
    mean = summed[there] / mass[there]
    weight = mass[there] / mass[there].sum()
    return float(weight @ (mean - weight @ mean) ** 2)
