"""What is known about a run, folded from its events: trials, incumbent, shares, budget spent.

The same fold serves the live view (event by event, as they are written), the final summary and a
resumed run (all at once, read from the log). Start with `RunState.apply`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raytune_ahu.types import Configuration, Mode, TrialStatus, as_loss


@dataclass(slots=True)
class TrialState:
    """One trial, as far as the events tell."""

    trial_id: str
    configuration: Configuration
    origin: str
    status: TrialStatus = TrialStatus.PENDING
    resource: int = 0
    """Epochs of its newest report."""
    value: float | None = None
    """Metric of its newest report."""
    best_value: float | None = None
    """Best finite metric value it reported at any resource."""
    best_resource: int | None = None
    """Epochs at which `best_value` was seen."""
    epochs_run: int = 0
    """Reports received, repeated ones included: what the trial cost."""
    seconds: float = 0.0
    """Time its epochs took, as measured in the worker."""
    checkpoints: dict[int, str] = field(default_factory=dict)
    """Resource -> checkpoint folder, relative to the run's folder."""
    told_to_stop: bool = False
    """Whether the scheduler decided to stop it; it is final once that has been done."""
    error: str | None = None
    """Text of the newest exception it raised, with traceback."""
    reason: str | None = None
    """Why it diverged, in the trainable's words (`failure` in its newest report)."""


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The best finite value so far, at any resource, and where it was seen."""

    trial_id: str
    configuration: Configuration
    value: float
    resource: int
    """Epochs of the report in which `value` was seen."""


@dataclass(slots=True)
class RunState:
    """Everything the events of a run tell, updated by `apply`."""

    mode: Mode
    trials: dict[str, TrialState] = field(default_factory=dict)
    incumbent: Incumbent | None = None
    origins: Counter[str] = field(default_factory=Counter)
    """Suggestions by origin (`random`, `user`, `grid`, `model`)."""
    sessions: int = 0
    seconds: float = 0.0
    """Wall time spent in all sessions, idle time between them left out."""
    metric_seen: bool = False
    """Whether any report contained the metric."""
    ended: str | None = None
    """Reason of the newest `run_ended`; None while the run is going on (or was killed)."""
    _last_time: float = 0.0

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event; kinds this version does not know are passed over."""
        kind, time = event["event"], float(event["time"])
        if kind == "run_started":
            self.sessions += 1
            self.ended = None
        else:
            self.seconds += max(0.0, time - self._last_time)
        self._last_time = time
        handler = getattr(self, f"_on_{kind}", None)
        if handler is not None:
            handler(event)

    def counts(self) -> Counter[TrialStatus]:
        """Number of trials by status."""
        return Counter(trial.status for trial in list(self.trials.values()))

    @property
    def epochs_run(self) -> int:
        """Epochs that all trials together have run."""
        return sum(trial.epochs_run for trial in list(self.trials.values()))

    @property
    def model_share(self) -> float:
        """Share of suggestions that a model made; NaN before the first."""
        total = self.origins.total()
        return self.origins["model"] / total if total else math.nan

    def _on_suggested(self, event: Mapping[str, Any]) -> None:
        trial_id = event["trial"]
        self.trials[trial_id] = TrialState(trial_id, event["configuration"], event["origin"])
        self.origins[event["origin"].partition("@")[0]] += 1

    def _on_started(self, event: Mapping[str, Any]) -> None:
        self.trials[event["trial"]].status = TrialStatus.RUNNING

    def _on_reported(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        trial.resource, trial.value = int(event["resource"]), event["value"]
        trial.epochs_run += 1
        trial.reason = event["metrics"].get("failure")
        trial.told_to_stop = event["decision"] == "stop"
        trial.seconds += float(event["metrics"].get("time_this_iter_s") or 0.0)
        trial.status = TrialStatus.PAUSED if event["decision"] == "pause" else TrialStatus.RUNNING
        self.metric_seen = self.metric_seen or trial.value is not None
        loss = as_loss(trial.value, self.mode)
        if math.isinf(loss) or trial.value is None:
            return
        if trial.best_value is None or loss < as_loss(trial.best_value, self.mode):
            trial.best_value, trial.best_resource = trial.value, trial.resource
        if self.incumbent is None or loss < as_loss(self.incumbent.value, self.mode):
            self.incumbent = Incumbent(
                trial.trial_id, trial.configuration, trial.value, trial.resource
            )

    def _on_resumed(self, event: Mapping[str, Any]) -> None:
        self.trials[event["trial"]].status = TrialStatus.PENDING

    def _on_saved(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        trial.checkpoints[int(event["resource"])] = event["checkpoint"]

    def _on_errored(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        trial.error = event["error"]
        if event["will_retry"]:
            trial.status = TrialStatus.PENDING

    def _on_finished(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        trial.status = TrialStatus(event["status"])

    def _on_run_ended(self, event: Mapping[str, Any]) -> None:
        self.ended = event["reason"]
