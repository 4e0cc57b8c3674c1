"""The driver process of bench_real_search.py: one run, ours or stock Ray Tune's.

    python benchmarks/real_driver.py JOB.json

trains until the budget of epochs is spent and writes the reports to JOB.reports. Both sides are
ended by the same count, in `EpochLog`. Start with `drive_ours` and `drive_stock`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.search.bohb import TuneBOHB

from raytune_ahu import ExperimentSpec, SearchSpace
from raytune_ahu.space.nested import flatten, unflatten
from raytune_ahu.space.plan import INACTIVE, Plan
from raytune_ahu.space.values import plain
from trainables import CifarResNetTrainable, MnistTrainable, ReadyTrainable

GRACE_PERIOD, REDUCTION_FACTOR = 1, 3
CONCURRENT = 2
TRAINABLES: dict[str, type[ReadyTrainable]] = {
    "mnist": MnistTrainable,
    "cifar10": CifarResNetTrainable,
}
METRIC = "validation_accuracy"


class EpochLog(tune.Callback):
    """Keeps every report in the order in which Ray's controller takes it, up to the budget.

    Args:
        budget: Epochs in total.
        on_full: Called once when they are spent.
    """

    def __init__(self, budget: int, on_full: Callable[[], object] = lambda: None) -> None:
        self.budget = budget
        self.reports: list[dict[str, Any]] = []
        self._on_full = on_full
        self._began = time.perf_counter()
        self._best = 1.0

    @property
    def is_full(self) -> bool:
        """Whether the budget is spent."""
        return len(self.reports) >= self.budget

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note one epoch."""
        if self.is_full:
            return
        error = 1.0 - float(result[METRIC])
        self.reports.append(
            {
                "seconds": round(time.perf_counter() - self._began, 3),
                "trial": trial.trial_id,
                "epoch": int(result["training_iteration"]),
                "error": round(error, 6),
                "epoch_s": round(float(result["epoch_s"]), 4),
            }
        )
        self._best = min(self._best, error)  # a NaN leaves it as it is
        if len(self.reports) % 25 == 0 or self.is_full:
            print(f"    {len(self.reports)} of {self.budget} epochs, best error {self._best:.2%}, "
                  f"{self.reports[-1]['seconds']:.0f} s", flush=True)  # fmt: skip
        if self.is_full:
            self._on_full()


class Spent(tune.Stopper):
    """Ends a run of stock Ray Tune once the log is full."""

    def __init__(self, log: EpochLog) -> None:
        self._log = log

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped by itself."""
        return False

    def stop_all(self) -> bool:
        """Whether the budget is spent."""
        return self._log.is_full


# ---------------------------------------------------------------------- this project


def drive_ours(job: Mapping[str, Any], space: SearchSpace, storage: str) -> list[dict[str, Any]]:
    """Run with this package, the live view drawn into nowhere."""
    from rich.console import Console

    from raytune_ahu.adapters import run
    from schedulers import scheduler_for
    from schedulers.ray_scheduler import RayScheduler

    trainable = TRAINABLES[job["dataset"]]
    spec = ExperimentSpec(
        name="run",
        trainable=f"{trainable.__module__}:{trainable.__name__}",
        space=space,
        metric=METRIC,
        mode="max",
        max_epochs=job["max_epochs"],
        num_samples=job["budget"],  # more than there can be
        search=job["search"],
        search_options=job["search_options"],
        scheduler=job["scheduler"],
        grace_period=GRACE_PERIOD,
        reduction_factor=REDUCTION_FACTOR,
        max_concurrent=CONCURRENT,
        storage_path=storage,
        seed=job["seed"],
        stop_timeout_s=0.0,
        settings=job["settings"],
    )
    # An interrupt ends a run in order; a limit of epochs in total there is not.
    log = EpochLog(job["budget"], lambda: signal.raise_signal(signal.SIGINT))
    with Path(os.devnull).open("w") as nowhere:
        result = run(
            spec,
            trainable=trainable,
            scheduler=RayScheduler(scheduler_for(spec)),
            console=Console(file=nowhere),
            callbacks=[log],
        )
    origins = {name: trial.origin for name, trial in result.state.trials.items()}
    for report in log.reports:
        report["model_based"] = origins[report["trial"]].startswith("model@")
    return log.reports


# ---------------------------------------------------------------------- stock Ray Tune


def without_conditions(space: SearchSpace) -> SearchSpace:
    """Return the space with every parameter always active, as Ray has no conditions."""
    parameters = [(p.name, p.domain.entry()) for p in space.declaration.parameters]
    return SearchSpace.from_dict({"parameters": unflatten(dict(parameters))})


def drop_inactive(plan: Plan, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not active under the conditions of the original space.

    Args:
        plan: The plan of that space's declaration.
        configuration: Values of all parameters.
    """
    given = flatten(configuration)
    values: list[Any] = [INACTIVE] * len(plan.parameters)
    for slot in plan.order:
        if plan.is_active(slot, values):
            values[slot] = given[plan.parameters[slot].name]
    pairs = zip(plan.parameters, values, strict=True)
    return dict(unflatten({p.name: value for p, value in pairs if value is not INACTIVE}))


