"""`Normal`: a normal distribution between two bounds, continuous or in multiples of q."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.real import Real, check_bounds, default_entry
from raytune_ahu.space.steps import Steps

_STANDARD = NormalDist()


def _tail(z: float) -> float:
    """Distribution function of the standard normal, precise in the lower tail as well."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


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
        check_bounds(self.lower, self.upper, log=False)
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
        return _tail(low), _tail(high)

    def all_values(self) -> list[float]:
        """Every multiple in the range."""
        return self.scale.all_values()

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
        return entry | default_entry(self.default)

    @property
    def start(self) -> float:
        """Declared default, or the legal value nearest to the mean."""
        if self.default is not None:
            return self.default
        return self.scale.decode(self.scale.encode(min(max(self.mean, self.lower), self.upper)))
