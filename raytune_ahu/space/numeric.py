"""Numeric domains: `Real` (a continuum), `Steps` (integers and multiples of q), `Normal`.

Coordinates are linear in the value, or in its logarithm. A finite domain cuts [0, 1] into one cell
per value and puts each value at the centre of its cell. Real values carry about 12 significant
digits, so that encoding and decoding them again returns the same float.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.domain import Domain

_DIGITS = 12
_MAX_STEPS = 2**50
_MAX_LOG_STEP = 10**12
_STANDARD = NormalDist()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _default_entry(default: float | None) -> dict[str, Any]:
    return {} if default is None else {"default": default}


def _check_bounds(lower: float, upper: float, log: bool) -> None:
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
        _check_bounds(self.lower, self.upper, self.log)
        if not math.isfinite(self.upper - self.lower):
            raise SpaceError(f"range [{self.lower}, {self.upper}] is too wide for a float")

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
        return _is_number(value) and self.lower <= value <= self.upper

    @cached_property
    def _offset(self) -> float:
        return math.log(self.lower) if self.log else self.lower

    @cached_property
    def _span(self) -> float:
        return math.log(self.upper / self.lower) if self.log else self.upper - self.lower

    @cached_property
    def _decimals(self) -> int:
        # The grid must be coarser than what the rounding errors of the linear map can blur.
        largest = max(abs(self.lower), abs(self.upper))
        resolution = max(self._span * 10.0**-_DIGITS, 16 * math.ulp(largest))
        return math.floor(-math.log10(resolution))

    def encode(self, value: Any) -> float:
        """Coordinate of a legal value."""
        position = math.log(value) if self.log else float(value)
        return min(max((position - self._offset) / self._span, 0.0), 1.0)

    def decode(self, x: float) -> float:
        """Legal value nearest to a coordinate."""
        # The ends are returned as declared, whatever their digits.
        if x <= 0.0:
            return self.lower
        if x >= 1.0:
            return self.upper
        position = self._offset + x * self._span
        if self.log:
            value = float(f"{math.exp(position):.{_DIGITS}g}")
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
        return entry | _default_entry(self.default)


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
        _check_bounds(self.lower, self.upper, self.log)
        if self.q is not None:
            self._check_q(self.q)
        if self.n_values > _MAX_STEPS or (self.log and self._last > _MAX_LOG_STEP):
            raise SpaceError(
                f"range [{self.lower}, {self.upper}] holds too many values; use a continuous domain"
            )

    def _check_q(self, q: float) -> None:
        if not (math.isfinite(q) and q > 0):
            raise SpaceError(f"q={q} must be a finite number above 0")
        if q > self.upper - self.lower:
            raise SpaceError(
                f"q={q} must be at most the range upper - lower = {self.upper - self.lower}; "
                "lower q, or widen the range"
            )
        if not self.integer:
            for field, bound in (("lower", self.lower), ("upper", self.upper)):
                if abs(bound / q - round(bound / q)) > 1e-9 * max(1.0, abs(bound / q)):
                    raise SpaceError(
                        f"{field}={bound} must be a multiple of q={q}; use "
                        f"{self._value(math.floor(bound / q))} or "
                        f"{self._value(math.ceil(bound / q))}"
                    )
        if self._last <= self._first:
            raise SpaceError(
                f"[{self.lower}, {self.upper}] must hold at least two multiples of q={q}; "
                "lower q, or declare a constant"
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

    def contains(self, value: Any) -> bool:
        """Whether the value is legal."""
        if self.integer:
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                return False
            if int(value) % int(self.step):
                return False
        elif not _is_number(value) or not math.isfinite(value):
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
        return entry | _default_entry(self.default)


@dataclass(frozen=True)
class Normal(Domain):
    """A normal distribution cut off at both bounds; with q, rounded to multiples of it.

    The coordinate is linear in the value (as in ConfigSpace), not the quantile: a quantile could
    not tell values in the tails apart. With q each multiple has the weight that rounding an
    unbounded normal draw gives it.
    """

    mean: float
    sd: float
    lower: float
    upper: float
    q: float | None = None
    default: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise SpaceError(f"mean={self.mean} must be a finite number")
        if not (math.isfinite(self.sd) and self.sd > 0):
            raise SpaceError(f"sd={self.sd} must be a finite number above 0")
        _check_bounds(self.lower, self.upper, log=False)
        self.scale.n_values  # noqa: B018  (builds the scale, which checks q)
        low, high = self._quantiles
        if not high > low:
            raise SpaceError(
                f"[{self.lower}, {self.upper}] must hold some of the normal distribution with "
                f"mean={self.mean}, sd={self.sd}; move the bounds nearer to the mean"
            )

    @property
    def kind(self) -> str:
        """Name of the domain in files."""
        return "randn" if self.q is None else "qrandn"

    @cached_property
    def scale(self) -> Real | Steps:
        """The flat domain with the same values."""
        if self.q is None:
            return Real(self.lower, self.upper)
        return Steps(self.lower, self.upper, q=self.q, integer=False)

    @property
    def allowed(self) -> str:
        """The legal values in words."""
        return self.scale.allowed

    @property
    def shown(self) -> str:
        """The legal values in short."""
        return f"{self.mean} +- {self.sd} in {self.scale.shown}"

    @property
    def n_values(self) -> int | None:
        """Number of legal values."""
        return self.scale.n_values

    @cached_property
    def _mirrored(self) -> bool:
        # Quantiles are precise in the lower tail only; the upper one is turned round.
        return self.lower > self.mean

    @cached_property
    def _quantiles(self) -> tuple[float, float]:
        margin = 0.0 if self.q is None else self.q / 2
        low = (self.lower - margin - self.mean) / self.sd
        high = (self.upper + margin - self.mean) / self.sd
        if self._mirrored:
            low, high = -high, -low
        return _STANDARD.cdf(low), _STANDARD.cdf(high)

    def contains(self, value: Any) -> bool:
        """Whether the value is legal."""
        return self.scale.contains(value)

    def encode(self, value: Any) -> float:
        """Coordinate of a legal value."""
        return self.scale.encode(value)

    def decode(self, x: float) -> float:
        """Legal value nearest to a coordinate."""
        return self.scale.decode(x)

    def draw(self, u: float) -> float:
        """Value at a quantile."""
        low, high = self._quantiles
        p = low + (1.0 - u if self._mirrored else u) * (high - low)
        if not 0.0 < p < 1.0:
            return self.scale.decode(u)
        z = _STANDARD.inv_cdf(p)
        value = self.mean + self.sd * (-z if self._mirrored else z)
        scale = self.scale
        if isinstance(scale, Steps):
            k = min(max(round(value / scale.step), scale.first), scale.last)
            return scale.value(k)
        return scale.decode(scale.encode(min(max(value, self.lower), self.upper)))

    def entry(self) -> dict[str, Any]:
        """The declaration as it stands in a file."""
        entry: dict[str, Any] = {"domain": self.kind, "mean": self.mean, "sd": self.sd}
        entry |= {"lower": self.lower, "upper": self.upper}
        if self.q is not None:
            entry["q"] = self.q
        return entry | _default_entry(self.default)

    @property
    def start(self) -> float:
        """Declared default, or the legal value nearest to the mean."""
        if self.default is not None:
            return self.default
        return self.scale.decode(self.scale.encode(min(max(self.mean, self.lower), self.upper)))
