"""All methods by name: ours from a table of searchers and schedulers, the peers' by their module.

To add one of ours, add a line to `OURS`. A method is called as
`run(task, seed=..., workers=..., budget_s=..., **clock_options)` and returns a `SimulationResult`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.util import find_spec
from typing import Any, TypeAlias

from raytune_ahu.errors import AhuError
from raytune_ahu.search import build_searcher
from raytune_ahu.simulation import SimulationResult, Task, simulate
from schedulers import build_scheduler

GRACE_PERIOD, REDUCTION_FACTOR = 1, 3
Run: TypeAlias = Callable[..., SimulationResult]


@dataclass(frozen=True)
class Ours:
    """One of our searchers with one of our schedulers."""

    search: str
    """A name that `build_searcher` knows."""
    scheduler: str = "asha"
    """A name that `build_scheduler` knows."""
    search_options: Mapping[str, Any] = field(default_factory=dict)
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """What it needs besides the project's own dependencies."""

    def __call__(self, task: Task, *, seed: int, **options: Any) -> SimulationResult:
        """Run it."""
        settings = {"grace_period": GRACE_PERIOD, "reduction_factor": REDUCTION_FACTOR}
        scheduler = build_scheduler(
            self.scheduler,
            mode=task.mode,
            max_resource=task.max_resource,
            seed=seed,
            **{**settings, **self.scheduler_options},
        )
        searcher = build_searcher(
            self.search,
            task.space,
            mode=task.mode,
            seed=seed,
            rung_levels=scheduler.rung_levels,
            options=self.search_options,
        )
        return simulate(searcher, scheduler, task, **options)


@dataclass(frozen=True)
class Peer:
    """A function of a module in `peers`, which is imported when it is called."""

    module: str
    function: str
    packages: tuple[str, ...]
    """What must be installed; the first one is the peer itself."""

    def __call__(self, task: Task, **options: Any) -> SimulationResult:
        """Run it."""
        module = importlib.import_module(f"benchmarks.search.peers.{self.module}")
        result: SimulationResult = getattr(module, self.function)(task, **options)
        return result


GP = {"model": "gp"}
OURS: dict[str, Ours] = {
    "ours:gp+promotion": Ours("bohb", "asha-promotion", GP),
    "ours:gp+asha": Ours("bohb", "asha", GP),
    "ours:bohb+asha": Ours("bohb"),
    "ours:bohb+promotion": Ours("bohb", "asha-promotion"),
    "ours:random+asha": Ours("random"),
    "ours:random+promotion": Ours("random", "asha-promotion"),
    "ours:random+none": Ours("random", "none"),
    "ours:gp+promotion, eta 4": Ours("bohb", "asha-promotion", GP, {"reduction_factor": 4}),
    "ours:gp+promotion, eta 2": Ours("bohb", "asha-promotion", GP, {"reduction_factor": 2}),
    "ours:gp+promotion, 2 brackets": Ours("bohb", "asha-promotion", GP, {"brackets": 2}),
    "ours:gp+promotion, grace 3": Ours("bohb", "asha-promotion", GP, {"grace_period": 3}),
    "ours:gp+promotion, 0 % random": Ours("bohb", "asha-promotion", {**GP, "random_fraction": 0.0}),
    "ours:gp+promotion, 33 % random": Ours(
        "bohb", "asha-promotion", {**GP, "random_fraction": 1 / 3}
    ),
    "ours:hpbandster+asha": Ours(
        "bohb", search_options={"engine": "hpbandster"}, packages=("hpbandster",)
    ),
}
"""Our methods; the last is hpbandster's own model under our searcher and scheduler."""

