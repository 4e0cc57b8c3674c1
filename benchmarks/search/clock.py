"""Runs a peer on a task in virtual time and measures the CPU time it takes itself.

Two styles of methods exist. Those that hear of every epoch are a `Pair`, searcher and scheduler in
one; `raytune_ahu.simulation.simulate` runs them, as it runs ours. Those that hand out jobs, a
configuration to train up to an epoch, are an `AskTell`; `run_jobs` works as the other does: the
same workers, an epoch at a time, the same table.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from raytune_ahu.simulation import SimulatedTrial, SimulationResult, Task
from raytune_ahu.types import Configuration, Decision, Report, Suggestion, TrialStatus

_Answer = TypeVar("_Answer")


# ---------------------------------------------------------------- methods that hear of every epoch


class Pair:
    """Searcher and scheduler in one object; what a peer does not need does nothing."""

    max_resource: int
    rung_levels: tuple[int, ...] = ()

    def suggest(self, trial_id: str) -> Suggestion | None:
        """Propose a configuration."""
        raise NotImplementedError

    def add(self, trial_id: str) -> None:
        """Take in a new trial."""

    def report(self, report: Report) -> Decision:
        """Judge a trial."""
        raise NotImplementedError

    def observe(self, report: Report) -> None:
        """Learn from a report that was judged."""

    def next_trial(self) -> str | None:
        """The paused trial to go on with."""
        return None

    def resume(self, trial_id: str) -> None:
        """A paused trial goes on."""
        raise ValueError(f"trial {trial_id!r} is not paused")

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """A trial has ended; called twice, once for each protocol."""

    def reopen(self, trial_id: str) -> None:
        """Never called here."""
        raise NotImplementedError

    def rungs(self) -> list[Any]:
        """Nothing to show."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Never called here."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Never called here."""
        raise NotImplementedError


# ----------------------------------------------------------------------- methods that hand out jobs


@dataclass(frozen=True)
class Job:
    """What a worker shall do: train a configuration up to an epoch, and report its value there."""

    configuration: Configuration
    epochs: int
    """The epoch to reach, counted from the beginning of the training."""
    key: Hashable
    """Jobs with the same key go on with each other's training, which costs the new epochs only."""
    origin: str = "random"
    """Where the configuration came from."""
    token: Any = None
    """What the method wants back."""


class AskTell(Protocol):
    """A method that hands out jobs."""

    def ask(self) -> Job | None:
        """The next job; None: nothing to do until another job has been told."""
        ...

    def tell(self, job: Job, value: float) -> None:
        """The value of a job that has ended; NaN: it failed."""
        ...


def run_jobs(
    method: AskTell,
    task: Task,
    *,
    workers: int,
    budget_s: float,
    resume_s: float = 0.0,
    charge_method: float = 0.0,
) -> SimulationResult:
    """Run a method that hands out jobs.

    A job that was trained as far already is told at once. Training ends with its first value that
    is not finite, or at the epoch in which the curve says that it crashes; the job has failed then.

    Args:
        method: Fresh method.
        task: What is tuned; its mode must be `min`.
        workers: Jobs that run at the same time.
        budget_s: Virtual seconds.
        resume_s: Virtual seconds to go on with a training that had been put down.
        charge_method: Virtual seconds for each CPU second of the method; they pass before the
            worker that asked begins.
    """
    if task.mode != "min":
        raise ValueError(f"mode={task.mode!r}: peers minimise")
    run = _Jobs(method, task, workers, resume_s, charge_method)
    return run.loop(budget_s)


@dataclass
class _Training:
    """A training, and the job it is done for."""

    index: int
    job: Job
    busy: bool = True


