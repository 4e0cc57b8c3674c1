"""What a simulated trial learns: tasks turn a configuration into a learning curve with its cost.

`TableTask` looks curves up among recorded ones; `raytune_ahu.simulation.synthetic` computes them.
A task is immutable; the state of one simulation (which rows of a table are taken) lives in the
evaluator that `Task.evaluator` makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import DataError, SpecError
from raytune_ahu.types import Configuration, Mode

if TYPE_CHECKING:
    from raytune_ahu.space import SearchSpace


@dataclass(frozen=True, slots=True)
class Curve:
    """The training of one configuration from beginning to end.

    Raises:
        SpecError: If `crash_at` is less than 1.
    """

    values: NDArray[np.float64]
    """(max_resource,) the metric after each epoch; not finite from where it diverged."""
    epoch_s: float
    """Virtual seconds that one epoch takes."""
    crash_at: int | None = None
    """The epoch, from 1, in which the training raises: it takes its time and reports nothing. None,
    or beyond the end: never."""

    def __post_init__(self) -> None:
        if self.crash_at is not None and self.crash_at < 1:
            raise SpecError(
                f"crash_at={self.crash_at} must be at least 1, the first epoch; None for no crash"
            )


Evaluator: TypeAlias = Callable[[Configuration], Curve]
"""Gives the curve of a configuration; made anew for each simulation, as it may keep state."""


class Task(Protocol):
    """A tuning problem whose trials cost virtual time only."""

    @property
    def name(self) -> str:
        """Name for tables and plots."""
        ...

    @property
    def space(self) -> SearchSpace:
        """What is searched."""
        ...

    @property
    def mode(self) -> Mode:
        """Whether the metric is minimised or maximised."""
        ...

    @property
    def max_resource(self) -> int:
        """Epochs of a full training."""
        ...

    @property
    def best_value(self) -> float:
        """Best value that any configuration reaches at any epoch: a regret of 0."""
        ...

    @property
    def typical_value(self) -> float:
        """Value of a middling configuration at its last epoch: a normalised regret of 1."""
        ...

    @property
    def median_epoch_s(self) -> float:
        """Virtual seconds of a middling epoch, for budgets."""
        ...

    def evaluator(self) -> Evaluator:
        """Make the evaluator of one simulation."""
        ...


class TableTask:
    """Recorded curves of n configurations. A proposal off the table takes the nearest free row.

    Nearest is meant in the unit cube of the space (Euclidean; logarithmic where the space is), free
    are the rows that this simulation has not used yet; once all are used, all are free again.
    `best_value` is the best finite value in the table at any epoch, `typical_value` the median of
    the last epoch's values, where a value that is not finite counts as worst.

    Args:
        name: Name for tables and plots.
        space: The space the rows lie in; all its parameters are active in every row.
        rows: (n, d) the recorded configurations as `space.encode` gives them.
        values: (n, max_resource) the metric after each epoch.
        epoch_s: (n,) virtual seconds of an epoch; None: 1 for all.
        mode: Whether the metric is minimised or maximised.

    Raises:
        DataError: If the shapes do not fit, a row has inactive parameters, or nothing is finite.
    """

    def __init__(
        self,
        name: str,
        space: SearchSpace,
        rows: NDArray[np.float64],
        values: NDArray[np.float64],
        epoch_s: NDArray[np.float64] | None = None,
        mode: Mode = "min",
    ) -> None:
        epoch_s = np.ones(len(values)) if epoch_s is None else np.asarray(epoch_s, np.float64)
        if rows.shape != (len(values), len(space.names)) or epoch_s.shape != (len(values),):
            raise DataError(
                f"table {name!r}: rows {rows.shape}, values {values.shape} and epoch_s "
                f"{epoch_s.shape} must be (n, {len(space.names)}), (n, epochs) and (n,)"
            )
        if not np.isfinite(rows).all() or not (np.isfinite(epoch_s) & (epoch_s > 0)).all():
            raise DataError(
                f"table {name!r}: rows must be finite (all parameters active) and epoch_s positive"
            )
        losses = np.where(np.isfinite(values), values if mode == "min" else -values, np.inf)
        if not np.isfinite(losses).any():
            raise DataError(f"table {name!r}: no value is finite; nothing can be compared")
        self.name, self.space, self.mode = name, space, mode
        self.max_resource = values.shape[1]
        self.median_epoch_s = float(np.median(epoch_s))
        sign = 1.0 if mode == "min" else -1.0
        self.best_value = sign * float(losses.min())
        self.typical_value = sign * float(np.median(losses[:, -1]))
        self.rows = np.ascontiguousarray(rows, np.float64)
        """(n, d) the recorded configurations, encoded."""
        self.values = np.ascontiguousarray(values, np.float64)
        """(n, max_resource) their learning curves."""
        self._epoch_s = epoch_s

    def __len__(self) -> int:
        return len(self.rows)

    def nearest_row(self, vector: NDArray[np.float64], used: NDArray[np.bool_]) -> int:
        """Index of the row nearest to an encoded configuration (d,) among those not used (n,)."""
        distance = ((self.rows - vector) ** 2).sum(axis=1)
        distance[used] = np.inf
        return int(distance.argmin())

    def evaluator(self) -> Evaluator:
        """Make the evaluator of one simulation, with all rows free."""
        used = np.zeros(len(self.rows), dtype=bool)

        def evaluate(configuration: Configuration) -> Curve:
            if used.all():
                used[:] = False
            row = self.nearest_row(self.space.encode(configuration), used)
            used[row] = True
            return Curve(values=self.values[row], epoch_s=float(self._epoch_s[row]))

        return evaluate
