"""Genuine runs in virtual time: the recorder, searchers and schedulers of the project, no Ray.

`record_run` writes the folder that a run on a cluster would have left, in a moment.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.recorder import Recorder
from raytune_ahu.records import LOG_FILE, SPEC_FILE, dumps
from raytune_ahu.search import searcher_for
from raytune_ahu.simulation import simulate
from raytune_ahu.simulation.tasks import Curve
from raytune_ahu.space import SearchSpace
from schedulers import scheduler_for

MIXED = {
    "optimizer": {"domain": "choice", "values": ["sgd", "adam"]},
    "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0},
    "momentum": {"domain": "uniform", "lower": 0.0, "upper": 0.99, "when": {"optimizer": "sgd"}},
    "model": {"layers": {"domain": "randint", "lower": 1, "upper": 4}},
    "noise": {"domain": "uniform", "lower": 0.0, "upper": 1.0},
}
"""A choice, a logarithm, a condition, a group with an integer, and one that does not matter."""


class MixedTask:
    """Accuracy over `MIXED` (or a space with these names): lr matters most, then the optimizer.

    accuracy(r) = best - 0.5 * 0.8 ** r, best = 0.99 - 0.2 * (log10(lr) + 2) ** 2 / 4
    - 0.05 * [sgd] * (1 - momentum) - 0.01 * (layers - 3) ** 2; nan above `diverges_above`.
    """

    mode = "max"
    name = "mixed"
    best_value = 0.99
    typical_value = 0.5
    median_epoch_s = 2.0

    def __init__(
        self, space: SearchSpace, max_resource: int, diverges_above: float = 2.0, seed: int = 0
    ) -> None:
        self.space, self.max_resource = space, max_resource
        self._limit = diverges_above
        self._rng = np.random.default_rng(seed)

    def evaluator(self) -> Any:
        def evaluate(configuration: dict[str, Any]) -> Curve:
            lr = configuration["lr"]
            best = 0.99 - 0.05 * (math.log10(lr) + 2) ** 2
            if configuration["optimizer"] == "sgd":
                best -= 0.05 * (1 - configuration["momentum"])
            best -= 0.01 * (configuration["model"]["layers"] - 3) ** 2
            epochs = np.arange(1, self.max_resource + 1)
            values = best - 0.5 * 0.8**epochs + self._rng.normal(0, 0.002, self.max_resource)
            if lr > self._limit:
                values[:] = np.nan
            return Curve(values, epoch_s=1.0 + configuration["model"]["layers"])

        return evaluate


class _VirtualLog:
    """Stands in for `RunLog`: writes events with virtual times, and what Ray's callback would."""

    def __init__(self, folder: Path, metric: str, workers: int, hosts: int) -> None:
        self._file = (folder / LOG_FILE).open("w", encoding="utf-8")
        self._metric, self._workers, self._hosts = metric, workers, hosts
        self.now = 1_700_000_000.0
        self._last: dict[str, float] = {}
        self._resource: dict[str, int] = {}
        self._free = list(range(workers))
        self._at: dict[str, int] = {}
        self._is_new: set[str] = set()
        self.newest = ""
        self.epoch_s: dict[str, float] = {}

    def write(self, event: str, **fields: Any) -> dict[str, Any]:
        trial = fields.get("trial")
        if event == "reported":
            begun = self._last[trial]
            self.now = begun + self.epoch_s[trial]
            metrics = {
                self._metric: fields["value"],
                "train_loss": 1.0 / fields["resource"],
                "time_this_iter_s": self.now - begun,
            }
            if trial in self._is_new:
                self._is_new.discard(trial)
                worker = self._at[trial]
                host = f"node{worker % self._hosts}"
                metrics |= {"hostname": host, "node_ip": "10.0.0.1", "pid": 100 + worker}
            fields["metrics"] = metrics
            self._last[trial], self._resource[trial] = self.now, fields["resource"]
            if fields["decision"] != "continue":
                self._free.append(self._at.pop(trial))
        record = {"event": event, "time": round(self.now, 3), **fields}
        self._file.write(dumps(record) + "\n")
        if event == "suggested":
            self.newest = trial
        if event in ("suggested", "resumed"):
            self._at[trial] = self._free.pop() if self._free else 0
            self._is_new.add(trial)
            self._last[trial] = self.now
            self.write("started", trial=trial, resource=self._resource.get(trial, 0))
        return record

    def close(self) -> None:
        self._file.close()


def record_run(
    folder: Path,
    *,
    space: dict[str, Any] | None = None,
    task: Any = None,
    metric: str = "validation_accuracy",
    mode: str = "max",
    max_epochs: int = 27,
    num_samples: int = 60,
    workers: int = 4,
    hosts: int = 2,
    diverges_above: float = 2.0,
    **spec_fields: Any,
) -> Path:
    """Record a run in `folder` (storage path and name); return it.

    Args:
        folder: Where; its name is the run's name.
        space: The search space; `MIXED` by default.
        task: What is learnt; `MixedTask` by default.
        metric: Name of the metric.
        mode: Whether it is minimised.
        max_epochs: Epochs of a full training.
        num_samples: Trials.
        workers: Trials at once.
        hosts: Machines that the workers are spread over.
        diverges_above: Learning rate above which trials of `MixedTask` diverge.
        spec_fields: More of `ExperimentSpec`; BOHB with its density model unless it says otherwise.
    """
    built = SearchSpace.from_dict(space or MIXED)
    spec = ExperimentSpec(
        name=folder.name,
        trainable="tests.recorded_runs:MixedTask",
        space=built,
        metric=metric,
        mode=mode,
        max_epochs=max_epochs,
        num_samples=num_samples,
        storage_path=str(folder.parent),
        **{"search": "bohb", **spec_fields},
    )
    task = task or MixedTask(built, max_epochs, diverges_above, seed=spec.seed)
    folder.mkdir(parents=True)
    created = {"created": "2026-01-01T00:00:00+0000", "host": "head", "versions": {"ray": "2.60.0"}}
    (folder / SPEC_FILE).write_text(json.dumps({"spec": spec.to_dict(), **created}))
    scheduler = scheduler_for(spec)
    recorder = Recorder(searcher_for(spec, scheduler.rung_levels), scheduler, mode=spec.mode)
    log = _VirtualLog(folder, metric, workers, hosts)
    recorder.attach(log)  # type: ignore[arg-type]
    recorder.record(
        "run_started", session=1, host="head", pid=1, slots=workers, versions={}, changes={}
    )
    simulate(recorder, recorder, _Timed(task, log), workers=workers, max_trials=num_samples)
    recorder.record("run_ended", reason="finished")
    log.close()
    return folder


class _Timed:
    """A task that tells the log how long the epochs of the newest trial take."""

    def __init__(self, task: Any, log: _VirtualLog) -> None:
        self._task, self._log = task, log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def evaluator(self) -> Any:
        evaluate = self._task.evaluator()

        def timed(configuration: dict[str, Any]) -> Curve:
            curve = evaluate(configuration)
            self._log.epoch_s[self._log.newest] = curve.epoch_s
            return curve

        return timed
