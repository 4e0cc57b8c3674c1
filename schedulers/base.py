"""What all rung-based schedulers share: trials, brackets, the reports nobody need judge, state.

`RungScheduler.report` answers everything on which the schedulers agree and asks `_judge` for the
rest: a finite value, exactly at a rung level below the top, seen for the first time. Start there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_ahu.errors import SpecError
from raytune_ahu.seeding import generator
from raytune_ahu.types import (
    Decision,
    Mode,
    Report,
    RungSummary,
    TrialStatus,
    as_loss,
    check_mode,
)
from schedulers.rungs import Rung, rung_levels, whole_number

STATE_VERSION = 1
"""Layout of `state_dict`; raised when it changes."""


@dataclass(slots=True)
class ScheduledTrial:
    """What a scheduler remembers of one trial."""

    bracket: int
    """Index of its bracket."""
    status: TrialStatus = TrialStatus.RUNNING
    """RUNNING, PAUSED or a final status."""
    told_to_stop: bool = False
    """Whether a report of it was answered with STOP; every later one is, too."""
    paused_at: int | None = None
    """Rung level at which it waits, in epochs; None unless it is paused."""


def bracket_weights(n_levels: int, reduction_factor: int, brackets: int) -> list[float]:
    """Return the probability with which a new trial enters each bracket.

    They are the shares of trials that synchronous Hyperband (Li et al. 2018) starts in its
    brackets: bracket s, which skips the s lowest of the K + 1 levels, gets a weight proportional
    to eta^(K - s) * (K + 1) / (K + 1 - s). So all brackets are granted about the same resource.
    """
    top = n_levels - 1
    weights = [
        float(reduction_factor) ** (top - s) * n_levels / (n_levels - s) for s in range(brackets)
    ]
    return [weight / sum(weights) for weight in weights]


class RungScheduler(ABC):
    """Base of the schedulers: keeps trials, brackets and rungs; subclasses judge.

    Args:
        max_resource: Epochs of a full training.
        grace_period: Lowest rung level, in epochs.
        reduction_factor: eta; the keep fraction is 1/eta.
        brackets: How many brackets. Bracket s (from 0) starts at grace_period * eta^s, the s-th
            level of the ladder; the last possible one holds only the top level.
        mode: Whether the metric is minimised or maximised.
        seed: Root seed; brackets are drawn from `generator(seed, "brackets")`, one draw per added
            trial, with the probabilities of `bracket_weights`. Nothing else is random.

    Raises:
        SpecError: If a value is out of its range.
    """

    kind: str
    """Name under which `schedulers.SCHEDULERS` lists the class."""

    def __init__(
        self,
        *,
        max_resource: int,
        grace_period: int = 1,
        reduction_factor: int = 3,
        brackets: int = 1,
        mode: Mode = "min",
        seed: int = 0,
    ) -> None:
        self._levels = rung_levels(grace_period, reduction_factor, max_resource)
        self._eta = int(reduction_factor)
        self._n_brackets = whole_number("brackets", brackets, 1, "use 1 for plain ASHA")
        if self._n_brackets > len(self._levels):
            raise SpecError(
                f"brackets={brackets} must be in [1, {len(self._levels)}], the number of rung "
                f"levels {list(self._levels)}; use fewer brackets, a lower grace_period or a lower "
                "reduction_factor"
            )
        self._mode = check_mode(mode)
        self._seed = seed
        self._rng = generator(seed, "brackets")
        self._bracket_edges = np.cumsum(
            bracket_weights(len(self._levels), self._eta, self._n_brackets)
        )
        self._trials: dict[str, ScheduledTrial] = {}
        self._rungs = [
            {level: Rung(level) for level in self._levels[start:]}
            for start in range(self._n_brackets)
        ]

    # ------------------------------------------------------------------ the protocol

    @property
    def max_resource(self) -> int:
        """Epochs of a full training: a trial that reports here is stopped, having completed."""
        return self._levels[-1]

    @property
    def rung_levels(self) -> tuple[int, ...]:
        """All resources at which trials are compared, ascending; `max_resource` is the last."""
        return self._levels

    def add(self, trial_id: str) -> None:
        """Take in a new trial and draw its bracket.

        Raises:
            ValueError: If the trial is known already.
        """
        if trial_id in self._trials:
            raise ValueError(f"trial {trial_id!r} was added before; use a new id for a new trial")
        self._trials[trial_id] = ScheduledTrial(bracket=self._draw_bracket())

    def report(self, report: Report) -> Decision:
        """Judge a trial by its newest report; the class docstring states the rule.

        Raises:
            KeyError: If the trial is unknown.
        """
        trial = self._trial(report.trial_id)
        decision = self._decide(trial, report)
        if decision is Decision.STOP:
            trial.told_to_stop = True
            self._unpause(report.trial_id, trial)
        return decision

    def next_trial(self) -> str | None:
        """The paused trial that a free worker should take; None: start a new trial."""
        return None

    def resume(self, trial_id: str) -> None:
        """Take note that a paused trial runs again, beyond the rung where it waited.

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If it is not paused.
        """
        trial = self._trial(trial_id)
        if trial.paused_at is None:
            raise ValueError(
                f"trial {trial_id!r} is {trial.status.value}, not paused; resume what next_trial "
                "answered"
            )
        self._rungs[trial.bracket][trial.paused_at].mark_survivor(trial_id)
        self._unpause(trial_id, trial)

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """Take note that a trial has ended; its entries stay in the rungs. Idempotent.

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If the status is not final.
        """
        trial = self._trial(trial_id)
        if not status.is_final:
            raise ValueError(
                f"status={status.value!r} is not final; finish takes completed, stopped or failed"
            )
        if not trial.status.is_final:
            self._unpause(trial_id, trial)
            trial.status = status

    def reopen(self, trial_id: str) -> None:
        """Take back that a trial has failed: it runs again. Its entries stay in the rungs.

        Raises:
            KeyError: If the trial is unknown.
            ValueError: If it has not failed, or was told to stop (a failed report is final).
        """
        trial = self._trial(trial_id)
        if trial.status is not TrialStatus.FAILED or trial.told_to_stop:
            told = ", told to stop" if trial.told_to_stop else ""
            raise ValueError(
                f"trial {trial_id!r} is {trial.status.value}{told}; reopen takes a failed trial "
                "that the scheduler has not stopped"
            )
        trial.status = TrialStatus.RUNNING

    def rungs(self) -> list[RungSummary]:
        """Describe all rungs, bracket by bracket, level ascending."""
        return [
            RungSummary(
                bracket=index,
                level=rung.level,
                entrants=len(rung),
                survivors=rung.n_survivors,
                cutoff=self._as_value(rung.nth_loss(self._keep(len(rung)))),
            )
            for index, bracket in enumerate(self._rungs)
            for rung in bracket.values()
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs, JSON-ready (losses may be inf)."""
        return {
            "version": STATE_VERSION,
            "settings": self._settings(),
            "rng": self._rng.bit_generator.state,
            "trials": {
                trial_id: [t.bracket, t.status.value, t.told_to_stop, t.paused_at]
                for trial_id, t in self._trials.items()
            },
            "rungs": [
                [[level, rung.to_list()] for level, rung in bracket.items()]
                for bracket in self._rungs
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another scheduler that was built with the same arguments.

        Raises:
            SpecError: If it was built with other arguments, or by another version's layout.
        """
        if state["version"] != STATE_VERSION:
            raise SpecError(
                f"scheduler state has version={state['version']}, this release reads "
                f"{STATE_VERSION}; continue the run with the release that began it"
            )
        for name, value in self._settings().items():
            if state["settings"].get(name) != value:
                raise SpecError(
                    f"scheduler state was saved with {name}={state['settings'].get(name)!r}, this "
                    f"scheduler has {name}={value!r}; build it with the same arguments"
                )
        self._rng.bit_generator.state = state["rng"]
        self._trials = {
            trial_id: ScheduledTrial(bracket, TrialStatus(status), told_to_stop, paused_at)
            for trial_id, (bracket, status, told_to_stop, paused_at) in state["trials"].items()
        }
        self._rungs = [
            {int(level): Rung.from_list(int(level), entries) for level, entries in bracket}
            for bracket in state["rungs"]
        ]

    # ------------------------------------------------------------------ for subclasses

    @abstractmethod
    def _judge(self, trial_id: str, trial: ScheduledTrial, rung: Rung) -> Decision:
        """Decide on a trial whose finite loss has just been recorded in a rung below the top."""

    @abstractmethod
    def _keep(self, n_entries: int) -> int:
        """How many of a rung's entries are inside the top 1/eta; 0 if that cannot be said."""

    def _again(self, trial: ScheduledTrial, rung: Rung, trial_id: str) -> Decision:
        """Answer a report at a rung level where the trial is recorded already, and not stopped."""
        return Decision.CONTINUE

    def _decide(self, trial: ScheduledTrial, report: Report) -> Decision:
        if trial.told_to_stop or trial.status.is_final:
            return Decision.STOP
        rung = self._rungs[trial.bracket].get(report.resource)
        is_new = rung is not None and report.trial_id not in rung
        if report.value is not None and not math.isfinite(report.value):
            if rung is not None and is_new:
                rung.record(report.trial_id, math.inf)
            return Decision.STOP
        if report.resource >= self.max_resource:
            if rung is not None and is_new and report.value is not None:
                rung.record(report.trial_id, as_loss(report.value, self._mode))
                rung.mark_survivor(report.trial_id)
            return Decision.STOP
        if trial.status is TrialStatus.PAUSED:
            return Decision.PAUSE
        if rung is None or report.value is None:
            return Decision.CONTINUE
        if not is_new:
            return self._again(trial, rung, report.trial_id)
        rung.record(report.trial_id, as_loss(report.value, self._mode))
        return self._judge(report.trial_id, trial, rung)

    # ------------------------------------------------------------------ helpers

    def _trial(self, trial_id: str) -> ScheduledTrial:
        try:
            return self._trials[trial_id]
        except KeyError:
            raise KeyError(f"trial {trial_id!r} is unknown; add it before reporting") from None

    def _draw_bracket(self) -> int:
        if self._n_brackets == 1:
            return 0
        index = int(np.searchsorted(self._bracket_edges, self._rng.random(), side="right"))
        return min(index, self._n_brackets - 1)

    def _pause(self, trial_id: str, trial: ScheduledTrial, rung: Rung) -> None:
        rung.wait(trial_id)
        trial.status, trial.paused_at = TrialStatus.PAUSED, rung.level

    def _unpause(self, trial_id: str, trial: ScheduledTrial) -> None:
        if trial.paused_at is not None:
            self._rungs[trial.bracket][trial.paused_at].leave(trial_id)
            trial.status, trial.paused_at = TrialStatus.RUNNING, None

    def _as_value(self, loss: float | None) -> float | None:
        return loss if loss is None or self._mode == "min" else -loss

    def _settings(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "levels": list(self._levels),
            "reduction_factor": self._eta,
            "brackets": self._n_brackets,
            "mode": self._mode,
            "seed": self._seed,
        }
