"""hpbandster's BOHB: its model and its successive halving, with the loop of its Master.

The Master itself talks to workers through a name server. What it does between two jobs is here: it
asks the active iterations for a run, the oldest first, and opens the next iteration where all wait
for results; a result goes to its iteration and to the model. Its budgets, the last epoch divided by
powers of 3, are rounded to whole epochs. A failed job has no result, as after an exception.
"""

from __future__ import annotations

import logging
import math
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.search.clock import Job, run_jobs
from benchmarks.search.spaces import with_configspace
from raytune_ahu.simulation import SimulationResult, Task

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from hpbandster.optimizers.bohb import BOHB
    from hpbandster.optimizers.config_generators.bohb import BOHB as Model

ETA = 3


def bohb(task: Task, *, seed: int, **options: Any) -> SimulationResult:
    """The original BOHB."""
    np.random.seed(seed)  # noqa: NPY002  # hpbandster draws from it
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return run_jobs(HpbandsterJobs(task, seed), task, **options)


class HpbandsterJobs:
    """The iterations of hpbandster as a source of jobs."""

    def __init__(self, task: Task, seed: int) -> None:
        space, self.translate = with_configspace(task.space, ordinals=False)
        space.seed(seed)
        logger = logging.getLogger("benchmarks.hpbandster")
        logger.setLevel(logging.CRITICAL)
        self.model = Model(configspace=space, logger=logger)
        n_budgets = -int(np.log(1 / task.max_resource) / np.log(ETA)) + 1
        spread = np.power(float(ETA), -np.linspace(n_budgets - 1, 0, n_budgets))
        self.master = SimpleNamespace(
            eta=ETA,
            max_SH_iter=n_budgets,
            budgets=task.max_resource * spread,
            config_generator=self.model,
        )
        self.iterations: list[Any] = []

    def ask(self) -> Job:
        """Take a run of an iteration, as Master.run does."""
        while True:
            for iteration in self.iterations:
                run = None if iteration.is_finished else iteration.get_next_run()
                if run is not None:
                    return self._job(*run, iteration)
            number = len(self.iterations)
            self.iterations.append(BOHB.get_next_iteration(self.master, number, {}))

    def _job(self, identity: Any, values: dict[str, Any], budget: float, iteration: Any) -> Job:
        info = iteration.data[identity].config_info
        return Job(
            self.translate(values),
            max(1, round(budget)),
            key=identity,
            origin="model@hpbandster" if info.get("model_based_pick") else "random",
            token=(identity, values, budget),
        )

    def tell(self, job: Job, value: float) -> None:
        """Hand a result over, as Master.job_callback does."""
        identity, values, budget = job.token
        done = SimpleNamespace(
            id=identity,
            kwargs={"config": values, "budget": budget},
            result={"loss": value, "info": {}} if math.isfinite(value) else None,
            exception=None if math.isfinite(value) else "the training diverged",
            timestamps={},
        )
        self.iterations[identity[0]].register_result(done)
        self.model.new_result(done)
