"""Ray's callbacks, turned into events of the record and into refreshes of the live view."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.result import TRAINING_ITERATION

_ANSI = re.compile(r"\x1b\[[0-9;]*m")

if TYPE_CHECKING:
    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial

    from raytune_ahu.recorder import Recorder


class RecorderCallback(Callback):
    """Records what neither searcher nor scheduler sees: starts, checkpoints, exceptions.

    Args:
        recorder: The recorder of the run.
        folder: The run's folder; checkpoints are recorded relative to it.
        on_step: Called at the end of every step of Ray's controller (about ten times a second).
    """

    def __init__(self, recorder: Recorder, folder: Path, on_step: Callable[[], None]) -> None:
        self._recorder = recorder
        self._folder = folder
        self._on_step = on_step

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Refresh the live view."""
        self._on_step()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record that a worker takes up a trial, and from which epoch."""
        checkpoint = trial.latest_checkpoint_result
        resource = int(checkpoint.metrics.get(TRAINING_ITERATION, 0)) if checkpoint else 0
        self._recorder.record("started", trial=trial.trial_id, resource=resource)

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: Checkpoint,
        **info: Any,
    ) -> None:
        """Record a checkpoint that is whole. Ray deletes the one before it after this call."""
        path = Path(checkpoint.path)
        inside = path.is_relative_to(self._folder)
        self._recorder.record(
            "saved",
            trial=trial.trial_id,
            resource=int(trial.last_result[TRAINING_ITERATION]),
            checkpoint=str(path.relative_to(self._folder) if inside else path),
        )

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record an exception after which the trial is tried again."""
        self._record_error(trial, will_retry=True)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record an exception that ends the trial."""
        self._record_error(trial, will_retry=False)

    def _record_error(self, trial: Trial, *, will_retry: bool) -> None:
        self._recorder.record(
            "errored", trial=trial.trial_id, error=_newest_error(trial), will_retry=will_retry
        )


def _newest_error(trial: Trial) -> str:
    """Read the newest traceback from the file in which Ray collects a trial's failures."""
    if trial.error_file is None or not Path(trial.error_file).exists():
        return "no traceback was kept"
    text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    _, _, newest = text.rpartition("Failure # ")
    return _ANSI.sub("", newest.partition("\n")[2]).strip()