PEERS: dict[str, Peer] = {
    "ray:bohb+asha": Peer("ray_tune", "bohb_asha", ("ray", "hpbandster")),
    "ray:random+asha": Peer("ray_tune", "random_asha", ("ray", "hpbandster")),
    "ray:bohb+hyperband": Peer("ray_tune", "bohb_hyperband", ("ray", "hpbandster")),
    "optuna:tpe+hyperband": Peer("optuna_study", "tpe_hyperband", ("optuna",)),
    "optuna:tpe+halving": Peer("optuna_study", "tpe_halving", ("optuna",)),
    "optuna:gp+halving": Peer("optuna_study", "gp_halving", ("optuna", "torch")),
    "syne-tune:asha": Peer("syne_tune_scheduler", "asha", ("syne_tune",)),
    "syne-tune:bohb": Peer("syne_tune_scheduler", "bohb", ("syne_tune", "statsmodels")),
    "syne-tune:bohb-exponents": Peer(
        "syne_tune_scheduler", "bohb_exponents", ("syne_tune", "statsmodels")
    ),
    "syne-tune:cqr": Peer("syne_tune_scheduler", "cqr", ("syne_tune", "sklearn")),
    "syne-tune:bore": Peer("syne_tune_scheduler", "bore", ("syne_tune", "xgboost")),
    "smac:multi-fidelity": Peer("smac_facade", "multi_fidelity", ("smac",)),
    "dehb:dehb": Peer("dehb_optimizer", "dehb", ("dehb",)),
    "hpbandster:bohb": Peer("hpbandster_bohb", "bohb", ("hpbandster",)),
}
"""Other people's methods."""

METHODS: dict[str, Ours | Peer] = {**OURS, **PEERS}
OURS_BY_DEFAULT = "ours:gp+promotion"
"""What `--search auto` takes; the others of ours are there for comparison."""
STOCK = "ray:bohb+asha"
"""What a budget is saved against."""
DEFAULT = ("ours:*", "ray:*")
"""What is run where nothing is named; needs this project's own environment only."""
SLOW = ("ours:hpbandster+asha",)
"""Run only if they are named in full."""


def choose_methods(wanted: Iterable[str]) -> list[str]:
    """Choose methods by name or pattern (`ours:*`, `peers`, `all`); say what cannot run here."""
    chosen: list[str] = []
    for word in wanted:
        if word in ("all", "peers"):
            found = list(PEERS if word == "peers" else METHODS)
        else:
            found = [name for name in METHODS if fnmatch(name, word)]
        if not found:
            raise SystemExit(f"no method {word!r}; there are {', '.join(METHODS)}")
        found = [name for name in found if name == word or name not in SLOW]
        chosen += [name for name in found if name not in chosen]
    return [name for name in chosen if _can_run(name)]


def why_not(name: str) -> str | None:
    """Why a method cannot run here; None: it can."""
    method = METHODS[name]
    missing = [package for package in method.packages if find_spec(package) is None]
    if missing:
        return f"{missing[0]} is not installed"
    if isinstance(method, Ours):
        return _unknown_options(method)
    return None


def _unknown_options(method: Ours) -> str | None:
    """Build the method once on a small space, to see whether its names and options exist."""
    from raytune_ahu.space import SearchSpace

    space = SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}})
    try:
        build_scheduler(method.scheduler, max_resource=9, **method.scheduler_options)
        build_searcher(
            method.search,
            space,
            mode="min",
            seed=0,
            rung_levels=[1, 3, 9],
            options=method.search_options,
        )
    except (AhuError, TypeError) as error:
        return str(error)
    return None


def _can_run(name: str) -> bool:
    reason = why_not(name)
    if reason is not None:
        print(f"skipped: {name} ({reason})")
    return reason is None


def version_of(name: str) -> str:
    """Name the package behind a method, and its version."""
    method = METHODS[name]
    packages = ("numpy",) if isinstance(method, Ours) else method.packages
    return " ".join(f"{p} {_version(p)}" for p in packages)


def _version(package: str) -> str:
    distributions = importlib.metadata.packages_distributions().get(package, [package])
    return importlib.metadata.version(distributions[0])
