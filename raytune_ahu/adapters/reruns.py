"""Training chosen configurations of a run again, each with several seeds: as a run of its own.

Such a run is an ordinary one, with a record, checkpoints and a live view, and it can be resumed.
Its space is that of the run it follows and a `trial_seed`, its points are the configurations with
each seed, and nothing is stopped early. Start with `rerun_spec` and `run_again`; `repeats` and
`retraining` are made of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ray.tune import Trainable
from rich.console import Console

from raytune_ahu.adapters.runner import RunResult, SchedulerAdapter, run
from raytune_ahu.errors import RunNotFoundError, SpecError
from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.finding import find_run, read_spec
from raytune_ahu.records import LOG_FILE, SPEC_FILE, read_events
from raytune_ahu.results import Best, Results
from raytune_ahu.run_state import RunState, TrialState
from raytune_ahu.seeding import derive_seed
from raytune_ahu.space import SearchSpace
from raytune_ahu.space.declaration import Declaration, Parameter
from raytune_ahu.space.discrete import Choice
from raytune_ahu.storage import is_uri
from raytune_ahu.types import TRIAL_SEED_KEY, Configuration, TrialStatus

MakeScheduler: TypeAlias = Callable[[ExperimentSpec], SchedulerAdapter]
"""Makes the scheduler that a specification names, wrapped for Ray:
`lambda spec: RayScheduler(scheduler_for(spec))`."""

_MOST_SEEDS = 1000
_SEED_VALUES = 2**31  # a seed that fits into a line of a table


@dataclass(frozen=True, kw_only=True)
class Means:
    """With what a run is trained again."""

    trainable: type[Trainable]
    """The class that the run tuned."""
    make_scheduler: MakeScheduler
    """See there."""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the specification that differ from the run's: resources, what to do when something
    goes wrong."""
    verbose: bool = False
    """Whether Ray's own output is shown instead of the live view."""
    console: Console | None = None
    """Where to show the live view; None: standard output."""
    before_run: Callable[[ExperimentSpec], None] = lambda spec: None
    """Called when all is checked and trainings are about to begin: to connect to Ray."""


def current_spec(results: Results) -> ExperimentSpec:
    """Return the specification of a run, with the places where it lies now.

    Raises:
        SpecError: If it is a run of stock Ray Tune, or trains the best of another run again.
    """
    if results.spec is None:
        raise SpecError(
            f"{results.name!r} is a run of stock Ray Tune, whose search space and trainable are "
            "not on record; only runs of this project can be trained again"
        )
    spec = read_spec(results.folder)
    if spec.rerun_of is not None:
        raise SpecError(
            f"run {spec.name!r} trains the best of run {spec.rerun_of!r} again; give that one"
        )
    return spec


def fresh_seeds(spec: ExperimentSpec, purpose: str, n: int) -> tuple[int, ...]:
    """Derive n seeds that no trial of the run has had; more of them begin with the same.

    Raises:
        SpecError: If n is out of range.
    """
    if not 1 <= n <= _MOST_SEEDS:
        raise SpecError(f"seeds={n} must be in [1, {_MOST_SEEDS}]; 3 show a spread, 5 a difference")
    return tuple(derive_seed(spec.seed, purpose, i) % _SEED_VALUES for i in range(n))


def recorded_configurations(results: Results, best: Sequence[Best]) -> list[Configuration]:
    """Return the configurations of trials exactly as they are in the log, without their seeds."""
    state = RunState.of(results.mode, read_events(results.folder))
    found = [state.trials[one.trial].configuration for one in best]
    return [{k: v for k, v in one.items() if k != TRIAL_SEED_KEY} for one in found]


