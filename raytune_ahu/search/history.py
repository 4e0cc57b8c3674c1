"""What a searcher remembers: its trials, their configurations, and what was seen at which level.

`History.observations` hands all of it to a model without copying. Recording a report costs O(1).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from raytune_ahu.search.model import THIS_RUN, Floats, Observations
from raytune_ahu.search.table import GrowingArray
from raytune_ahu.types import TrialStatus

_NOWHERE = 0
"""Heading of a trial that is past the last rung level."""


class History:
    """Trials and observations of one searcher.

    A trial is *heading for* the smallest rung level above its newest resource. A trial that failed,
    or reported a non-finite value, gets one observation of +inf: at the level where it reported the
    value, or that it was heading for; never more than one for the same failure, and none once it
    is past the last level. A finite report at the failed resource or before it (the trial was
    restored and repeats the epoch) takes that back.

    Args:
        n_columns: Length d of an encoded configuration.
        rung_levels: Ascending; may be empty for searchers that learn nothing.
        every_report: Keep reports between the rung levels as observations too.
    """

    def __init__(
        self, n_columns: int, rung_levels: Sequence[int] = (), *, every_report: bool = False
    ) -> None:
        self.rung_levels = tuple(int(level) for level in rung_levels)
        self._every_report = every_report
        self._n_columns = n_columns
        self.n_prior: int
        """The first so many trials are of earlier runs."""
        self._forget()

    def __len__(self) -> int:
        return len(self._status)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._index

    def has_seen(self, vector: Floats) -> bool:
        """Whether a trial with exactly this encoded configuration was added."""
        return vector.tobytes() in self._seen

    def index(self, trial_id: str) -> int:
        """Return the row of a trial.

        Raises:
            KeyError: If the trial is unknown.
        """
        try:
            return self._index[trial_id]
        except KeyError:
            raise KeyError(f"trial {trial_id!r} was never suggested by this searcher") from None

    def add(self, trial_id: str, vector: Floats, source: int = THIS_RUN) -> None:
        """Take in a new running trial, of this run or of another source (see `Observations`).

        Raises:
            ValueError: If the trial is known already.
        """
        if trial_id in self._index:
            raise ValueError(f"trial {trial_id!r} has a suggestion already; ids must be new")
        self._index[trial_id] = len(self._status)
        self._status.append(TrialStatus.RUNNING)
        self._last.append(0)
        self._vectors.append(vector)
        self._source.append(source)
        self._seen.add(vector.tobytes())
        heading = self._level_above(0)
        self._heading.append(heading)
        self._is_pending.append(heading != _NOWHERE)

    def observe(self, trial_id: str, resource: int, loss: float | None) -> None:
        """Record a report.

        Args:
            trial_id: Which trial.
            resource: Resource of the report.
            loss: Smaller is better; +inf for a non-finite value; None if the value is missing.

        Raises:
            KeyError: If the trial is unknown.
        """
        i = self.index(trial_id)
        self._last[i] = resource
        self._heading[i] = self._level_above(resource)
        if loss is None:
            self._is_pending[i] = self._is_on_its_way(i)
            return
        self._take_back_failures(i, resource)
        if np.isfinite(loss):
            self._is_failed.discard(i)
            if self._every_report or resource in self.rung_levels:
                self._failure.pop((i, resource), None)
                self._put(i, resource, loss)
        else:
            self._fail(i, resource, self._level_from(resource))
        self._is_pending[i] = self._is_on_its_way(i)

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """Record the end of a trial; a second call changes nothing.

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If the status is not final.
        """
        i = self.index(trial_id)
        if not status.is_final:
            raise ValueError(
                f"status={status.value!r} is not final; finish takes completed, stopped or failed"
            )
        if self._status[i].is_final:
            return
        self._status[i] = status
        self._is_pending[i] = False
        if status is TrialStatus.FAILED and i not in self._is_failed:
            self._fail(i, self._last[i] + 1, self._level_above(self._last[i]))

    def reopen(self, trial_id: str) -> None:
        """Take back that a trial has failed, and all failures recorded for it.

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If it has not failed.
        """
        i = self.index(trial_id)
        if self._status[i] is not TrialStatus.FAILED:
            raise ValueError(
                f"trial {trial_id!r} is {self._status[i].value}; reopen takes a failed one"
            )
        self._status[i] = TrialStatus.RUNNING
        self._is_failed.discard(i)
        self._take_back_failures(i, 1)
        self._is_pending[i] = self._is_on_its_way(i)

    def observations(self) -> Observations:
        """Return all that is known, as read-only views."""
        pending = np.flatnonzero(self._is_pending.view)
        return Observations(
            configurations=self._vectors.view,
            trial=self._trial.view,
            resource=self._resource.view,
            loss=self._loss.view,
            pending=pending,
            pending_level=self._heading.view[pending],
            rung_levels=self.rung_levels,
            n_prior=self.n_prior,
            source=self._source.view,
            revision=self._revision,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready (floats may be inf or nan)."""
        return {
            "trials": list(self._index),
            "status": [status.value for status in self._status],
            "last": list(self._last),
            "vectors": self._vectors.view.tolist(),
            "prior": self.n_prior,
            "sources": self._source.view.tolist(),
            "failed": sorted(self._is_failed),
            "failures": [[*key, resource] for key, resource in self._failure.items()],
            "trial": self._trial.view.tolist(),
            "resource": self._resource.view.tolist(),
            "loss": self._loss.view.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state; what was here before is forgotten."""
        self._forget()
        sources = state.get("sources", [THIS_RUN] * len(state["trials"]))
        for trial_id, vector, source in zip(
            state["trials"], state["vectors"], sources, strict=True
        ):
            self.add(trial_id, np.asarray(vector, dtype=np.float64), source)
        self.n_prior = state.get("prior", 0)
        self._is_failed.update(state["failed"])
        for i, level, resource in state["failures"]:
            self._failure[i, level] = resource
        for i, (status, last) in enumerate(zip(state["status"], state["last"], strict=True)):
            self._status[i] = TrialStatus(status)
            self._last[i] = last
            self._heading[i] = self._level_above(last)
            self._is_pending[i] = self._is_on_its_way(i)
        for i, resource, loss in zip(state["trial"], state["resource"], state["loss"], strict=True):
            self._put(i, resource, loss)

    def _forget(self) -> None:
        self.n_prior = 0
        self._index: dict[str, int] = {}
        self._status: list[TrialStatus] = []
        self._seen: set[bytes] = set()
        # one row per trial
        self._vectors = GrowingArray(np.float64, self._n_columns)
        self._source = GrowingArray(np.int64)
        self._heading = GrowingArray(np.int64)
        self._is_pending = GrowingArray(np.bool_)
        self._last: list[int] = []
        self._is_failed: set[int] = set()  # trials whose newest news is a failure
        self._failure: dict[tuple[int, int], int] = {}  # (trial, level) -> resource of the failure
        # one row per observation
        self._revision = 0
        self._row: dict[tuple[int, int], int] = {}
        self._trial = GrowingArray(np.int64)
        self._resource = GrowingArray(np.int64)
        self._loss = GrowingArray(np.float64)

    def _level_above(self, resource: int) -> int:
        position = bisect_right(self.rung_levels, resource)
        return self.rung_levels[position] if position < len(self.rung_levels) else _NOWHERE

    def _level_from(self, resource: int) -> int:
        position = bisect_left(self.rung_levels, resource)
        return self.rung_levels[position] if position < len(self.rung_levels) else _NOWHERE

    def _is_on_its_way(self, i: int) -> bool:
        heading = int(self._heading.view[i])
        return heading != _NOWHERE and i not in self._is_failed and not self._status[i].is_final

    def _fail(self, i: int, resource: int, level: int) -> None:
        self._is_failed.add(i)
        if level != _NOWHERE:
            self._failure.setdefault((i, level), resource)
            self._put(i, level, np.inf)

    def _take_back_failures(self, i: int, resource: int) -> None:
        """Drop failures at or after `resource`, which the trial is now going through again."""
        if not self._failure:
            return
        for level in self.rung_levels[bisect_left(self.rung_levels, resource) :]:
            if self._failure.get((i, level), 0) >= resource:
                del self._failure[i, level]
                self._drop(i, level)

    def _put(self, i: int, resource: int, loss: float) -> None:
        self._revision += 1
        row = self._row.get((i, resource))
        if row is not None:
            self._loss[row] = loss
            return
        self._row[i, resource] = len(self._row)
        self._trial.append(i)
        self._resource.append(resource)
        self._loss.append(loss)

    def _drop(self, i: int, resource: int) -> None:
        """Remove an observation; the last one moves into its place."""
        self._revision += 1
        row = self._row.pop((i, resource))
        last = len(self._row)
        if row != last:
            moved = (int(self._trial.view[last]), int(self._resource.view[last]))
            self._row[moved] = row
        for column in (self._trial, self._resource, self._loss):
            column[row] = column.view[last]
            column.pop()
