"""Synthetic tasks of power-law learning curves over a landscape with a known optimum.

Notation: u is a configuration in the unit cube, (d,) or (n, d), NaN where a parameter is inactive;
r is the epoch from 1 and R the last one; g(u) is the badness, h(u) = g / (1 + g) in [0, 1). The
curve of u is a power law that ends exactly at its final value::

    final(u)    = BEST + (CHANCE - BEST) h(u)
    value(u, r) = a(u) + b(u) r^-c(u),   a(u) = final(u) - b(u) R^-c(u),   b, c > 0

It falls to its last epoch, so nothing is ever below BEST, and the optimum (g = 0) attains it there.
`Landscape` says what g, b, c and the durations are, `PowerLawTask` makes a task of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import SpecError
from raytune_ahu.seeding import generator
from raytune_ahu.simulation.chance import configuration_generator
from raytune_ahu.simulation.tasks import Curve, Evaluator
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Configuration, Mode

BEST = 0.05
"""Final value of the optimum."""
CHANCE = 0.9
"""What the final value of ever worse configurations tends to."""
_DRAWS = 4000  # configurations that typical value and median duration are estimated from

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Landscape:
    """What a power-law task learns where. The functions take (n, d) points u."""

    space: SearchSpace
    """What is searched."""
    optimum: Configuration
    """The best configuration, for which g is 0."""
    badness: Callable[[Array], Array]
    """(n,) g(u), at least 0."""
    shape: Callable[[Array, Array], tuple[Array, Array]]
    """(n,) b and (n,) c, both positive, given u and (n,) h(u)."""
    epoch_s: Callable[[Array], Array]
    """(n,) virtual seconds of an epoch."""
    noise: float = 0.0
    """Standard deviation of the noise of each epoch, as a share of typical - best value."""


class PowerLawTask:
    """A task with power-law curves over a landscape (see the module); smaller is better.

    With noise, independent normal numbers are added to each epoch's value. They belong to seed and
    configuration: the same configuration always reports the same values. Best and typical value
    are meant without noise, so that reports, and an incumbent of luck, may lie below the best one;
    `final_value` tells what a configuration is really worth (see `final_regret`).

    Args:
        name: Name for tables and plots.
        landscape: What is learned where.
        seed: Decides the noise, and the draws for the typical value; at least 0.
        max_resource: R, at least 2.

    Raises:
        SpecError: If `max_resource` is out of its range.
    """

    mode: Mode = "min"

    def __init__(
        self, name: str, landscape: Landscape, *, seed: int = 0, max_resource: int = 51
    ) -> None:
        if max_resource < 2:
            raise SpecError(f"max_resource={max_resource} must be at least 2 epochs")
        self.name, self.space, self.max_resource = name, landscape.space, max_resource
        self.landscape, self.seed = landscape, seed

    @property
    def best_value(self) -> float:
        """`BEST`: the value of `optimum` after the last epoch, without noise."""
        return BEST

    @property
    def optimum(self) -> Configuration:
        """The configuration that attains the best value."""
        return self.landscape.optimum

    @property
    def typical_value(self) -> float:
        """Median final value, without noise, of 4,000 seeded random configurations."""
        return self._medians[0]

    @property
    def median_epoch_s(self) -> float:
        """Median duration of an epoch of 4,000 seeded random configurations, in virtual seconds."""
        return self._medians[1]

    @cached_property
    def _medians(self) -> tuple[float, float]:
        rng = generator(self.seed, "synthetic", self.name, "draws")
        u = self.space.encode_many(self.space.sample(rng) for _ in range(_DRAWS))
        epoch_s = self.landscape.epoch_s(u)
        return float(np.median(self.final_values(u))), float(np.median(epoch_s))

    def final_value(self, configuration: Configuration) -> float:
        """Value of a configuration after the last epoch, without noise."""
        return float(self.final_values(self.space.encode(configuration)[None])[0])

    def final_values(self, u: Array) -> Array:
        """Values after the last epoch, without noise: (n, d) points of the unit cube to (n,)."""
        return BEST + (CHANCE - BEST) * self._h(u)

    def clean_values(self, u: Array) -> Array:
        """Curves without noise: (n, d) points of the unit cube to (n, max_resource)."""
        b, c = self.landscape.shape(u, self._h(u))
        r = np.arange(1.0, self.max_resource + 1.0)
        fall = r ** -c[:, None] - self.max_resource ** -c[:, None]
        fall[:, -1] = 0.0  # exactly
        return np.asarray(self.final_values(u)[:, None] + b[:, None] * fall, np.float64)

    def evaluator(self) -> Evaluator:
        """Make an evaluator; the same configuration always has the same curve."""
        return self._evaluate

    def _evaluate(self, configuration: Configuration) -> Curve:
        u = self.space.encode(configuration)[None]
        values = self.clean_values(u)[0]
        if self.landscape.noise:
            rng = configuration_generator(self.seed, f"noise of {self.name}", configuration)
            sd = self.landscape.noise * (self.typical_value - self.best_value)
            values = values + sd * rng.standard_normal(self.max_resource)
        return Curve(values=values, epoch_s=float(self.landscape.epoch_s(u)[0]))

    def _h(self, u: Array) -> Array:
        g = self.landscape.badness(u)
        return g / (1.0 + g)
