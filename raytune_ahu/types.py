"""The small records in which searchers, schedulers and their drivers talk to each other.

The central one is `Report`: BOHB and ASHA do not know each other, they both read reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias

Configuration: TypeAlias = dict[str, Any]
"""One assignment of the active parameters: plain Python values, JSON-ready, nested as the user
nested the search space."""

TRIAL_SEED_KEY = "trial_seed"
"""Reserved key of a configuration: the seed of that trial's own randomness (initialisation, order,
augmentation, dropout), in place of the root seed, which goes on deciding data and splits. Trials
that differ in nothing else say how much is luck; to choose the best of them is to choose luck."""

_MODEL = "model@"  # before the rung level, in origins

FIT_ON_KEY = "fit_on"
"""Reserved key of the settings: what a trial trains on, `train` (where it is absent) or this:"""
FIT_ON_ALL = "train+validation"
"""Training and validation data: for a configuration that is chosen. Nothing is validated then."""

Mode: TypeAlias = Literal["min", "max"]
"""Whether the metric is minimised or maximised."""


class Decision(str, Enum):
    """What a scheduler answers to a report."""

    CONTINUE = "continue"
    """The trial runs its next epoch."""
    PAUSE = "pause"
    """The trial gives up its worker and keeps its checkpoint; it may be promoted later."""
    STOP = "stop"
    """The trial ends: at its full resource, or early."""


class TrialStatus(str, Enum):
    """Where a trial is in its life. The last three are final."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    """Ended at its full resource (`max_epochs`), or ended itself."""
    STOPPED = "stopped"
    """Ended early by the scheduler, or because the experiment's budget was spent."""
    FAILED = "failed"
    """Ended by an exception, or by a non-finite metric."""

    @property
    def is_final(self) -> bool:
        """Whether a trial of this status will never run again."""
        return self in (TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Report:
    """One trial's metric after one unit of its resource.

    Raises:
        ValueError: If `resource` is not a whole number of at least 1.
    """

    trial_id: str
    """Which trial."""
    resource: int
    """What the trial has consumed when it was measured: epochs, counted from 1."""
    value: float | None
    """The metric, in the user's own orientation. None: this report did not contain the metric. NaN
    and infinities are kept as they are; everybody treats them as a failed report."""
    metrics: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Everything the trainable reported, for the record; the algorithms do not read it."""

    def __post_init__(self) -> None:
        if isinstance(self.resource, bool) or self.resource != int(self.resource):
            raise ValueError(f"resource={self.resource!r} must be a whole number of epochs")
        if self.resource < 1:
            raise ValueError(f"resource={self.resource} must be at least 1; epochs count from 1")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A configuration proposed by a searcher, where it came from, and what it was based on.

    Raises:
        ValueError: If `expected_improvement` is negative or not finite.
    """

    configuration: Configuration
    """The configuration to try."""
    origin: str
    """`random`, `grid`, `user`, `prior` (drawn from the user's prior), or `model@<rung level>` (the
    rung level that the model speaks for)."""
    model: str | None = None
    """Name of the model that proposed it (`kde`, `hpbandster`, ...); None: no model did."""
    expected_improvement: float | None = None
    """What the model expected the configuration to gain at full resource over the incumbent, in
    units of the metric, at least 0; None where the model does not say."""

    def __post_init__(self) -> None:
        expected = self.expected_improvement
        if expected is not None and not 0.0 <= expected < math.inf:
            raise ValueError(
                f"expected_improvement={expected} must be finite and at least 0, in units of the "
                "metric; use None where the model does not say"
            )

    @property
    def is_model_based(self) -> bool:
        """Whether a model, and not chance or the user, proposed the configuration."""
        return self.origin.startswith(_MODEL)


@dataclass(frozen=True, slots=True)
class RungSummary:
    """One rung as the live view shows it."""

    bracket: int
    """Index of the bracket, from 0 (the one that starts lowest)."""
    level: int
    """Resource at which the trials of this rung are compared, in epochs."""
    entrants: int
    """Trials recorded in this rung."""
    survivors: int
    """Those that were allowed beyond it (at the top level: that completed)."""
    cutoff: float | None
    """Worst metric value now inside the top 1/eta; None while the rung is too small to say."""


def model_level(origin: str) -> int | None:
    """Return the rung level that a model spoke for, in epochs; None where no model proposed.

    Args:
        origin: The origin of a suggestion: 27 in `model@27`.
    """
    level = origin.removeprefix(_MODEL)
    return int(level) if level != origin and level.isdecimal() else None


def as_loss(value: float | None, mode: Mode) -> float:
    """Orient a metric value so that smaller is better; what is missing or not finite is worst.

    Args:
        value: A metric value, or None where it is missing.
        mode: Whether the user minimises or maximises the metric.

    Returns:
        A float without NaN: finite, or +inf for a failed report.
    """
    if value is None or not math.isfinite(value):
        return math.inf
    return float(value) if mode == "min" else -float(value)


def check_mode(mode: str) -> Mode:
    """Return `mode` if it is one.

    Raises:
        ValueError: If it is neither `min` nor `max`.
    """
    if mode == "min":
        return "min"
    if mode == "max":
        return "max"
    raise ValueError(f"mode={mode!r} must be 'min' or 'max'")


def ending(value: float | None, resource: int, max_resource: int) -> TrialStatus:
    """Tell as what a trial ends that was told to stop after a report.

    Args:
        value: The metric of that report, None where it was missing.
        resource: The resource of that report.
        max_resource: Epochs of a full training.
    """
    if value is not None and not math.isfinite(value):
        return TrialStatus.FAILED
    return TrialStatus.COMPLETED if resource >= max_resource else TrialStatus.STOPPED
