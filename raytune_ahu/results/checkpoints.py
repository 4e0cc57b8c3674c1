"""Where the checkpoint of a trial is, or why there is none: `find_checkpoint`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from raytune_ahu.errors import CheckpointError
from raytune_ahu.storage import CheckpointStorage, is_uri

if TYPE_CHECKING:
    from raytune_ahu.results.results import Results


def find_checkpoint(results: Results, trial: str, into: Path | None) -> Path:
    """Return the folder of a trial's newest checkpoint (see `Results.checkpoint`)."""
    row = results.trial(trial)
    relative = row["checkpoint"]
    if pd.isna(relative):
        raise CheckpointError(
            f"{trial} of run {results.name!r} never wrote a checkpoint{_frequency(results)}; "
            f"{_again(results)}"
        )
    spec = results.spec
    if spec is not None and is_uri(spec.storage_path):
        storage = CheckpointStorage(spec.storage_path, spec.name)
        if storage.exists(str(relative)):
            target = (into or results.folder / "fetched") / str(relative)
            storage.fetch(str(relative), target)
            return target
    else:
        path = results.folder / str(relative)
        if path.is_dir():
            return path
    raise CheckpointError(_why_gone(results, trial, row))


def _why_gone(results: Results, trial: str, row: pd.Series) -> str:
    where = f"the checkpoint of {trial} ({row['checkpoint']}) is not in {results.folder}"
    spec = results.spec
    if spec is None or pd.isna(row["ended_s"]):
        return f"{where}: it was deleted or not copied; {_again(results)}"
    sessions = results.sessions[results.sessions["start_s"] <= row["ended_s"]]
    session = sessions.iloc[-1]
    ended = session["time"].timestamp() + row["ended_s"] - session["start_s"]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ended))
    best = (
        "with the best values at any epoch"
        if spec.keep_best_at == "any"
        else ("with the best values of those that were trained longest")
    )
    return (
        f"{where}: {trial} was {row['status']} after epoch {row['resource']} on {when}, and of the "
        f"trials that have ended only the {spec.keep_best} {best} keep theirs (keep_best="
        f"{spec.keep_best}); {_again(results)}"
    )


def _frequency(results: Results) -> str:
    spec = results.spec
    if spec is not None and spec.checkpoint_frequency == 0:
        return " (checkpoint_frequency=0)"
    return ""


def _again(results: Results) -> str:
    return (
        "train its configuration again: --retrain-best in the script that made the run, or a run "
        f"with results.configuration(trial) as its only point (results = load({results.name!r}))"
    )
