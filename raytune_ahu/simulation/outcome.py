"""What a simulation leaves behind: its trials, and all their reports in the order of time.

Start with `SimulationResult.incumbent`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.simulation.tasks import Curve
from raytune_ahu.types import Configuration, Mode, TrialStatus


@dataclass(slots=True)
class SimulatedTrial:
    """One trial of a simulation."""

    trial_id: str
    """`trial_00000`, counted in the order of suggestion."""
    configuration: Configuration
    """What the searcher proposed."""
    origin: str
    """Where the proposal came from."""
    curve: Curve = field(repr=False)
    """What it would learn if it ran to the end."""
    started_s: float
    """Virtual time at which its first epoch begins."""
    epochs: int = 0
    """Epochs it has reported."""
    crashed: bool = False
    """Whether its training raised, in the epoch after `epochs`."""
    status: TrialStatus = TrialStatus.RUNNING
    """Final, once the simulation has ended."""


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """All that happened: the trials, and their n reports in the order of time."""

    mode: Mode
    """Whether the metric was minimised or maximised."""
    trials: list[SimulatedTrial]
    """All trials, in the order of suggestion; all ended."""
    time_s: NDArray[np.float64]
    """(n,) virtual time of each report, ascending."""
    trial: NDArray[np.int64]
    """(n,) index of its trial in `trials`."""
    resource: NDArray[np.int64]
    """(n,) epochs its trial had run."""
    value: NDArray[np.float64]
    """(n,) the metric as reported, not finite where the trial had diverged."""
    suggest_cpu_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(k,) CPU seconds that the searcher took to suggest each of `trials`."""
    method_cpu_s: float = 0.0
    """CPU seconds spent in searcher and scheduler, all their calls together."""

    @property
    def epochs(self) -> int:
        """Epochs spent in all: those reported, and those in which a trial crashed."""
        return len(self.value) + sum(trial.crashed for trial in self.trials)

    def incumbent(self) -> NDArray[np.float64]:
        """(n,) best finite value so far, of any trial at any epoch; infinitely bad before one."""
        sign = 1.0 if self.mode == "min" else -1.0
        losses = np.where(np.isfinite(self.value), sign * self.value, np.inf)
        return sign * np.minimum.accumulate(losses)

    def model_based_share(self) -> float:
        """Share of the suggestions that came from a model; NaN without trials."""
        if not self.trials:
            return math.nan
        return sum(t.origin.startswith("model@") for t in self.trials) / len(self.trials)
