"""What every domain of a parameter can do: `Domain`; see `real`, `steps`, `normal`, `discrete`.

Three numbers describe one value: the value itself; its coordinate in the unit interval (`encode`,
`decode`), in which models work; and the quantile (`draw`), through which random values are made.
They differ only where a distribution is not flat in the coordinate (normals, weighted choices).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Domain(ABC):
    """The legal values of one parameter, their distribution and their place in [0, 1].

    Domains are frozen dataclasses without a name. Their errors are `SpaceError`s that speak of the
    field at fault; whoever knows the parameter's name puts it in front.
    """

    @property
    @abstractmethod
    def kind(self) -> str:
        """Name of the domain in files, such as `loguniform`."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """The legal values in words, to follow "must be"."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """The legal values in short, for a table."""

    @property
    def n_choices(self) -> int:
        """Number of categories; 0 for every domain that has an order."""
        return 0

    @property
    def n_values(self) -> int | None:
        """Number of legal values; None where they are a continuum."""
        return None

    @property
    def grid_only(self) -> bool:
        """Whether only a grid search may set the parameter."""
        return False

    @property
    def is_ordered(self) -> bool:
        """Whether conditions may compare values with < and >."""
        return True

    @abstractmethod
    def contains(self, value: Any) -> bool:
        """Whether the value is legal; numpy scalars count as Python's own."""

    @abstractmethod
    def encode(self, value: Any) -> float:
        """Coordinate of a legal value in [0, 1]."""

    @abstractmethod
    def decode(self, x: float) -> Any:
        """Legal value at, or nearest to, a coordinate in [0, 1]."""

    def draw(self, u: float) -> Any:
        """Value at a quantile in [0, 1): a uniform `u` gives a random value."""
        return self.decode(u)

    @abstractmethod
    def entry(self) -> dict[str, Any]:
        """The declaration as it stands in a file, without conditions."""

    def rank(self, value: Any) -> float:
        """Number by which conditions compare a legal value with < and >."""
        return float(value)

    @property
    @abstractmethod
    def start(self) -> Any:
        """Declared default, or a value in the middle (of listed values the first)."""

    def all_values(self) -> list[Any]:
        """Every legal value of a finite domain, in order.

        Raises:
            TypeError: If the values are a continuum.
        """
        raise TypeError(f"the values of a {self.kind} cannot be listed")

    def points(self, n: int) -> list[Any]:
        """At most n different values for a grid: all, or evenly spread ones with both ends."""
        if self.n_values is not None and self.n_values <= n:
            return self.all_values()
        if n == 1:
            return [self.decode(0.5)]
        values: list[Any] = []
        for i in range(n):
            value = self.decode(i / (n - 1))
            if not values or value != values[-1]:
                values.append(value)
        return values
