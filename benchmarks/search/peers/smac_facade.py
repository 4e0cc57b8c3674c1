"""SMAC's MultiFidelityFacade through `ask` and `tell`; several jobs are asked for at a time.

As in SMAC's own multi-fidelity example the initial design has 5 random configurations, budgets are
epochs from 1 to the last, and eta is 3. A configuration that SMAC asks for again with a higher
budget goes on from where it was. A failed job is told as CRASHED with the worst cost seen so far,
as the default cost, infinity, cannot be learnt.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

from smac import MultiFidelityFacade, Scenario
from smac.runhistory.dataclasses import TrialValue
from smac.runhistory.enumerations import StatusType

from benchmarks.search.clock import Job, run_jobs
from benchmarks.search.spaces import with_configspace
from raytune_ahu.simulation import SimulationResult, Task

N_INITIAL = 5


def multi_fidelity(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """Random forests and expected improvement under HyperBand."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_jobs(SmacJobs(task, seed, Path(folder)), task, **options)


NOTHING_YET = 1e3
"""Told for a failure before anything has succeeded: worse than all that follows."""


class SmacJobs:
    """A facade of SMAC as a source of jobs."""

    def __init__(self, task: Task, seed: int, folder: Path) -> None:
        self.worst = NOTHING_YET
        space, self.translate = with_configspace(task.space)
        scenario = Scenario(
            space,
            output_directory=folder,
            deterministic=True,
            n_trials=100_000,
            min_budget=1,
            max_budget=task.max_resource,
            seed=seed,
        )
        self.facade = MultiFidelityFacade(
            scenario,
            _never_called,
            initial_design=MultiFidelityFacade.get_initial_design(scenario, n_configs=N_INITIAL),
            intensifier=MultiFidelityFacade.get_intensifier(scenario, eta=3),
            overwrite=True,
            logging_level=False,
        )

    def ask(self) -> Job | None:
        """Ask SMAC for a configuration and a budget."""
        try:
            info = self.facade.ask()
        except StopIteration:
            return None
        origin = str(info.config.origin)
        drawn = "Random" in origin or "Initial" in origin
        return Job(
            self.translate(dict(info.config)),
            max(1, round(info.budget)),
            key=info.config,
            origin="random" if drawn else "model@smac",
            token=info,
        )

    def tell(self, job: Job, value: float) -> None:
        """Tell SMAC the loss."""
        failed = not math.isfinite(value)
        if not failed:
            self.worst = value if self.worst == NOTHING_YET else max(self.worst, value)
        status = StatusType.CRASHED if failed else StatusType.SUCCESS
        result = TrialValue(cost=self.worst if failed else value, time=1.0, status=status)
        self.facade.tell(job.token, result, save=False)


def _never_called(config: Any, seed: int = 0, budget: float = 0.0) -> float:
    raise AssertionError("ask and tell do not evaluate")
