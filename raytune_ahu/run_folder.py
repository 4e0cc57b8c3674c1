"""The folder of a run: made for a new one, checked for one that goes on.

`runs/NAME` holds `spec.json`, `log.jsonl` (see `records`) and a folder per trial with its newest
checkpoint. Start with `check_new_run`, `check_old_run`, `keep_search` and `unfinished_trials`.
"""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from raytune_ahu.errors import RecordError, RunExistsError, SpecError, StorageError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.faults import Fault
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import LOG_FILE, SPEC_FILE, read_events, read_json, write_json
from raytune_ahu.retention import Retention
from raytune_ahu.run_state import TrialState
from raytune_ahu.search.auto import same_wish
from raytune_ahu.types import Configuration, TrialStatus, ending

_PACKAGES = ("raytune-ahu", "ray", "ConfigSpace", "numpy", "torch", "torchvision", "hpbandster")


RESOURCE_FIELDS = frozenset(
    {"cpus_per_trial", "gpus_per_trial", "resources_per_trial", "accelerator_type"}
)
"""Fields of a specification that say what a trial takes of its node."""

CHANGEABLE = RESOURCE_FIELDS | frozenset(
    {
        "name",
        "storage_path",
        "record_path",
        "num_samples",
        "time_budget_s",
        "max_concurrent",
        "max_failures",
        "checkpoint_frequency",
        "keep_best",
        "reuse_workers",
        "retry_oom",
        "stop_timeout_s",
        "trial_timeout_s",
        "settings",
    }
)
"""Fields of a specification that may differ when a run is resumed (`settings` for moved data)."""


@dataclass(frozen=True)
class RestoredTrial:
    """A trial that an earlier session left unfinished, or that is tried again."""

    trial_id: str
    configuration: Configuration
    paused: bool
    """Whether it waits at a rung; otherwise it runs on."""
    checkpoint: str | None = None
    """Its newest checkpoint, relative to the run's place; None: it starts again."""
    resource: int = 0
    """Epochs done when the checkpoint was written."""
    checkpoint_index: int = -1
    """Number in the newest checkpoint folder's name; the next one is numbered higher."""
    is_retry: bool = False
    """Whether it has just failed; nothing else starts before it has a worker again."""


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


