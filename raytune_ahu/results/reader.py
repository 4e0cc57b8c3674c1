"""From a run's log to its frames, in one pass. Start with `read_log` and `frames_of`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raytune_ahu.errors import RecordError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.records import LOG_FILE, loads, read_events
from raytune_ahu.results.frames import (
    config_columns,
    frame,
    keep_newest,
    metric_columns,
    rung_frame,
)
from raytune_ahu.results.schema import CONFIG
from raytune_ahu.run_state import RunState
from raytune_ahu.types import Decision, Mode, TrialStatus

_WORKER_KEYS = ("hostname", "node_ip", "pid")
_SECONDS_KEY = "time_this_iter_s"
_CHUNK = 4096  # lines that are parsed at once


@dataclass(frozen=True)
class Log:
    """The events of a run."""

    events: Sequence[Mapping[str, Any]]
    """In the order in which they happened."""
    torn_bytes: int
    """Length of an unfinished last line, which is left out."""


def read_log(folder: Path) -> Log:
    """Read the log of a run as it is now; one that is being written may end in a torn line.

    Raises:
        RunNotFoundError: If there is none.
        RecordError: If a line before the last is damaged.
    """
    path = folder / LOG_FILE
    if not path.exists():
        return Log(list(read_events(folder)), 0)
    lines = path.read_bytes().split(b"\n")
    torn = len(lines.pop())
    events: list[Mapping[str, Any]] = []
    try:
        for first in range(0, len(lines), _CHUNK):
            text = b",".join(lines[first : first + _CHUNK]).decode("utf-8")
            # A non-finite number is rare, and looking for one costs as much as all the rest.
            read = loads if '{"float"' in text else json.loads
            events += read(f"[{text}]")
    except ValueError:
        events = list(read_events(folder))  # finds the line, and says so
    if len(events) != len(lines):
        events = list(read_events(folder))  # two events on one line
    for number, event in enumerate(events, start=1):
        if not isinstance(event, dict) or "event" not in event or "time" not in event:
            raise RecordError(
                f"line {number} of {path} is damaged (it is no event); restore the file from a "
                f"copy, or cut it with: head -n {number - 1} log.jsonl > log.cut "
                "&& mv log.cut log.jsonl"
            )
    return Log(events, torn)


@dataclass(frozen=True)
class Frames:
    """The frames of a run (see `schema`) and the state that its events fold to."""

    trials: pd.DataFrame
    reports: pd.DataFrame
    rungs: pd.DataFrame
    intervals: pd.DataFrame
    sessions: pd.DataFrame
    state: RunState


def frames_of(
    events: Iterable[Mapping[str, Any]], spec: ExperimentSpec, levels: Sequence[int]
) -> Frames:
    """Fold the events of a run into its frames.

    Args:
        events: All of them.
        spec: The run's specification.
        levels: Its rung levels, ascending.

    Raises:
        RecordError: If an event does not follow from those before it.
    """
    fold = _Fold(RunState(spec.mode), spec)
    for number, event in enumerate(events, start=1):
        try:
            fold.apply(event)
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(
                f"event {number} of the log ({event.get('event')} of {event.get('trial')}) does "
                f"not follow from those before it ({error!r}); restore the file from a copy"
            ) from error
    fold.close_intervals("interrupted")
    reports = keep_newest(frame("reports", fold.report_columns()))
    return Frames(
        trials=_trials(fold, spec, levels, reports),
        reports=reports,
        rungs=rung_frame(
            reports,
            levels,
            mode=spec.mode,
            reduction_factor=spec.reduction_factor,
            rounds_up=spec.scheduler != "asha-promotion",
        ),
        intervals=frame("intervals", fold.intervals),
        sessions=frame("sessions", fold.sessions),
        state=fold.state,
    )


def _trials(
    fold: _Fold, spec: ExperimentSpec, levels: Sequence[int], reports: pd.DataFrame
) -> pd.DataFrame:
    trials = list(fold.state.trials.values())
    at_levels = reports[reports["resource"].isin(levels)].groupby("trial")["resource"]
    highest, count = at_levels.max().to_dict(), at_levels.size().to_dict()
    best = _best_of_each(reports, spec.mode)
    saved = [max(trial.checkpoints, default=None) for trial in trials]
    ids = [trial.trial_id for trial in trials]
    columns: dict[str, Sequence[Any]] = {
        "trial": ids,
        "status": [trial.status.value for trial in trials],
        "origin": [trial.origin for trial in trials],
        "model": [trial.model for trial in trials],
        "expected_improvement": [trial.expected_improvement for trial in trials],
        "best_value": [best.get(trial_id, (None, None))[0] for trial_id in ids],
        "best_resource": [best.get(trial_id, (None, None))[1] for trial_id in ids],
        "last_value": [trial.value for trial in trials],
        "resource": [trial.resource for trial in trials],
        "rung": [highest.get(trial_id) for trial_id in ids],
        "rungs": [count.get(trial_id, 0) for trial_id in ids],
        "epochs_run": [trial.epochs_run for trial in trials],
        "training_s": [trial.seconds for trial in trials],
        "suggested_s": [fold.suggested_s[trial_id] for trial_id in ids],
        "ended_s": [fold.ended_s.get(trial_id) for trial_id in ids],
        "node": [fold.node.get(trial_id) for trial_id in ids],
        "cpus": [spec.cpus_per_trial] * len(ids),
        "gpus": [spec.gpus_per_trial] * len(ids),
        "failures": [trial.failures for trial in trials],
        "fault": [None if trial.fault is None else trial.fault.value for trial in trials],
        "error": [trial.error or trial.reason for trial in trials],
        "checkpoint": [
            None if at is None else trial.checkpoints[at]
            for trial, at in zip(trials, saved, strict=True)
        ],
        "checkpoint_resource": saved,
        **_in_order(config_columns(trial.configuration for trial in trials), spec),
    }
    return frame("trials", columns)


def _best_of_each(reports: pd.DataFrame, mode: Mode) -> dict[str, tuple[float, int]]:
    """Best finite value and its epoch, of each trial that has one; the earlier of equal ones."""
    finite = reports[np.isfinite(reports["value"])]
    ranked = finite.sort_values("value", ascending=mode == "min", kind="stable")
    first = ranked.drop_duplicates("trial")
    cells = zip(first["value"].tolist(), first["resource"].tolist(), strict=True)
    return dict(zip(first["trial"], cells, strict=True))


def _in_order(columns: dict[str, list[Any]], spec: ExperimentSpec) -> dict[str, list[Any]]:
    """Put `config/*` columns into the order in which the space declares its parameters."""
    declared = [CONFIG + parameter.name for parameter in spec.space.declaration.parameters]
    known = [name for name in declared if name in columns]
    return {name: columns[name] for name in (*known, *columns)}


class _Fold:
    """Takes in the events one by one and keeps what the frames need beside the run's state."""

    def __init__(self, state: RunState, spec: ExperimentSpec) -> None:
        self.state = state
        self._taken = {"cpus": spec.cpus_per_trial, "gpus": spec.gpus_per_trial}
        self.suggested_s: dict[str, float] = {}
        self.ended_s: dict[str, float] = {}
        self.node: dict[str, str] = {}
        self.sessions: dict[str, list[Any]] = {
            name: []
            for name in ("session", "host", "pid", "slots", "time", "start_s", "end_s", "reason")
        }
        self.intervals: dict[str, list[Any]] = {
            name: []
            for name in (
                "trial",
                "node",
                "worker",
                "start_s",
                "end_s",
                "from_resource",
                "to_resource",
                "ended",
                "cpus",
                "gpus",
            )
        }
        self._open: dict[str, dict[str, Any]] = {}  # interval of each trial that has a worker
        self._worker: dict[str, int] = {}
        self._reports: list[tuple[Any, ...]] = []
        self._metrics: list[Mapping[str, Any]] = []

    def apply(self, event: Mapping[str, Any]) -> None:
        state, kind = self.state, event["event"]
        if kind == "run_started":
            self.close_intervals("interrupted")
        state.apply(event)
        if self.sessions["session"] or kind == "run_started":
            self._follow_session(kind, event)
        if kind == "reported":
            self._on_report(event)
        elif kind == "suggested":
            self.suggested_s[event["trial"]] = state.seconds
        elif kind == "started":
            self._on_start(event)
        elif kind == "errored":
            self._close(event["trial"], "failed")
        elif kind == "retried":
            self.ended_s.pop(event["trial"], None)
        elif kind == "finished":
            self.ended_s[event["trial"]] = state.seconds
            self._close(event["trial"], event["status"])

    def _follow_session(self, kind: str, event: Mapping[str, Any]) -> None:
        sessions, now = self.sessions, self.state.seconds
        if kind == "run_started":
            self._taken = {**self._taken, **event.get("resources", {})}
            sessions["session"].append(self.state.sessions)
            sessions["host"].append(event.get("host"))
            sessions["pid"].append(event.get("pid"))
            sessions["slots"].append(event.get("slots"))
            sessions["time"].append(event["time"])
            sessions["start_s"].append(now)
            sessions["end_s"].append(now)
            sessions["reason"].append(None)
        sessions["end_s"][-1] = now
        if kind == "run_ended":
            sessions["reason"][-1] = event["reason"]

    def _on_start(self, event: Mapping[str, Any]) -> None:
        trial_id = event["trial"]
        self._close(trial_id, "interrupted")
        resource = int(event.get("resource", 0))
        now = self.state.seconds
        self._open[trial_id] = {
            "trial": trial_id,
            "node": None,
            "worker": None,
            "start_s": now,
            "end_s": now,
            "from_resource": resource,
            "to_resource": resource,
            **self._taken,
        }

    def _on_report(self, event: Mapping[str, Any]) -> None:
        trial_id, metrics, now = event["trial"], event["metrics"], self.state.seconds
        interval = self._open.get(trial_id)
        if "hostname" in metrics:
            self.node[trial_id] = metrics["hostname"]
            self._worker[trial_id] = metrics.get("pid")
        value = event["value"]
        self._reports.append(
            (
                trial_id,
                int(event["resource"]),
                math.nan if value is None else float(value),
                event["decision"],
                now,
                event["time"],
                metrics.get(_SECONDS_KEY),
                self.state.sessions,
                self.node.get(trial_id),
                len(self._reports) + 1,
            )
        )
        self._metrics.append(metrics)
        if interval is not None:
            interval["node"] = self.node.get(trial_id)
            interval["worker"] = self._worker.get(trial_id)
            interval["end_s"], interval["to_resource"] = now, int(event["resource"])
        if event["decision"] == Decision.PAUSE.value:
            self._close(trial_id, TrialStatus.PAUSED.value)

    def _close(self, trial_id: str, how: str) -> None:
        interval = self._open.pop(trial_id, None)
        if interval is None:
            return
        if how != "interrupted":
            interval["end_s"] = self.state.seconds
        interval["ended"] = how
        for name, cells in self.intervals.items():
            cells.append(interval[name])

    def close_intervals(self, how: str) -> None:
        """End all that are open: the driver ended, or there is no more to read."""
        for trial_id in list(self._open):
            self._close(trial_id, how)

    def report_columns(self) -> dict[str, Any]:
        names = (
            "trial",
            "resource",
            "value",
            "decision",
            "time_s",
            "time",
            "seconds",
            "session",
            "node",
            "epochs_so_far",
        )
        cells = zip(*self._reports, strict=True) if self._reports else [[] for _ in names]
        columns: dict[str, Any] = dict(zip(names, map(list, cells), strict=True))
        left_out = {*_WORKER_KEYS, _SECONDS_KEY}
        metrics = metric_columns(self._metrics)
        return columns | {
            name: column
            for name, column in metrics.items()
            if name.partition("/")[2] not in left_out
        }


def levels_of(spec: ExperimentSpec) -> tuple[int, ...]:
    """The rung levels of a run: grace_period * eta^k below max_epochs, and max_epochs."""
    levels = []
    level = spec.max_epochs if spec.scheduler == "none" else spec.grace_period
    while level < spec.max_epochs:
        levels.append(level)
        level *= spec.reduction_factor
    return (*levels, spec.max_epochs)
