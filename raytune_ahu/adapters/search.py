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
from ray.tune.result import TRAINING_ITERATION
from ray.tune.search import SearchAlgorithm

from raytune_ahu.space.nested import flatten
from raytune_ahu.types import Configuration, Report, TrialStatus

if TYPE_CHECKING:
    from ray.tune.experiment import Experiment

    from raytune_ahu.protocols import Searcher
    from raytune_ahu.run_folder import RestoredTrial

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
        max_failures: How often a trial is tried again after an exception.
        checkpoint_frequency: Epochs between two checkpoints; 0: only when paused.
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
        max_failures: int = 0,
        checkpoint_frequency: int = 1,
    ) -> None:
        self._searcher = searcher
        self._metric_key = metric
        self._num_samples = num_samples
        self._slots = slots or (lambda: len(self._live()) + 1)
        self._worker_is_taken = worker_is_taken
        self._settings = dict(settings or {})
        self._restored = deque(restored)
        self._next_index = first_index
        self._max_failures = max_failures
        self._checkpoint_frequency = checkpoint_frequency
        self._experiment: Experiment | None = None
        self._unfinished: dict[str, Trial] = {}
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

    def next_trial(self) -> Trial | None:
        """A trial for a free worker; None if none is free, or a paused trial will take it."""
        self._let_go_of_finished()
        if self._finished:
            return None
        if self._restored:
            return self._next_restored()
        if self.exhausted or len(self._live()) >= self._slots() or self._worker_is_taken():
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
        status = TrialStatus.FAILED if error else TrialStatus.STOPPED
        if result is not None and TRAINING_ITERATION in result:
            report = self._observe(trial_id, result)
            if report.value is not None and not math.isfinite(report.value):
                status = TrialStatus.FAILED
        self._searcher.finish(trial_id, status)

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
        return self.exhausted and not self._restored and not unfinished

    # --- helpers --------------------------------------------------------------------------------

    def _observe(self, trial_id: str, result: Mapping[str, Any]) -> Report:
        value = result.get(self._metric_key)
        report = Report(
            trial_id, int(result[TRAINING_ITERATION]), None if value is None else float(value)
        )
        self._searcher.observe(report)
        return report

    def _let_go_of_finished(self) -> None:
        for trial_id, trial in list(self._unfinished.items()):
            if trial.is_finished():
                del self._unfinished[trial_id]
                if trial.status == Trial.ERROR:
                    # Ray tells nobody when a worker could not be reset for a trial.
                    self._searcher.finish(trial_id, TrialStatus.FAILED)

    def _live(self) -> list[Trial]:
        return [
            trial
            for trial in self._unfinished.values()
            if trial.status in (Trial.PENDING, Trial.RUNNING)
        ]

    def _next_restored(self) -> Trial | None:
        if not self._restored[0].paused and len(self._live()) >= self._slots():
            return None
        restored = self._restored.popleft()
        trial = self._make_trial(restored.trial_id, restored.configuration)
        trial.storage.current_checkpoint_index = restored.checkpoint_index
        if restored.checkpoint is not None:
            result = _TrainingResult(
                checkpoint=Checkpoint.from_directory(str(restored.checkpoint)),
                metrics={TRAINING_ITERATION: restored.resource},
            )
            trial.run_metadata.checkpoint_manager.register_checkpoint(result)
        if restored.paused:
            trial.set_status(Trial.PAUSED)
        return trial

    def _make_trial(self, trial_id: str, configuration: Configuration) -> Trial:
        if self._experiment is None:
            raise RuntimeError("tune.run has not handed over its experiment yet")
        spec = self._experiment.spec
        config = dict(configuration)
        if self._settings:
            config[SETTINGS_KEY] = self._settings
        trial = Trial(
            trainable_name=spec["run"],
            config=config,
            trial_id=trial_id,
            storage=spec["storage"],
            evaluated_params=flatten(configuration),
            experiment_tag=trial_id,
            placement_group_factory=spec.get("resources_per_trial"),
            checkpoint_config=CheckpointConfig(
                num_to_keep=1, checkpoint_frequency=self._checkpoint_frequency
            ),
            max_failures=self._max_failures,
            trial_name_creator=lambda _: trial_id,
        )
        trial.relative_logdir = trial.storage.trial_dir_name = trial_id
        self._unfinished[trial_id] = trial
        return trial
