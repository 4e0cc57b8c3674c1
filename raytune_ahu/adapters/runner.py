"""Runs an experiment on Ray: the only caller of `tune.run`.

`run(spec, trainable=..., scheduler=RayScheduler(...))` makes the run's folder, wires searcher,
scheduler and recorder together, shows the live view, and returns what was found. With `resume=True`
the searcher and the scheduler are rebuilt by replaying the run's log, and unfinished trials go on
from their newest checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, Trainable
from rich.console import Console

from raytune_ahu.adapters.callbacks import RecorderCallback
from raytune_ahu.adapters.node_watch import NodeWatch
from raytune_ahu.adapters.progress import Progress, make_progress
from raytune_ahu.adapters.search import SETTINGS_KEY, RaySearch
from raytune_ahu.adapters.shared_storage import check_shared
from raytune_ahu.adapters.slots import Slots
from raytune_ahu.adapters.space_gate import SpaceGate
from raytune_ahu.adapters.supervisor import Supervisor
from raytune_ahu.adapters.surroundings import RunStopper, interruptible, quiet_ray
from raytune_ahu.adapters.verified import with_manifests
from raytune_ahu.errors import MetricError, SpecError, StorageError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.mirror import RecordMirror, mirror_for
from raytune_ahu.protocols import Scheduler
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import RunLog, read_events
from raytune_ahu.retention import Retention
from raytune_ahu.run_folder import (
    RESOURCE_FIELDS,
    RestoredTrial,
    check_old_run,
    forget_missing,
    keep_search,
    make_folder,
    reopen_failed,
    restore_point,
    unfinished_trials,
    update_spec,
    versions,
)
from raytune_ahu.run_state import RunState
from raytune_ahu.search import searcher_for
from raytune_ahu.storage import CheckpointStorage


class SchedulerAdapter(Protocol):
    """What the runner needs of `schedulers.RayScheduler`, which it must not import."""

    scheduler: Scheduler
    slots: Callable[[], int] | None
    metric_seen: bool
    fatal_error: MetricError | None
    on_hold: Callable[[], bool]
    is_draining: Callable[[], bool]
    controller: Any

    def at_work(self) -> int:
        """How many trials have a worker or wait for one."""
        ...

    def running(self) -> list[Any]:
        """Trials that a worker trains or saves now."""
        ...

    def drain(self) -> None:
        """Let trials that are being saved give up their workers afterwards."""
        ...

    def set_search_properties(self, metric: str | None, mode: str | None) -> bool:
        """Tell it which metric to read."""
        ...


@dataclass(frozen=True)
class RunResult:
    """What a run has found."""

    spec: ExperimentSpec
    folder: Path
    """The run's folder: its record, and a folder per trial with the newest checkpoint."""
    state: RunState
    """Everything that was recorded."""
    ended: str
    """Why it ended: `finished`, `time budget`, or `interrupted`."""


def run(
    spec: ExperimentSpec,
    *,
    trainable: type[Trainable],
    scheduler: SchedulerAdapter,
    resume: bool = False,
    retry_failed: bool = False,
    verbose: bool = False,
    console: Console | None = None,
    callbacks: Sequence[Callback] = (),
) -> RunResult:
    """Run an experiment, or go on with one, on the Ray that this process is connected to.

    Args:
        spec: The experiment. On a resume, a search that `auto` chose is that of the recorded run.
        trainable: A class of `ray.tune.Trainable`; `step` is one epoch.
        scheduler: A fresh `RayScheduler` around the scheduler that the specification names.
        resume: Whether to go on with the run recorded in `spec.folder`.
        retry_failed: Whether trials of it that failed are tried again (not those that diverged).
        verbose: Whether Ray's own output is shown instead of the live view.
        console: Where to show the live view; None: standard output.
        callbacks: Further callbacks of Ray, such as those of `make_loggers`.

    Raises:
        SpecError: If the specification does not fit the scheduler, or differs from that of the run
            to resume in more than what may be changed.
        ClusterError: If no node of the cluster can run such a trial.
        RunExistsError: If a new run would overwrite one.
        RunNotFoundError: If there is no run to resume.
        RunBusyError: If another process is driving it.
        RecordError: If its log is damaged.
        StorageError: If the run's folder or the checkpoints' storage cannot be written, or not all
            nodes of the cluster see it.
        MetricError: If the trainable does not report the metric.
    """
    if resume:
        spec = keep_search(spec)
    _check(spec, scheduler.scheduler)
    slots = Slots(spec.resources, spec.max_concurrent)
    slots.check()
    storage = CheckpointStorage(spec.storage_path, spec.name)
    storage.check_writable()
    nodes = ray.nodes()
    check_shared(storage, nodes)
    pure = scheduler.scheduler
    recorder = Recorder(searcher_for(spec, pure.rung_levels), pure, mode=spec.mode)
    with contextlib.ExitStack() as stack:
        mirror = mirror_for(spec.folder, storage)
        mirror.claim(resume=resume)
        stack.callback(mirror.close)
        if resume:
            check_old_run(spec)
        else:
            make_folder(spec)
        log = stack.enter_context(RunLog(spec.folder))
        mirror.sync = log.sync
        stack.callback(mirror.close)  # before the log is closed
        recorder.replay(read_events(spec.folder))
        changes = update_spec(spec, begun=len(recorder.state.trials)) if resume else {}
        recorder.attach(log)
        recorder.record(
            "run_started",
            session=recorder.state.sessions + 1,
            host=platform.node(),
            pid=os.getpid(),
            slots=slots(),
            resources={"cpus": spec.cpus_per_trial, "gpus": spec.gpus_per_trial},
            versions=versions(),
            changes=changes,
        )
        if retry_failed:
            retry_oom = spec.retry_oom or bool(changes.keys() & RESOURCE_FIELDS)
            reopen_failed(recorder, retry_oom=retry_oom)
        session = _Session(spec, recorder, scheduler, storage, mirror, slots, nodes)
        log.on_full, session.refresh_log = session.wait_for_room, log.refresh
        if log.dropped_bytes and console is not None:
            console.print(
                f"the last line of {log.path} was torn ({log.dropped_bytes} bytes) and is left out"
            )
        try:
            ended = session.drive(trainable, verbose, console or Console(), callbacks)
        except BaseException as error:
            at_once = isinstance(error, KeyboardInterrupt)
            reason = "interrupted at once" if at_once else f"{type(error).__name__}: {error}"
            recorder.record("run_ended", reason=reason)
            raise
        recorder.record("run_ended", reason=ended)
    return RunResult(spec, spec.folder, recorder.state, ended)


