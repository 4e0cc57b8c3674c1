"""The best configurations of a run again, with fresh seeds: is the first really the best?

A search picks the luckiest of many trials, so its best value is too good to be true, and its first
and second may differ by luck alone. `repeat` trains the top k again with the same n fresh seeds
each, in a run of its own; what that says is `raytune_ahu.analysis.repeats`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from raytune_ahu.adapters.reruns import (
    Means,
    current_spec,
    fresh_seeds,
    recorded_configurations,
    rerun_spec,
    run_again,
)
from raytune_ahu.adapters.runner import RunResult
from raytune_ahu.analysis.repeats import repeats
from raytune_ahu.errors import SpecError
from raytune_ahu.records import dumps
from raytune_ahu.results import Best, Results, load

REPEAT_SUFFIX = "-repeat"


@dataclass(frozen=True)
class Repeated:
    """The top of a run, repeated."""

    run: RunResult
    """The run that repeated it."""
    best: tuple[Best, ...]
    """What was repeated, by rank in the search."""
    seeds: tuple[int, ...]
    """Seeds that each got."""
    frame: pd.DataFrame
    """See `raytune_ahu.analysis.repeats.repeats`."""


def repeat(
    results: Results, means: Means, *, k: int = 3, seeds: int = 5, name: str | None = None
) -> Repeated:
    """Train the k best configurations of a run again, with fresh seeds, to the end.

    The run is called `NAME-repeat`; where it was interrupted, the same call goes on with it. Data
    and splits are those of the search; only validation data are read.

    Args:
        results: The run. The best are those by `results.top(k)`, each configuration once.
        means: With what.
        k: How many configurations; fewer where fewer have a value.
        seeds: How many seeds each gets, the same for all.
        name: Another name for the new run.

    Raises:
        MetricError: If no trial of the run has a finite value.
        SpecError: If k or seeds is out of range, or another run has that name.
        AhuError: As `runner.run`.
    """
    spec = current_spec(results)
    best = _different(results, k)
    chosen = fresh_seeds(spec, "repeat", seeds)
    new = rerun_spec(
        spec,
        name or f"{spec.name}{REPEAT_SUFFIX}",
        recorded_configurations(results, best),
        chosen,
    )
    run = run_again(new, means)
    frame = repeats(load(run.folder), trials=[one.trial for one in best])
    return Repeated(run, tuple(best), chosen, frame)


def _different(results: Results, k: int) -> list[Best]:
    """The k best trials whose configurations differ, the best first."""
    if not 1 <= k <= 1000:
        raise SpecError(f"k={k} must be in [1, 1000]: how many of the best configurations")
    ranked = results.top(max(1, len(results.trials)))
    found: dict[str, Best] = {}
    for one, configuration in zip(ranked, recorded_configurations(results, ranked), strict=True):
        found.setdefault(dumps(configuration), one)
        if len(found) == k:
            break
    return list(found.values())
