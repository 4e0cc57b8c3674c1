"""Any searcher of this package, driven by Ray Tune.

`RaySearch(BohbSearcher(...))` goes into `tune.run(search_alg=...)`. Ray tells a search algorithm
about the last result of a trial only when the trial completes; both ways lead to the searcher here.
A new trial is suggested only when a worker is free for it, so that every suggestion knows all
reports that came before it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint, CheckpointConfig
from ray.tune.experiment import Trial
from ray.tune.registry import get_trainable_cls
from ray.tune.result import TRAINING_ITERATION
from ray.tune.search import SearchAlgorithm

from raytune_ahu.adapters.trial import RunTrial, TrialCare
from raytune_ahu.space.nested import flatten
from raytune_ahu.types import Configuration, Report, TrialStatus

if TYPE_CHECKING:
    from ray.tune.experiment import Experiment

    from raytune_ahu.protocols import Searcher
    from raytune_ahu.run_folder import RestoredTrial
    from raytune_ahu.storage import CheckpointStorage

SETTINGS_KEY = "settings"
"""Key of a trial's config under which the trainable finds the fixed settings."""


class RaySearch(SearchAlgorithm):
    """A Ray search algorithm that asks one of our searchers and makes the trials itself.

    Args:
        searcher: A searcher of this package.
        metric: Key of the metric.
        num_samples: Trials to suggest at most; None: no limit.
        slots: Trials that may run at once; None: one waits ahead, as with Ray's own searchers.
        worker_is_taken: Says whether a paused trial is about to take the free worker.
        settings: Fixed values for the trainable (config key `settings`).
        restored: Trials that an earlier session left unfinished; they come first.
        first_index: Number of the first new trial.
        checkpoint_frequency: Epochs between two checkpoints; 0: only when paused.
        care: Looks after the trials; None: nobody does, and a failure is final.
        restore_point: Tells where a trial that is tried again goes on.
        storage: Where the checkpoints lie; needed where trials are restored.
        on_hold: Asked before anything starts: whether nothing may start now. Asked again and again
            while nothing else is going on, so it may keep a display alive.
        is_over: Whether the run is to end although it is held.
        at_work: Counts the trials that have a worker or wait for one; None: they are looked for.
    """

    def __init__(
        self,
        searcher: Searcher,
        *,
        metric: str,
        num_samples: int | None,
        slots: Callable[[], int] | None = None,
        worker_is_taken: Callable[[], bool] = lambda: False,
        settings: Mapping[str, Any] | None = None,
        restored: Iterable[RestoredTrial] = (),
        first_index: int = 0,
        checkpoint_frequency: int = 1,
        care: TrialCare | None = None,
        restore_point: Callable[[str], RestoredTrial] | None = None,
        storage: CheckpointStorage | None = None,
        on_hold: Callable[[], bool] = lambda: False,
        is_over: Callable[[], bool] = lambda: False,
        at_work: Callable[[], int] | None = None,
    ) -> None:
        self._searcher = searcher
        self._metric_key = metric
        self._num_samples = num_samples
        self._at_work = at_work or self._count_at_work
        self._slots = slots or (lambda: self._at_work() + 1)
        self._worker_is_taken = worker_is_taken
        self._settings = dict(settings or {})
        self._restored = deque(restored)
        self._next_index = first_index
        self._checkpoint_frequency = checkpoint_frequency
        self._care = care
        self._restore_point = restore_point
        self._storage = storage
        self._on_hold = on_hold
        self._is_over = is_over
        self._experiment: Experiment | None = None
        self._trainable_class: Any = None
        self._unfinished: dict[str, RunTrial] = {}
        self._ended: list[RunTrial] = []
        self._retries: list[RunTrial] = []
        self.exhausted = False

    # --- what Ray asks --------------------------------------------------------------------------

    @property
    def metric(self) -> None:
        """None, so that Ray does not abort a run because one result lacks the metric."""
        return None

    @property
    def total_samples(self) -> int:
        """Trials of the whole run at most."""
        return self._num_samples if self._num_samples is not None else 0

    def add_configurations(self, experiments: Any) -> None:
        """Take the experiment that `tune.run` made."""
        self._experiment = experiments[0] if isinstance(experiments, list) else experiments

    def next_trial(self) -> RunTrial | None:
        """A trial for a free worker; None if none is free, or a paused trial will take it."""
        self._let_go_of_finished()
        if self._finished:
            return None
        if self._on_hold():
            if self._is_over():
                # With no trial left Ray asks here, for ten minutes, before it asks anybody else.
                self.set_finished()
            if not (self._restored and self._restored[0].paused):
                return None
        if self._restored:
            return self._next_restored()
        if self.exhausted or self._at_work() >= self._slots() or self._worker_is_taken():
            return None
        self._retries = [trial for trial in self._retries if trial.status == Trial.PENDING]
        if self._retries:
            return None
        if self._num_samples is not None and self._next_index >= self._num_samples:
            self.exhausted = True
            return None
        trial_id = f"trial_{self._next_index:05d}"
        suggestion = self._searcher.suggest(trial_id)
        if suggestion is None:
            self.exhausted = True
            return None
        self._next_index += 1
        return self._make_trial(trial_id, suggestion.configuration)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A result after which the trial goes on."""
        self._observe(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has ended; `result` is the one that ended it, and is told only here."""
        if trial_id in self._unfinished and self._unfinished[trial_id].will_retry:
            return
        status = TrialStatus.FAILED if error else TrialStatus.STOPPED
        if result is not None and TRAINING_ITERATION in result:
            report = self._observe(trial_id, result)
            if report.value is not None and not math.isfinite(report.value):
                status = TrialStatus.FAILED
        self._searcher.finish(trial_id, status)

    @property
    def nothing_to_come(self) -> bool:
        """Whether no trial will be handed to Ray any more, neither a new one nor a retried one."""
        retries = any(trial.will_retry for trial in self._ended)
        return self.exhausted and not self._restored and not retries

    def is_finished(self) -> bool:
        """Whether all trials are suggested and have ended.

        Ray keeps idle workers for reuse only while this is False, and promotions still need them
        when the last trial has been suggested.
        """
        if self._finished:
            return True
        # Ray asks this in the middle of pausing a trial as well, while its status says otherwise:
        # nothing may be let go of here.
        unfinished = any(not trial.is_finished() for trial in self._unfinished.values())
        return self.nothing_to_come and not unfinished

    # --- helpers --------------------------------------------------------------------------------

    def _observe(self, trial_id: str, result: Mapping[str, Any]) -> Report:
        value = result.get(self._metric_key)
        report = Report(
            trial_id, int(result[TRAINING_ITERATION]), None if value is None else float(value)
        )
        self._searcher.observe(report)
        return report

    def _let_go_of_finished(self) -> None:
        ended = self._ended.copy()
        self._ended.clear()
        for trial in ended:
            trial_id = trial.trial_id
            if not trial.is_finished() or self._unfinished.get(trial_id) is not trial:
                continue
            del self._unfinished[trial_id]
            if trial.will_retry and self._restore_point is not None:
                self._restored.appendleft(self._restore_point(trial_id))
            elif trial.status == Trial.ERROR:
                # Ray tells nobody when a worker could not be reset for a trial.
                self._searcher.finish(trial_id, TrialStatus.FAILED)

    def _count_at_work(self) -> int:
        at_work = (Trial.PENDING, Trial.RUNNING)
        return sum(trial.status in at_work for trial in self._unfinished.values())

    def _next_restored(self) -> RunTrial | None:
        if not self._restored[0].paused and self._at_work() >= self._slots():
            return None
        restored = self._restored.popleft()
        trial = self._make_trial(restored.trial_id, restored.configuration)
        # A worker that was thought dead may be writing the next one yet.
        trial.storage.current_checkpoint_index = restored.checkpoint_index + 2
        if restored.checkpoint is not None and self._storage is not None:
            result = _TrainingResult(
                checkpoint=Checkpoint(
                    path=self._storage.full(restored.checkpoint),
                    filesystem=self._storage.filesystem,
                ),
                metrics={TRAINING_ITERATION: restored.resource},
            )
            trial.run_metadata.checkpoint_manager.register_checkpoint(result)
        if restored.paused:
            trial.set_status(Trial.PAUSED)
        if restored.is_retry:
            self._retries.append(trial)
            trial.is_retry = True
        return trial

    def _make_trial(self, trial_id: str, configuration: Configuration) -> RunTrial:
        if self._experiment is None:
            raise RuntimeError("tune.run has not handed over its experiment yet")
        spec = self._experiment.spec
        config = dict(configuration)
        if self._settings:
            config[SETTINGS_KEY] = self._settings
        trial = RunTrial(
            trainable_name=spec["run"],
            config=config,
            trial_id=trial_id,
            storage=spec["storage"],
            evaluated_params=flatten(configuration),
            experiment_tag=trial_id,
            placement_group_factory=spec.get("resources_per_trial"),
            checkpoint_config=CheckpointConfig(checkpoint_frequency=self._checkpoint_frequency),
            trial_name_creator=lambda _: trial_id,
            stub=True,  # tune.run has validated the trainable
        )
        if self._trainable_class is None:
            self._trainable_class = get_trainable_cls(spec["run"])
        trial.trainable_class = self._trainable_class
        trial.care, trial.ended = self._care, self._ended
        trial.relative_logdir = trial.storage.trial_dir_name = trial_id
        self._unfinished[trial_id] = trial
        return trial