def made_conditional(trainable: type[Any], space: SearchSpace) -> type[Any]:
    """Make the same trainable for configurations that hold inactive parameters as well."""
    plan = Plan(space.declaration)

    def read(config: dict[str, Any]) -> dict[str, Any]:
        settings = config["settings"]
        others = {name: value for name, value in config.items() if name != "settings"}
        return {**drop_inactive(plan, plain(others)), "settings": settings}

    class Conditional(trainable):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(read(config))

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return bool(super().reset_config(read(new_config)))

    return Conditional


class NotingBohb(TuneBOHB):
    """TuneBOHB, which notes the trials that it suggests while it has a model."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Suggest, and note whether there was a model to draw from."""
        if self.bohber.kde_models:
            self.by_model: set[str] = {*getattr(self, "by_model", ()), trial_id}
        suggestion: dict[str, Any] | None = super().suggest(trial_id)
        return suggestion


def drive_stock(job: Mapping[str, Any], space: SearchSpace, storage: str) -> list[dict[str, Any]]:
    """Run TuneBOHB with ASHAScheduler on Ray Tune alone."""
    from raytune_ahu.adapters.space import to_tune

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new output engine is never silent
    search = NotingBohb(metric=METRIC, mode="max", seed=job["seed"])
    log = EpochLog(job["budget"])
    tune.run(
        made_conditional(TRAINABLES[job["dataset"]], space),
        name="run",
        storage_path=storage,
        config={**to_tune(without_conditions(space)), "settings": job["settings"]},
        num_samples=job["budget"],
        search_alg=search,
        scheduler=tune.schedulers.ASHAScheduler(
            metric=METRIC,
            mode="max",
            max_t=job["max_epochs"],
            grace_period=GRACE_PERIOD,
            reduction_factor=REDUCTION_FACTOR,
        ),
        stop=Spent(log),
        resources_per_trial={"cpu": 1},
        max_concurrent_trials=CONCURRENT,
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=1),
        reuse_actors=True,
        raise_on_failed_trial=False,
        callbacks=[log],
        verbose=0,
    )
    by_model: set[str] = getattr(search, "by_model", set())
    for report in log.reports:
        report["model_based"] = report["trial"] in by_model
    return log.reports


def main(path: Path) -> None:
    """Read what to do, do it, and write the reports beside it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    job = json.loads(path.read_text())
    random.seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002 - hpbandster draws from the global generator
    ray.init(
        address="local",
        num_cpus=CONCURRENT,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=job["temp"],
    )
    space = SearchSpace.from_file(job["space"])
    drive = drive_stock if job["search"] is None else drive_ours
    reports = drive(job, space, job["storage"])
    path.with_suffix(".reports").write_text(json.dumps(reports))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
