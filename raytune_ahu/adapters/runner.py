"""Runs an experiment on Ray: the only caller of `tune.run`.

`run(spec, trainable=..., scheduler=RayScheduler(...))` makes the run's folder, wires searcher,
scheduler and recorder together, shows the live view, and returns what was found. With `resume=True`
the searcher and the scheduler are rebuilt by replaying the run's log, and unfinished trials go on
from their newest checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from ray import tune
from ray.tune import CheckpointConfig, Stopper, Trainable
from rich.console import Console

from raytune_ahu.adapters.callbacks import RecorderCallback
from raytune_ahu.adapters.cluster import Slots
from raytune_ahu.adapters.progress import make_progress
from raytune_ahu.adapters.search import SETTINGS_KEY, RaySearch, RestoredTrial
from raytune_ahu.errors import (
    MetricError,
    RunExistsError,
    SpecError,
    StorageError,
)
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.protocols import Scheduler
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import LOG_FILE, SPEC_FILE, RunLog, read_events, write_json
from raytune_ahu.run_state import RunState, TrialState
from raytune_ahu.search import build_searcher
from raytune_ahu.types import TrialStatus

_PACKAGES = ("raytune-ahu", "ray", "ConfigSpace", "numpy", "torch", "torchvision", "hpbandster")


class SchedulerAdapter(Protocol):
    """What the runner needs of `schedulers.RayScheduler`, which it must not import."""

    scheduler: Scheduler
    slots: Callable[[], int] | None
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
        SpecError: If the specification does not fit the trainable.
        ClusterError: If no node of the cluster can run such a trial.
        RunExistsError: If a new run would overwrite one.
        RunNotFoundError: If there is no run to resume.
        StorageError: If the run's folder cannot be written.
        MetricError: If the trainable does not report the metric.
    """
    _check_settings(spec)
    slots = Slots(spec.cpus_per_trial, spec.gpus_per_trial, spec.max_concurrent)
    slots.check()
    pure = scheduler.scheduler
    if pure.max_resource != spec.max_epochs:
        raise SpecError(
            f"the scheduler's max_resource={pure.max_resource} must be the specification's "
            f"max_epochs={spec.max_epochs}; build it with schedulers.scheduler_for(spec)"
        )
    searcher = build_searcher(
        spec.search,
        spec.space,
        mode=spec.mode,
        seed=spec.seed,
        rung_levels=pure.rung_levels,
        points_to_evaluate=spec.points_to_evaluate,
        options=spec.search_options,
    )
    recorder = Recorder(searcher, pure, mode=spec.mode)
    if resume:
        recorder.replay(read_events(spec.folder))
    else:
        _make_folder(spec)
    scheduler.scheduler = recorder
    scheduler.slots = slots
    scheduler.set_search_properties(spec.metric, spec.mode)
    console = console or Console()
    with RunLog(spec.folder) as log:
        recorder.attach(log)
        recorder.record(
            "run_started",
            session=recorder.state.sessions + 1,
            host=platform.node(),
            pid=os.getpid(),
            slots=slots(),
            versions=_versions(),
        )
        ended = _drive(spec, trainable, scheduler, recorder, slots, verbose, console)
        recorder.record("run_ended", reason=ended)
    return RunResult(spec, spec.folder, recorder.state, ended)


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
    restored = _unfinished(recorder, spec.folder)
    limit = spec.num_samples
    if not restored and limit is not None and len(recorder.state.trials) >= limit:
        return "finished"
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
    deadline = _Deadline(spec.time_budget_s, recorder.state.seconds)
    progress = make_progress(recorder, spec, console)
    callback = RecorderCallback(recorder, spec.folder, progress.refresh)
    with _quiet_ray(verbose, slots), _interruptible() as interrupt, contextlib.ExitStack() as stack:
        if not verbose:
            stack.enter_context(progress)
        try:
            tune.run(
                trainable,
                name=spec.name,
                storage_path=str(spec.folder.parent),
                search_alg=search,
                scheduler=scheduler,
                stop=deadline,
                resources_per_trial={"cpu": spec.cpus_per_trial, "gpu": spec.gpus_per_trial},
                checkpoint_config=CheckpointConfig(),
                reuse_actors=spec.reuse_workers and _can_be_reused(trainable),
                raise_on_failed_trial=False,
                callbacks=[callback],
                verbose=2 if verbose else 0,
            )
        except tune.TuneError as error:
            if scheduler.fatal_error is not None:
                recorder.record("run_ended", reason=f"error: {scheduler.fatal_error}")
                raise scheduler.fatal_error from None
            recorder.record("run_ended", reason=f"error: {error}")
            raise
    if interrupt.happened:
        return "interrupted"
    return "time budget" if deadline.passed else "finished"


