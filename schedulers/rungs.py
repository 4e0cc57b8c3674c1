"""Rung levels and rungs: at which resources trials are compared, and who has been recorded there.

`rung_levels` builds the ladder, `Rung` holds the entries of one level, sorted, so that a rank or a
cut-off costs O(log n) however many trials have passed. `schedulers/asha.py` puts rules on top.

Notation: eta is the reduction factor, n the number of entries of a rung, loss the metric value
oriented so that smaller is better (`raytune_ahu.types.as_loss`); a failed entry has loss +inf.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from raytune_ahu.errors import SpecError


def _as_whole(value: object) -> int | None:
    """Return a whole number (numpy's count, bools do not) as an int; None if it is not one."""
    if not isinstance(value, int | float | np.integer) or isinstance(value, bool):
        return None
    return int(value) if math.isfinite(value) and value == math.floor(value) else None


def whole_number(name: str, value: object, minimum: int, fix: str) -> int:
    """Return `value` as an int if it is a whole number of at least `minimum`.

    Raises:
        SpecError: If it is not; the message names value, allowed range and fix.
    """
    whole = _as_whole(value)
    if whole is None or whole < minimum:
        raise SpecError(f"{name}={value!r} must be a whole number of at least {minimum}; {fix}")
    return whole


def rung_levels(grace_period: int, reduction_factor: int, max_resource: int) -> tuple[int, ...]:
    """Build the ladder: all grace_period * eta^k below max_resource (k = 0, 1, ...), then itself.

    Integers are multiplied, no logarithm is taken: 243 with factor 3 has 1, 3, 9, 27, 81, 243
    (int(log(243) / log(3)) is 4 in floating point, which loses a level).

    Args:
        grace_period: Lowest level, in epochs: no trial is judged before it.
        reduction_factor: eta, a whole number of at least 2 (a whole float such as 4.0 is taken).
            Fractions are refused: levels are epochs, and rounded levels keep no common ratio.
        max_resource: Epochs of a full training; always the last level, whether or not it is a
            power (10 with factor 3 has 1, 3, 9, 10).

    Raises:
        SpecError: If a value is out of its range.
    """
    top = whole_number("max_epochs", max_resource, 1, "use 1 or more epochs for a full training")
    eta = whole_number(
        "reduction_factor", reduction_factor, 2, "use 3 to keep the best third at each rung"
    )
    level = _as_whole(grace_period)
    if level is None or not 1 <= level <= top:
        raise SpecError(
            f"grace_period={grace_period!r} must be in [1, max_epochs={top}]; "
            "use 1 to judge after the first epoch, or raise max_epochs"
        )
    levels = []
    while level < top:
        levels.append(level)
        level *= eta
    return (*levels, top)


@dataclass(slots=True)
class RungEntry:
    """One trial's entry in a rung."""

    loss: float
    """Its metric at the rung level, smaller is better; +inf if it was not finite."""
    arrival: int
    """How many entries were there before it."""
    survived: bool = False
    """Whether it was allowed beyond the rung (at the top level: whether it completed)."""


class Rung:
    """The trials recorded at one rung level of one bracket, in order of arrival and of loss.

    Entries are ordered by loss, equal losses by arrival (the earlier is ahead). Besides, a rung
    keeps a waiting list: entries whose trials are paused here and may be promoted.

    Args:
        level: Resource at which trials are recorded here, in epochs.
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self.n_survivors = 0
        self._entries: dict[str, RungEntry] = {}
        self._ranking: list[tuple[float, int]] = []  # (loss, arrival), ascending
        self._waiting: list[tuple[float, int, str]] = []  # (loss, arrival, trial), ascending

    def __len__(self) -> int:
        return len(self._ranking)

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._entries

    def __getitem__(self, trial_id: str) -> RungEntry:
        return self._entries[trial_id]

    def record(self, trial_id: str, loss: float) -> RungEntry:
        """Add a trial. A trial is recorded once in each rung: the caller checks that it is not."""
        assert trial_id not in self._entries, (trial_id, self.level)
        entry = RungEntry(loss=loss, arrival=len(self._entries))
        self._entries[trial_id] = entry
        insort(self._ranking, (loss, entry.arrival))
        return entry

    def mark_survivor(self, trial_id: str) -> None:
        """Note that a recorded trial was allowed beyond this rung."""
        entry = self._entries[trial_id]
        self.n_survivors += not entry.survived
        entry.survived = True

    def n_better(self, loss: float) -> int:
        """Count the entries whose loss is strictly smaller."""
        return bisect_left(self._ranking, (loss, -1))

    def nth_loss(self, place: int) -> float | None:
        """Return the loss in a place (1 is the best); None if it is empty or its trial failed."""
        if not 1 <= place <= len(self._ranking):
            return None
        loss = self._ranking[place - 1][0]
        return loss if math.isfinite(loss) else None

    def wait(self, trial_id: str) -> None:
        """Put a recorded trial on the waiting list."""
        entry = self._entries[trial_id]
        insort(self._waiting, (entry.loss, entry.arrival, trial_id))

    def n_waiting_before(self, trial_id: str) -> int:
        """Count the waiting trials that are ahead of a recorded one."""
        entry = self._entries[trial_id]
        return bisect_left(self._waiting, (entry.loss, entry.arrival, trial_id))

    def leave(self, trial_id: str) -> None:
        """Take a trial off the waiting list, if it is on it."""
        entry = self._entries[trial_id]
        key = (entry.loss, entry.arrival, trial_id)
        index = bisect_left(self._waiting, key)
        if index < len(self._waiting) and self._waiting[index] == key:
            del self._waiting[index]

    def first_waiting(self) -> tuple[int, str] | None:
        """Return (place in the rung from 1, trial) of the best waiting trial; None if none is."""
        if not self._waiting:
            return None
        loss, arrival, trial_id = self._waiting[0]
        return bisect_left(self._ranking, (loss, arrival)) + 1, trial_id

    def to_list(self) -> list[list[object]]:
        """Return the entries by arrival as [trial, loss, survived, waiting], JSON-ready."""
        waiting = {trial_id for _, _, trial_id in self._waiting}
        return [
            [trial_id, entry.loss, entry.survived, trial_id in waiting]
            for trial_id, entry in self._entries.items()
        ]

    @classmethod
    def from_list(cls, level: int, entries: Iterable[list[object]]) -> Rung:
        """Rebuild a rung from `to_list`."""
        rung = cls(level)
        for trial_id, loss, survived, waiting in entries:
            name = str(trial_id)
            rung.record(name, float(loss))  # type: ignore[arg-type]  # JSON gives numbers as object
            if survived:
                rung.mark_survivor(name)
            if waiting:
                rung.wait(name)
        return rung
