"""Grids over a space: every combination of the listed values, or of evenly spread ones.

Parents come before children, so that an inactive parameter multiplies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from raytune_ahu.errors import SpaceError
from raytune_ahu.space.discrete import Listed
from raytune_ahu.space.layout import Layout
from raytune_ahu.space.plan import INACTIVE


def iterate_grid(layout: Layout, points: int | None) -> Iterator[list[Any]]:
    """Values by slot of every legal combination, the last parameter varying fastest.

    Args:
        layout: The space.
        points: Values per numeric parameter; None: there must be no numeric parameter.

    Raises:
        SpaceError: If a numeric parameter needs `points`. It is raised here, not at the first step.
    """
    return _combine(layout, _axes(layout, points), 0, [INACTIVE] * len(layout.domains))


def check_drawable(grid_search_names: Sequence[str]) -> None:
    """Refuse to draw at random from a space with parameters that only a grid search may set.

    Raises:
        SpaceError: If there are any.
    """
    if grid_search_names:
        raise SpaceError(
            f"parameter {grid_search_names[0]!r} is declared as grid_search and cannot be drawn at "
            "random; use the grid search, or declare it as choice"
        )


def count_grid(layout: Layout, points: int | None) -> int:
    """Number of combinations that `iterate_grid` gives."""
    axes = _axes(layout, points)
    if not layout.plan.forbidden and all(c is None for c in layout.plan.conditions):
        return math.prod(len(axis) for axis in axes)
    return sum(1 for _ in iterate_grid(layout, points))


def _axes(layout: Layout, points: int | None) -> list[list[Any]]:
    """The values of each slot."""
    if points is not None and points < 1:
        raise SpaceError(f"points_per_parameter={points} must be at least 1")
    axes = []
    for name, domain in zip(layout.all_names, layout.domains, strict=True):
        if isinstance(domain, Listed):
            axes.append(domain.all_values())
        elif points is None:
            raise SpaceError(
                f"parameter {name!r} of domain {domain.kind} has no listed values for a grid; "
                "declare it as grid_search, choice or ordinal, or say how many grid points a "
                "numeric parameter gets"
            )
        else:
            axes.append(domain.points(points))
    return axes


def _combine(
    layout: Layout, axes: list[list[Any]], depth: int, values: list[Any]
) -> Iterator[list[Any]]:
    order = layout.plan.order
    if depth == len(order):
        if layout.plan.broken_clause(values) is None:
            yield list(values)
        return
    slot = order[depth]
    active = layout.plan.is_active(slot, values)
    for value in axes[slot] if active else (INACTIVE,):
        values[slot] = value
        yield from _combine(layout, axes, depth + 1, values)
    values[slot] = INACTIVE
