"""Syne Tune's asynchronous methods, driven as its Tuner drives them.

`suggest`, `on_trial_add`, then `on_trial_result` for each epoch and, after a STOP,
`on_trial_remove`; a failed trial goes to `on_trial_error` and its failed report to nobody. All
methods are of the stopping kind, with one bracket; the last value of each trial is what their
models learn from.

The density model of `BOHB` works on the values themselves, even of a log-uniform parameter; with
`exponents` it is given the logarithm as a uniform parameter, which is kinder to it.
"""

from __future__ import annotations

import logging
import math
import warnings
from datetime import datetime
from typing import Any

import numpy as np
from syne_tune import config_space as st
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.baselines import ASHA, ASHABORE, ASHACQR, BOHB
from syne_tune.optimizer.scheduler import SchedulerDecision

from benchmarks.search.clock import Pair
from benchmarks.search.spaces import Column, columns, configuration
from raytune_ahu.simulation import SimulationResult, Task, simulate
from raytune_ahu.types import Decision, Report, Suggestion, TrialStatus

METRIC, EPOCH = "loss", "epoch"
BEGAN = datetime(2000, 1, 1)

logging.getLogger("syne_tune").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module=r"syne_tune|sklearn|xgboost|statsmodels")


def asha(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """Random search with ASHA."""
    return _run(task, ASHA, seed, options)


def bohb(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """The density model with ASHA."""
    return _run(task, BOHB, seed, options)


def bohb_exponents(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """The density model with ASHA, on the exponents of logarithmic parameters."""
    return _run(task, BOHB, seed, options, exponents=True)


def cqr(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """Conformal quantile regression with ASHA."""
    return _run(task, ASHACQR, seed, options)


def bore(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """Density ratio estimation by a classifier, with ASHA."""
    return _run(task, ASHABORE, seed, options)


def _run(
    task: Task, kind: Any, seed: int, options: Any, *, exponents: bool = False
) -> SimulationResult:
    np.random.seed(seed)  # noqa: NPY002  # Syne Tune draws from it where it has no generator
    pair = SyneTunePair(task, kind, seed, exponents=exponents)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return simulate(pair, pair, task, **options)


class SyneTunePair(Pair):
    """A scheduler of Syne Tune, with the searcher inside it."""

    def __init__(self, task: Task, kind: Any, seed: int, *, exponents: bool = False) -> None:
        self.space, self.max_resource = task.space, task.max_resource
        self.columns, self.exponents = columns(task.space), exponents
        self.scheduler = kind(
            config_space={c.name: self._domain(c) for c in self.columns},
            metric=METRIC,
            time_attr=EPOCH,
            max_t=task.max_resource,
            do_minimize=True,
            random_seed=seed,
            grace_period=1,
            reduction_factor=3,
        )
        self._trials: dict[str, Trial] = {}
        self._n_trials = 0

    def _is_exponent(self, column: Column) -> bool:
        return self.exponents and column.log and column.kind == "float"

    def _domain(self, column: Column) -> Any:
        if column.kind == "choice":
            return st.choice(list(range(int(column.upper) + 1)))
        if column.kind == "int":
            make = st.lograndint if column.log else st.randint
            return make(int(column.lower), int(column.upper))
        if self._is_exponent(column):
            return st.uniform(math.log10(column.lower), math.log10(column.upper))
        return (st.loguniform if column.log else st.uniform)(column.lower, column.upper)

    def suggest(self, trial_id: str) -> Suggestion | None:
        """Ask the scheduler, which asks its searcher."""
        suggestion = self.scheduler.suggest()
        if suggestion is None:
            return None
        values = suggestion.config
        self._trials[trial_id] = Trial(self._n_trials, values, BEGAN)
        self._n_trials += 1
        drawn = {
            c.name: c.coordinate(10 ** values[c.name] if self._is_exponent(c) else values[c.name])
            for c in self.columns
        }
        origin = "model@last" if self._has_model() else "random"
        return Suggestion(configuration(self.space, drawn), origin)

    def _has_model(self) -> bool:
        inner = self.scheduler.searcher.searcher
        if type(inner).__name__ == "RandomSearcher":
            return False
        return inner is not None and getattr(inner, "good_kde", inner) is not None

    def add(self, trial_id: str) -> None:
        """Tell the scheduler of a new trial."""
        self.scheduler.on_trial_add(self._trials[trial_id])

    def report(self, report: Report) -> Decision:
        """Ask the scheduler."""
        if report.value is None or not math.isfinite(report.value):
            return Decision.STOP
        trial = self._trials[report.trial_id]
        result = {METRIC: report.value, EPOCH: report.resource}
        decision = self.scheduler.on_trial_result(trial, result)
        if decision == SchedulerDecision.CONTINUE:
            return Decision.CONTINUE
        self.scheduler.on_trial_remove(trial)
        return Decision.STOP

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """Tell the scheduler of a failed trial; it knows of the others."""
        trial = self._trials.pop(trial_id, None)
        if trial is not None and status is TrialStatus.FAILED:
            self.scheduler.on_trial_error(trial)
