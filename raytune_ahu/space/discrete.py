"""Listed values: `Choice` (no order), `Ordinal` (ordered as listed), `Constant` (one value).

Values keep their exact Python types; they are told apart by `values.identity`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.domain import Domain
from raytune_ahu.space.values import copied, identity, is_mutable, tag_tuples

_SHOWN = 20


@dataclass(frozen=True)
class Listed(Domain):
    """Shared by all domains that list their values; value i of k is at (i + 0.5) / k."""

    values: tuple[Any, ...]
    """The legal values, all different."""
    default_index: int | None = None
    """Which of them was declared the default (an index, since the value may well be None)."""

    def __post_init__(self) -> None:
        if not self.values:
            raise SpaceError("values=[] must hold at least one value")
        seen: dict[Hashable, Any] = {}
        for value in self.values:
            key = identity(value)
            if key in seen:
                raise SpaceError(
                    f"values must differ: {value!r} repeats {seen[key]!r}; remove one of them"
                )
            seen[key] = value

    @property
    def allowed(self) -> str:
        """The legal values in words."""
        shown = [repr(value) for value in self.values[:_SHOWN]]
        if len(self.values) > _SHOWN:
            shown.append(f"... {len(self.values)} in all")
        return f"one of [{', '.join(shown)}]"

    @property
    def shown(self) -> str:
        """The legal values in short."""
        return ", ".join(repr(value) for value in self.values)

    @property
    def n_values(self) -> int:
        """Number of legal values."""
        return len(self.values)

    @cached_property
    def _indices(self) -> dict[Hashable, int]:
        return {identity(value): i for i, value in enumerate(self.values)}

    @cached_property
    def _mutable(self) -> bool:
        return any(is_mutable(value) for value in self.values)

    def all_values(self) -> list[Any]:
        """The listed values, as they are listed."""
        return [self._hand_out(i) for i in range(len(self.values))]

    def contains(self, value: Any) -> bool:
        """Whether the value is legal."""
        return identity(value) in self._indices

    def index(self, value: Any) -> int:
        """Place of a legal value in the list, from 0."""
        return self._indices[identity(value)]

    def encode(self, value: Any) -> float:
        """Coordinate of a legal value."""
        return (self._indices[identity(value)] + 0.5) / len(self.values)

    def decode(self, x: float) -> Any:
        """Legal value nearest to a coordinate."""
        k = len(self.values)
        return self._hand_out(min(max(int(x * k), 0), k - 1))

    def _hand_out(self, index: int) -> Any:
        value = self.values[index]
        return copied(value) if self._mutable else value

    def rank(self, value: Any) -> float:
        """Number by which < and > compare."""
        return self.index(value)

    @property
    def start(self) -> Any:
        """Declared default, or the first value."""
        return self._hand_out(self.default_index or 0)

    def entry(self) -> dict[str, Any]:
        """The declaration as it stands in a file."""
        entry: dict[str, Any] = {"domain": self.kind}
        entry["values"] = [tag_tuples(value) for value in self.values]
        if self.default_index is not None:
            entry["default"] = tag_tuples(self.values[self.default_index])
        return entry


@dataclass(frozen=True)
class Choice(Listed):
    """Categories without an order, equally likely unless weighted.

    With `grid`, the values are those of a grid search: every one is tried, none is drawn.
    """

    weights: tuple[float, ...] | None = None
    grid: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is None:
            return
        if len(self.weights) != len(self.values):
            raise SpaceError(
                f"weights={list(self.weights)} must be {len(self.values)} numbers, one per value"
            )
        if any(not math.isfinite(w) or w <= 0 for w in self.weights):
            raise SpaceError(
                f"weights={list(self.weights)} must be above 0; remove values that are never wanted"
            )

    @property
    def kind(self) -> str:
        """Name of the domain in files."""
        return "grid_search" if self.grid else "choice"

    @property
    def n_choices(self) -> int:
        """Number of categories."""
        return len(self.values)

    @property
    def grid_only(self) -> bool:
        """Whether only a grid search may set it."""
        return self.grid

    @property
    def is_ordered(self) -> bool:
        """Whether < and > mean anything."""
        return False

    @cached_property
    def _cumulative(self) -> list[float]:
        return list(itertools.accumulate(self.weights or ()))

    def draw(self, u: float) -> Any:
        """Value at a quantile."""
        if self.weights is None:
            return self.decode(u)
        index = bisect.bisect_right(self._cumulative, u * self._cumulative[-1])
        return self._hand_out(min(index, len(self.values) - 1))

    def entry(self) -> dict[str, Any]:
        """The declaration as it stands in a file."""
        entry = super().entry()
        return entry if self.weights is None else {**entry, "weights": list(self.weights)}


@dataclass(frozen=True)
class Ordinal(Listed):
    """Values that are ordered as they are listed, such as small, medium, large."""

    @property
    def kind(self) -> str:
        """Name of the domain in files."""
        return "ordinal"


@dataclass(frozen=True)
class Constant(Listed):
    """One value: part of every configuration, but nothing to search over."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.values) != 1:
            raise SpaceError(f"a constant must have one value, not {len(self.values)}")

    @property
    def kind(self) -> str:
        """Name of the domain in files."""
        return "constant"

    @property
    def value(self) -> Any:
        """The one value."""
        return self._hand_out(0)

    @property
    def is_ordered(self) -> bool:
        """Whether < and > mean anything."""
        value = self.values[0]
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def rank(self, value: Any) -> float:
        """Number by which < and > compare."""
        return float(value)

    def entry(self) -> dict[str, Any]:
        """The declaration as it stands in a file."""
        return {"domain": "constant", "value": tag_tuples(self.values[0])}
