"""DEHB through `ask` and `tell`, with its default settings.

A configuration that is promoted keeps its number and goes on from where it was; the children of
evolution are new ones. A failed job is told the worst fitness seen so far, as infinity means "not
yet evaluated" to DEHB.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from typing import Any

from benchmarks.search.clock import Job, run_jobs
from benchmarks.search.spaces import with_configspace
from raytune_ahu.simulation import SimulationResult, Task

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from dehb import DEHB
    from loguru import logger


def dehb(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """Differential evolution under HyperBand."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_jobs(DehbJobs(task, seed, folder), task, **options)


NOTHING_YET = 1e3
"""Told for a failure before anything has succeeded: worse than all that follows."""


class DehbJobs:
    """A DEHB object as a source of jobs."""

    def __init__(self, task: Task, seed: int, folder: str) -> None:
        self.worst = NOTHING_YET
        space, self.translate = with_configspace(task.space)
        self.optimizer = DEHB(
            cs=space,
            dimensions=len(space),
            min_fidelity=1,
            max_fidelity=task.max_resource,
            eta=3,
            seed=seed,
            n_workers=1,  # no Dask: our clock has the workers
            output_path=folder,
            save_freq="end",
            log_level="ERROR",
        )
        logger.remove()  # each DEHB opens a log file with a thread of its own

    def ask(self) -> Job:
        """Ask DEHB for a configuration and a fidelity."""
        info = self.optimizer.ask()
        # until the parent has been evaluated, children are as good as random
        drawn = math.isinf(self.optimizer.de[info["fidelity"]].fitness[info["parent_id"]])
        return Job(
            self.translate(dict(info["config"])),
            max(1, round(info["fidelity"])),
            key=info["config_id"],
            origin="random" if drawn else "model@evolution",
            token=info,
        )

    def tell(self, job: Job, value: float) -> None:
        """Tell DEHB the fitness."""
        failed = not math.isfinite(value)
        if not failed:
            self.worst = value if self.worst == NOTHING_YET else max(self.worst, value)
        fitness = self.worst if failed else value
        self.optimizer.tell(job.token, {"fitness": fitness, "cost": float(job.epochs)})
