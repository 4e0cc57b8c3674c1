"""Runs of stock Ray Tune as frames: from the `result.json` that it writes for each trial.

What Ray does not record is missing: where a suggestion came from, the rungs, the search space,
what was decided. Reports say `continue`, the last one of a trial `stop`; a trial that ended before
the highest epoch of all counts as stopped, whoever ended it. Start with `load_ray_run`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_ahu.errors import MetricError, RecordError, SpecError
from raytune_ahu.records import LOG_FILE, SPEC_FILE
from raytune_ahu.results.frames import (
    config_columns,
    frame,
    keep_newest,
    metric_columns,
    rung_frame,
)
from raytune_ahu.results.results import Results
from raytune_ahu.space.nested import flatten
from raytune_ahu.types import Mode, as_loss, check_mode

RESULT_FILE = "result.json"
_ERROR_FILE = "error.txt"
_RESOURCE = "training_iteration"
_OWN_KEYS = frozenset(
    {
        "checkpoint_dir_name",
        "config",
        "date",
        "done",
        "experiment_tag",
        "hostname",
        "iterations_since_restore",
        "node_ip",
        "pid",
        "should_checkpoint",
        "time_since_restore",
        "time_this_iter_s",
        "time_total_s",
        "timestamp",
        "trial_id",
        _RESOURCE,
    }
)
"""What Ray itself puts into each result."""


def is_ray_run(folder: Path) -> bool:
    """Whether a folder holds trials of stock Ray Tune, and no record of ours."""
    if (folder / SPEC_FILE).exists() or (folder / LOG_FILE).exists():
        return False
    return next(folder.glob(f"*/{RESULT_FILE}"), None) is not None


def load_ray_run(folder: Path, *, metric: str | None, mode: Mode | None) -> Results:
    """Read a run of stock Ray Tune.

    Args:
        folder: The experiment's folder, with a folder for each trial.
        metric: The metric that was tuned.
        mode: Whether it was minimised or maximised.

    Raises:
        SpecError: If metric or mode is missing.
        MetricError: If no trial reported the metric.
        RecordError: If a result cannot be read.
    """
    trials = sorted((_read(path.parent) for path in folder.glob(f"*/{RESULT_FILE}")), key=_begin)
    numbers = sorted({name for trial in trials for name in _numbers(trial)})
    told = f"its metrics are {', '.join(numbers) or 'none yet'}"
    if metric is None or mode is None:
        raise SpecError(
            f"{folder} is a run of stock Ray Tune, which does not record what was tuned: give "
            f"metric and mode ('min' or 'max'); {told}"
        )
    try:
        checked = check_mode(mode)
    except ValueError as error:
        raise SpecError(str(error)) from None
    if metric not in numbers:
        raise MetricError(f"metric {metric!r} was not reported in {folder}; {told}")
    return _results(folder, trials, metric, checked)


class _Trial:
    """One trial as Ray recorded it."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]], torn: bool) -> None:
        self.folder, self.rows, self.torn = folder, rows, torn
        last = rows[-1] if rows else {}
        self.trial_id = str(last.get("trial_id", folder.name))
        self.configuration: Mapping[str, Any] = last.get("config") or _params(folder)
        error = folder / _ERROR_FILE
        self.error = error.read_text(encoding="utf-8", errors="replace") if error.exists() else None
        self.resource = int(last.get(_RESOURCE, 0))


def _read(folder: Path) -> _Trial:
    path = folder / RESULT_FILE
    rows: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    last = len([line for line in lines if line.strip()])
    for number, line in enumerate((one for one in lines if one.strip()), start=1):
        try:
            row = json.loads(line)
            rows.append({**flatten(row), "config": row.get("config")})
        except (AttributeError, ValueError) as error:
            if number == last:
                return _Trial(folder, rows, torn=True)
            raise RecordError(
                f"line {number} of {path} is damaged ({error}); restore the file from a copy"
            ) from error
    return _Trial(folder, rows, torn=False)


