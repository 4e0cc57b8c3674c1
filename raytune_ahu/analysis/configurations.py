"""The configurations of a run's trials as coordinates. Start with `encode_trials`."""

from __future__ import annotations

from typing import Any

from raytune_ahu.results import Results
from raytune_ahu.results.schema import CONFIG
from raytune_ahu.search.model import Floats
from raytune_ahu.space import SearchSpace


def columns_of(results: Results) -> list[list[Any]]:
    """The `config/*` columns as plain values, in the order of `Results.parameters`."""
    return [results.trials[CONFIG + name].tolist() for name in results.parameters]


def encode_trials(results: Results, space: SearchSpace) -> Floats:
    """Encode all trials of a run: (n, d), NaN where a parameter is inactive.

    Raises:
        SpaceError: If a configuration is not one of the space.
    """
    return space.encode_many(map(results.configuration, results.trials["trial"]))
