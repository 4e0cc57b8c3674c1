"""`SearchSpace`: named domains with conditions and forbidden combinations. Start here.

Its two operations are `sample` (a random configuration) and the pair `encode`, `decode` (between a
configuration and a point of the unit cube, in which models work).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.conditions import describe
from raytune_ahu.space.declaration import Declaration, parse_declaration
from raytune_ahu.space.discrete import Constant
from raytune_ahu.space.nested import SEPARATOR, flatten, unflatten
from raytune_ahu.space.plan import INACTIVE, Plan
from raytune_ahu.types import Configuration

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_REJECTIONS = 10_000
_MISSING = object()


class SearchSpace:
    """Named domains, conditions and forbidden combinations.

    Symbols: d is the number of columns, one for each parameter that can vary. Constants are part of
    every configuration but have no column, and neither has a parameter that constants rule out. A
    `grid_search` parameter has one, as a category.

    Coordinates lie in [0, 1]: linear in the value or in its logarithm; for finite domains the
    centre of the value's cell; NaN where the parameter is inactive. Floats carry about 12
    significant digits (of their range, or on a logarithmic scale of themselves): those that `sample`
    and `decode` return, and any other with no more digits, come back exactly from
    `decode(encode(c))`.

    Args:
        declaration: What the user declared; see `from_dict`, `from_file`, `from_configspace`.

    Raises:
        SpaceError: If conditions are circular, nothing is left to search, or practically everything
            is forbidden.
    """

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        """What the user declared."""
        self._plan = Plan(declaration)
        parameters = declaration.parameters
        self._all_names = tuple(p.name for p in parameters)
        self._name_set = frozenset(self._all_names)
        self._is_nested = any(SEPARATOR in name for name in self._all_names)
        self._domains = [p.domain for p in parameters]
        self._columns = [
            slot
            for slot, domain in enumerate(self._domains)
            if not isinstance(domain, Constant) and not self._plan.never_active(slot)
        ]
        self._column_of = {slot: column for column, slot in enumerate(self._columns)}
        self._steps = [
            (slot, self._domains[slot], self._column_of.get(slot, -1)) for slot in self._plan.order
        ]
        self.names: tuple[str, ...] = tuple(self._all_names[slot] for slot in self._columns)
        """Flat names of the columns, in the order of the declaration."""
        self.n_choices: NDArray[np.int64] = np.array(
            [self._domains[slot].n_choices for slot in self._columns], dtype=np.int64
        )
        """[d] Number of categories of each column; 0 where the values have an order."""
        self._default = self._legal_default()

    # Building and writing -----------------------------------------------------------------------

    @classmethod
    def from_dict(cls, declaration: Mapping[str, Any]) -> SearchSpace:
        """Build a space from the declarative form (see `raytune_ahu.space.declaration`)."""
        return cls(parse_declaration(declaration))

    def to_dict(self) -> dict[str, Any]:
        """Write the declaration as JSON-ready data; `from_dict` is the inverse."""
        return self.declaration.to_dict()

    def digest(self) -> str:
        """Hash of the declaration (16 hex digits), the same in every process."""
        text = json.dumps(self.to_dict(), sort_keys=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    # Configurations -----------------------------------------------------------------------------

    @property
    def grid_search_names(self) -> tuple[str, ...]:
        """Flat names of the parameters that only a grid search may set."""
        return tuple(
            n for n, s in zip(self.names, self._columns, strict=True) if self._grid_only(s)
        )

    def _grid_only(self, slot: int) -> bool:
        return self._domains[slot].grid_only

    def sample(self, rng: np.random.Generator) -> Configuration:
        """Draw a configuration at random; forbidden combinations are drawn again.

        Args:
            rng: Source of all randomness; each attempt takes d uniform numbers from it.

        Raises:
            SpaceError: If a parameter is declared with `grid_search`, or practically everything is
                forbidden.
        """
        if self.grid_search_names:
            raise SpaceError(
                f"parameter {self.grid_search_names[0]!r} is declared as grid_search and cannot be "
                "drawn at random; use the grid search, or declare a choice"
            )
        return self._nest(self._draw(rng))

    def _draw(self, rng: np.random.Generator) -> list[Any]:
        for _ in range(_MAX_REJECTIONS):
            values = self._fill(rng.random(len(self.names)).tolist(), draw=True)
            if self._plan.broken_clause(values) is None:
                return values
        raise SpaceError(
            f"{_MAX_REJECTIONS} random configurations were all forbidden; relax the forbidden "
            "combinations, or narrow the domains to what is allowed"
        )

    def _fill(self, numbers: Sequence[float], *, draw: bool) -> list[Any]:
        """Values by slot, from one quantile (draw) or one coordinate per column."""
        values: list[Any] = [INACTIVE] * len(self._domains)
        for slot, domain, column in self._steps:
            if not self._plan.is_active(slot, values):
                continue
            if column < 0:
                values[slot] = domain.start
            elif draw:
                values[slot] = domain.draw(numbers[column])
            else:
                number = numbers[column]
                if math.isnan(number):
                    raise SpaceError(
                        f"column {self.names[column]!r} is NaN but the parameter is active; its "
                        "coordinate must be in [0, 1]"
                    )
                values[slot] = domain.decode(min(max(number, 0.0), 1.0))
        return values

    def _nest(self, values: Sequence[Any]) -> Configuration:
        pairs = zip(self._all_names, values, strict=True)
        flat = {name: value for name, value in pairs if value is not INACTIVE}
        return unflatten(flat) if self._is_nested else flat

    def contains(self, configuration: Mapping[str, Any]) -> bool:
        """Whether `validate` accepts the configuration."""
        try:
            self.validate(configuration)
        except SpaceError:
            return False
        return True

    def validate(self, configuration: Mapping[str, Any]) -> None:
        """Check the values, which parameters are there, and the forbidden combinations.

        Raises:
            SpaceError: If the configuration is not legal; the message names the parameter.
        """
        clause = self._plan.broken_clause(self._read(configuration))
        if clause is not None:
            raise SpaceError(
                f"the combination {describe((clause,))} is forbidden; change one of its values"
            )

    def _read(self, configuration: Mapping[str, Any]) -> list[Any]:
        """Values by slot; raises for values that are illegal, missing, or there though inactive."""
        flat = flatten(configuration, self._name_set) if self._is_nested else configuration
        values: list[Any] = [INACTIVE] * len(self._domains)
        found = 0
        for slot, domain, _ in self._steps:
            value = flat.get(self._all_names[slot], _MISSING)
            active = self._plan.is_active(slot, values)
            if value is _MISSING:
                if active:
                    raise SpaceError(self._missing(slot))
                continue
            found += 1
            if not active:
                raise SpaceError(self._superfluous(slot, value))
            if not domain.contains(value):
                name = self._all_names[slot]
                raise SpaceError(f"parameter {name!r}: value {value!r} must be {domain.allowed}")
            values[slot] = value
        if found != len(flat):
            unknown = next(name for name in flat if name not in self._name_set)
            raise SpaceError(
                f"unknown parameter {unknown!r}; the space has {', '.join(self._all_names)}"
            )
        return values

    def _missing(self, slot: int) -> str:
        name, allowed = self._all_names[slot], self._domains[slot].allowed
        return f"parameter {name!r} is missing; it must be {allowed}"

    def _superfluous(self, slot: int, value: Any) -> str:
        condition = self.declaration.parameters[slot].condition or ()
        return (
            f"parameter {self._all_names[slot]!r}: value {value!r} is given, but it is active only "
            f"when {describe(condition)}; leave it out"
        )

    # The unit cube ------------------------------------------------------------------------------

    def encode(self, configuration: Mapping[str, Any]) -> NDArray[np.float64]:
        """Coordinates of a configuration.

        Forbidden combinations are encoded like others; `validate` tells them.

        Returns:
            [d] Coordinates in [0, 1], NaN where the parameter is inactive.

        Raises:
            SpaceError: If a value is illegal, missing, or there though inactive.
        """
        return np.array(self._coordinates(configuration), dtype=np.float64)

    def _coordinates(self, configuration: Mapping[str, Any]) -> list[float]:
        values = self._read(configuration)
        domains = self._domains
        return [
            math.nan if values[slot] is INACTIVE else domains[slot].encode(values[slot])
            for slot in self._columns
        ]

    def encode_many(self, configurations: Iterable[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Coordinates of n configurations: [n, d]."""
        rows = [self._coordinates(configuration) for configuration in configurations]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))

    def decode(self, vector: NDArray[np.float64] | Sequence[float]) -> Configuration:
        """Configuration at the legal point nearest to a vector.

        Coordinates outside [0, 1] are moved to the nearer end, and those of parameters that are
        inactive under the decoded parents are ignored.

        Args:
            vector: [d] Coordinates.

        Raises:
            SpaceError: If the shape is wrong, the coordinate of an active parameter is NaN, or the
                combination is forbidden.
        """
        values = self._fill(self._numbers(vector), draw=False)
        clause = self._plan.broken_clause(values)
        if clause is not None:
            raise SpaceError(f"the vector decodes to the forbidden {describe((clause,))}")
        return self._nest(values)

    def try_decode(self, vector: NDArray[np.float64] | Sequence[float]) -> Configuration | None:
        """As `decode`, but None where the combination is forbidden."""
        values = self._fill(self._numbers(vector), draw=False)
        return None if self._plan.broken_clause(values) is not None else self._nest(values)

    def repair(self, vector: NDArray[np.float64] | Sequence[float]) -> NDArray[np.float64]:
        """Move a vector to the legal point nearest to it: cell centres, and NaN where inactive.

        Equal to `encode(decode(vector))`, but forbidden combinations pass.
        """
        values = self._fill(self._numbers(vector), draw=False)
        coordinates = [
            math.nan if values[slot] is INACTIVE else self._domains[slot].encode(values[slot])
            for slot in self._columns
        ]
        return np.array(coordinates, dtype=np.float64)

    def _numbers(self, vector: NDArray[np.float64] | Sequence[float]) -> list[float]:
        numbers: list[float] = np.asarray(vector, dtype=np.float64).tolist()
        if not isinstance(numbers, list) or len(numbers) != len(self.names):
            shape = np.shape(vector)
            raise SpaceError(f"vector of shape {shape} must have shape ({len(self.names)},)")
        return numbers

    # Defaults -----------------------------------------------------------------------------------

    def default_configuration(self) -> Configuration:
        """The declared defaults, else the middle of each domain (its first choice).

        Where that is forbidden, the active values are those of a fixed legal configuration.
        """
        return self._nest(self._default)

    @cached_property
    def defaults(self) -> NDArray[np.float64]:
        """[d] Coordinates of each parameter's own default, inactive ones too: never NaN."""
        rows = [self._domains[slot].encode(self._domains[slot].start) for slot in self._columns]
        return np.array(rows, dtype=np.float64)

    def _legal_default(self) -> list[Any]:
        starts = [math.nan] * len(self.names)
        for column, slot in enumerate(self._columns):
            starts[column] = self._domains[slot].encode(self._domains[slot].start)
        values = self._fill(starts, draw=False)
        if self._plan.broken_clause(values) is None:
            return values
        return self._draw(np.random.default_rng(0))

    # Python's own -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SearchSpace):
            return NotImplemented
        return json.dumps(self.to_dict()) == json.dumps(other.to_dict())

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"SearchSpace({', '.join(self._all_names)})"
