"""Searchers by name, for specifications and command lines. Start with `build_searcher`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raytune_ahu.errors import SpecError
from raytune_ahu.search.base import BaseSearcher
from raytune_ahu.search.bohb import BohbSearcher
from raytune_ahu.search.grid import GridSearcher
from raytune_ahu.search.prior import PriorTrial
from raytune_ahu.search.random import RandomSearcher

if TYPE_CHECKING:
    from raytune_ahu.experiment import ExperimentSpec
    from raytune_ahu.space import SearchSpace

SEARCHERS: dict[str, type[BaseSearcher]] = {
    "bohb": BohbSearcher,
    "random": RandomSearcher,
    "grid": GridSearcher,
}
"""All searchers by the name that a specification uses."""


def build_searcher(
    name: str,
    space: SearchSpace,
    *,
    mode: str,
    seed: int,
    rung_levels: Sequence[int],
    points_to_evaluate: Sequence[Mapping[str, Any]] = (),
    options: Mapping[str, Any] | None = None,
) -> BaseSearcher:
    """Build a searcher from its name and options.

    Args:
        name: A key of `SEARCHERS`.
        space: The search space.
        mode: Whether the metric is minimised or maximised.
        seed: Root seed of the run.
        rung_levels: Resources at which the scheduler compares trials, ascending.
        points_to_evaluate: Configurations to try first.
        options: Keywords of the searcher's constructor, among its `option_names`.

    Raises:
        SpecError: If the name or an option is unknown, or a value out of its range.
        SpaceError: If a point is not legal in the space.
        OptionalDependencyError: If an option needs a package that is not installed.
    """
    if name not in SEARCHERS:
        raise SpecError(f"search={name!r} must be one of {', '.join(sorted(SEARCHERS))}")
    kind = SEARCHERS[name]
    chosen = dict(options or {})
    unknown = [key for key in chosen if key not in kind.option_names]
    if unknown:
        allowed = ", ".join(kind.option_names) or "none"
        raise SpecError(
            f"search option {unknown[0]!r} is unknown to search={name!r}; its options: {allowed}"
        )
    if kind is BohbSearcher:
        chosen["rung_levels"] = rung_levels
    build: Any = kind  # the constructors differ in their options, which were checked by name
    searcher: BaseSearcher = build(
        space, mode=mode, seed=seed, points_to_evaluate=points_to_evaluate, **chosen
    )
    return searcher


def searcher_for(spec: ExperimentSpec, rung_levels: Sequence[int]) -> BaseSearcher:
    """Build the searcher that an experiment names, with its warm start.

    Raises:
        SpecError, SpaceError, OptionalDependencyError: As `build_searcher`; also for a prior trial
            that is none, or not legal in the space.
    """
    searcher = build_searcher(
        spec.search,
        spec.space,
        mode=spec.mode,
        seed=spec.seed,
        rung_levels=rung_levels,
        points_to_evaluate=spec.points_to_evaluate,
        options=spec.search_options,
    )
    searcher.begin_from([PriorTrial.from_dict(trial) for trial in spec.prior_trials])
    return searcher
