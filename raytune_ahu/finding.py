"""Finding a recorded run again: by its name, by its path, in an object store, or the newest one.

Start with `find_run`, which returns the specification to go on with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raytune_ahu.errors import AhuError, RecordError, RunNotFoundError, SpecError
from raytune_ahu.experiment import SPEC_VERSION, ExperimentSpec
from raytune_ahu.mirror import download_record
from raytune_ahu.records import LOG_FILE, SPEC_FILE, read_json
from raytune_ahu.storage import CheckpointStorage, is_uri


def find_run(
    name_or_path: str, *, storage_path: str, record_path: str, trainable: str | None = None
) -> ExperimentSpec:
    """Find a recorded run and read its specification, with the places where it lies now.

    Args:
        name_or_path: A run's name, its folder, its URI in an object store, or empty for the newest
            run of `trainable`.
        storage_path: Folder of the runs, or the URI under which they lie in an object store.
        record_path: Folder of the records of runs in an object store; a record that is not there is
            fetched from the store.
        trainable: What is tuned, as `module:Class`; needed for the newest run only.

    Raises:
        RunNotFoundError: If there is none; the message lists those that there are.
        RecordError: If its specification is damaged.
        StorageError: If the object store cannot be read.
    """
    if is_uri(name_or_path):
        place, question, options = name_or_path.partition("?")
        place, _, name_or_path = place.rstrip("/").rpartition("/")
        storage_path = place + question + options
    in_store = is_uri(storage_path)
    records = Path(record_path if in_store else storage_path).expanduser().resolve()
    if not name_or_path:
        return read_spec(_newest(records, trainable))
    if in_store and not (records / name_or_path / SPEC_FILE).exists():
        download_record(CheckpointStorage(storage_path, name_or_path), records / name_or_path)
    spec = read_spec(_named(records, name_or_path))
    return spec.replace(storage_path=storage_path) if in_store else spec


def read_spec(folder: Path) -> ExperimentSpec:
    """Read the specification of the run in `folder`, which may have been moved since.

    Raises:
        RunNotFoundError: If it is missing.
        RecordError: If it is damaged.
        SpecError: If the folder has a name that no run may have.
    """
    path = folder / SPEC_FILE
    spec = spec_of(path, read_json(path))
    try:
        if is_uri(spec.storage_path):
            return spec.replace(name=folder.name, record_path=str(folder.parent))
        return spec.replace(name=folder.name, storage_path=str(folder.parent))
    except SpecError as error:
        raise SpecError(f"the folder {folder} was given another name: {error}") from error


def spec_of(path: Path, recorded: Any) -> ExperimentSpec:
    """Make the specification out of what `spec.json` holds; places are those of the record.

    Raises:
        RecordError: If it is damaged, or was written by a newer version.
    """
    try:
        written = recorded["spec"]
        version = written["spec_version"]
        if isinstance(version, int) and version > SPEC_VERSION:
            raise RecordError(
                f"{path} was written by a newer version (spec_version={version}, this one reads up "
                f"to {SPEC_VERSION}); install that version to read it"
            )
        return ExperimentSpec.from_dict(written)
    except RecordError:
        raise
    except (AhuError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is damaged ({error}); restore it from a copy") from error


def _runs(records: Path) -> list[Path]:
    """Folders of runs, the one that was written last at the end."""

    def written(folder: Path) -> float:
        log = folder / LOG_FILE
        return log.stat().st_mtime if log.exists() else 0.0

    return sorted((path.parent for path in records.glob(f"*/{SPEC_FILE}")), key=written)


def _newest(records: Path, trainable: str | None) -> Path:
    for folder in reversed(_runs(records)):
        if _searched(folder) == trainable:
            return folder
    raise RunNotFoundError(
        f"no run of {trainable} is recorded in {records}; give its name, or --storage-path"
    )


def _named(records: Path, name_or_path: str) -> Path:
    for folder in (records / name_or_path, Path(name_or_path).expanduser().resolve()):
        if (folder / SPEC_FILE).exists():
            return folder
        if (folder / LOG_FILE).exists():
            raise RecordError(f"{folder} has a log but no {SPEC_FILE}; restore it from a copy")
    known = ", ".join(folder.name for folder in _runs(records)[-5:]) or "none"
    raise RunNotFoundError(
        f"run {name_or_path!r} is not recorded in {records}; newest runs: {known}"
    )


def _searched(folder: Path) -> str | None:
    """The trainable that a run searches for; None for reruns, and what is no run."""
    try:
        spec = read_json(folder / SPEC_FILE)["spec"]
        return None if spec.get("rerun_of") else str(spec["trainable"])
    except (AhuError, AttributeError, KeyError, TypeError):
        return None
