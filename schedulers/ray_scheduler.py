"""Any scheduler of this package, driven by Ray Tune.

`RayScheduler(AshaPromotion(...))` goes into `tune.run(scheduler=...)`. It turns Ray's results into
reports and decisions into Ray's words, and it does what Ray leaves to nobody: paused trials are
promoted through their checkpoints onto free workers, and those that nothing can promote any more
are stopped at the end instead of holding the run for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.result import AUTO_RESULT_KEYS, TIME_THIS_ITER_S, TRAINING_ITERATION
from ray.tune.schedulers import TrialScheduler

from raytune_ahu.errors import MetricError
from raytune_ahu.types import Decision, Report, TrialStatus, ending

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

    from raytune_ahu.protocols import Scheduler

_RAY_DECISION = {
    Decision.CONTINUE: TrialScheduler.CONTINUE,
    Decision.PAUSE: TrialScheduler.PAUSE,
    Decision.STOP: TrialScheduler.STOP,
}
_WORKER_KEYS = ("hostname", "node_ip", "pid")
_NOT_METRICS = frozenset(AUTO_RESULT_KEYS) | {*_WORKER_KEYS, "done", "trial_id", "experiment_tag"}


class RayScheduler(TrialScheduler):
    """A Ray trial scheduler that asks one of ours.

    The resource is Ray's `training_iteration`. A missing metric is passed on as a report without a
    value (see the scheduler's own rule), unless the first report of the whole run lacks it: then
    the trainable does not report this metric, and the run is stopped with a `MetricError`.

    Args:
        scheduler: A scheduler of this package (the runner puts a recording one into its place).
        metric: Key of the metric; None: the one given to `tune.run`.
        slots: Trials that may run at once. With it, a paused trial is resumed only when a worker is
            really free, so that the choice is made as late as possible; without it, as soon as
            there is one to promote.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        metric: str | None = None,
        slots: Callable[[], int] | None = None,
    ) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.slots = slots
        self.fatal_error: MetricError | None = None
        self.metric_seen = False
        self.on_hold: Callable[[], bool] = lambda: False
        """Whether nothing may be started or promoted now."""
        self.is_draining: Callable[[], bool] = lambda: False
        """Whether trials that would go on are to save and give up their workers."""
        self.controller: Any = None
        """Ray's controller, once a trial was added."""
        self._metric = metric
        self._trials: dict[str, Trial] = {}
        self._ending: dict[str, TrialStatus] = {}
        self._newest: dict[str, int] = {}

    # Ray checks a scheduler's metric in every result and aborts the run when it is missing once;
    # this class has its own rule, so it names no metric to Ray.
    @property
    def metric(self) -> None:
        """None: see the class."""
        return None

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take the metric of `tune.run`; False if another one is set already."""
        if metric is not None and self._metric not in (None, metric):
            return False
        self._metric = self._metric or metric
        return True

    # --- a trial's life -------------------------------------------------------------------------

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """A new trial, a restored one, or one that is tried again after an error."""
        self.controller = _raw(tune_controller)
        if trial.trial_id not in self._trials:
            self.scheduler.add(trial.trial_id)
        self._trials[trial.trial_id] = trial

    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> str:
        """Pass a result on as a report, and the decision back."""
        report = self._report(trial.trial_id, result)
        decision = self.scheduler.report(report)
        self._newest[trial.trial_id] = report.resource
        if decision is Decision.STOP:
            self._ending[trial.trial_id] = ending(
                report.value, report.resource, self.scheduler.max_resource
            )
        if decision is Decision.CONTINUE and self.is_draining():
            decision = Decision.PAUSE  # for Ray only: on a resume the trial goes on
        return str(_RAY_DECISION[decision])

    def on_trial_complete(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> None:
        """A running trial was stopped by us, or ended itself; its last result may be new."""
        trial_id = trial.trial_id
        if trial_id not in self._ending:
            resource = int(result.get(TRAINING_ITERATION, 0))
            self._ending[trial_id] = TrialStatus.COMPLETED
            if resource > self._newest.get(trial_id, 0):
                self.on_trial_result(tune_controller, trial, result)
        self._finish(trial_id, self._ending[trial_id])

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """A waiting or paused trial was stopped."""
        self._finish(trial.trial_id, TrialStatus.STOPPED)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """An exception. Ray tries again if the trial's status is ERROR here, else it gives up.

        A `RunTrial` may be tried again although Ray gives it up; what Ray still meant to do with it
        must not befall the object that carries on.
        """
        if getattr(trial, "will_retry", False):
            trial.temporary_state.saving_to = None
            self.controller._cached_trial_decisions.pop(trial.trial_id, None)
            self.controller._queued_trial_decisions.pop(trial.trial_id, None)
            self._ending.pop(trial.trial_id, None)
        elif trial.status != Trial.ERROR:
            self._finish(trial.trial_id, TrialStatus.FAILED)

    def _finish(self, trial_id: str, status: TrialStatus) -> None:
        self.scheduler.finish(trial_id, status)
        self._ending.pop(trial_id, None)
        self._newest.pop(trial_id, None)

    # --- reports --------------------------------------------------------------------------------

    def _report(self, trial_id: str, result: Mapping[str, Any]) -> Report:
        metrics = {
            key: value
            for key, value in result.items()
            if key not in _NOT_METRICS and not key.startswith("config/")
        }
        if result.get("iterations_since_restore") == 1:
            metrics.update((key, result[key]) for key in _WORKER_KEYS if key in result)
        value = self._value(result, metrics)
        metrics[TIME_THIS_ITER_S] = result.get(TIME_THIS_ITER_S)
        return Report(trial_id, int(result[TRAINING_ITERATION]), value, metrics)

    def _value(self, result: Mapping[str, Any], metrics: Mapping[str, Any]) -> float | None:
        if self._metric is None:
            raise self._fatal(
                "no metric is set; give tune.run(metric=...) or RayScheduler(metric=)"
            )
        if self._metric not in result:
            if self.metric_seen:
                return None
            known = sorted(key for key in metrics if key not in _WORKER_KEYS)
            raise self._fatal(
                f"the trainable does not report metric={self._metric!r}; it reports {known}"
            )
        self.metric_seen = True
        value = result[self._metric]
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError):
            raise self._fatal(
                f"metric={self._metric!r} was reported as {value!r}; it must be a number"
            ) from None

    def _fatal(self, message: str) -> MetricError:
        """Keep the error where the runner finds it; Ray wraps what is raised into text."""
        self.fatal_error = MetricError(message)
        return self.fatal_error

    # --- free workers ---------------------------------------------------------------------------

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """The paused trial that the scheduler promotes, if a worker is free for it.

        Ray calls this in every step, and looks after waiting trials itself. One of these must not
        be answered here: Ray would give it the next worker that becomes free and take back the one
        that is being started for it, for ever when epochs are shorter than the start of a worker.

        When no trial runs or waits, no new one will come and none can be promoted, the trials that
        are left paused are stopped here.
        """
        controller = _raw(tune_controller)
        if self.on_hold() or _a_retry_waits(controller):
            return None
        self.controller = controller
        promoted = self.scheduler.next_trial()
        if promoted is not None:
            trial = self._trials.get(promoted)
            # Its checkpoint is still being written, or it has not been handed to Ray again yet.
            if trial is None or trial.status != Trial.PAUSED:
                return None
            if self.slots is not None and self.at_work() >= self.slots():
                return None
            self.scheduler.resume(promoted)
            return trial
        if (
            self.at_work() == 0
            and controller._paused_trials
            and _search_is_over(controller.search_alg)
        ):
            # Ray's set has no order of its own.
            for trial in sorted(controller._paused_trials, key=lambda trial: trial.trial_id):
                controller.stop_trial(trial)
        return None

    def drain(self) -> None:
        """Let trials that are being saved give up their workers afterwards."""
        decisions = {} if self.controller is None else self.controller._cached_trial_decisions
        for trial_id, decision in decisions.items():
            if decision == TrialScheduler.CONTINUE:
                decisions[trial_id] = TrialScheduler.PAUSE

    def at_work(self) -> int:
        """How many trials have a worker or wait for one."""
        if self.controller is None:
            return 0
        return len(self.controller._running_trials) + len(self.controller._pending_trials)

    def running(self) -> list[Trial]:
        """Trials that a worker trains or saves now."""
        return [] if self.controller is None else list(self.controller._running_trials)

    # --- state ----------------------------------------------------------------------------------

    def debug_string(self) -> str:
        """One line for Ray's own status output."""
        rungs = ", ".join(f"{r.level}: {r.entrants}->{r.survivors}" for r in self.scheduler.rungs())
        return f"{type(self.scheduler).__name__} rungs (entrants->survivors) {rungs}"

    def save(self, checkpoint_path: str) -> None:
        """Write the scheduler's state to a file."""
        Path(checkpoint_path).write_text(json.dumps(self.scheduler.state_dict()), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote."""
        state = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
        self.scheduler.load_state_dict(state)
        self.metric_seen = True


def _a_retry_waits(controller: Any) -> bool:
    return any(getattr(trial, "is_retry", False) for trial in controller._pending_trials)


def _search_is_over(search_alg: Any) -> bool:
    over = getattr(search_alg, "nothing_to_come", None)
    return bool(search_alg.is_finished() if over is None else over)


def _raw(controller: Any) -> Any:
    """Ray's controller itself: schedulers get it wrapped, with its trials' sets hidden."""
    return getattr(controller, "_tune_controller", controller)
