"""What importance is measured over: the configurations of a search space, on a finite grid.

A `Population` is a grid for each parameter (`Dimension`) and a list of `Stratum`s. In a stratum the
same parameters are active, and the coordinates are independent of each other; conditions and
forbidden combinations are what makes one stratum differ from the next. Start with `of_space`; runs
without a search space have `of_columns` (`observed.py`).

Symbols: d parameters, g_j grid points of parameter j, s strata.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from raytune_ahu.search.model import Floats, Ints
from raytune_ahu.space import SearchSpace
from raytune_ahu.space.conditions import Term
from raytune_ahu.space.discrete import Constant
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.plan import INACTIVE, Plan

GRID_POINTS = 64
"""Points that stand for a continuum; a finite domain of at most as many values has one for each."""
MAX_COMBINATIONS = 2000
"""Combinations of what conditions tell apart, beyond which the strata are those observed."""


@dataclass(frozen=True)
class Dimension:
    """One parameter as a grid in its coordinate."""

    name: str
    """Flat name."""
    grid: Floats
    """(g,) coordinates in [0, 1], ascending; the centres of what they stand for."""
    sizes: Floats
    """(g,) shares of the unit interval that they stand for; they sum to 1."""
    values: tuple[Any, ...]
    """The parameter's value at each of them."""
    is_categorical: bool
    """Whether they have no order."""

    def __len__(self) -> int:
        return len(self.grid)


@dataclass(frozen=True)
class Stratum:
    """A part of the space in which the coordinates are independent of each other."""

    weight: float
    """Its share of the space."""
    measures: tuple[Floats, ...]
    """For each parameter (g + 1,): the probability of each grid point, and last of being
    inactive (0 or 1)."""

    def is_active(self, j: int) -> bool:
        """Whether parameter j is active here."""
        return bool(self.measures[j][-1] == 0.0)


@dataclass(frozen=True)
class Population:
    """The distribution of configurations: uniform in the unit cube, categories equally likely."""

    dimensions: tuple[Dimension, ...]
    """The parameters."""
    strata: tuple[Stratum, ...]
    """Their weights sum to 1."""
    parents: tuple[int, ...] = ()
    """Parameters on which others depend."""
    space: SearchSpace | None = None
    """The search space, where there is one."""
    notes: tuple[str, ...] = field(default=())
    """What was simplified, in words."""

    def holding(self, fixed: Mapping[int, float]) -> Population:
        """Restrict the space to one value of some parameters.

        Args:
            fixed: The coordinate of each of them, by its number; NaN for never active.
        """
        strata = []
        for stratum in self.strata:
            weight, measures = stratum.weight, list(stratum.measures)
            for j, coordinate in fixed.items():
                if np.isnan(coordinate):
                    weight *= measures[j][-1]
                elif stratum.is_active(j):
                    at = int(np.argmin(np.abs(self.dimensions[j].grid - coordinate)))
                    weight *= measures[j][at]
                    measures[j] = np.eye(len(measures[j]))[at]
            strata.append(Stratum(float(weight), tuple(measures)))
        total = sum(stratum.weight for stratum in strata)
        left = tuple(replace(s, weight=s.weight / total) for s in strata if s.weight > 0)
        return replace(self, strata=left)

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """Draw n configurations from the grid, spread evenly (a Latin hypercube).

        Returns:
            (n, d) coordinates, NaN where inactive.
        """
        weights = np.array([stratum.weight for stratum in self.strata])
        owner = _invert(weights, _spread(n, rng))
        drawn = np.empty((n, len(self.dimensions)))
        for j, dimension in enumerate(self.dimensions):
            u = _spread(n, rng)
            points = np.append(dimension.grid, np.nan)
            for s, stratum in enumerate(self.strata):
                rows = owner == s
                drawn[rows, j] = points[_invert(stratum.measures[j], u[rows])]
        return drawn


def _spread(n: int, rng: np.random.Generator) -> Floats:
    """Uniform numbers, one in each n-th of [0, 1), in random order."""
    return np.asarray((rng.permutation(n) + rng.random(n)) / n)


def _invert(probabilities: Floats, u: Floats) -> Ints:
    cumulative = np.cumsum(probabilities)
    index = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    return np.asarray(np.minimum(index, np.flatnonzero(probabilities)[-1]))


