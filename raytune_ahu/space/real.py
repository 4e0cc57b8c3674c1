"""`Real`: a continuum of floats, uniform or uniform in the logarithm.

Its values carry about 12 significant digits, so that encoding and decoding them again returns the
same float. Here are also the checks that all numeric domains share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.domain import Domain

_DIGITS = 12


def is_number(value: Any) -> bool:
    """Whether the value is a number, of Python or numpy, and not a bool."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def default_entry(default: float | None) -> dict[str, Any]:
    """The field of an entry that declares a default, if there is one."""
    return {} if default is None else {"default": default}


def check_bounds(lower: float, upper: float, log: bool) -> None:
    """Refuse bounds that are not finite, not in order, or not positive where they must be."""
    if not (math.isfinite(lower) and math.isfinite(upper)):
        raise SpaceError(f"bounds [{lower}, {upper}] must be finite numbers")
    if lower >= upper:
        raise SpaceError(
            f"lower={lower} must be below upper={upper}; swap them, or declare a constant"
        )
    if log and lower <= 0:
        raise SpaceError(
            f"lower={lower} must be above 0 on a logarithmic scale; raise it, or drop the log"
        )


@dataclass(frozen=True)
class Real(Domain):
    """Floats in [lower, upper]: uniform, or uniform in the logarithm."""

    lower: float
    upper: float
    log: bool = False
    default: float | None = None

    def __post_init__(self) -> None:
        check_bounds(self.lower, self.upper, self.log)
        if not (math.isfinite(self._span) and self._span > 0):
            wrong = "wide" if self._span > 0 else "narrow"
            raise SpaceError(
                f"range [{self.lower}, {self.upper}] is too {wrong} for floats; change a bound"
            )

    @property
    def kind(self) -> str:
        """Name of the domain in files."""
        return "loguniform" if self.log else "uniform"

    @property
    def allowed(self) -> str:
        """The legal values in words."""
        return f"a number in {self.shown}"

    @property
    def shown(self) -> str:
        """The legal values in short."""
        return f"[{self.lower}, {self.upper}]"

    def contains(self, value: Any) -> bool:
        """Whether the value is legal."""
        return is_number(value) and self.lower <= value <= self.upper

    @cached_property
    def _offset(self) -> float:
        return math.log(self.lower) if self.log else self.lower

    @cached_property
    def _span(self) -> float:
        if self.log:
            return math.log(self.upper) - math.log(self.lower)
        return self.upper - self.lower

    @cached_property
    def _decimals(self) -> int:
        """Decimal places that are kept; on a logarithmic scale, significant digits."""
        if self.log:
            largest = max(abs(math.log(self.lower)), abs(math.log(self.upper)))
            return _DIGITS if largest < 100 else _DIGITS - 1
        # The grid must be coarser than what the rounding errors of the linear map can blur.
        largest = max(abs(self.lower), abs(self.upper))
        resolution = max(self._span * 10.0**-_DIGITS, 16 * math.ulp(largest))
        return math.floor(-math.log10(resolution))

    def encode(self, value: Any) -> float:
        """Coordinate of a legal value."""
        if value <= self.lower:
            return 0.0
        if value >= self.upper:
            return 1.0
        position = math.log(value) if self.log else float(value)
        return min(max((position - self._offset) / self._span, 0.0), 1.0)

    def decode(self, x: float) -> float:
        """Legal value nearest to a coordinate."""
        # The ends are returned as declared, whatever their digits.
        if x <= 0.0:
            return self.lower
        if x >= 1.0:
            return self.upper
        position = self._offset + float(x) * self._span  # numpy's floats are not for checkpoints
        if self.log:
            value = float(f"{math.exp(position):.{self._decimals}g}")
        else:
            value = round(position, self._decimals)
        return min(max(value, self.lower), self.upper)

    @property
    def start(self) -> float:
        """Declared default, or the middle of the coordinate."""
        return self.decode(0.5) if self.default is None else self.default

    def entry(self) -> dict[str, Any]:
        """The declaration as it stands in a file."""
        entry = {"domain": self.kind, "lower": self.lower, "upper": self.upper}
        return entry | default_entry(self.default)
