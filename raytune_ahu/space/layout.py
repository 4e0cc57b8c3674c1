"""Between configurations, slots and columns: `Layout` does the work behind `SearchSpace`.

A slot is the place of a parameter in the declaration, a column its place in a vector. Constants,
and parameters that constants rule out, have a slot but no column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.conditions import describe
from raytune_ahu.space.declaration import Declaration
from raytune_ahu.space.discrete import Constant
from raytune_ahu.space.nested import SEPARATOR, flatten, unflatten
from raytune_ahu.space.plan import INACTIVE, Plan
from raytune_ahu.types import Configuration

_MAX_REJECTIONS = 10_000
_MISSING = object()


class Layout:
    """Reads configurations and vectors into values by slot, and writes them back.

    Args:
        declaration: The parameters and forbidden combinations.
    """

    def __init__(self, declaration: Declaration) -> None:
        self.plan = Plan(declaration)
        self.parameters = declaration.parameters
        self.domains = [p.domain for p in self.parameters]
        """Domain of each slot."""
        self.all_names = tuple(p.name for p in self.parameters)
        """Flat name of each slot."""
        self.columns = [
            slot
            for slot, domain in enumerate(self.domains)
            if not isinstance(domain, Constant) and not self.plan.never_active(slot)
        ]
        """Slot of each column."""
        self.names = tuple(self.all_names[slot] for slot in self.columns)
        """Flat name of each column."""
        column_of = {slot: column for column, slot in enumerate(self.columns)}
        order = self.plan.order
        self._steps = [(slot, self.domains[slot], column_of.get(slot, -1)) for slot in order]
        self._draws = [self.domains[slot].draw for slot in self.columns]
        self._name_set = frozenset(self.all_names)
        self._is_nested = any(SEPARATOR in name for name in self.all_names)

    def draw(
        self, rng: np.random.Generator, draws: Sequence[Callable[[float], Any]] | None = None
    ) -> list[Any]:
        """Values by slot at random, not forbidden; each attempt takes d numbers from `rng`.

        Args:
            rng: Source of all randomness.
            draws: By column, what makes a value of a quantile; by default `Domain.draw`.

        Raises:
            SpaceError: If practically everything is forbidden.
        """
        d = len(self.columns)
        draws = self._draws if draws is None else draws
        for _ in range(_MAX_REJECTIONS):
            values = self._fill(rng.random(d).tolist(), draws)
            if self.plan.broken_clause(values) is None:
                return values
        raise SpaceError(
            f"{_MAX_REJECTIONS} random configurations were all forbidden; relax the forbidden "
            "combinations, or narrow the domains to what is allowed"
        )

    def locate(self, vector: Any) -> list[Any]:
        """Values by slot at the point nearest to a vector of d coordinates; maybe forbidden.

        Raises:
            SpaceError: If the shape is wrong, or the coordinate of an active parameter is NaN.
        """
        numbers = np.asarray(vector, dtype=np.float64).tolist()
        if np.shape(vector) != (len(self.columns),):
            raise SpaceError(
                f"vector of shape {np.shape(vector)} must have shape ({len(self.columns)},), one "
                "coordinate per column"
            )
        return self._fill(numbers)

    def _fill(
        self, numbers: Sequence[float], draws: Sequence[Callable[[float], Any]] | None = None
    ) -> list[Any]:
        """Values by slot, from one quantile (with draws) or one coordinate per column."""
        values: list[Any] = [INACTIVE] * len(self.domains)
        is_active = self.plan.is_active
        for slot, domain, column in self._steps:
            if not is_active(slot, values):
                continue
            if column < 0:
                values[slot] = domain.start
            elif draws is not None:
                values[slot] = draws[column](numbers[column])
            else:
                values[slot] = domain.decode(self._coordinate(numbers[column], column))
        return values

    def _coordinate(self, number: float, column: int) -> float:
        if math.isnan(number):
            raise SpaceError(
                f"parameter {self.names[column]!r} is active but its coordinate is NaN; it must "
                "be in [0, 1]"
            )
        return min(max(number, 0.0), 1.0)

    def nest(self, values: Sequence[Any]) -> Configuration:
        """The configuration that holds the active values."""
        pairs = zip(self.all_names, values, strict=True)
        flat = {name: value for name, value in pairs if value is not INACTIVE}
        return unflatten(flat) if self._is_nested else flat

    def restored(self, values: Sequence[Any]) -> list[Any]:
        """Values by slot, of which those that JSON has turned into lists are the domains' own."""
        return [
            domain.decode(domain.encode(value)) if isinstance(value, list) else value
            for domain, value in zip(self.domains, values, strict=True)
        ]

    def coordinates(self, values: Sequence[Any]) -> list[float]:
        """One coordinate per column, NaN where the parameter is inactive."""
        domains = self.domains
        return [
            math.nan if values[slot] is INACTIVE else domains[slot].encode(values[slot])
            for slot in self.columns
        ]

    def read(self, configuration: Mapping[str, Any]) -> list[Any]:
        """Values by slot of a configuration, which may be forbidden.

        Raises:
            SpaceError: If a value is illegal, missing, or there though inactive.
        """
        if not isinstance(configuration, Mapping):
            raise SpaceError(
                f"configuration {configuration!r} must be a mapping of names to values"
            )
        flat = flatten(configuration, self._name_set) if self._is_nested else configuration
        values: list[Any] = [INACTIVE] * len(self.domains)
        found = 0
        for slot, domain, _ in self._steps:
            value = flat.get(self.all_names[slot], _MISSING)
            active = self.plan.is_active(slot, values)
            if value is _MISSING:
                if active:
                    raise SpaceError(self._missing(slot))
                continue
            found += 1
            if not active:
                raise SpaceError(self._superfluous(slot, value))
            if not domain.contains(value):
                name = self.all_names[slot]
                raise SpaceError(f"parameter {name!r}: value {value!r} must be {domain.allowed}")
            values[slot] = value
        if found != len(flat):
            unknown = next(name for name in flat if name not in self._name_set)
            known = ", ".join(self.all_names)
            raise SpaceError(f"unknown parameter {unknown!r}; remove it, known are {known}")
        return values

    def _missing(self, slot: int) -> str:
        allowed = self.domains[slot].allowed
        return f"parameter {self.all_names[slot]!r} is missing; add it, it must be {allowed}"

    def _superfluous(self, slot: int, value: Any) -> str:
        condition = self.parameters[slot].condition or ()
        return (
            f"parameter {self.all_names[slot]!r}: value {value!r} is given, but it is active only "
            f"when {describe(condition)}; leave it out"
        )
