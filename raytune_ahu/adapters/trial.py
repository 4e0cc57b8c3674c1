"""A Ray trial whose failures and checkpoints are looked after by the run, not by Ray.

Ray's own handling (retries at the end of the queue, error files, checkpoints that are kept for
ever, a snapshot of every trial every ten seconds) is replaced where Ray asks the trial.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from ray.tune.experiment import Trial
from ray.tune.experiment.trial import _Location
from ray.tune.result import DONE, NODE_IP, PID, TRAINING_ITERATION


class TrialCare(Protocol):
    """Who looks after the trials of a run; see `Supervisor`."""

    def on_failure(self, trial: Trial, error: BaseException | None) -> bool:
        """Record what went wrong; return whether the trial is tried again."""
        ...

    def is_worth_saving(self, trial_id: str) -> bool:
        """Whether the last checkpoint of a trial that ends now is to be kept."""
        ...


class RunTrial(Trial):
    """A trial that asks its run what to do.

    The attributes are set after the construction, whose arguments are Ray's. A trial that is tried
    again is a new object with the same id: Ray forgets this one as failed.
    """

    trainable_class: Any = None
    """Its class; Ray would fetch it from the cluster several times for each trial."""
    care: TrialCare | None = None
    ended: list[RunTrial] | None = None
    """Where it enters itself when its status says that it has ended (Ray may take that back)."""
    will_retry: bool = False
    """Whether it failed and another object carries on with it."""
    is_retry: bool = False
    """Whether it carries on with one that failed. While it waits for a worker nothing else starts:
    Ray would give the next free worker to whatever comes last."""

    def handle_error(self, exc: BaseException | None = None) -> None:
        """A failure; Ray may tell the same one twice."""
        if self.care is not None and not self.is_finished():
            self.will_retry = self.care.on_failure(self, exc)

    def set_status(self, status: str) -> None:
        """Take the status that Ray gives it."""
        super().set_status(status)
        if self.ended is not None and self.is_finished():
            self.ended.append(self)

    def should_recover(self) -> bool:
        """False: see the class."""
        return False

    def should_checkpoint(self) -> bool:
        """Whether a checkpoint is due after the newest result.

        After the last one only if it will be kept; then always, whatever the frequency.
        """
        result = self.last_result or {}
        if result.get(DONE) and self.care is not None:
            return self.care.is_worth_saving(self.trial_id)
        frequency = self.checkpoint_freq
        return bool(frequency and result.get(TRAINING_ITERATION, 0) % frequency == 0)

    def update_last_result(self, result: dict[str, Any]) -> None:
        """Remember the newest result; Ray would keep statistics of every metric as well."""
        if self.experiment_tag:
            result.update(experiment_tag=self.experiment_tag)
        self.set_location(_Location(result.get(NODE_IP), result.get(PID)))
        self.run_metadata.last_result = result
        self.run_metadata.last_result_time = time.time()

    def get_trainable_cls(self) -> Any:
        """Its class."""
        return self.trainable_class

    def get_json_state(self) -> tuple[str, str]:
        """Nothing, for Ray's snapshots: the run's log holds what matters."""
        return "null", "null"
