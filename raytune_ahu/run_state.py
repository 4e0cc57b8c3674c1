"""What is known about a run, folded from its events: trials, incumbent, shares, budget spent.

The same fold serves the live view (event by event, as they are written), the final summary and a
resumed run (all at once, read from the log). Start with `RunState.apply`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raytune_ahu.faults import Fault
from raytune_ahu.types import Configuration, Mode, TrialStatus, as_loss

_AFTER_THE_RUN = frozenset({"test_read", "test_measured"})
"""Events that are no part of the run: the time that has passed until then is not its own."""


@dataclass(slots=True)
class TrialState:
    """One trial, as far as the events tell."""

    trial_id: str
    configuration: Configuration
    origin: str
    """Where the suggestion came from (see `Suggestion.origin`)."""
    model: str | None = None
    """Name of the model that proposed it, where one did and is on record."""
    expected_improvement: float | None = None
    """What the model expected it to gain, in units of the metric (see `Suggestion`)."""
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
    failures: int = 0
    """Faults that count against `max_failures`."""
    losses: int = 0
    """Workers it lost since it last got further than ever before."""
    furthest: int = 0
    """Highest resource it has reported."""
    given_up: bool = False
    """Whether its newest fault was final."""
    fault: Fault | None = None
    """What happened to it last, if anything did."""
    seconds: float = 0.0
    """Time its epochs took, as measured in the worker."""
    checkpoints: dict[int, str] = field(default_factory=dict)
    """Resource -> checkpoint that is kept, relative to the run's place."""
    checkpoint_index: int = -1
    """Highest number that a checkpoint of it has had; numbers are not used twice."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Resource -> bytes of that checkpoint."""
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
    """Suggestions by origin (`random`, `user`, `prior`, `grid`, `model`)."""
    newest_by_model: TrialState | None = None
    """The newest trial that a model proposed."""
    sessions: int = 0
    seconds: float = 0.0
    """Wall time spent in all sessions, idle time between them left out."""
    metric_seen: bool = False
    """Whether any report contained the metric."""
    ended: str | None = None
    """Reason of the newest `run_ended`; None while the run is going on (or was killed)."""
    epochs_run: int = 0
    """Epochs that all trials together have run, repeated ones included."""
    survived: Counter[Fault] = field(default_factory=Counter)
    """Faults after which a trial was tried again, by kind."""
    checkpoint_bytes: int = 0
    """Bytes of all checkpoints that are kept."""
    largest_checkpoint: int = 0
    """Bytes of the largest checkpoint written so far."""
    _counts: Counter[TrialStatus] = field(default_factory=Counter)
    _last_time: float = 0.0

    @classmethod
    def of(cls, mode: Mode, events: Iterable[Mapping[str, Any]]) -> RunState:
        """Fold all events of a run at once."""
        state = cls(mode)
        for event in events:
            state.apply(event)
        return state

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event; kinds this version does not know are passed over."""
        kind, time = event["event"], float(event["time"])
        if kind in _AFTER_THE_RUN:
            return
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
        return self._counts.copy()

    def drop_checkpoint(self, trial: TrialState, resource: int) -> str:
        """Take a checkpoint out of the state; return where it was."""
        self.checkpoint_bytes -= trial.sizes.pop(resource)
        return trial.checkpoints.pop(resource)

    @property
    def model_share(self) -> float:
        """Share of suggestions that a model made; NaN before the first."""
        total = self.origins.total()
        return self.origins["model"] / total if total else math.nan

    def _on_suggested(self, event: Mapping[str, Any]) -> None:
        trial_id = event["trial"]
        trial = self.trials[trial_id] = TrialState(
            trial_id,
            event["configuration"],
            event["origin"],
            model=event.get("model"),
            expected_improvement=event.get("expected_improvement"),
        )
        self._counts[TrialStatus.PENDING] += 1
        kind = trial.origin.partition("@")[0]
        self.origins[kind] += 1
        if kind == "model":
            self.newest_by_model = trial

    def _on_started(self, event: Mapping[str, Any]) -> None:
        self._move(self.trials[event["trial"]], TrialStatus.RUNNING)

    def _on_reported(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        trial.resource, trial.value = int(event["resource"]), event["value"]
        trial.epochs_run += 1
        self.epochs_run += 1
        if trial.resource > trial.furthest:
            trial.furthest, trial.losses = trial.resource, 0
        trial.reason = event["metrics"].get("failure")
        trial.told_to_stop = event["decision"] == "stop"
        trial.seconds += float(event["metrics"].get("time_this_iter_s") or 0.0)
        paused = event["decision"] == "pause"
        self._move(trial, TrialStatus.PAUSED if paused else TrialStatus.RUNNING)
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
        self._move(self.trials[event["trial"]], TrialStatus.PENDING)

    def _on_saved(self, event: Mapping[str, Any]) -> None:
        trial, resource = self.trials[event["trial"]], int(event["resource"])
        if resource in trial.checkpoints:
            self.drop_checkpoint(trial, resource)
        trial.checkpoints[resource] = event["checkpoint"]
        trial.checkpoint_index = max(trial.checkpoint_index, checkpoint_number(event["checkpoint"]))
        trial.sizes[resource] = int(event.get("bytes", 0))
        self.checkpoint_bytes += trial.sizes[resource]
        self.largest_checkpoint = max(self.largest_checkpoint, trial.sizes[resource])

    def _on_errored(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        trial.error = event["error"]
        trial.fault = Fault(event.get("fault", "exception"))
        trial.failures += trial.fault.is_failure
        trial.losses += trial.fault.is_loss
        unreadable = event.get("checkpoint")
        for resource in [r for r, path in trial.checkpoints.items() if path == unreadable]:
            self.drop_checkpoint(trial, resource)
        trial.given_up = not event["will_retry"]
        if event["will_retry"]:
            self.survived[trial.fault] += 1
            self._move(trial, TrialStatus.PENDING)

    def _on_retried(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        trial.failures = trial.losses = 0
        trial.given_up = False
        self._move(trial, TrialStatus.PENDING)

    def _on_finished(self, event: Mapping[str, Any]) -> None:
        self._move(self.trials[event["trial"]], TrialStatus(event["status"]))

    def _on_run_ended(self, event: Mapping[str, Any]) -> None:
        self.ended = event["reason"]

    def _move(self, trial: TrialState, status: TrialStatus) -> None:
        if trial.status is not status:
            self._counts[trial.status] -= 1
            self._counts[status] += 1
            trial.status = status


def checkpoint_number(checkpoint: str) -> int:
    """Number of a checkpoint folder such as `trial_00003/checkpoint_000012`."""
    digits = checkpoint.rpartition("_")[2]
    return int(digits) if digits.isdigit() else -1