def dimension_of(name: str, domain: Domain) -> Dimension:
    """Lay a grid over a domain: all its values if they are few, else points at even distances."""
    k = domain.n_values
    if (k is not None and k <= GRID_POINTS) or domain.n_choices:
        values = domain.all_values()
        grid = np.array([domain.encode(value) for value in values])
        # Each value lies at the centre of its cell, so the cells follow from the first edge, 0.
        edges = [0.0]
        for centre in grid:
            edges.append(2.0 * centre - edges[-1])
        sizes = np.maximum(np.diff(edges), 1e-12)
    else:
        grid = (np.arange(GRID_POINTS) + 0.5) / GRID_POINTS
        values = [domain.decode(float(x)) for x in grid]
        sizes = np.full(GRID_POINTS, 1.0 / GRID_POINTS)
    return Dimension(name, grid, sizes / sizes.sum(), tuple(values), domain.n_choices > 0)


def of_space(space: SearchSpace) -> Population | None:
    """Cut a search space into strata.

    Conditions on a continuum are read at its grid points.

    Returns:
        None if there are more than `MAX_COMBINATIONS` combinations of what conditions and forbidden
        combinations tell apart.
    """
    plan = Plan(space.declaration)
    by_name = {p.name: p.domain for p in space.declaration.parameters}
    dimensions = tuple(dimension_of(name, by_name[name]) for name in space.names)
    in_conditions = [c for c in plan.conditions if c is not None]
    terms = [term for condition in in_conditions for all_of in condition for term in all_of]
    clauses = [term for all_of in plan.forbidden for term in all_of]
    classes = [_classes(dim, [*terms, *clauses], by_name[dim.name]) for dim in dimensions]
    if np.prod([float(c.max() + 1) for c in classes], initial=1.0) > MAX_COMBINATIONS:
        return None
    named = {term.name for term in (*terms, *clauses)}
    return Population(
        dimensions=dimensions,
        strata=_strata(space, plan, dimensions, classes),
        parents=tuple(j for j, dim in enumerate(dimensions) if dim.name in named),
        space=space,
    )


def _classes(dimension: Dimension, terms: Sequence[Term], domain: Domain) -> Ints:
    """(g,) number of the class of each value: values that no term tells apart share one."""
    tests = [term.predicate(domain) for term in terms if term.name == dimension.name]
    answers = [tuple(test(value) for test in tests) for value in dimension.values]
    number: dict[tuple[bool, ...], int] = {}
    return np.array([number.setdefault(answer, len(number)) for answer in answers])


def _strata(
    space: SearchSpace, plan: Plan, dimensions: Sequence[Dimension], classes: Sequence[Ints]
) -> tuple[Stratum, ...]:
    domains = [p.domain for p in space.declaration.parameters]
    slot_of = {p.name: slot for slot, p in enumerate(space.declaration.parameters)}
    column_of = {slot_of[name]: j for j, name in enumerate(space.names)}
    weights: dict[tuple[int, ...], float] = {}
    for combination in itertools.product(*(range(int(c.max()) + 1) for c in classes)):
        values: list[Any] = [INACTIVE] * len(domains)
        key = [-1] * len(dimensions)  # class of each parameter, -1: inactive
        for slot in plan.order:
            if not plan.is_active(slot, values):
                continue
            if slot in column_of:
                j = column_of[slot]
                key[j] = combination[j]
                first = int(np.argmax(classes[j] == combination[j]))
                values[slot] = dimensions[j].values[first]
            elif isinstance(domains[slot], Constant):
                values[slot] = domains[slot].start
        if plan.broken_clause(values) is None:
            share = np.prod(
                [
                    dim.sizes[own == c].sum()
                    for dim, own, c in zip(dimensions, classes, combination, strict=True)
                ]
            )
            weights[tuple(key)] = weights.get(tuple(key), 0.0) + float(share)
    total = sum(weights.values())
    return tuple(
        Stratum(weight / total, _measures(dimensions, classes, key))
        for key, weight in weights.items()
    )


def _measures(
    dimensions: Sequence[Dimension], classes: Sequence[Ints], key: Sequence[int]
) -> tuple[Floats, ...]:
    return tuple(
        measure(dim, None if c < 0 else own == c)
        for dim, own, c in zip(dimensions, classes, key, strict=True)
    )


def measure(dimension: Dimension, allowed: Any) -> Floats:
    """(g + 1,) probabilities of the points, where only some are allowed; None: inactive."""
    made = np.zeros(len(dimension) + 1)
    if allowed is None:
        made[-1] = 1.0
    else:
        made[:-1] = np.where(allowed, dimension.sizes, 0.0)
        made /= made.sum()
    return made
