"""Ray's callbacks, turned into events of the record and into refreshes of the live view."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.result import TRAINING_ITERATION

from raytune_ahu.errors import AhuError

if TYPE_CHECKING:
    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial

    from raytune_ahu.adapters.supervisor import Supervisor
    from raytune_ahu.recorder import Recorder


class RecorderCallback(Callback):
    """Records what neither searcher nor scheduler sees: starts and checkpoints.

    Args:
        recorder: The recorder of the run.
        supervisor: Hears of every trial, and has superfluous checkpoints deleted.
        on_step: Called at the end of every step of Ray's controller (about ten times a second).
    """

    def __init__(
        self, recorder: Recorder, supervisor: Supervisor, on_step: Callable[[], None]
    ) -> None:
        self._recorder = recorder
        self._supervisor = supervisor
        self._on_step = on_step

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Do what is to be done again and again."""
        self._on_step()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record that a worker takes up a trial, and from which epoch."""
        self._supervisor.hear_of(trial)
        checkpoint = trial.latest_checkpoint_result
        resource = int(checkpoint.metrics.get(TRAINING_ITERATION, 0)) if checkpoint else 0
        self._recorder.record("started", trial=trial.trial_id, resource=resource)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """The report is recorded already; this is a sign of life."""
        self._supervisor.hear_of(trial)

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: Checkpoint,
        **info: Any,
    ) -> None:
        """Record a checkpoint that is whole; older ones may go now."""
        self._supervisor.hear_of(trial)
        try:
            found = self._supervisor.find(checkpoint.path, trial)
            if found is not None:
                path, size = found
                resource = int(trial.last_result[TRAINING_ITERATION])
                self._supervisor.replace(trial.trial_id, resource, path)
                self._recorder.record(
                    "saved", trial=trial.trial_id, resource=resource, checkpoint=path, bytes=size
                )
                self._supervisor.release(trial.trial_id)
        except AhuError as error:
            self._supervisor.fail(error)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial has ended; most end without a checkpoint."""
        self._supervisor.release(trial.trial_id)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial has failed (what happened is recorded), or will be tried again."""
        self._supervisor.release(trial.trial_id)
