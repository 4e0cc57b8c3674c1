"""The virtual clock: runs a searcher and a scheduler on a task, in a fraction of a second.

`simulate` is a driver in the sense of `raytune_ahu.protocols`: a few workers, each of which trains
one trial epoch by epoch; an epoch takes the virtual seconds that the task says, everything else
takes none, unless it is charged. Searchers and schedulers cannot tell it from a cluster, except by
its speed.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from raytune_ahu.errors import SpecError
from raytune_ahu.protocols import Scheduler, Searcher
from raytune_ahu.simulation.outcome import SimulatedTrial, SimulationResult
from raytune_ahu.simulation.tasks import Evaluator, Task
from raytune_ahu.types import Decision, Mode, Report, TrialStatus, ending

_Answer = TypeVar("_Answer")


def simulate(
    searcher: Searcher,
    scheduler: Scheduler,
    task: Task,
    *,
    workers: int,
    max_trials: int | None = None,
    budget_s: float | None = None,
    budget_epochs: int | None = None,
    resume_s: float = 0.0,
    charge_method: float = 0.0,
    on_report: Callable[[float, Report, Decision], None] | None = None,
) -> SimulationResult:
    """Run a tuning in virtual time until a limit is reached or nothing is left to do.

    A worker that becomes free takes the scheduler's `next_trial`, else a new suggestion; if there
    is neither it waits for another worker's report. Reports at the same time are handled in the
    order in which their epochs were begun. At the end of the budget running and paused trials are
    finished as STOPPED; so are paused trials that nobody promotes when everything else has ended.
    A trial that crashes makes no report in that epoch, though it takes its time, and is finished as
    FAILED.

    Args:
        searcher: Fresh searcher over `task.space`.
        scheduler: Fresh scheduler with the task's mode and at most its `max_resource`.
        task: What is tuned.
        workers: Trials that run at the same time, a whole number of at least 1.
        max_trials: Suggestions to ask for at most.
        budget_s: Virtual seconds; a report later than this is not made.
        budget_epochs: Epochs to end at most, all trials together: reports and crashes.
        resume_s: Virtual seconds that it takes a worker to take up a paused trial (start, restore)
            before its next epoch.
        charge_method: Virtual seconds for each CPU second of this process that is spent in searcher
            and scheduler, charged to the worker that waits for the answer: after a report, and
            before a trial starts or goes on. Workers do not wait for each other's answers. 0:
            thinking is free. Above 0 the result is not deterministic any more: it depends on the
            machine and what else it does.
        on_report: Told (virtual time, report, decision) after each report.

    Raises:
        SpecError: If no limit is given, or a limit or `workers` is not positive, or the scheduler
            wants more epochs than the task has, or `resume_s` or `charge_method` is negative.
    """
    limits = {"max_trials": max_trials, "budget_s": budget_s, "budget_epochs": budget_epochs}
    if all(limit is None for limit in limits.values()):
        raise SpecError(f"give at least one of {', '.join(limits)}; a simulation needs an end")
    for name, limit in {"workers": workers, **limits}.items():
        if limit is not None and not limit > 0:
            raise SpecError(f"{name}={limit!r} must be greater than 0")
    if workers != int(workers):
        raise SpecError(f"workers={workers!r} must be a whole number; round it")
    for name, charge in {"resume_s": resume_s, "charge_method": charge_method}.items():
        if not 0.0 <= charge < math.inf:
            raise SpecError(f"{name}={charge!r} must be finite and at least 0; use 0 for free")
    if scheduler.max_resource > task.max_resource:
        raise SpecError(
            f"the scheduler's max_resource={scheduler.max_resource} must be at most the "
            f"{task.max_resource} epochs of task {task.name!r}"
        )
    run = _Run(
        searcher,
        scheduler,
        task.evaluator(),
        workers=int(workers),
        max_trials=max_trials,
        resume_s=resume_s,
        charge_method=charge_method,
        on_report=on_report,
    )
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
        *,
        workers: int,
        max_trials: int | None,
        resume_s: float,
        charge_method: float,
        on_report: Callable[[float, Report, Decision], None] | None,
    ) -> None:
        self.searcher, self.scheduler, self.evaluate = searcher, scheduler, evaluate
        self.resume_s, self.charge_method = resume_s, charge_method
        self.free_workers = [0.0] * workers  # a heap: when each has its last answer
        self.trials_left = math.inf if max_trials is None else max_trials
        self.on_report = on_report
        self.trials: list[SimulatedTrial] = []
        self.index: dict[str, int] = {}
        self.events: list[tuple[float, int, int]] = []  # (end of epoch, begun as n-th, trial)
        self.n_begun = self.n_ended = 0
        self.reports: list[tuple[float, int, int, float]] = []  # as in SimulationResult
        self.suggest_cpu_s: list[float] = []
        self.method_cpu_s = 0.0

    def loop(self, budget_s: float, budget_epochs: float) -> None:
        self._fill_workers(0.0)
        while self.events and self.events[0][0] <= budget_s and self.n_ended < budget_epochs:
            now, _, index = heapq.heappop(self.events)
            self.n_ended += 1
            if self.trials[index].curve.crash_at == self.trials[index].epochs + 1:
                self._crash(now, index)
            else:
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
            suggest_cpu_s=np.array(self.suggest_cpu_s, np.float64),
            method_cpu_s=self.method_cpu_s,
        )

    def _timed(self, method: Callable[..., _Answer], *arguments: object) -> _Answer:
        """Call a method of searcher or scheduler, and note its CPU time."""
        began = time.process_time()
        answer = method(*arguments)
        self.method_cpu_s += time.process_time() - began
        return answer

    def _charge(self, since_cpu_s: float) -> float:
        """Virtual seconds for the CPU time that was noted since then."""
        return self.charge_method * (self.method_cpu_s - since_cpu_s)

    def _fill_workers(self, now: float) -> None:
        while self.free_workers:
            ready = max(now, heapq.heappop(self.free_workers))
            spent = self.method_cpu_s
            index = self._resumed()
            delay = 0.0 if index is None else self.resume_s
            if index is None:
                index = self._started()
            ready += self._charge(spent)
            if index is None:
                heapq.heappush(self.free_workers, ready)
                return
            if not self.trials[index].epochs:
                self.trials[index].started_s = ready
            self._begin_epoch(ready + delay, index)

    def _resumed(self) -> int | None:
        trial_id = self._timed(self.scheduler.next_trial)
        if trial_id is None:
            return None
        self._timed(self.scheduler.resume, trial_id)
        index = self.index[trial_id]
        self.trials[index].status = TrialStatus.RUNNING
        return index

    def _started(self) -> int | None:
        if self.trials_left <= 0:
            return None
        index = len(self.trials)
        trial_id = f"trial_{index:05d}"
        spent = self.method_cpu_s
        suggestion = self._timed(self.searcher.suggest, trial_id)
        if suggestion is None:
            self.trials_left = 0
            return None
        self.suggest_cpu_s.append(self.method_cpu_s - spent)
        self.trials_left -= 1
        self._timed(self.scheduler.add, trial_id)
        what, origin = suggestion.configuration, suggestion.origin
        self.index[trial_id] = index
        self.trials.append(SimulatedTrial(trial_id, what, origin, self.evaluate(what), math.nan))
        return index

    def _begin_epoch(self, starts: float, index: int) -> None:
        self.n_begun += 1
        ends = starts + self.trials[index].curve.epoch_s
        heapq.heappush(self.events, (ends, self.n_begun, index))

    def _end_epoch(self, now: float, index: int) -> None:
        trial, spent = self.trials[index], self.method_cpu_s
        value = float(trial.curve.values[trial.epochs])
        trial.epochs += 1
        self.reports.append((now, index, trial.epochs, value))
        report = Report(trial.trial_id, trial.epochs, value)
        decision = self._timed(self.scheduler.report, report)
        self._timed(self.searcher.observe, report)
        if decision is Decision.PAUSE:
            trial.status = TrialStatus.PAUSED
        elif decision is Decision.STOP:
            self._finish(trial, ending(value, trial.epochs, self.scheduler.max_resource))
        answered = now + self._charge(spent)
        if decision is Decision.CONTINUE:
            self._begin_epoch(answered, index)
        else:
            heapq.heappush(self.free_workers, answered)
        if self.on_report is not None:
            self.on_report(now, report, decision)

    def _crash(self, now: float, index: int) -> None:
        trial, spent = self.trials[index], self.method_cpu_s
        trial.crashed = True
        self._finish(trial, TrialStatus.FAILED)
        heapq.heappush(self.free_workers, now + self._charge(spent))

    def _finish(self, trial: SimulatedTrial, status: TrialStatus) -> None:
        trial.status = status
        self._timed(self.scheduler.finish, trial.trial_id, status)
        self._timed(self.searcher.finish, trial.trial_id, status)
