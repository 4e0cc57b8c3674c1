"""The user's own first configurations (`points_to_evaluate`): checked, completed where partial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.nested import flatten, unflatten
from raytune_ahu.types import Configuration

if TYPE_CHECKING:
    from raytune_ahu.space import SearchSpace

_TRIES = 1000


def complete_points(
    space: SearchSpace, points: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> list[Configuration]:
    """Check the user's configurations and fill in what they leave open.

    A point may name only some of the parameters. The others are drawn at random from the search
    space, so that conditions and forbidden combinations hold.

    Args:
        space: The search space.
        points: Configurations, nested as the search space is.
        rng: Generator for the parameters left open; not used for complete points.

    Returns:
        Complete, legal configurations in the given order.

    Raises:
        SpaceError: If a point is not legal, or no legal configuration with its values was found.
    """
    completed = []
    for number, point in enumerate(points):
        if not isinstance(point, Mapping):
            raise SpaceError(
                f"points_to_evaluate[{number}]={point!r} must be a configuration, a mapping from "
                "parameter names to values"
            )
        completed.append(_complete(space, point, number, rng))
    return completed


def _complete(
    space: SearchSpace, given_point: Mapping[str, Any], number: int, rng: np.random.Generator
) -> Configuration:
    point: Configuration = deepcopy(dict(given_point))
    reason = _fault(space, point)
    if reason is None:
        return point
    names = [parameter.name for parameter in space.declaration.parameters]
    given = flatten(point, names)
    if set(given) < set(names) and not space.grid_search_names:
        for _ in range(_TRIES):
            candidate = flatten(space.sample(rng), names)
            if not given.keys() <= candidate.keys():
                continue  # other parameters are active in this draw
            candidate.update(given)
            configuration = unflatten(candidate)
            reason = _fault(space, configuration)
            if reason is None:
                return configuration
    raise SpaceError(
        f"points_to_evaluate[{number}]={point!r} is not legal in the search space: {reason}"
    ) from reason


def _fault(space: SearchSpace, configuration: Configuration) -> SpaceError | None:
    try:
        space.validate(configuration)
    except SpaceError as error:
        return error
    return None
