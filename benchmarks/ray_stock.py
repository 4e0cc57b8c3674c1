"""Ray's stock pair, TuneBOHB and ASHAScheduler, on our virtual clock: driven as Ray drives it.

Order of calls as in Ray 2.60's TuneController: every result goes to the scheduler first; if that
says STOP the searcher does not see the result through `on_trial_result`, otherwise it does; when a
trial is stopped both get `on_trial_complete` with its last result. No `stop=` argument: the
scheduler ends a trial at max_t. Neither object is told more or less than by Ray itself.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.bohb import TuneBOHB

from raytune_ahu.adapters.space import to_tune
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Decision, Report, Suggestion, TrialStatus
from schedulers import rung_levels

METRIC = "metric"

# one warning per result says that the searcher learns nothing; the benchmark counts that instead
logging.getLogger("ray.tune.search.bohb.bohb_search").setLevel(logging.ERROR)


class RayStockPair:
    """Both protocols in one object, as the two share the knowledge of what was decided."""

    def __init__(self, space: SearchSpace, *, max_resource: int, mode: str, seed: int) -> None:
        self.max_resource = max_resource
        self.rung_levels = rung_levels(1, 3, max_resource)  # what Ray's would be; only for display
        self.searcher = TuneBOHB(to_tune(space), metric=METRIC, mode=mode, seed=seed)
        self.scheduler = ASHAScheduler(
            metric=METRIC, mode=mode, max_t=max_resource, grace_period=1, reduction_factor=3
        )
        self._trials: dict[str, SimpleNamespace] = {}

    @property
    def n_observations(self) -> int:
        """Results that have reached the model of TuneBOHB."""
        return sum(len(configs) for configs in self.searcher.bohber.configs.values())

    # ---- Searcher

    def suggest(self, trial_id: str) -> Suggestion:
        """Ask TuneBOHB; with no model fitted what it answers is random."""
        configuration = self.searcher.suggest(trial_id)
        has_model = bool(self.searcher.bohber.kde_models)
        return Suggestion(configuration, "model@unknown" if has_model else "random")

    def observe(self, report: Report) -> None:
        """Give TuneBOHB what Ray would give it."""
        trial = self._trials[report.trial_id]
        if not trial.stopped:
            self.searcher.on_trial_result(report.trial_id, trial.last_result)

    # ---- Scheduler

    def add(self, trial_id: str) -> None:
        """Tell ASHAScheduler of a new trial."""
        trial = SimpleNamespace(trial_id=trial_id, last_result={}, stopped=False, ended=False)
        self._trials[trial_id] = trial
        self.scheduler.on_trial_add(None, trial)

    def report(self, report: Report) -> Decision:
        """Ask ASHAScheduler."""
        trial = self._trials[report.trial_id]
        trial.last_result = {
            "training_iteration": report.resource,
            METRIC: report.value,
            "trial_id": report.trial_id,
        }
        action = self.scheduler.on_trial_result(None, trial, trial.last_result)
        trial.stopped = action == ASHAScheduler.STOP
        return Decision.STOP if trial.stopped else Decision.CONTINUE

    def next_trial(self) -> None:
        """ASHAScheduler pauses nobody."""

    def resume(self, trial_id: str) -> None:
        """Never called, as nobody is paused."""
        raise ValueError(f"trial {trial_id!r} is not paused")

    def finish(self, trial_id: str, status: TrialStatus) -> None:
        """Stop a trial as TuneController.stop_trial does, once for both."""
        trial = self._trials[trial_id]
        if not trial.ended:
            trial.ended = True
            self.scheduler.on_trial_complete(None, trial, trial.last_result)
            self.searcher.on_trial_complete(trial_id, result=trial.last_result)

    def rungs(self) -> list[Any]:
        """Nothing to show."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Not needed here."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Not needed here."""
        raise NotImplementedError
