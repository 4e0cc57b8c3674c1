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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ray import tune
from ray.tune import CheckpointConfig, Trainable
from rich.console import Console

from raytune_ahu.adapters.callbacks import RecorderCallback
from raytune_ahu.adapters.progress import make_progress
from raytune_ahu.adapters.search import SETTINGS_KEY, RaySearch
from raytune_ahu.adapters.slots import Slots
from raytune_ahu.adapters.surroundings import RunStopper, interruptible, quiet_ray
from raytune_ahu.errors import MetricError, SpecError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.protocols import Scheduler
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import RunLog, read_events
from raytune_ahu.run_folder import (
    check_old_run,
    make_folder,
    unfinished_trials,
    update_spec,
    versions,
)
from raytune_ahu.run_state import RunState
from raytune_ahu.search import searcher_for


class SchedulerAdapter(Protocol):
    """What the runner needs of `schedulers.RayScheduler`, which it must not import."""

    scheduler: Scheduler
    slots: Callable[[], int] | None
    metric_seen: bool
    fatal_error: MetricError | None

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
    verbose: bool = False,
    console: Console | None = None,
) -> RunResult:
    """Run an experiment, or go on with one, on the Ray that this process is connected to.

    Args:
        spec: The experiment.
        trainable: A class of `ray.tune.Trainable`; `step` is one epoch.
        scheduler: A fresh `RayScheduler` around the scheduler that the specification names.
        resume: Whether to go on with the run recorded in `spec.folder`.
        verbose: Whether Ray's own output is shown instead of the live view.
        console: Where to show the live view; None: standard output.

    Raises:
        SpecError: If the specification does not fit the scheduler, or differs from that of the run
            to resume in more than what may be changed.
        ClusterError: If no node of the cluster can run such a trial.
        RunExistsError: If a new run would overwrite one.
        RunNotFoundError: If there is no run to resume.
        RunBusyError: If another process is driving it.
        RecordError: If its log is damaged.
        StorageError: If the run's folder cannot be written.
        MetricError: If the trainable does not report the metric.
    """
    _check(spec, scheduler.scheduler)
    slots = Slots(spec.resources, spec.max_concurrent)
    slots.check()
    pure = scheduler.scheduler
    recorder = Recorder(searcher_for(spec, pure.rung_levels), pure, mode=spec.mode)
    if resume:
        check_old_run(spec)
    else:
        make_folder(spec)
    with RunLog(spec.folder) as log:
        recorder.replay(read_events(spec.folder))
        changes = update_spec(spec) if resume else {}
        recorder.attach(log)
        recorder.record(
            "run_started",
            session=recorder.state.sessions + 1,
            host=platform.node(),
            pid=os.getpid(),
            slots=slots(),
            versions=versions(),
            changes=changes,
        )
        try:
            ended = _drive(
                spec, trainable, scheduler, recorder, slots, verbose, console or Console()
            )
        except BaseException as error:
            recorder.record("run_ended", reason=f"{type(error).__name__}: {error}")
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


def _drive(
    spec: ExperimentSpec,
    trainable: type[Trainable],
    scheduler: SchedulerAdapter,
    recorder: Recorder,
    slots: Slots,
    verbose: bool,
    console: Console,
) -> str:
    """Call `tune.run` and return why it ended."""
    restored = unfinished_trials(recorder, spec.folder)
    limit = spec.num_samples
    if not restored and limit is not None and len(recorder.state.trials) >= limit:
        return "finished"
    scheduler.scheduler = recorder
    scheduler.slots = slots
    scheduler.metric_seen = recorder.state.metric_seen
    scheduler.set_search_properties(spec.metric, spec.mode)
    search = RaySearch(
        recorder,
        metric=spec.metric,
        num_samples=spec.num_samples,
        slots=slots,
        worker_is_taken=lambda: recorder.next_trial() is not None,
        settings=spec.settings,
        restored=restored,
        first_index=len(recorder.state.trials),
        max_failures=spec.max_failures,
        checkpoint_frequency=spec.checkpoint_frequency,
    )
    stopper = RunStopper(spec.time_budget_s, recorder.state.seconds)
    progress = make_progress(recorder, spec, console)
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_ray(verbose, slots()))
        stack.enter_context(interruptible(stopper))
        if not verbose:
            stack.enter_context(progress)
        try:
            tune.run(
                trainable,
                name=spec.name,
                storage_path=str(spec.folder.parent),
                search_alg=search,
                scheduler=scheduler,
                stop=stopper,
                resources_per_trial=tune.PlacementGroupFactory([spec.resources]),
                checkpoint_config=CheckpointConfig(),
                reuse_actors=spec.reuse_workers and _can_be_reused(trainable),
                raise_on_failed_trial=False,
                callbacks=[RecorderCallback(recorder, spec.folder, progress.refresh)],
                verbose=2 if verbose else 0,
            )
        except tune.TuneError:
            if scheduler.fatal_error is None:
                raise
    # Ray turns what an adapter raises into text, or swallows it.
    if scheduler.fatal_error is not None:
        raise scheduler.fatal_error from None
    return stopper.reason


def _can_be_reused(trainable: type[Trainable]) -> bool:
    """Whether one worker process can serve several trials: only if `reset_config` is written."""
    return trainable.reset_config is not Trainable.reset_config
