"""Hyperparameters as frozen dataclasses: every value is checked, every default is documented.

A dataclass declares its fields with `number`, `whole`, `switch` and `choice`; `parse` fills it from
a configuration. What is unknown or out of range is refused by name, never guessed. Parameters that
have no effect in a configuration (the momentum of Adam) are accepted and ignored.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

from raytune_ahu.errors import AhuError, SpaceError

T = TypeVar("T")


@dataclass(frozen=True)
class Domain:
    """The values that a field may take."""

    kind: type
    """float, int, bool or str."""
    low: float = -math.inf
    """Smallest value (numbers)."""
    high: float = math.inf
    """Largest value (numbers)."""
    options: tuple[object, ...] = ()
    """All values, where they can be listed."""
    optional: bool = False
    """Whether None is a value too."""

    def describe(self) -> str:
        """Say in words what is allowed."""
        if self.options:
            text = "one of " + ", ".join(str(option) for option in self.options)
        elif self.kind is bool:
            text = "true or false"
        elif self.kind is str:
            text = "a text"
        else:
            name = "a whole number" if self.kind is int else "a number"
            text = f"{name} in [{self.low:g}, {self.high:g}]"
        return f"{text}, or null" if self.optional else text

    def check(self, name: str, value: object, error: type[AhuError]) -> Any:
        """Return the value as the field's type.

        Raises:
            AhuError: Of the class `error`, if the value is not allowed.
        """
        if value is None and self.optional:
            return None
        if isinstance(value, bool) or self.kind in (bool, str):
            allowed = isinstance(value, self.kind)
        elif self.kind is int:
            allowed = isinstance(value, int) and self.low <= value <= self.high
        else:
            allowed = isinstance(value, int | float) and self.low <= value <= self.high
        if not allowed or (self.options and value not in self.options):
            raise error(f"{name}={value!r} must be {self.describe()}")
        return self.kind(value)


def number(default: float | None, low: float, high: float, *, optional: bool = False) -> Any:
    """Declare a field that takes floats in [low, high]."""
    return field(default=default, metadata={"domain": Domain(float, low, high, optional=optional)})


def whole(
    default: int | None, low: int, high: int, options: Sequence[int] = (), *, optional: bool = False
) -> Any:
    """Declare a field that takes whole numbers in [low, high], or only those of `options`."""
    domain = Domain(int, low, high, tuple(options), optional)
    return field(default=default, metadata={"domain": domain})


def choice(default: str, options: Sequence[str]) -> Any:
    """Declare a field that takes one of some names."""
    return field(default=default, metadata={"domain": Domain(str, options=tuple(options))})


def switch(default: bool | None, *, optional: bool = False) -> Any:
    """Declare a field that takes true or false."""
    return field(default=default, metadata={"domain": Domain(bool, optional=optional)})


def text(default: str | None, *, optional: bool = False) -> Any:
    """Declare a field that takes any text."""
    return field(default=default, metadata={"domain": Domain(str, optional=optional)})


def parse(
    cls: type[T],
    values: Mapping[str, object],
    *,
    what: str = "hyperparameter",
    error: type[AhuError] = SpaceError,
) -> T:
    """Fill a dataclass declared with the functions above.

    Args:
        cls: The dataclass.
        values: Names and values; what is left out takes its default.
        what: What the fields are, for messages.
        error: Class of the errors raised.

    Raises:
        AhuError: Of the class `error`: a name is unknown, or a value is not allowed.
    """
    known: dict[str, Field[Any]] = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]  # T is a dataclass
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise error(f"{what} {name!r} is unknown; known are {', '.join(known)}{hint}")
    checked = {
        name: known[name].metadata["domain"].check(name, value, error)
        for name, value in values.items()
    }
    return cls(**checked)