def _check(spec: ExperimentSpec, scheduler: Scheduler) -> None:
    if scheduler.max_resource != spec.max_epochs:
        raise SpecError(
            f"the scheduler's max_resource={scheduler.max_resource} must be the specification's "
            f"max_epochs={spec.max_epochs}; build it with schedulers.scheduler_for(spec)"
        )
    if spec.settings and any(name.split("/")[0] == SETTINGS_KEY for name in spec.space.names):
        raise SpecError(
            f"the search space has a parameter {SETTINGS_KEY!r}, but that key carries the "
            "trainable's fixed settings; rename the parameter"
        )


class _Session:
    """One call of `tune.run` and everything around it.

    Args:
        spec: The experiment.
        recorder: The recorder, with what earlier sessions did.
        scheduler: The adapter of the scheduler.
        storage: Where the checkpoints lie.
        mirror: Deletes checkpoints once the record is safe.
        slots: Trials that may run at once.
        nodes: The nodes that share the storage, as `ray.nodes()` lists them.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        recorder: Recorder,
        scheduler: SchedulerAdapter,
        storage: CheckpointStorage,
        mirror: RecordMirror,
        slots: Slots,
        nodes: list[dict[str, Any]],
    ) -> None:
        self._spec, self._recorder, self._scheduler = spec, recorder, scheduler
        self._storage, self._mirror, self._slots = storage, mirror, slots
        self._retention = Retention(
            recorder.state, spec.keep_best, at=spec.keep_best_at, per=spec.keep_best_per
        )
        self._stopper = RunStopper(
            spec.time_budget_s,
            recorder.state.seconds,
            stop_timeout_s=spec.stop_timeout_s,
            running=scheduler.running,
        )
        self._space = SpaceGate(storage, recorder.state, lambda: len(scheduler.running()))
        self._supervisor = Supervisor(
            spec,
            recorder,
            storage,
            mirror,
            self._retention,
            self._stopper,
            self._space,
            lambda: scheduler.controller,
        )
        self._watch = NodeWatch(storage, nodes)
        self._progress: Progress | None = None
        self.refresh_log: Callable[[], None] = lambda: None

    def drive(
        self,
        trainable: type[Trainable],
        verbose: bool,
        console: Console,
        callbacks: Sequence[Callback],
    ) -> str:
        """Call `tune.run` and return why it ended."""
        spec, recorder, scheduler = self._spec, self._recorder, self._scheduler
        restored = self._take_up(console)
        limit = spec.num_samples
        if not restored and limit is not None and len(recorder.state.trials) >= limit:
            return "finished"
        scheduler.scheduler = recorder
        scheduler.slots = self._slots
        scheduler.metric_seen = recorder.state.metric_seen
        scheduler.on_hold = self._is_held
        scheduler.is_draining = lambda: self._stopper.is_ending
        scheduler.set_search_properties(spec.metric, spec.mode)
        search = RaySearch(
            recorder,
            metric=spec.metric,
            num_samples=spec.num_samples,
            slots=self._slots,
            worker_is_taken=lambda: recorder.next_trial() is not None,
            settings=spec.settings,
            restored=restored,
            first_index=len(recorder.state.trials),
            checkpoint_frequency=spec.checkpoint_frequency,
            care=self._supervisor,
            restore_point=lambda trial_id: restore_point(
                recorder.state.trials[trial_id], is_retry=True
            ),
            storage=self._storage,
            on_hold=self._is_held,
            is_over=self._stopper.stop_all,
            at_work=scheduler.at_work,
        )
        self._progress = make_progress(recorder, spec, console, self._notices)
        with contextlib.ExitStack() as stack:
            stack.enter_context(quiet_ray(verbose))
            stack.enter_context(interruptible(self._stopper))
            if not verbose:
                stack.enter_context(self._progress)
            try:
                tune.run(
                    with_manifests(trainable),
                    name=spec.name,
                    storage_path=self._storage.storage_path,
                    search_alg=search,
                    scheduler=scheduler,
                    stop=self._stopper,
                    resources_per_trial=tune.PlacementGroupFactory([spec.resources]),
                    checkpoint_config=CheckpointConfig(),
                    reuse_actors=spec.reuse_workers and _can_be_reused(trainable),
                    raise_on_failed_trial=False,
                    callbacks=[
                        RecorderCallback(recorder, self._supervisor, self._on_step),
                        *callbacks,
                    ],
                    verbose=2 if verbose else 0,
                )
            except tune.TuneError:
                if scheduler.fatal_error is None:
                    raise
        with contextlib.suppress(StorageError):  # the next resume looks again
            self._delete_unrecorded(self._storage.checkpoints())
        # Ray turns what an adapter raises into text, or swallows it.
        error = scheduler.fatal_error or self._stopper.error
        if error is not None:
            raise error from None
        return self._stopper.reason

    def wait_for_room(self, needed: int) -> None:
        """Wait until the log can be written again: it did not fit onto the disk.

        Raises:
            StorageError: If the run is to end before there is room.
        """
        self._space.note_full()
        if self._progress is not None:
            self._progress.refresh()
        self._mirror.refresh()  # deletions that wait may be all the room that is needed
        if self._stopper.stop_all() or self._stopper.is_ending:
            raise StorageError(
                f"the disk of {self._spec.folder} is full: {needed} bytes of the log did not fit; "
                "make room, then --resume"
            )
        time.sleep(1.0)

    def _on_step(self) -> None:
        """What is done about ten times a second."""
        self._supervisor.on_step()
        self._watch.refresh()
        self.refresh_log()
        if self._progress is not None:
            self._progress.refresh()

    def _take_up(self, console: Console) -> list[RestoredTrial]:
        """Bring state, disk and retention into line, and return what is left to be run."""
        existing = self._storage.checkpoints()
        lost = forget_missing(self._recorder, existing)
        if lost:
            console.print(
                f"{lost} unfinished trials have no checkpoint in {self._storage.uri} any more, "
                "and start again",
                style="yellow",
            )
        self._retention.release_all()
        self._delete_unrecorded(existing)
        restored = unfinished_trials(self._recorder, self._retention)
        for trial_id in self._recorder.state.trials:
            self._supervisor.release(trial_id)
        return restored

    def _delete_unrecorded(self, existing: Mapping[str, Collection[str]]) -> None:
        """Delete what killed workers have left of checkpoints, also those of an earlier driver."""
        for trial in self._recorder.state.trials.values():
            self._supervisor.delete_unrecorded(trial, existing.get(trial.trial_id, ()))

    def _is_held(self) -> bool:
        """Whether nothing may start now."""
        held = self._stopper.is_ending or self._space.blocked() is not None
        if self._stopper.is_ending:
            self._scheduler.drain()
        if held and self._progress is not None:
            # With no trial left Ray does nothing but ask for one.
            self._on_step()
        return held

    def _notices(self) -> dict[str, str]:
        """What the live view says besides: what is waited for, and why."""
        notices = {
            "stopping": self._stopper.notice(),
            "waiting": self._why_waiting(),
            "nodes": self._watch.problem,
            **self._supervisor.problems(),
        }
        return {about: text for about, text in notices.items() if text}

    def _why_waiting(self) -> str | None:
        """Why no trial runs although some are waiting for a worker."""
        running = len(self._scheduler.running())
        if self._scheduler.at_work() == running:
            return None
        why = self._slots.why_waiting(running)
        return why and f"waiting: {why}"


def _can_be_reused(trainable: type[Trainable]) -> bool:
    """Whether one worker process can serve several trials: only if `reset_config` is written."""
    return trainable.reset_config is not Trainable.reset_config
