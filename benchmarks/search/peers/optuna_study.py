"""Optuna through `ask`, `report`, `should_prune` and `tell`, with the samplers it recommends.

TPE is multivariate and lies about running trials (both advised for parallel runs with correlated
parameters), and grouped where the space is conditional. Pruned trials are told as PRUNED, crashed
ones as FAIL. A value that is not finite is reported as NaN, at which Optuna's pruners prune. The GP
sampler learns from completed trials only, by its own rule, and would stay random for lack of them;
so it is told that pruned trials have completed, with their last value, as by an objective that
returns its value instead of raising `TrialPruned`, and that diverged ones have failed.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import optuna

from benchmarks.search.clock import Pair
from benchmarks.search.spaces import Column, columns, configuration, is_active, is_conditional
from raytune_ahu.simulation import SimulationResult, Task, simulate
from raytune_ahu.types import Decision, Report, Suggestion, TrialStatus

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", module="optuna")
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def tpe_hyperband(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """Multivariate TPE with HyperbandPruner."""
    pruner = optuna.pruners.HyperbandPruner(
        min_resource=1, max_resource=task.max_resource, reduction_factor=3
    )
    return _run(task, _tpe(task, seed), pruner, seed, options)


def tpe_halving(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """Multivariate TPE with SuccessiveHalvingPruner."""
    return _run(task, _tpe(task, seed), _halving(), seed, options)


def gp_halving(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """GPSampler with SuccessiveHalvingPruner; it learns from pruned trials, too."""
    import torch

    torch.set_num_threads(1)
    return _run(
        task, optuna.samplers.GPSampler(seed=seed), _halving(), seed, options, learn_pruned=True
    )


def _tpe(task: Task, seed: int) -> optuna.samplers.TPESampler:
    return optuna.samplers.TPESampler(
        multivariate=True, group=is_conditional(task.space), constant_liar=True, seed=seed
    )


def _halving() -> optuna.pruners.BasePruner:
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)


def _run(
    task: Task, sampler: Any, pruner: Any, seed: int, options: Any, *, learn_pruned: bool = False
) -> SimulationResult:
    # HyperbandPruner draws brackets from the study's name, which else is a new one each time
    study = optuna.create_study(sampler=sampler, pruner=pruner, study_name=f"seed {seed}")
    pair = OptunaPair(task, study, learn_pruned=learn_pruned)
    return simulate(pair, pair, task, **options)


class OptunaPair(Pair):
    """An Optuna study: its sampler proposes, its pruner stops."""

    def __init__(
        self, task: Task, study: optuna.study.Study, *, learn_pruned: bool = False
    ) -> None:
        self.study, self.learn_pruned = study, learn_pruned
        self.space, self.max_resource = task.space, task.max_resource
        self.columns = columns(task.space)
        self._trials: dict[str, optuna.trial.Trial] = {}
        self._last: dict[str, float] = {}

    def suggest(self, trial_id: str) -> Suggestion:
        """Ask the study, and define the configuration by running through the parameters."""
        trial = self._trials[trial_id] = self.study.ask()
        drawn: dict[str, float] = {}
        for column in self.columns:
            if not column.parents or is_active(self.space, column.name, drawn):
                drawn[column.name] = column.coordinate(_suggest(trial, column))
        origin = "model@optuna" if trial.relative_params else "random"
        return Suggestion(configuration(self.space, drawn), origin)

    def report(self, report: Report) -> Decision:
        """Report to the trial, and stop it where the pruner says so."""
        value = report.value
        if value is None or not math.isfinite(value):
            value = math.nan
        self._last[report.trial_id] = value
        trial = self._trials[report.trial_id]
        trial.report(value, report.resource)
        if math.isnan(value):
            return Decision.STOP
        if report.resource >= self.max_resource or trial.should_prune():
            return Decision.STOP
        return Decision.CONTINUE

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """Tell the study how a trial has ended."""
        trial = self._trials.pop(trial_id, None)
        if trial is None:
            return
        last = self._last.get(trial_id)
        diverged = last is not None and math.isnan(last)
        if status is TrialStatus.FAILED and (self.learn_pruned or not diverged):
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif last is not None and (status is TrialStatus.COMPLETED or self.learn_pruned):
            self.study.tell(trial, last)
        else:
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def _suggest(trial: optuna.trial.Trial, column: Column) -> Any:
    if column.kind == "choice":
        return trial.suggest_categorical(column.name, list(range(int(column.upper) + 1)))
    if column.kind == "int":
        return trial.suggest_int(column.name, int(column.lower), int(column.upper), log=column.log)
    return trial.suggest_float(column.name, column.lower, column.upper, log=column.log)