def make_folder(spec: ExperimentSpec) -> None:
    """Make the folder of a new run with its `spec.json` (raises as `check_new_run`)."""
    check_new_run(spec)
    write_json(
        spec.folder / SPEC_FILE,
        {
            "spec": spec.to_dict(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "python": platform.python_version(),
            "host": platform.node(),
            "platform": platform.platform(),
            "git_commit": git_commit(),
            "package_commit": git_commit(Path(__file__).parent),
            "versions": versions(),
        },
    )


def keep_search(spec: ExperimentSpec) -> ExperimentSpec:
    """Return the specification with the search of the recorded run, if `auto` chose its own.

    More trials might make `auto` choose another one now; a run goes on with what it began with.
    """
    path = spec.folder / SPEC_FILE
    if spec.search_reason is None or not path.exists():
        return spec
    recorded = ExperimentSpec.from_dict(read_json(path)["spec"])
    if not same_wish(spec.search_options, recorded.search_options):
        return spec  # the difference will be refused
    return spec.replace(
        search=recorded.search,
        search_options=recorded.search_options,
        search_reason=recorded.search_reason,
    )


def check_old_run(spec: ExperimentSpec) -> None:
    """Read a run's log once, to find out before anything is started whether it can go on.

    Raises:
        RunNotFoundError: If there is no log.
        RecordError: If it is damaged, or does not begin with a run; it is left as it is.
        SpecError: If the specification differs in more than what may be changed.
    """
    has_trials = any(spec.folder.glob("trial_*"))
    if (spec.folder / SPEC_FILE).exists():
        spec_changes(spec, read_json(spec.folder / SPEC_FILE)["spec"])
        if not (spec.folder / LOG_FILE).exists() and not has_trials:
            return  # killed right after the folder was made
    first = None
    for event in read_events(spec.folder):
        if not isinstance(event, dict) or "event" not in event or "time" not in event:
            raise RecordError(f"{spec.folder / LOG_FILE} holds {event!r}, which is no event")
        first = first or event["event"]
    if first != "run_started" and (first or has_trials):
        raise RecordError(
            f"{spec.folder / LOG_FILE} does not begin with the start of a run, although trials "
            "were run; restore the file from a copy, or start a new run"
        )


def update_spec(spec: ExperimentSpec, *, begun: int = 0) -> dict[str, Any]:
    """Write what was changed on a resume into `spec.json`; return the changed fields.

    Args:
        spec: With the changes.
        begun: Trials that the run has begun.

    Raises:
        SpecError: If anything else was changed than `CHANGEABLE`, or `num_samples` to less than
            `begun`.
    """
    path = spec.folder / SPEC_FILE
    recorded = read_json(path)
    changes = spec_changes(spec, recorded["spec"])
    wanted = changes.get("num_samples")
    if wanted is not None and wanted < begun:
        raise SpecError(
            f"num_samples={wanted} is fewer than the {begun} trials that run {spec.name!r} has "
            f"begun; give at least {begun}, or leave it out"
        )
    if changes:
        write_json(path, {**recorded, "spec": {**recorded["spec"], **changes}})
    return changes


def spec_changes(spec: ExperimentSpec, recorded: dict[str, Any]) -> dict[str, Any]:
    """Return the fields in which a specification differs from the recorded one.

    Raises:
        SpecError: If one of them may not be changed when a run is resumed.
    """
    old, new = ExperimentSpec.from_dict(recorded).to_dict(), spec.to_dict()
    # The search counts, not why it was chosen: naming what `auto` chose changes nothing.
    changes = {key: new[key] for key in new if old[key] != new[key] and key != "search_reason"}
    refused = sorted(changes.keys() - CHANGEABLE)
    if refused:
        raise SpecError(
            f"{', '.join(refused)} cannot be changed when a run is resumed; start a new run "
            f"(--warm-start {spec.name} lets it learn from this one), or "
            f"change only {', '.join(sorted(CHANGEABLE))}"
        )
    return changes


def forget_missing(recorder: Recorder, existing: Mapping[str, Collection[str]]) -> int:
    """Take checkpoints out of the state that are recorded and not there any more.

    Args:
        recorder: The replayed recorder.
        existing: Trial -> checkpoints that are there, relative to the run's place.

    Returns:
        How many unfinished trials have lost all that they had, and start again.
    """
    lost = 0
    for trial in recorder.state.trials.values():
        there = existing.get(trial.trial_id, ())
        had = bool(trial.checkpoints)
        for resource in [r for r, path in trial.checkpoints.items() if path not in there]:
            recorder.state.drop_checkpoint(trial, resource)
        lost += had and not trial.checkpoints and not trial.status.is_final
    return lost


def unfinished_trials(recorder: Recorder, retention: Retention) -> list[RestoredTrial]:
    """Return what the earlier sessions left unfinished, after ending what was decided but not done.

    A trial that was told to stop and whose last checkpoint is to be kept, but was not written any
    more, runs its last epoch again if that is all that is missing. Paused trials come first: they
    need no worker, and may be promoted at any time.
    """
    restored = []
    for trial in list(recorder.state.trials.values()):
        if trial.status.is_final:
            continue
        worth_an_epoch = lacks_last_checkpoint(trial) and retention.is_worth_keeping(trial.trial_id)
        if trial.told_to_stop and not worth_an_epoch:
            status = ending(trial.value, trial.resource, recorder.max_resource)
            recorder.finish(trial.trial_id, status)
        elif trial.given_up:
            recorder.finish(trial.trial_id, TrialStatus.FAILED)
        else:
            restored.append(restore_point(trial))
    return sorted(restored, key=lambda trial: not trial.paused)


def lacks_last_checkpoint(trial: TrialState) -> bool:
    """Whether a trial has the checkpoint of the epoch before its newest report, but not of that."""
    return max(trial.checkpoints, default=-1) == trial.resource - 1


def reopen_failed(recorder: Recorder, *, retry_oom: bool) -> list[str]:
    """Reopen the trials that have failed and may fare better; return their names.

    Those that diverged stay failed: they would diverge again. Those that ran out of memory do so
    unless `retry_oom`.
    """
    reopened = []
    for trial in list(recorder.state.trials.values()):
        hopeless = trial.told_to_stop or (trial.fault is Fault.OUT_OF_MEMORY and not retry_oom)
        if trial.status is TrialStatus.FAILED and not hopeless:
            recorder.reopen(trial.trial_id)
            reopened.append(trial.trial_id)
    return reopened


def restore_point(trial: TrialState, *, is_retry: bool = False) -> RestoredTrial:
    """Return where a trial goes on: at its newest checkpoint, or at the beginning."""
    resource = max(trial.checkpoints, default=0)
    return RestoredTrial(
        trial_id=trial.trial_id,
        configuration=trial.configuration,
        paused=trial.status is TrialStatus.PAUSED and resource == trial.resource,
        checkpoint=trial.checkpoints.get(resource),
        resource=resource,
        checkpoint_index=trial.checkpoint_index,
        is_retry=is_retry,
    )


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_commit(folder: Path | None = None) -> str | None:
    """Commit that a folder is at, marked if it has changes; None: the working directory."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=5, check=True, cwd=folder
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
