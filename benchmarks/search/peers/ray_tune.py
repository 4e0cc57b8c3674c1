"""Ray's stock searchers and schedulers, driven as Ray 2.60's TuneController drives them.

Every result goes to the scheduler first; if that says STOP the searcher does not see the result
through `on_trial_result`, otherwise it does; a trial that is stopped while it runs is announced to
both with `on_trial_complete`, one that is stopped while it is paused with `on_trial_remove` and
`on_trial_complete`. No `stop=` argument: the scheduler ends a trial at max_t. Nobody is told more
or less than by Ray itself.

A trial whose metric is not finite ends with an error, as if the trainable had raised one: all
methods are spared what comes after it. (Told such values, Ray would train the trial to its end.)
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, HyperBandForBOHB
from ray.tune.search.bohb import TuneBOHB
from ray.tune.search.sample import _BackwardsCompatibleNumpyRng
from ray.tune.search.variant_generator import generate_variants

from benchmarks.search.clock import Pair
from benchmarks.search.spaces import Column, columns, configuration, with_configspace
from raytune_ahu.simulation import SimulationResult, Task, simulate
from raytune_ahu.types import Configuration, Decision, Report, Suggestion, TrialStatus

METRIC = "metric"
ETA = 3

# one warning per result says that the searcher learns nothing; the benchmark counts that instead
logging.getLogger("ray.tune.search.bohb.bohb_search").setLevel(logging.ERROR)


def bohb_asha(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """TuneBOHB with ASHAScheduler: what many write, though the searcher learns nothing then."""
    return _run(task, Bohb(task, seed), _asha(task), seed, options)


def random_asha(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """Random search as Ray's BasicVariantGenerator draws it, with ASHAScheduler."""
    return _run(task, RandomVariants(task, seed), _asha(task), seed, options)


