"""Range checks of searcher options; each raises a `SpecError` with value, range and fix."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from numbers import Integral, Real

from raytune_ahu.errors import SpecError


def check_number(name: str, value: object, *, low: float, high: float) -> float:
    """Return `value` as a float if it is a number in [low, high]."""
    number = _as_number(value)
    if number is None or not low <= number <= high:
        raise SpecError(f"{name}={value!r} must be a number in [{low:g}, {high:g}]")
    return number


def check_fraction(name: str, value: object, *, open_ends: bool = False) -> float:
    """Return `value` as a float if it is in [0, 1], or in (0, 1) with `open_ends`."""
    number = _as_number(value)
    if number is None or not 0 <= number <= 1 or (open_ends and number in (0.0, 1.0)):
        ends = "strictly between 0 and 1" if open_ends else "in [0, 1]"
        raise SpecError(f"{name}={value!r} must be a number {ends}")
    return number


def check_integer(name: str, value: object, *, low: int) -> int:
    """Return `value` as an int if it is a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < low:
        raise SpecError(f"{name}={value!r} must be a whole number of at least {low}")
    return int(value)


def check_flag(name: str, value: object) -> bool:
    """Return `value` if it is a bool."""
    if not isinstance(value, bool):
        raise SpecError(f"{name}={value!r} must be true or false")
    return value


def check_choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise SpecError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")
    return value


def check_rung_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """Return the levels as a tuple if they are whole numbers >= 1, strictly ascending, not none."""
    checked = tuple(check_integer("rung level", level, low=1) for level in levels)
    if not checked or any(b <= a for a, b in itertools.pairwise(checked)):
        raise SpecError(
            f"rung_levels={list(levels)!r} must be at least one, strictly ascending; "
            "take the rung_levels of the scheduler"
        )
    return checked


def _as_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return float(value)
