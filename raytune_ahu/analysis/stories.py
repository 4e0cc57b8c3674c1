"""A run as one story a trial: its hyperparameters and what it reported, ready for other trackers.

TensorBoard, MLflow and Weights & Biases are given the same numbers: every finite metric, by epoch,
and the best value of the tuned metric so far as `best/METRIC`. Start with `stories_of` (a run that
is on record) and `Story.add` (one more report of a run that is going on).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_ahu.space.nested import flatten
from raytune_ahu.types import Mode, TrialStatus

if TYPE_CHECKING:
    from raytune_ahu.results import Results

_BOOKKEEPING = {"hostname", "node_ip", "pid", "time_this_iter_s"}
"""Of what a report holds, all that the trainable did not measure."""


@dataclass(frozen=True)
class Point:
    """What a trial measured after one epoch."""

    resource: int
    """Epochs trained, from 1."""
    time: float
    """When it was recorded, in seconds since 1970."""
    metrics: dict[str, float]
    """Finite values by name; among them `best/METRIC`."""


@dataclass
class Story:
    """One trial."""

    trial: str
    """Its id."""
    hyperparameters: dict[str, Any]
    """Values of the active ones by flat name."""
    metric: str
    """The metric that is tuned."""
    mode: Mode
    """Whether it is minimised or maximised."""
    status: TrialStatus = TrialStatus.PENDING
    """How it stands."""
    points: dict[int, Point] = field(default_factory=dict)
    """By resource, in the order of time; of a repeated epoch the newest."""
    best: float | None = None
    """Best finite value of the tuned metric so far."""

    def add(self, resource: int, time: float, metrics: Mapping[str, Any]) -> Point:
        """Take in a report and return what is new; what is no finite number is left out."""
        values = {
            name: float(value)
            for name, value in metrics.items()
            if _is_finite(value) and name not in _BOOKKEEPING
        }
        value = values.get(self.metric)
        if value is not None:
            better = min if self.mode == "min" else max
            self.best = value if self.best is None else better(self.best, value)
        if self.best is not None:
            values[f"best/{self.metric}"] = self.best
        self.points.pop(resource, None)
        point = self.points[resource] = Point(resource, time, values)
        return point


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def stories_of(results: Results) -> dict[str, Story]:
    """Tell a run that is on record: its trials by their ids, in the order of suggestion."""
    stories = {
        trial: Story(
            trial,
            flatten(results.configuration(trial)),
            results.metric,
            results.mode,
            TrialStatus(status),
        )
        for trial, status in zip(results.trials["trial"], results.trials["status"], strict=True)
    }
    reports = results.reports
    cells = np.column_stack([results.values(name).to_numpy() for name in results.metrics])
    times = reports["time"].astype("int64").to_numpy() / 1000.0
    for trial, resource, time, row in zip(
        reports["trial"], reports["resource"].tolist(), times.tolist(), cells.tolist(), strict=True
    ):
        stories[trial].add(resource, time, dict(zip(results.metrics, row, strict=True)))
    return stories