def bohb_hyperband(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """TuneBOHB with HyperBandForBOHB, the documented pair."""
    scheduler = HyperBandForBOHB(
        metric=METRIC, mode=task.mode, max_t=task.max_resource, reduction_factor=ETA
    )
    return _run(task, Bohb(task, seed), scheduler, seed, options)


def _run(task: Task, searcher: Any, scheduler: Any, seed: int, options: Any) -> SimulationResult:
    np.random.seed(seed)  # noqa: NPY002  # hpbandster, within TuneBOHB, draws from it
    pair = RayPair(searcher, scheduler, task.max_resource)
    return simulate(pair, pair, task, **options)


def _asha(task: Task) -> ASHAScheduler:
    return ASHAScheduler(
        metric=METRIC,
        mode=task.mode,
        max_t=task.max_resource,
        grace_period=1,
        reduction_factor=ETA,
    )


class Bohb(TuneBOHB):  # type: ignore[misc]
    """TuneBOHB, and the translation of what it draws."""

    def __init__(self, task: Task, seed: int) -> None:
        space, self._translate = with_configspace(task.space, ordinals=False)
        super().__init__(space, metric=METRIC, mode=task.mode, seed=seed)

    @property
    def has_model(self) -> bool:
        """Whether a model is fitted; without one all is random."""
        return bool(self.bohber.kde_models)

    def configuration(self, values: dict[str, Any]) -> Configuration:
        """Make a configuration of ours."""
        return self._translate(_flat(values))


class RandomVariants:
    """Ray's own random draws as a searcher."""

    has_model = False

    def __init__(self, task: Task, seed: int) -> None:
        self._space, self._columns = task.space, columns(task.space)
        self._domains = {column.name: _domain(column) for column in self._columns}
        self._rng = _BackwardsCompatibleNumpyRng(np.random.RandomState(seed))
        self._variants = self._draw()

    def _draw(self) -> Iterator[dict[str, Any]]:
        while True:
            for _, values in generate_variants(dict(self._domains), random_state=self._rng):
                yield values

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Draw a configuration."""
        return next(self._variants)

    def configuration(self, values: dict[str, Any]) -> Configuration:
        """Make a configuration of ours."""
        drawn = {c.name: c.coordinate(values[c.name]) for c in self._columns}
        return configuration(self._space, drawn)

    def on_trial_result(self, trial_id: str, result: Any) -> None:
        """Nothing is learnt."""

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing is learnt."""


def _domain(column: Column) -> Any:
    if column.kind == "choice":
        return tune.choice(list(range(int(column.upper) + 1)))
    if column.kind == "int":
        make = tune.lograndint if column.log else tune.randint
        return make(int(column.lower), int(column.upper) + 1)
    return (tune.loguniform if column.log else tune.uniform)(column.lower, column.upper)


class RayTrial:
    """As much of Ray's `Trial` as its schedulers look at."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id
        self.status = Trial.RUNNING
        self.last_result: dict[str, Any] = {}
        self.is_saving = False


class RayPair(Pair):
    """One of Ray's searchers and one of its schedulers; also the controller that they talk to."""

    def __init__(self, searcher: Any, scheduler: Any, max_resource: int) -> None:
        self.searcher, self.scheduler = searcher, scheduler
        self.max_resource = max_resource
        self.search_alg = SimpleNamespace(searcher=searcher)
        self._trials: dict[str, RayTrial] = {}
        self._may_pause = isinstance(scheduler, HyperBandForBOHB)

    @property
    def n_observations(self) -> int:
        """Results that have reached the model of TuneBOHB."""
        return sum(len(configs) for configs in self.searcher.bohber.configs.values())

    # ---- what Ray's schedulers call on their controller

    def get_trials(self) -> list[Any]:
        """All trials; one looks as if it ran, as Ray always has a next one waiting.

        HyperBandForBOHB halves brackets that are not full only when nothing runs or waits.
        """
        return [*self._trials.values(), RayTrial("waiting")]

    def stop_trial(self, trial: RayTrial) -> None:
        """End a trial, as TuneController.stop_trial does."""
        if trial.status in (Trial.TERMINATED, Trial.ERROR):
            return
        if trial.status == Trial.PAUSED:
            self.scheduler.on_trial_remove(self, trial)
            self.searcher.on_trial_complete(trial.trial_id)
        else:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
            self.searcher.on_trial_complete(trial.trial_id, result=trial.last_result)
        trial.status = Trial.TERMINATED

    # ---- Searcher

    def suggest(self, trial_id: str) -> Suggestion | None:
        """Ask the searcher."""
        values = self.searcher.suggest(trial_id)
        origin = "model@unknown" if self.searcher.has_model else "random"
        return Suggestion(self.searcher.configuration(values), origin)

    def observe(self, report: Report) -> None:
        """Give the searcher what Ray would give it."""
        if not _is_finite(report):
            return
        trial = self._trials[report.trial_id]
        if trial.status != Trial.TERMINATED:
            self.searcher.on_trial_result(report.trial_id, trial.last_result)

    # ---- Scheduler

    def add(self, trial_id: str) -> None:
        """Tell the scheduler of a new trial."""
        trial = self._trials[trial_id] = RayTrial(trial_id)
        self.scheduler.on_trial_add(self, trial)

    def report(self, report: Report) -> Decision:
        """Ask the scheduler."""
        if not _is_finite(report):
            return Decision.STOP  # `finish` tells Ray of the error
        trial = self._trials[report.trial_id]
        trial.last_result = {
            "training_iteration": report.resource,
            METRIC: report.value,
            "trial_id": report.trial_id,
        }
        action = self.scheduler.on_trial_result(self, trial, trial.last_result)
        if action == ASHAScheduler.STOP:
            self.stop_trial(trial)
            return Decision.STOP
        if action == ASHAScheduler.PAUSE:
            trial.status = Trial.PAUSED
            return Decision.PAUSE
        return Decision.CONTINUE

    def next_trial(self) -> str | None:
        """Ask the scheduler for a paused trial."""
        trial = self.scheduler.choose_trial_to_run(self) if self._may_pause else None
        return None if trial is None else str(trial.trial_id)

    def resume(self, trial_id: str) -> None:
        """A paused trial runs again."""
        self._trials[trial_id].status = Trial.RUNNING

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """End a trial that Ray has not ended yet: an error, or the end of the budget."""
        trial = self._trials[trial_id]
        if trial.status in (Trial.TERMINATED, Trial.ERROR):
            return
        if status is TrialStatus.FAILED:
            self.scheduler.on_trial_error(self, trial)
            self.searcher.on_trial_complete(trial_id, error=True)
            trial.status = Trial.ERROR
        else:
            trial.status = Trial.TERMINATED


def _is_finite(report: Report) -> bool:
    return report.value is not None and math.isfinite(report.value)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Undo the nesting that TuneBOHB makes of names with a slash."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": item for inner, item in _flat(value).items()}
        else:
            flat[name] = value
    return flat
