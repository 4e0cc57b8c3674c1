"""An earlier run's observations for a new search: `prior_trials`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raytune_ahu.errors import SpaceError, SpecError
from raytune_ahu.results.results import Results
from raytune_ahu.search.prior import PriorTrial
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Mode


@dataclass(frozen=True)
class WarmStart:
    """What of an earlier run is legal in a search space."""

    trials: tuple[PriorTrial, ...]
    """The observations."""
    n_outside: int
    """Trials with reports that do not lie in the search space."""


def prior_trials(
    results: Results, space: SearchSpace, metric: str, mode: Mode, run: int = 0
) -> WarmStart:
    """Take the trials of a run that a new search over `space` can learn from.

    Trials count as they were seen at each resource, whatever became of them later; those that
    failed count as failed. For the density model the values of both runs must be comparable (the
    same data, the same split); the Gaussian process ranks each run by itself.

    Args:
        results: The earlier run.
        space: The new search space.
        metric: What the new search tunes.
        mode: Whether it is minimised or maximised.
        run: Number of the earlier run, from 0, where there are several.

    Raises:
        SpecError: If the run tuned another metric, or none of its trials is legal in the space.
    """
    if (results.metric, results.mode) != (metric, mode):
        raise SpecError(
            f"run {results.name!r} tuned {results.metric} ({results.mode}), not {metric} ({mode}); "
            "a warm start needs the same metric"
        )
    finite = results.reports[np.isfinite(results.reports["value"])]
    ordered = finite.sort_values("resource", kind="stable")
    seen = {
        trial: tuple(zip(part["resource"].tolist(), part["value"].tolist(), strict=True))
        for trial, part in ordered.groupby("trial")
    }
    trials, n_outside, why = [], 0, ""
    for trial, status in zip(results.trials["trial"], results.trials["status"], strict=True):
        failed = status == "failed"
        if trial not in seen and not failed:
            continue
        configuration = results.configuration(trial)
        try:
            space.validate(configuration)
        except SpaceError as error:
            n_outside += 1
            why = why or f", the first because {error}"
        else:
            trials.append(PriorTrial(configuration, seen.get(trial, ()), failed, run))
    if not trials:
        raise SpecError(
            f"run {results.name!r} has no trial with a value that lies in this search space "
            f"({n_outside} lie outside{why}); start without it"
        )
    return WarmStart(tuple(trials), n_outside)