class _Jobs:
    """The state of one run of `run_jobs`."""

    def __init__(
        self, method: AskTell, task: Task, workers: int, resume_s: float, charge: float
    ) -> None:
        self.method, self.task, self.evaluate = method, task, task.evaluator()
        self.free, self.resume_s, self.charge = workers, resume_s, charge
        self.method_cpu_s = 0.0
        self.suggest_cpu_s: list[float] = []
        self.trials: list[SimulatedTrial] = []
        self.trainings: dict[Hashable, _Training] = {}
        self.events: list[tuple[float, int, _Training]] = []
        self.n_begun = 0
        self.reports: list[tuple[float, int, int, float]] = []

    def loop(self, budget_s: float) -> SimulationResult:
        self._fill(0.0)
        while self.events and self.events[0][0] <= budget_s:
            now, _, training = heapq.heappop(self.events)
            before = self.method_cpu_s
            self._end_epoch(now, training)
            self._fill(now + self.charge * (self.method_cpu_s - before))
        for trial in self.trials:
            if not trial.status.is_final:
                whole = trial.epochs >= self.task.max_resource
                trial.status = TrialStatus.COMPLETED if whole else TrialStatus.STOPPED
        time_s, trial_of, resource, value = (
            zip(*self.reports, strict=True) if self.reports else ((), (), (), ())
        )
        return SimulationResult(
            mode=self.task.mode,
            trials=self.trials,
            time_s=np.array(time_s, np.float64),
            trial=np.array(trial_of, np.int64),
            resource=np.array(resource, np.int64),
            value=np.array(value, np.float64),
            suggest_cpu_s=np.array(self.suggest_cpu_s, np.float64),
            method_cpu_s=self.method_cpu_s,
        )

    def _fill(self, now: float) -> None:
        while self.free:
            before, n_trials = self.method_cpu_s, len(self.trials)
            job = self._timed(self.method.ask)
            if job is None:
                return
            asked_s = self.method_cpu_s - before
            self._take(job, now + self.charge * asked_s)
            if len(self.trials) > n_trials:
                self.suggest_cpu_s.append(asked_s)

    def _take(self, job: Job, now: float) -> None:
        training = self.trainings.get(job.key)
        if training is None or training.busy:
            curve = self.evaluate(job.configuration)
            index = len(self.trials)
            name = f"trial_{index:05d}"
            self.trials.append(SimulatedTrial(name, job.configuration, job.origin, curve, now))
            training = _Training(index, job)
            self.trainings[job.key] = training
        else:
            training.job, training.busy = job, True
            trial = self.trials[training.index]
            if trial.status is TrialStatus.FAILED:
                self._tell(training, math.nan)
                return
            if trial.epochs >= job.epochs:
                self._tell(training, float(trial.curve.values[job.epochs - 1]))
                return
            trial.status = TrialStatus.RUNNING
            now += self.resume_s
        self.free -= 1
        self._begin_epoch(now, training)

    def _begin_epoch(self, now: float, training: _Training) -> None:
        self.n_begun += 1
        ends = now + self.trials[training.index].curve.epoch_s
        heapq.heappush(self.events, (ends, self.n_begun, training))

    def _end_epoch(self, now: float, training: _Training) -> None:
        trial = self.trials[training.index]
        if trial.curve.crash_at == trial.epochs + 1:
            value = math.nan
            trial.crashed = True
        else:
            value = float(trial.curve.values[trial.epochs])
            trial.epochs += 1
            self.reports.append((now, training.index, trial.epochs, value))
        failed = not math.isfinite(value)
        if not failed and trial.epochs < training.job.epochs:
            self._begin_epoch(now, training)
            return
        trial.status = TrialStatus.FAILED if failed else TrialStatus.PAUSED
        self.free += 1
        self._tell(training, value if not failed else math.nan)

    def _tell(self, training: _Training, value: float) -> None:
        training.busy = False
        self._timed(self.method.tell, training.job, value)

    def _timed(self, call: Callable[..., _Answer], *arguments: object) -> _Answer:
        began = time.process_time()
        answer = call(*arguments)
        self.method_cpu_s += time.process_time() - began
        return answer
