"""Opening a run by its name, path or URI: `load`. It reads the record, and changes nothing."""

from __future__ import annotations

from pathlib import Path

from raytune_ahu.errors import RecordError, RunNotFoundError, SpecError
from raytune_ahu.final_test import readings_of
from raytune_ahu.finding import find_run, spec_of
from raytune_ahu.records import LOG_FILE, SPEC_FILE, read_json
from raytune_ahu.results.ray_runs import is_ray_run, load_ray_run
from raytune_ahu.results.reader import frames_of, levels_of, read_log
from raytune_ahu.results.results import Results
from raytune_ahu.storage import is_uri
from raytune_ahu.types import Mode

_PROVENANCE = ("created", "command", "python", "host", "git_commit", "package_commit", "versions")


def load(
    run: str | Path,
    *,
    storage_path: str = "runs",
    record_path: str = "runs",
    metric: str | None = None,
    mode: Mode | None = None,
) -> Results:
    """Open a run, finished or not, here or moved here, as frames.

    Args:
        run: Its folder, its name, or its URI in an object store (whose record is then fetched). A
            folder of stock Ray Tune (with a `result.json` for each trial) will do as well.
        storage_path: Folder of the runs, or URI under which they lie, where a name is given.
        record_path: Local folder of the records of runs in an object store.
        metric: For runs of stock Ray Tune only: the metric that was tuned.
        mode: For runs of stock Ray Tune only: whether it was minimised or maximised.

    Raises:
        RunNotFoundError: If there is no run; the message says what was looked for.
        RecordError: If its record is damaged, or was written by a newer version.
        MetricError: If a run of stock Ray Tune has no such metric.
        SpecError: If metric and mode are missing, or are not wanted.
        StorageError: If an object store cannot be read.
    """
    folder = _folder(str(run), storage_path, record_path)
    if is_ray_run(folder):
        return load_ray_run(folder, metric=metric, mode=mode)
    if metric is not None or mode is not None:
        raise SpecError(
            f"metric and mode of run {folder.name!r} are in its record; give them to `best`, "
            "`top` or `scores` to rank its trials by another metric"
        )
    return _load(folder)


def _folder(run: str, storage_path: str, record_path: str) -> Path:
    if is_uri(run):
        return find_run(run, storage_path=storage_path, record_path=record_path).folder
    path = Path(run).expanduser()
    if path.is_dir():
        path = path.resolve()
        if (path / SPEC_FILE).exists() or is_ray_run(path):
            return path
        if (path / LOG_FILE).exists():
            raise RecordError(f"{path} has a log but no {SPEC_FILE}; restore it from a copy")
    if not run.strip():
        raise RunNotFoundError("give the name or the folder of a run, not an empty text")
    try:
        return find_run(run, storage_path=storage_path, record_path=record_path).folder
    except RunNotFoundError as error:
        raise RunNotFoundError(
            f"{error}. Looked for {SPEC_FILE} and {LOG_FILE}, or for trial folders of Ray Tune "
            "with result.json, there and in the folder of that name"
        ) from error


def _load(folder: Path) -> Results:
    recorded = read_json(folder / SPEC_FILE)
    spec = spec_of(folder / SPEC_FILE, recorded)
    levels = levels_of(spec)
    notes = []
    if (folder / LOG_FILE).exists():
        log = read_log(folder)
        events, torn = log.events, log.torn_bytes
        if torn:
            notes.append(
                f"the last line of {LOG_FILE} is unfinished ({torn} bytes) and was left out: the "
                "run is being written, or its driver was killed"
            )
    else:
        events = []
        notes.append(f"{LOG_FILE} is missing: the run was ended before it began")
    frames = frames_of(events, spec, levels)
    state = frames.state
    if state.ended is None and events:
        notes.append("the run has no end on record: it is going on, or its driver was killed")
    elif state.ended not in (None, "finished"):
        notes.append(f"the run ended early: {state.ended}")
    return Results(
        name=folder.name,
        folder=folder,
        metric=spec.metric,
        mode=spec.mode,
        max_resource=spec.max_epochs,
        rung_levels=levels,
        reduction_factor=spec.reduction_factor,
        trials=frames.trials,
        reports=frames.reports,
        rungs=frames.rungs,
        intervals=frames.intervals,
        sessions=frames.sessions,
        spec=spec,
        space=spec.space,
        seed=spec.seed,
        wall_s=state.seconds,
        ended=state.ended,
        notes=tuple(notes),
        test_reads=readings_of(events),
        provenance={key: recorded[key] for key in _PROVENANCE if key in recorded},
    )
