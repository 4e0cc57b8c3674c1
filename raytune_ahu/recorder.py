"""The recorder stands between a driver and the pure algorithms, and writes down what passes.

It is a searcher and a scheduler at once (see `protocols`), made of one of each. Every suggestion
and every decision is in the log before the driver sees it, and the searcher learns from a report in
the same moment in which the scheduler judges it. So the log alone gives back, by `replay`, the
exact state of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raytune_ahu.errors import RecordError
from raytune_ahu.protocols import Scheduler, Searcher
from raytune_ahu.records import RunLog
from raytune_ahu.run_state import RunState
from raytune_ahu.types import (
    Configuration,
    Decision,
    Mode,
    Report,
    RungSummary,
    Suggestion,
    TrialStatus,
)


class Recorder:
    """A searcher and a scheduler whose calls are recorded.

    Args:
        searcher: Proposes configurations.
        scheduler: Decides which trials go on.
        mode: Whether the metric is minimised or maximised.
    """

    def __init__(self, searcher: Searcher, scheduler: Scheduler, *, mode: Mode) -> None:
        self.searcher = searcher
        self.scheduler = scheduler
        self.state = RunState(mode)
        self._log: RunLog | None = None

    def attach(self, log: RunLog) -> None:
        """Write to `log` from now on."""
        self._log = log

    def record(self, event: str, **fields: Any) -> None:
        """Write an event and take it into the state.

        Raises:
            RuntimeError: If no log is attached.
        """
        if self._log is None:
            raise RuntimeError("attach a log before recording")
        self.state.apply(self._log.write(event, **fields))

    # --- searcher -------------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> Suggestion | None:
        """Ask the searcher, enter the trial into the scheduler, and record it."""
        suggestion = self.searcher.suggest(trial_id)
        if suggestion is None:
            return None
        based_on = {
            "model": suggestion.model,
            "expected_improvement": suggestion.expected_improvement,
        }
        self.record(
            "suggested",
            trial=trial_id,
            origin=suggestion.origin,
            **{name: value for name, value in based_on.items() if value is not None},
            configuration=suggestion.configuration,
        )
        self.state.trials[trial_id].configuration = suggestion.configuration
        self.scheduler.add(trial_id)
        return suggestion

    def recall(self, trial_id: str, configuration: Mapping[str, Any], origin: str) -> Configuration:
        """Take up a recorded suggestion: in the searcher, and in the scheduler."""
        made = self.searcher.recall(trial_id, configuration, origin)
        self.scheduler.add(trial_id)
        return made

    def observe(self, report: Report) -> None:
        """Do nothing: the searcher has learnt from the report in `report` already."""

    # --- scheduler ------------------------------------------------------------------------------

    @property
    def max_resource(self) -> int:
        """Epochs of a full training."""
        return self.scheduler.max_resource

    @property
    def rung_levels(self) -> Sequence[int]:
        """Resources at which trials are compared."""
        return self.scheduler.rung_levels

    def add(self, trial_id: str) -> None:
        """Do nothing: `suggest` has entered the trial into the scheduler already."""

    def report(self, report: Report) -> Decision:
        """Let the scheduler judge and the searcher learn; record it before the decision is used."""
        decision = self.scheduler.report(report)
        self.searcher.observe(report)
        self.record(
            "reported",
            trial=report.trial_id,
            resource=report.resource,
            value=report.value,
            decision=decision.value,
            metrics=dict(report.metrics),
        )
        return decision

    def next_trial(self) -> str | None:
        """The paused trial that a free worker should take."""
        return self.scheduler.next_trial()

    def resume(self, trial_id: str) -> None:
        """A paused trial was promoted."""
        self.scheduler.resume(trial_id)
        self.record("resumed", trial=trial_id)

    def rungs(self) -> list[RungSummary]:
        """Describe all rungs."""
        return self.scheduler.rungs()

    # --- both -----------------------------------------------------------------------------------

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """A trial has ended. The first call counts."""
        if self.state.trials[trial_id].status.is_final:
            return
        self.scheduler.finish(trial_id, status)
        self.searcher.finish(trial_id, status)
        self.record("finished", trial=trial_id, status=status.value)

    def reopen(self, trial_id: str) -> None:
        """A failed trial is to be tried again."""
        self.scheduler.reopen(trial_id)
        self.searcher.reopen(trial_id)
        self.record("retried", trial=trial_id)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both; the log makes this unnecessary for resuming a run."""
        return {
            "searcher": self.searcher.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the states of both."""
        self.searcher.load_state_dict(state["searcher"])
        self.scheduler.load_state_dict(state["scheduler"])

    def replay(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Rebuild searcher, scheduler and state from the events of the earlier sessions.

        Suggestions are taken from the log, not made again (see `Searcher.recall`).

        Raises:
            RecordError: If a configuration is not legal in the space, or the scheduler answers
                otherwise than it did: another version of the code, or a log that does not belong to
                this specification.
        """
        for number, event in enumerate(events, start=1):
            try:
                self._replay_one(event)
            except (KeyError, ValueError) as error:
                if isinstance(error, RecordError):
                    raise
                raise RecordError(
                    f"event {number} of the log ({event.get('event')} of {event.get('trial')}) "
                    f"does not follow from those before it: {error}"
                ) from error

    def _replay_one(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "suggested":
            trial_id = event["trial"]
            made = self.recall(trial_id, event["configuration"], event["origin"])
            # Not the recorded form, in which a tuple has become a list.
            self.state.apply({**event, "configuration": made})
            return
        if kind == "reported":
            report = Report(event["trial"], int(event["resource"]), event["value"])
            decision = self.scheduler.report(report)
            self.searcher.observe(report)
            if decision.value != event["decision"]:
                raise RecordError(
                    f"replaying the log, the scheduler decided {decision.value!r} for "
                    f"{report.trial_id} at epoch {report.resource} where {event['decision']!r} is "
                    "recorded; resume with the package versions named in spec.json"
                )
        elif kind == "resumed":
            self.scheduler.resume(event["trial"])
        elif kind == "retried":
            self.scheduler.reopen(event["trial"])
            self.searcher.reopen(event["trial"])
        elif kind == "finished":
            status = TrialStatus(event["status"])
            self.scheduler.finish(event["trial"], status)
            self.searcher.finish(event["trial"], status)
        self.state.apply(event)
