"""Looks after the trials of a run: failures, hung workers, a full disk, checkpoints to delete.

Ray asks and tells through `RunTrial` (failures), `RecorderCallback` (news, once a step) and
`RaySearch` (may new work start, where does a trial go on). What is decided here is recorded before
it takes effect. Start with `Supervisor.on_failure` and `Supervisor.on_step`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray.tune.experiment import Trial

from raytune_ahu.adapters.diagnosis import contain_losses, diagnose, is_missing, text_of
from raytune_ahu.adapters.space_gate import SpaceGate
from raytune_ahu.adapters.surroundings import RunStopper
from raytune_ahu.errors import AhuError, RunBusyError, StorageError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.faults import Fault, will_retry
from raytune_ahu.recorder import Recorder
from raytune_ahu.retention import Retention
from raytune_ahu.run_folder import lacks_last_checkpoint
from raytune_ahu.run_state import TrialState, checkpoint_number
from raytune_ahu.types import TrialStatus, ending

if TYPE_CHECKING:
    from raytune_ahu.mirror import RecordMirror
    from raytune_ahu.storage import CheckpointStorage

_LOOK_EVERY_S = 1.0
_FAULT_SHOWN_S = 60.0
_STALL_S = 2.0


class Supervisor:
    """Looks after the trials of a run; see the module.

    Args:
        spec: The experiment.
        recorder: The recorder of the run.
        storage: Where the checkpoints lie.
        mirror: Deletes checkpoints once the record is safe.
        retention: What is to be kept.
        stopper: Ends the run where it cannot go on.
        space: Holds new work back while the disk is nearly full.
        controller: Returns Ray's controller, or None while there is none.
    """

    START_ALLOWANCE_S = 300.0
    """How much longer than `trial_timeout_s` a worker may take to start and set up its trial."""

    def __init__(
        self,
        spec: ExperimentSpec,
        recorder: Recorder,
        storage: CheckpointStorage,
        mirror: RecordMirror,
        retention: Retention,
        stopper: RunStopper,
        space: SpaceGate,
        controller: Callable[[], Any],
    ) -> None:
        self._spec = spec
        self._recorder = recorder
        self._storage = storage
        self._mirror = mirror
        self._retention = retention
        self._stopper = stopper
        self._space = space
        self._controller = controller
        self._news: dict[Trial, float] = {}  # trial at work -> when it was last heard of
        self._timed_out: set[Trial] = set()
        self._looked_at = 0.0
        self._stepped_at = time.monotonic()
        self._newest_fault = ""
        self._fault_shown_until = 0.0

    # --- failures -------------------------------------------------------------------------------

    def on_failure(self, trial: Trial, error: BaseException | None) -> bool:
        """Record what went wrong with a trial; return whether it is tried again."""
        state = self._recorder.state.trials[trial.trial_id]
        fault, text, checkpoint = self._diagnose(trial, error)
        retry = will_retry(
            fault,
            failures=state.failures,
            losses=state.losses,
            max_failures=self._spec.max_failures,
            retry_oom=self._spec.retry_oom,
        ) and not _is_refused(error)
        if state.told_to_stop and (fault.is_failure or not lacks_last_checkpoint(state)):
            retry = False  # it has done its epochs; only what came after them went wrong
        if fault is Fault.DISK_FULL:
            self._space.note_full()
        self._recorder.record(
            "errored",
            trial=trial.trial_id,
            fault=fault.value,
            error=text,
            will_retry=retry,
            **({} if checkpoint is None else {"checkpoint": checkpoint}),
        )
        self._sweep(trial.trial_id)
        self._newest_fault = self._describe(state, fault, retry)
        self._fault_shown_until = time.monotonic() + _FAULT_SHOWN_S
        if not retry:
            status = TrialStatus.FAILED
            if state.told_to_stop:
                status = ending(state.value, state.resource, self._recorder.max_resource)
            self._recorder.finish(trial.trial_id, status)
            self.release(trial.trial_id)
        return retry

    def _describe(self, state: TrialState, fault: Fault, retry: bool) -> str:
        if not retry:
            outcome = "ended" if state.told_to_stop else "failed"
        else:
            resource = max(state.checkpoints, default=0)
            outcome = f"goes on from epoch {resource}" if resource else "starts again"
        return f"{state.trial_id} after epoch {state.resource}: {fault.value}; it {outcome}"

    def _diagnose(self, trial: Trial, error: BaseException | None) -> tuple[Fault, str, str | None]:
        if trial in self._timed_out:
            seconds = self._spec.trial_timeout_s
            return Fault.TIMEOUT, f"no report for trial_timeout_s={seconds:g} seconds", None
        fault = diagnose(error, restoring=trial.is_restoring, saving=trial.is_saving)
        text = text_of(error)
        if fault is not Fault.BAD_CHECKPOINT:
            return fault, text, None
        checkpoint = self._storage.relative(trial.temporary_state.restoring_from.checkpoint.path)
        if is_missing(text) and self._storage.exists(checkpoint):
            self._stopper.fail(_not_shared(f"{trial.trial_id} did not find {checkpoint}", trial))
            return Fault.STORAGE, text, None
        return fault, text, checkpoint

    # --- checkpoints ----------------------------------------------------------------------------

    def is_worth_saving(self, trial_id: str) -> bool:
        """Whether the last checkpoint of a trial that ends now is to be kept."""
        return self._retention.is_worth_keeping(trial_id)

    def _sweep(self, trial_id: str) -> None:
        """Have deleted what a failed worker left of a checkpoint: it may be what fills the disk."""
        state = self._recorder.state.trials[trial_id]
        try:
            there = self._storage.checkpoints(trial_id).get(trial_id, set())
        except StorageError:
            return  # the next resume looks again
        self.delete_unrecorded(state, there)

    def delete_unrecorded(self, state: TrialState, there: Collection[str]) -> None:
        """Have checkpoints deleted that no event tells of; no later one gets the same name."""
        for checkpoint in sorted(set(there) - set(state.checkpoints.values())):
            state.checkpoint_index = max(state.checkpoint_index, checkpoint_number(checkpoint))
            self._mirror.delete_later(checkpoint)

    def find(self, path: str, trial: Trial) -> tuple[str, int] | None:
        """Find a checkpoint that a worker has just written.

        Returns:
            Its path as it is recorded, and its bytes. None if it cannot be seen from here: the node
            that wrote it has a disk of its own under that path, and the run is ended in order.
        """
        checkpoint = self._storage.relative(path)
        try:
            if self._storage.exists(checkpoint):
                return checkpoint, self._storage.size(checkpoint)
        except StorageError:  # for the moment; that it was written is known from the worker
            return checkpoint, self._recorder.state.largest_checkpoint
        self._stopper.fail(_not_shared(f"{trial.trial_id} wrote {path}, unseen from here", trial))
        return None

    def fail(self, error: AhuError) -> None:
        """End the run in order: Ray swallows what is raised where this is called."""
        self._stopper.fail(error)

    def replace(self, trial_id: str, resource: int, checkpoint: str) -> None:
        """A checkpoint takes the place of an earlier one of the same epoch."""
        before = self._recorder.state.trials[trial_id].checkpoints.get(resource)
        if before not in (None, checkpoint):
            self._mirror.delete_later(before)

    def release(self, trial_id: str) -> None:
        """Have checkpoints deleted that the newest event of a trial made superfluous."""
        for checkpoint in self._retention.release(trial_id):
            self._mirror.delete_later(checkpoint)

    # --- every step -----------------------------------------------------------------------------

    def hear_of(self, trial: Trial) -> None:
        """A trial has started, reported or saved."""
        self._news[trial] = time.monotonic()

    def on_step(self) -> None:
        """Keep the record and look for hung workers; called about ten times a second."""
        now = time.monotonic()
        if now - self._stepped_at > _STALL_S:  # a report may be waiting for the driver, not it
            stalled = now - self._stepped_at
            self._news = {trial: heard_at + stalled for trial, heard_at in self._news.items()}
        if self._controller() is not None:
            contain_losses(self._controller())
        self._mirror.refresh()
        self._stepped_at = time.monotonic()
        if self._mirror.lost:
            self._stopper.fail(RunBusyError(self._mirror.problem))
        if self._spec.trial_timeout_s is None or now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        at_work = dict(_workers(self._controller()))
        self._news = {trial: self._news.get(trial, now) for trial in at_work}
        for trial, heard_at in self._news.items():
            starting = trial.status != Trial.RUNNING
            limit = self._spec.trial_timeout_s + (self.START_ALLOWANCE_S if starting else 0.0)
            if now - heard_at > limit and trial not in self._timed_out:
                self._timed_out.add(trial)
                ray.kill(at_work[trial])  # Ray then reports a lost worker

    def problems(self) -> dict[str, str | None]:
        """What the user should know, for the live view; by what it is about."""
        problems = {"space": self._space.blocked(), "record": self._mirror.problem}
        if time.monotonic() < self._fault_shown_until:
            problems[self._newest_fault] = self._newest_fault
        return problems


def _not_shared(what: str, trial: Trial) -> StorageError:
    return StorageError(
        f"{what}, on node {trial.node_ip}: every node must see --storage-path; use a shared file "
        "system or an object store (s3://...), then --resume"
    )


def _is_refused(error: BaseException | None) -> bool:
    """Whether Ray has given the trial up already (a worker that cannot be reset)."""
    return type(error).__name__ == "_AbortTrialExecution"


def _workers(controller: Any) -> Iterator[tuple[Trial, Any]]:
    """Trials with a worker process, started or starting, and its actor.

    Ray says nothing of a worker that hangs while it starts; its actor manager knows it.
    """
    if controller is None:
        return
    live = controller._actor_manager._live_actors_to_ray_actors_resources
    for tracked_actor, trial in list(controller._actor_to_trial.items()):
        if tracked_actor in live:
            yield trial, live[tracked_actor][0]