def _check_settings(spec: ExperimentSpec) -> None:
    if spec.settings and any(name.split("/")[0] == SETTINGS_KEY for name in spec.space.names):
        raise SpecError(
            f"the search space has a parameter {SETTINGS_KEY!r}, but that key carries the "
            "trainable's fixed settings; rename the parameter"
        )


# --- the run's folder -----------------------------------------------------------------------------


def check_new_run(spec: ExperimentSpec) -> None:
    """Check that a new run can be recorded, before anything is started.

    Raises:
        RunExistsError: If a run of that name is recorded there already.
        StorageError: If the storage path cannot be made or written.
    """
    folder = spec.folder
    if (folder / SPEC_FILE).exists() or (folder / LOG_FILE).exists():
        raise RunExistsError(
            f"run {spec.name!r} exists already in {folder}; go on with it (--resume {spec.name}), "
            "or choose another --name"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
    except OSError as error:
        raise StorageError(
            f"storage path {folder.parent} cannot be written ({error.strerror or error}); choose "
            "another --storage-path"
        ) from error


def _make_folder(spec: ExperimentSpec) -> None:
    check_new_run(spec)
    folder = spec.folder
    write_json(
        folder / SPEC_FILE,
        {
            "spec": spec.to_dict(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "python": platform.python_version(),
            "host": platform.node(),
            "platform": platform.platform(),
            "git_commit": _git_commit(),
            "versions": _versions(),
        },
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _git_commit() -> str | None:
    """Commit of the working directory the run was started from, marked if it had changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


# --- resuming -------------------------------------------------------------------------------------


def _unfinished(recorder: Recorder, folder: Path) -> list[RestoredTrial]:
    """Hand over what the earlier sessions left unfinished; end what was decided but not done."""
    restored = []
    for trial in list(recorder.state.trials.values()):
        if trial.status.is_final:
            continue
        if trial.told_to_stop:
            completed = trial.resource >= recorder.max_resource
            status = TrialStatus.COMPLETED if completed else TrialStatus.STOPPED
            recorder.finish(trial.trial_id, status)
            continue
        restored.append(_restore_point(trial, folder))
    return restored


def _restore_point(trial: TrialState, folder: Path) -> RestoredTrial:
    existing = {
        resource: folder / path
        for resource, path in trial.checkpoints.items()
        if (folder / path).is_dir()
    }
    numbers = [int(path.name.rpartition("_")[2]) for path in existing.values()]
    resource = max(existing, default=0)
    return RestoredTrial(
        trial_id=trial.trial_id,
        configuration=trial.configuration,
        paused=trial.status is TrialStatus.PAUSED and resource == trial.resource,
        checkpoint=existing.get(resource),
        resource=resource,
        checkpoint_index=max(numbers, default=-1),
    )


# --- Ray's surroundings ---------------------------------------------------------------------------


class _Deadline(Stopper):
    """Stops the run when its time budget, earlier sessions included, is spent."""

    def __init__(self, budget_s: float | None, spent_s: float) -> None:
        self._ends_at = None if budget_s is None else time.monotonic() + budget_s - spent_s
        self.passed = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Whether the time is over."""
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self.passed = True
        return self.passed


def _can_be_reused(trainable: type[Trainable]) -> bool:
    """Whether one worker process can serve several trials: only if `reset_config` is written."""
    return trainable.reset_config is not Trainable.reset_config


@contextlib.contextmanager
def _quiet_ray(verbose: bool, slots: Slots) -> Iterator[None]:
    """Switch off what the record replaces: Ray's loggers (57 % of its driver's CPU) and tables."""
    settings = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_MAX_PENDING_TRIALS_PG": str(slots()),
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "1" if verbose else "0",
        "RAY_AIR_NEW_OUTPUT": "1" if verbose else "0",  # the new output engine is never silent
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update({name: value for name, value in settings.items() if before[name] is None})
    logger = logging.getLogger("ray.tune")
    level = logger.level
    if not verbose:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


@dataclass
class _Interrupt:
    happened: bool = False


@contextlib.contextmanager
def _interruptible() -> Iterator[_Interrupt]:
    """Let the first Ctrl-C (or SIGTERM) end the run in order, and the second end it at once.

    Ray ends its loop in order on SIGUSR1, for which it installs a handler itself.
    """
    interrupt = _Interrupt()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if interrupt.happened:
            raise KeyboardInterrupt
        interrupt.happened = True
        signal.raise_signal(signal.SIGUSR1)

    try:
        before = {
            number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not the main thread: the caller's signals are not ours to handle
        yield interrupt
        return
    before[signal.SIGUSR1] = signal.getsignal(signal.SIGUSR1)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
