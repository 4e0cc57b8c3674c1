"""A population out of what trials had, where no search space says what could have been.

Runs of stock Ray Tune have no search space on record. Their numbers are laid between the smallest
and the largest one seen, on a logarithmic scale if they are positive and span more than two
decades; anything else is a category. A parameter that is absent is inactive; the strata are the
combinations of active parameters that were seen. Start with `of_columns`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from raytune_ahu.analysis.population import GRID_POINTS, Dimension, Population, Stratum, measure
from raytune_ahu.results.frames import is_absent
from raytune_ahu.search.model import Floats
from raytune_ahu.space.values import identity

_DECADES = 2.0


def of_columns(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> tuple[Population, Floats]:
    """Encode columns of values, pandas.NA or NaN where the parameter is inactive.

    Args:
        names: Flat name of each parameter.
        columns: Its value in each of n trials.

    Returns:
        The population, and (n, d) coordinates, NaN where inactive. Parameters with fewer than two
        values are left out.
    """
    made = [_encode(name, column) for name, column in zip(names, columns, strict=True)]
    kept = [pair for pair in made if pair is not None]
    n = len(columns[0]) if columns else 0
    x = np.column_stack([pair[1] for pair in kept]) if kept else np.empty((n, 0))
    dimensions = tuple(pair[0] for pair in kept)
    return Population(dimensions=dimensions, strata=observed_strata(dimensions, x)), x


def observed_strata(dimensions: Sequence[Dimension], x: Floats) -> tuple[Stratum, ...]:
    """The combinations of active parameters among encoded trials (n, d), by their shares.

    Within one, a category has the values that were seen there.
    """
    patterns, owner = np.unique(np.isnan(x), axis=0, return_inverse=True)
    owner = owner.ravel()
    strata = []
    for s, pattern in enumerate(patterns):
        rows = x[owner == s]
        measures = []
        for j, dim in enumerate(dimensions):
            if pattern[j]:
                measures.append(measure(dim, None))
            elif dim.is_categorical:
                seen = np.isin(np.arange(len(dim)), np.floor(rows[:, j] * len(dim)))
                measures.append(measure(dim, seen))
            else:
                measures.append(measure(dim, np.ones(len(dim), dtype=bool)))
        strata.append(Stratum(len(rows) / len(x), tuple(measures)))
    return tuple(strata)


def _encode(name: str, column: Sequence[Any]) -> tuple[Dimension, Floats] | None:
    there = [not is_absent(cell) for cell in column]
    present = [cell for cell, is_there in zip(column, there, strict=True) if is_there]
    kinds = {type(cell) for cell in present}
    if len({identity(cell) for cell in present}) < 2:
        return None
    numeric = all(issubclass(kind, (int, float)) and kind is not bool for kind in kinds)
    dimension, coordinates = (_numbers if numeric else _categories)(name, present)
    x = np.full(len(column), np.nan)
    x[np.array(there)] = coordinates
    return dimension, x


def _numbers(name: str, cells: Sequence[float]) -> tuple[Dimension, Floats]:
    numbers = np.array(cells, dtype=np.float64)
    log = numbers.min() > 0 and math.log10(numbers.max() / numbers.min()) > _DECADES
    position = np.log(numbers) if log else numbers
    low, span = position.min(), np.ptp(position)
    coordinates = (position - low) / span
    seen = np.unique(coordinates)
    if len(seen) <= GRID_POINTS and all(isinstance(cell, int) for cell in cells):
        grid = seen
    else:
        grid = (np.arange(GRID_POINTS) + 0.5) / GRID_POINTS
    values = low + grid * span
    values = np.exp(values) if log else values
    if all(isinstance(cell, int) for cell in cells):
        values = np.round(values)
    sizes = np.full(len(grid), 1.0 / len(grid))
    return Dimension(name, grid, sizes, tuple(values.tolist()), False), coordinates


def _categories(name: str, cells: Sequence[Any]) -> tuple[Dimension, Floats]:
    number: dict[Any, int] = {}
    index = np.array([number.setdefault(identity(cell), len(number)) for cell in cells])
    k = len(number)
    values = tuple(cells[int(np.argmax(index == i))] for i in range(k))
    grid = (np.arange(k) + 0.5) / k
    return Dimension(name, grid, np.full(k, 1.0 / k), values, True), (index + 0.5) / k
