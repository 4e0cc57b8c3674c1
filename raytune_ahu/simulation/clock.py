"""The virtual clock: runs a searcher and a scheduler on a task, in a fraction of a second.

`simulate` is a driver in the sense of `raytune_ahu.protocols`: a few workers, each of which trains
one trial epoch by epoch; an epoch takes the virtual seconds that the task says, everything else
takes none. Searchers and schedulers cannot tell it from a cluster, except by its speed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import SpecError
from raytune_ahu.protocols import Scheduler, Searcher
from raytune_ahu.simulation.tasks import Curve, Evaluator, Task
from raytune_ahu.types import Configuration, Decision, Mode, Report, TrialStatus, ending


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
    """Virtual time of its start."""
    epochs: int = 0
    """Epochs it has run."""
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

    @property
    def epochs(self) -> int:
        """Epochs spent in all."""
        return len(self.value)

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


def simulate(
    searcher: Searcher,
    scheduler: Scheduler,
    task: Task,
    *,
    workers: int,
    max_trials: int | None = None,
    budget_s: float | None = None,
    budget_epochs: int | None = None,
    on_report: Callable[[float, Report, Decision], None] | None = None,
) -> SimulationResult:
    """Run a tuning in virtual time until a limit is reached or nothing is left to do.

    A worker that becomes free takes the scheduler's `next_trial`, else a new suggestion; if there
    is neither it waits for another worker's report. Reports at the same time are handled in the
    order in which their epochs were begun. At the end of the budget running and paused trials are
    finished as STOPPED; so are paused trials that nobody promotes when everything else has ended.

    Args:
        searcher: Fresh searcher over `task.space`.
        scheduler: Fresh scheduler with the task's mode and at most its `max_resource`.
        task: What is tuned.
        workers: Trials that run at the same time.
        max_trials: Suggestions to ask for at most.
        budget_s: Virtual seconds; a report later than this is not made.
        budget_epochs: Reports to make at most, all trials together.
        on_report: Told (virtual time, report, decision) after each report.

    Raises:
        SpecError: If no limit is given, or a limit or `workers` is not positive, or the scheduler
            wants more epochs than the task has.
    """
    limits = {"max_trials": max_trials, "budget_s": budget_s, "budget_epochs": budget_epochs}
    if all(limit is None for limit in limits.values()):
        raise SpecError(f"give at least one of {', '.join(limits)}; a simulation needs an end")
    for name, limit in {"workers": workers, **limits}.items():
        if limit is not None and not limit > 0:
            raise SpecError(f"{name}={limit!r} must be greater than 0")
    if scheduler.max_resource > task.max_resource:
        raise SpecError(
            f"the scheduler's max_resource={scheduler.max_resource} must be at most the "
            f"{task.max_resource} epochs of task {task.name!r}"
        )
    run = _Run(searcher, scheduler, task.evaluator(), workers, max_trials, on_report)
    run.loop(
        budget_s=math.inf if budget_s is None else budget_s,
        budget_epochs=math.inf if budget_epochs is None else budget_epochs,
    )
    return run.result(task.mode)


class _Run:
    """The state of one simulation."""

    def __init__(
        self,
        searcher: Searcher,
        scheduler: Scheduler,
        evaluate: Evaluator,
        workers: int,
        max_trials: int | None,
        on_report: Callable[[float, Report, Decision], None] | None,
    ) -> None:
        self.searcher, self.scheduler, self.evaluate = searcher, scheduler, evaluate
        self.free_workers = workers
        self.trials_left = math.inf if max_trials is None else max_trials
        self.on_report = on_report
        self.trials: list[SimulatedTrial] = []
        self.index: dict[str, int] = {}
        self.events: list[tuple[float, int, int]] = []  # (end of epoch, begun as n-th, trial)
        self.n_begun = 0
        self.reports: list[tuple[float, int, int, float]] = []  # as in SimulationResult

    def loop(self, budget_s: float, budget_epochs: float) -> None:
        self._fill_workers(0.0)
        while self.events and self.events[0][0] <= budget_s and len(self.reports) < budget_epochs:
            now, _, index = heapq.heappop(self.events)
            self._end_epoch(now, index)
            self._fill_workers(now)
        for trial in self.trials:
            if not trial.status.is_final:
                self._finish(trial, TrialStatus.STOPPED)

    def result(self, mode: Mode) -> SimulationResult:
        time_s, trial, resource, value = (
            zip(*self.reports, strict=True) if self.reports else ((), (), (), ())
        )
        return SimulationResult(
            mode=mode,
            trials=self.trials,
            time_s=np.array(time_s, np.float64),
            trial=np.array(trial, np.int64),
            resource=np.array(resource, np.int64),
            value=np.array(value, np.float64),
        )

    def _fill_workers(self, now: float) -> None:
        while self.free_workers:
            index = self._resumed()
            if index is None:
                index = self._started(now)
            if index is None:
                return
            self.free_workers -= 1
            self._begin_epoch(now, index)

    def _resumed(self) -> int | None:
        trial_id = self.scheduler.next_trial()
        if trial_id is None:
            return None
        self.scheduler.resume(trial_id)
        index = self.index[trial_id]
        self.trials[index].status = TrialStatus.RUNNING
        return index

    def _started(self, now: float) -> int | None:
        if self.trials_left <= 0:
            return None
        index = len(self.trials)
        trial_id = f"trial_{index:05d}"
        suggestion = self.searcher.suggest(trial_id)
        if suggestion is None:
            self.trials_left = 0
            return None
        self.trials_left -= 1
        self.scheduler.add(trial_id)
        curve = self.evaluate(suggestion.configuration)
        self.index[trial_id] = index
        self.trials.append(
            SimulatedTrial(trial_id, suggestion.configuration, suggestion.origin, curve, now)
        )
        return index

    def _begin_epoch(self, now: float, index: int) -> None:
        self.n_begun += 1
        ends = now + self.trials[index].curve.epoch_s
        heapq.heappush(self.events, (ends, self.n_begun, index))

    def _end_epoch(self, now: float, index: int) -> None:
        trial = self.trials[index]
        value = float(trial.curve.values[trial.epochs])
        trial.epochs += 1
        self.reports.append((now, index, trial.epochs, value))
        report = Report(trial.trial_id, trial.epochs, value)
        decision = self.scheduler.report(report)
        self.searcher.observe(report)
        if decision is Decision.CONTINUE:
            self._begin_epoch(now, index)
        else:
            self.free_workers += 1
            if decision is Decision.PAUSE:
                trial.status = TrialStatus.PAUSED
            else:
                top = self.scheduler.max_resource
                self._finish(trial, ending(value, trial.epochs, top))
        if self.on_report is not None:
            self.on_report(now, report, decision)

    def _finish(self, trial: SimulatedTrial, status: TrialStatus) -> None:
        trial.status = status
        self.scheduler.finish(trial.trial_id, status)
        self.searcher.finish(trial.trial_id, status)
