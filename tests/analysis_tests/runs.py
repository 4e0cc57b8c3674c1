"""Results out of a few numbers, for tests in which the answer is known by hand."""

from __future__ import annotations

from pathlib import Path

from raytune_ahu.results import Results
from raytune_ahu.results.frames import config_columns, frame, rung_frame


def made(
    curves,
    *,
    mode="min",
    levels=(1, 3, 9),
    epoch_s=1.0,
    configurations=None,
    origins=None,
    expected=None,
    name="made",
):
    """Build results from learning curves.

    Args:
        curves: One list of values a trial; they run one after the other on one worker, `epoch_s`
            seconds an epoch.
        mode: Whether the metric is minimised.
        levels: Rung levels.
        epoch_s: Seconds of an epoch.
        configurations: One a trial.
        origins: One a trial; `random` by default.
        expected: Expected improvement of each trial; None by default.
        name: Of the run.
    """
    ids = [f"trial_{i:05d}" for i in range(len(curves))]
    configurations = configurations or [{"x": float(i)} for i in range(len(curves))]
    top, eta = levels[-1], 3
    reports = {key: [] for key in ("trial", "resource", "value", "decision", "time_s")}
    begun, ended, now = [], [], 0.0
    for trial, curve in zip(ids, curves, strict=True):
        begun.append(now)
        for epoch, value in enumerate(curve, start=1):
            now += epoch_s
            reports["trial"].append(trial)
            reports["resource"].append(epoch)
            reports["value"].append(value)
            reports["decision"].append("stop" if epoch == len(curve) else "continue")
            reports["time_s"].append(now)
        ended.append(now)
    count = len(reports["trial"])
    reports |= {
        "time": reports["time_s"],
        "seconds": [epoch_s] * count,
        "session": [1] * count,
        "node": ["n"] * count,
        "epochs_so_far": list(range(1, count + 1)),
    }
    report_frame = frame("reports", reports)
    pick = min if mode == "min" else max
    best = [pick((v for v in curve if v == v), default=None) for curve in curves]
    lengths = [len(curve) for curve in curves]
    status = ["completed" if n >= top else "stopped" for n in lengths]
    trials = frame(
        "trials",
        {
            "trial": ids,
            "status": status,
            "origin": origins or ["random"] * len(ids),
            "model": ["gp" if o.startswith("model@") else None for o in origins or ids],
            "expected_improvement": expected or [None] * len(ids),
            "best_value": best,
            "best_resource": [
                None if b is None else curve.index(b) + 1
                for b, curve in zip(best, curves, strict=True)
            ],
            "last_value": [curve[-1] if curve else None for curve in curves],
            "resource": lengths,
            "rung": [max((r for r in levels if r <= n), default=None) for n in lengths],
            "rungs": [sum(r <= n for r in levels) for n in lengths],
            "epochs_run": lengths,
            "training_s": [n * epoch_s for n in lengths],
            "suggested_s": begun,
            "ended_s": ended,
            "node": ["n"] * len(ids),
            "cpus": [1.0] * len(ids),
            "gpus": [0.5] * len(ids),
            "failures": [0] * len(ids),
            "fault": [None] * len(ids),
            "error": [None] * len(ids),
            "checkpoint": [None] * len(ids),
            "checkpoint_resource": [None] * len(ids),
            **config_columns(configurations),
        },
    )
    intervals = frame(
        "intervals",
        {
            "trial": ids,
            "node": ["n"] * len(ids),
            "worker": [1] * len(ids),
            "start_s": begun,
            "end_s": ended,
            "from_resource": [0] * len(ids),
            "to_resource": lengths,
            "ended": status,
            "cpus": [1.0] * len(ids),
            "gpus": [0.5] * len(ids),
        },
    )
    sessions = frame(
        "sessions",
        {
            "session": [1],
            "host": ["h"],
            "pid": [1],
            "slots": [2],
            "time": [0.0],
            "start_s": [0.0],
            "end_s": [now],
            "reason": ["finished"],
        },
    )
    return Results(
        name=name,
        folder=Path("nowhere"),
        metric="loss",
        mode=mode,
        max_resource=top,
        rung_levels=tuple(levels),
        reduction_factor=eta,
        trials=trials,
        reports=report_frame,
        rungs=rung_frame(report_frame, levels, mode=mode, reduction_factor=eta),
        intervals=intervals,
        sessions=sessions,
        seed=0,
        wall_s=now,
        ended="finished",
    )