def _params(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _begin(trial: _Trial) -> tuple[float, str]:
    if not trial.rows:
        return math.inf, trial.trial_id
    first = trial.rows[0]
    return float(first.get("timestamp", 0)) - float(first.get("time_total_s", 0)), trial.trial_id


def _numbers(trial: _Trial) -> list[str]:
    return [
        key
        for row in trial.rows
        for key, value in row.items()
        if _is_metric(key) and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def _is_metric(key: str) -> bool:
    return key not in _OWN_KEYS and not key.startswith("config/")


def _results(folder: Path, trials: list[_Trial], metric: str, mode: Mode) -> Results:
    origin = min((_begin(trial)[0] for trial in trials if trial.rows), default=0.0)
    top = max((trial.resource for trial in trials), default=0)
    reports = _reports(trials, metric, origin)
    notes = [
        "recorded by stock Ray Tune, by the second: rungs, origins, search space and decisions "
        "are not known"
    ]
    torn = sum(trial.torn for trial in trials)
    if torn:
        notes.append(f"{torn} files {RESULT_FILE} end in an unfinished line, which was left out")
    wall = float(reports["time_s"].max()) if len(reports) else 0.0
    session: dict[str, list[Any]] = {
        "session": [1],
        "host": [None],
        "pid": [None],
        "slots": [None],
        "time": [origin],
        "start_s": [0.0],
        "end_s": [wall],
        "reason": [None],
    }
    return Results(
        name=folder.name,
        folder=folder,
        metric=metric,
        mode=mode,
        max_resource=top,
        rung_levels=(top,) if top else (),
        reduction_factor=3,
        trials=_trials(trials, metric, mode, top, origin),
        reports=reports,
        rungs=rung_frame(reports, (top,) if top else (), mode=mode, reduction_factor=3),
        intervals=_intervals(trials, origin, top),
        sessions=frame("sessions", session),
        wall_s=wall,
        notes=tuple(notes),
    )


def _value(row: Mapping[str, Any], metric: str) -> float:
    value = row.get(metric)
    return float(value) if isinstance(value, (int, float)) else math.nan


def _reports(trials: list[_Trial], metric: str, origin: float) -> Any:
    rows = [(trial, row) for trial in trials for row in trial.rows]
    rows.sort(key=lambda pair: float(pair[1].get("timestamp", 0)))
    columns: dict[str, list[Any]] = {
        "trial": [trial.trial_id for trial, _ in rows],
        "resource": [int(row.get(_RESOURCE, 0)) for _, row in rows],
        "value": [_value(row, metric) for _, row in rows],
        "decision": ["stop" if row is trial.rows[-1] else "continue" for trial, row in rows],
        "time_s": [float(row.get("timestamp", origin)) - origin for _, row in rows],
        "time": [float(row.get("timestamp", origin)) for _, row in rows],
        "seconds": [row.get("time_this_iter_s") for _, row in rows],
        "session": [1] * len(rows),
        "node": [row.get("hostname") for _, row in rows],
        "epochs_so_far": list(range(1, len(rows) + 1)),
        **metric_columns(
            {key: value for key, value in row.items() if _is_metric(key)} for _, row in rows
        ),
    }
    return keep_newest(frame("reports", columns))


def _status(trial: _Trial, top: int) -> str:
    if trial.error is not None:
        return "failed"
    if not trial.rows:
        return "pending"
    # Ray writes `done` for a trial that its scheduler stopped as well.
    return "completed" if trial.resource >= top else "stopped"


def _trials(trials: list[_Trial], metric: str, mode: Mode, top: int, origin: float) -> Any:
    best = []
    for trial in trials:
        values = [(_value(row, metric), int(row.get(_RESOURCE, 0))) for row in trial.rows]
        finite = [(as_loss(v, mode), r, v) for v, r in values if math.isfinite(v)]
        best.append(min(finite, default=None))
    last = [trial.rows[-1] if trial.rows else {} for trial in trials]
    count = len(trials)
    columns: dict[str, list[Any]] = {
        "trial": [trial.trial_id for trial in trials],
        "status": [_status(trial, top) for trial in trials],
        "origin": ["unknown"] * count,
        "model": [None] * count,
        "expected_improvement": [None] * count,
        "best_value": [None if b is None else b[2] for b in best],
        "best_resource": [None if b is None else b[1] for b in best],
        "last_value": [_value(row, metric) for row in last],
        "resource": [trial.resource for trial in trials],
        "rung": [top if trial.resource >= top > 0 else None for trial in trials],
        "rungs": [int(trial.resource >= top > 0) for trial in trials],
        "epochs_run": [len(trial.rows) for trial in trials],
        "training_s": [row.get("time_total_s", 0.0) for row in last],
        "suggested_s": [max(0.0, _begin(t)[0] - origin) if t.rows else None for t in trials],
        "ended_s": [float(row["timestamp"]) - origin if row else None for row in last],
        "node": [row.get("hostname") for row in last],
        "cpus": [None] * count,
        "gpus": [None] * count,
        "failures": [int(trial.error is not None) for trial in trials],
        "fault": ["exception" if trial.error is not None else None for trial in trials],
        "error": [trial.error for trial in trials],
        "checkpoint": [_newest_checkpoint(trial.folder) for trial in trials],
        "checkpoint_resource": [None] * count,
        **config_columns(trial.configuration for trial in trials),
    }
    return frame("trials", columns)


def _newest_checkpoint(folder: Path) -> str | None:
    found = sorted(path.name for path in folder.glob("checkpoint_*") if path.is_dir())
    return f"{folder.name}/{found[-1]}" if found else None


def _intervals(trials: list[_Trial], origin: float, top: int) -> Any:
    ran = [trial for trial in trials if trial.rows]
    columns: dict[str, list[Any]] = {
        "trial": [trial.trial_id for trial in ran],
        "node": [trial.rows[-1].get("hostname") for trial in ran],
        "worker": [trial.rows[-1].get("pid") for trial in ran],
        "start_s": [max(0.0, _begin(trial)[0] - origin) for trial in ran],
        "end_s": [float(trial.rows[-1].get("timestamp", origin)) - origin for trial in ran],
        "from_resource": [0] * len(ran),
        "to_resource": [trial.resource for trial in ran],
        "ended": [_status(trial, top) for trial in ran],
        "cpus": [None] * len(ran),
        "gpus": [None] * len(ran),
    }
    return frame("intervals", columns)
