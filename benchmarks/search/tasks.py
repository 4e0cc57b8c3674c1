"""The tasks of the benchmark, by suite.

Tables of learning curves (TaskSet: recorded; LCBench: as the surrogate of YAHPO Gym predicts them)
and synthetic ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from raytune_ahu.simulation import (
    SYNTHETIC_TASKS,
    FailingTask,
    Task,
    load_lcbench,
    load_taskset,
    synthetic_task,
)

ROOT = Path(__file__).resolve().parents[2]
SUITES = ("lcbench", "taskset", "synthetic")


def default_data() -> Path:
    """Where tests look for recorded curves, too."""
    return Path(os.environ.get("RAYTUNE_AHU_SHARED_DATA", ROOT.parent / "shared" / "data"))


def list_tasks(data: Path) -> list[tuple[str, str]]:
    """List (suite, name) of all tasks that there are."""
    recorded = [
        (suite, short_name(path))
        for suite in ("lcbench", "taskset")
        for path in sorted((data / suite).glob("*.npz"))
    ]
    return recorded + [("synthetic", name) for name in SYNTHETIC_TASKS]


def choose_tasks(data: Path, wanted: Iterable[str]) -> list[tuple[str, str]]:
    """Choose tasks by suite or by name; a name may have wildcards.

    Without recorded curves, the synthetic tasks take the place of theirs.
    """
    tasks = list_tasks(data)
    chosen: list[tuple[str, str]] = []
    for word in wanted:
        found = [t for t in tasks if word == t[0] or fnmatch(t[1], word)]
        if not found and word not in SUITES:
            raise SystemExit(f"no task {word!r}; there are {', '.join(name for _, name in tasks)}")
        chosen += [task for task in found if task not in chosen]
    if not chosen:
        print(f"no recorded curves in {data} (taskset/*.npz, lcbench/*.npz): synthetic tasks then")
        chosen = [task for task in tasks if task[0] == "synthetic"]
    return chosen


def short_name(path: Path) -> str:
    """Name of a task in tables: the file's stem without what all tasks of a set share."""
    return path.stem.removeprefix("FixedTextRNNClassification_imdb_")


@lru_cache(maxsize=64)
def load_task(data: Path, suite: str, name: str) -> Task:
    """Load a task; each process keeps those it has seen."""
    if suite == "synthetic":
        return synthetic_task(name)
    path = next(p for p in sorted((data / suite).glob("*.npz")) if short_name(p) == name)
    return load_taskset(path) if suite == "taskset" else load_lcbench(path)


def failing(task: Task, share: float, seed: int) -> Task:
    """Let a share of the task's trials crash."""
    return FailingTask(task, share=share, seed=seed, kind="crash")
