"""`Steps`: integers, or multiples of q, uniform or uniform in the logarithm.

[0, 1] is cut into one cell per value, and each value lies at the centre of its cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.real import check_bounds, default_entry, is_number

_MAX_STEPS = 2**50
_MAX_LOG_STEP = 10**12


def _is_multiple(bound: float, q: float) -> bool:
    return math.isclose(bound / q, round(bound / q), rel_tol=1e-9)


@dataclass(frozen=True)
class Steps(Domain):
    """Integers, or multiples of q, in [lower, upper], both ends included.

    Every multiple is equally likely; on a logarithmic scale the multiple k*q has the weight
    log((k+1)/k), which is what rounding a log-uniform draw down to a multiple gives. (Ray agrees
    for integers; its quantised floats give the two end values half the weight.)
    """

    lower: float
    upper: float
    q: float | None = None
    log: bool = False
    integer: bool = True
    default: float | None = None

    def __post_init__(self) -> None:
        check_bounds(self.lower, self.upper, self.log)
        if self.q is not None:
            self._check_q(self.q)
        too_far = self.log and self.upper / self.step > _MAX_LOG_STEP
        if too_far or (self.upper - self.lower) / self.step > _MAX_STEPS:
            raise SpaceError(
                f"range [{self.lower}, {self.upper}] holds too many values; use a continuous "
                "domain, or a larger q"
            )
        if self._last <= self._first:
            raise SpaceError(
                f"[{self.lower}, {self.upper}] must hold at least two multiples of q={self.q}; "
                "lower q, or declare a constant"
            )

    def _check_q(self, q: float) -> None:
        if not (math.isfinite(q) and q > 0):
            raise SpaceError(f"q={q} must be a finite number above 0")
        if q > self.upper - self.lower:
            raise SpaceError(
                f"q={q} must be at most the range upper - lower = {self.upper - self.lower}; "
                "lower q, or widen the range"
            )
        if max(abs(self.lower), abs(self.upper)) / q > _MAX_STEPS:
            raise SpaceError(f"q={q} is too small for [{self.lower}, {self.upper}]; raise it")
        for field, bound in (("lower", self.lower), ("upper", self.upper)):
            if not self.integer and not _is_multiple(bound, q):
                below, above = math.floor(bound / q), math.ceil(bound / q)
                raise SpaceError(
                    f"{field}={bound} must be a multiple of q={q}; use {self._value(below)} or "
                    f"{self._value(above)}"
                )

    @property
    def kind(self) -> str:
        """Name of the domain in files."""
        stem = "randint" if self.integer else "uniform"
        return ("" if self.q is None else "q") + ("log" if self.log else "") + stem

    @property
    def allowed(self) -> str:
        """The legal values in words."""
        noun = "an integer" if self.integer else "a number"
        text = noun if self.q is None else f"a multiple of {self.q}"
        return f"{text} in [{self.lower}, {self.upper}]"

    @property
    def shown(self) -> str:
        """The legal values in short."""
        step = "" if self.q is None else f" by {self.q}"
        return f"[{self.lower}, {self.upper}]{step}"

    @property
    def n_values(self) -> int:
        """Number of legal values."""
        return self._last - self._first + 1

    @property
    def step(self) -> float:
        """Distance of two neighbouring values."""
        return 1 if self.q is None else self.q

    @cached_property
    def _first(self) -> int:
        return self._index(self.lower, math.ceil)

    @cached_property
    def _last(self) -> int:
        return self._index(self.upper, math.floor)

    def _index(self, bound: float, away: Any) -> int:
        if self.integer:
            # Exact: // on integers knows no rounding error.
            step = int(self.step)
            whole = int(bound)
            return -(-whole // step) if away is math.ceil else whole // step
        return round(bound / self.step)

    @cached_property
    def _decimal_step(self) -> Decimal:
        return Decimal(repr(self.step))

    def _value(self, k: int) -> float:
        # In decimals, so that 3 * 0.1 is 0.3 and not 0.30000000000000004.
        return k * int(self.step) if self.integer else float(self._decimal_step * k)

    def index(self, value: Any) -> int:
        """Which multiple of the step a legal value is."""
        return int(value) // int(self.step) if self.integer else round(value / self.step)

    def value(self, index: int) -> float:
        """The value that is so many steps away from zero; an int if the domain is one."""
        return self._value(index)

    @property
    def first(self) -> int:
        """Index of the smallest value."""
        return self._first

    @property
    def last(self) -> int:
        """Index of the largest value."""
        return self._last

    def all_values(self) -> list[float]:
        """Every multiple in the range."""
        return [self._value(k) for k in range(self._first, self._last + 1)]

    def contains(self, value: Any) -> bool:
        """Whether the value is legal."""
        if self.integer:
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                return False
            if int(value) % int(self.step):
                return False
        elif not is_number(value) or not math.isfinite(value):
            return False
        k = self.index(value)
        if not self._first <= k <= self._last:
            return False
        return self.integer or abs(value - self._value(k)) <= 1e-9 * self.step

    @cached_property
    def _log_span(self) -> float:
        return math.log((self._last + 1) / self._first)

    def encode(self, value: Any) -> float:
        """Coordinate of a legal value."""
        k = self.index(value)
        if self.log:
            first = self._first
            return (math.log(k / first) + math.log((k + 1) / first)) / (2 * self._log_span)
        return (k - self._first + 0.5) / self.n_values

    def decode(self, x: float) -> float:
        """Legal value nearest to a coordinate."""
        if self.log:
            k = math.floor(self._first * math.exp(x * self._log_span))
        else:
            k = self._first + math.floor(x * self.n_values)
        return self._value(min(max(k, self._first), self._last))

    @property
    def start(self) -> float:
        """Declared default, or the middle of the coordinate."""
        return self.decode(0.5) if self.default is None else self.default

    def entry(self) -> dict[str, Any]:
        """The declaration as it stands in a file."""
        entry: dict[str, Any] = {"domain": self.kind, "lower": self.lower, "upper": self.upper}
        if self.q is not None:
            entry["q"] = self.q
        return entry | default_entry(self.default)