def rerun_spec(
    spec: ExperimentSpec,
    name: str,
    configurations: Sequence[Configuration],
    seeds: Sequence[int],
    **changes: Any,
) -> ExperimentSpec:
    """Make the specification of a run that trains configurations again.

    All configurations get the first seed, then all the second one: a run that was ended early has
    about as many seeds of each.

    Args:
        spec: The run that they are from.
        name: Name of the new run.
        configurations: Without a seed.
        seeds: Seeds that each one gets.
        changes: Further fields that differ.
    """
    points = [{**one, TRIAL_SEED_KEY: seed} for seed in seeds for one in configurations]
    fields: dict[str, Any] = {
        "name": name,
        "rerun_of": spec.name,
        "space": with_seeds(spec.space, seeds),
        "points_to_evaluate": tuple(points),
        "num_samples": len(points),
        "time_budget_s": None,
        "search": "random",
        "search_options": {},
        "prior_trials": (),
        "scheduler": "none",
        "grace_period": 1,
        "brackets": 1,
        "keep_best_per": None,
    }
    return spec.replace(**{**fields, **changes})


def with_seeds(space: SearchSpace, seeds: Sequence[int]) -> SearchSpace:
    """Return the space with `trial_seed` as a further choice; grids become choices."""
    parameters = [
        dataclasses.replace(parameter, domain=dataclasses.replace(domain, grid=False))
        if isinstance(domain := parameter.domain, Choice) and domain.grid
        else parameter
        for parameter in space.declaration.parameters
        if parameter.name != TRIAL_SEED_KEY
    ]
    seed = Parameter(TRIAL_SEED_KEY, Choice(tuple(seeds)))
    return SearchSpace(Declaration((*parameters, seed), space.declaration.forbidden))


def run_again(spec: ExperimentSpec, means: Means) -> RunResult:
    """Run what `rerun_spec` made, or go on with it where it stopped; failed trials are tried again.

    Where all of it has been done before, nothing is started, and Ray is not needed.

    Raises:
        SpecError: If the run of that name trains something else.
        AhuError: As `runner.run`.
    """
    spec = spec.replace(**means.changes)
    recorded = _recorded(spec)
    if recorded is not None:
        _check_same(recorded, spec)
        done = _completed(recorded)
        if done is not None:
            return done
    means.before_run(spec)
    return run(
        spec,
        trainable=means.trainable,
        scheduler=means.make_scheduler(spec),
        resume=recorded is not None,
        retry_failed=recorded is not None,
        verbose=means.verbose,
        console=means.console,
    )


def check_rerun(spec: ExperimentSpec) -> None:
    """Check that nothing else is recorded under the name of a rerun, before anything is started.

    Raises:
        SpecError: If there is.
    """
    recorded = _recorded(spec)
    if recorded is not None:
        _check_same(recorded, spec)


def _recorded(spec: ExperimentSpec) -> ExperimentSpec | None:
    if (spec.folder / SPEC_FILE).exists():
        return read_spec(spec.folder)
    if not is_uri(spec.storage_path):
        return None
    try:
        return find_run(
            spec.name, storage_path=spec.storage_path, record_path=spec.record_path or "runs"
        )
    except RunNotFoundError:
        return None


def _completed(spec: ExperimentSpec) -> RunResult | None:
    """What is on record of a rerun whose trials have all come to their end, or diverged."""
    if not (spec.folder / LOG_FILE).exists():
        return None
    state = RunState.of(spec.mode, read_events(spec.folder))
    trials = state.trials.values()
    if len(trials) != spec.num_samples or not all(_has_ended(trial) for trial in trials):
        return None
    return RunResult(spec, spec.folder, state, "finished")


def _has_ended(trial: TrialState) -> bool:
    failed = trial.status is TrialStatus.FAILED
    diverged = trial.value is not None and not math.isfinite(trial.value)
    return trial.status.is_final and (diverged or not failed)


def _check_same(recorded: ExperimentSpec, spec: ExperimentSpec) -> None:
    """Refuse to go on with a rerun of other configurations, seeds or epochs."""
    same = (
        recorded.points_to_evaluate == spec.points_to_evaluate
        and recorded.max_epochs == spec.max_epochs
        and recorded.metric == spec.metric
    )
    if not same:
        points = recorded.points_to_evaluate
        seeds = {point.get(TRIAL_SEED_KEY) for point in points}
        raise SpecError(
            f"run {spec.name!r} exists already with other trials: "
            f"{len(points) // max(1, len(seeds))} configurations, {len(seeds)} seeds, "
            f"{recorded.max_epochs} epochs; ask for the same to go on with it, or move "
            f"{spec.folder} away"
        )
