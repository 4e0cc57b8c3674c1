"""What a searcher and a scheduler must be able to do. Pure: no Ray, no torch, no clock, no files.

A driver (Ray's adapters, or the simulation's virtual clock) uses them like this::

    worker free:  trial = scheduler.next_trial()          # a paused trial to go on with, or None
                  if trial: scheduler.resume(trial)
                  else:     suggestion = searcher.suggest(new_id); scheduler.add(new_id)
    epoch done:   decision = scheduler.report(report); searcher.observe(report)
    trial ended:  scheduler.finish(trial, status); searcher.finish(trial, status)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from raytune_ahu.types import Configuration, Decision, Report, RungSummary, Suggestion, TrialStatus


@runtime_checkable
class Searcher(Protocol):
    """Proposes configurations and learns from reports.

    The same seed and the same sequence of calls give the same suggestions, in any process.
    """

    def suggest(self, trial_id: str) -> Suggestion | None:
        """Propose a configuration for a new trial; None if there will never be another one.

        The trial counts as running from here until `finish`.

        Raises:
            ValueError: If `trial_id` was used before.
        """
        ...

    def recall(self, trial_id: str, configuration: Mapping[str, Any], origin: str) -> Configuration:
        """Take up a suggestion of an earlier session from the record, instead of making it anew.

        Args:
            trial_id: Whose it was.
            configuration: As recorded, JSON-ready.
            origin: As recorded, see `Suggestion.origin`.

        Returns:
            The configuration as it was suggested, with its tuples, which JSON has made lists.

        Raises:
            ValueError: If `trial_id` was used before, or the configuration is not legal.
        """
        ...

    def observe(self, report: Report) -> None:
        """Learn from a report. Reports of one trial come in the order of their resource.

        A second report of the same trial and resource (a trial that repeats an epoch after a
        restore) replaces the first. A report whose value is None teaches nothing; a non-finite
        value is bad news.

        Raises:
            KeyError: If the trial is unknown.
        """
        ...

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """Take note that a trial has ended. A FAILED trial counts as a bad one. Idempotent.

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If the status is not final.
        """
        ...

    def reopen(self, trial_id: str) -> None:
        """Take back that a trial has failed: it runs again, and what its failure taught is dropped.

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If it has not failed.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs, JSON-ready (floats may be inf or nan)."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another searcher that was built with the same arguments."""
        ...


@runtime_checkable
class Scheduler(Protocol):
    """Decides after each report which trials go on, and which paused trial a free worker takes."""

    @property
    def max_resource(self) -> int:
        """Epochs of a full training: a trial that reports here is stopped, having completed."""
        ...

    @property
    def rung_levels(self) -> Sequence[int]:
        """All resources at which trials are compared, ascending; `max_resource` is the last."""
        ...

    def add(self, trial_id: str) -> None:
        """Take in a new trial.

        Raises:
            ValueError: If the trial is known already.
        """
        ...

    def report(self, report: Report) -> Decision:
        """Judge a trial by its newest report. After STOP the driver calls `finish`.

        Raises:
            KeyError: If the trial is unknown.
        """
        ...

    def next_trial(self) -> str | None:
        """The paused trial that a free worker should take; None: start a new trial.

        A question without side effects: asked twice, it answers the same.
        """
        ...

    def resume(self, trial_id: str) -> None:
        """Take note that a paused trial runs again (the driver followed `next_trial`).

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If it is not paused.
        """
        ...

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """Take note that a trial has ended; its entries stay in the rungs. Idempotent.

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If the status is not final.
        """
        ...

    def reopen(self, trial_id: str) -> None:
        """Take back that a trial has failed: it runs again. Its entries stay in the rungs.

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If it has not failed, or was told to stop (a failed report is final).
        """
        ...

    def rungs(self) -> list[RungSummary]:
        """Describe all rungs, bracket by bracket, level ascending."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs, JSON-ready (floats may be inf or nan)."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another scheduler that was built with the same arguments."""
        ...
