"""Columns out of lists, and rungs out of reports: what every reader of runs shares.

Start with `frame` (the columns of the schema, in its dtypes) and `rung_frame`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raytune_ahu.results.schema import CATEGORIES, CONFIG, FRAMES, METRIC
from raytune_ahu.space.nested import flatten
from raytune_ahu.types import Mode

ABSENT = object()
"""Marks a cell that has no value, where None is one."""


def is_absent(value: Any) -> bool:
    """Whether a cell of a frame holds nothing: <NA> or NaN. None is a value."""
    return value is pd.NA or (isinstance(value, float) and math.isnan(value))


def frame(name: str, columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Make a frame of the schema.

    Args:
        name: Its name in `schema.FRAMES`.
        columns: Values by column, all of one length. Columns that the schema has no name for must
            begin with `config/` or `metric/`; their dtypes follow from their values.
    """
    made: dict[str, Any] = {}
    for column in FRAMES[name]:
        if column.name.endswith("*"):
            prefix = column.name[:-1]
            own = {key: cells for key, cells in columns.items() if key.startswith(prefix)}
            made |= {key: typed(cells) for key, cells in own.items()}
        else:
            made[column.name] = _cast(columns[column.name], column.dtype, column.name)
    return pd.DataFrame(made)


def _cast(cells: Sequence[Any], dtype: str, name: str) -> Any:
    if dtype == "category":
        return pd.Categorical(list(cells), categories=list(CATEGORIES[name]))
    if dtype.startswith("datetime64"):
        stamps = pd.to_datetime(np.asarray(cells, np.float64), unit="s", utc=True)
        return stamps.astype(dtype)
    if dtype == "float64":
        return np.array([math.nan if c is None else c for c in cells], np.float64)
    return pd.Series(list(cells), dtype=dtype).array


def typed(cells: Sequence[Any]) -> Any:
    """Give cells the narrowest dtype that holds them exactly.

    Whole numbers become int64 (Int64 where some are absent), numbers float64, flags bool (boolean),
    text string; anything mixed stays as it is. Absent cells are <NA>, NaN among numbers.
    """
    present = [cell for cell in cells if cell is not ABSENT]
    kinds = {type(cell) for cell in present}
    whole = len(present) == len(cells)
    if not present or None in present:
        return _objects(cells)
    if kinds == {bool}:
        return pd.Series(_blank(cells), dtype="bool" if whole else "boolean").array
    if kinds == {int} and all(-(2**63) <= cell < 2**63 for cell in present):
        return pd.Series(_blank(cells), dtype="int64" if whole else "Int64").array
    if kinds <= {int, float}:
        return np.array([math.nan if c is ABSENT else float(c) for c in cells], np.float64)
    if kinds == {str}:
        return pd.Series(_blank(cells), dtype="string").array
    return _objects(cells)


def _blank(cells: Sequence[Any]) -> list[Any]:
    return [pd.NA if cell is ABSENT else cell for cell in cells]


def _objects(cells: Sequence[Any]) -> Any:
    made = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        made[i] = pd.NA if cell is ABSENT else cell
    return made


def gather(rows: Iterable[Mapping[str, Any]], prefix: str) -> dict[str, list[Any]]:
    """Turn n mappings into columns of n cells, `ABSENT` where a row has no such key.

    The columns come in the order in which they were first seen.
    """
    columns: dict[str, list[Any]] = {}
    for count, row in enumerate(rows):
        for key, value in row.items():
            cells = columns.get(prefix + key)
            if cells is None:
                cells = columns[prefix + key] = [ABSENT] * count
            cells.append(value)
        for cells in columns.values():
            if len(cells) == count:
                cells.append(ABSENT)
    return columns


def config_columns(configurations: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The `config/*` columns of trials, nested groups by their flat names."""
    return gather((flatten(dict(c)) for c in configurations), CONFIG)


def metric_columns(metrics: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The `metric/*` columns of reports."""
    return gather(metrics, METRIC)


def keep_newest(reports: pd.DataFrame) -> pd.DataFrame:
    """Leave out reports of epochs that were repeated later."""
    kept = reports.drop_duplicates(["trial", "resource"], keep="last")
    return kept.reset_index(drop=True)


def rung_frame(
    reports: pd.DataFrame,
    levels: Sequence[int],
    *,
    mode: Mode,
    reduction_factor: int,
    rounds_up: bool = True,
) -> pd.DataFrame:
    """Recompute the rungs from the reports (see `schema.RUNGS`).

    Args:
        reports: One row a trial and epoch.
        levels: Rung levels, ascending.
        mode: Whether the metric is minimised or maximised.
        reduction_factor: eta.
        rounds_up: Whether 1/eta of the entrants is rounded up, as ASHA by stopping does it, or
            down, as by promotion.
    """
    furthest = reports.groupby("trial")["resource"].max()
    columns: dict[str, list[Any]] = {column.name: [] for column in FRAMES["rungs"]}
    for level in levels:
        here = reports[reports["resource"] == level]
        value = here["value"].to_numpy()
        finite = np.sort(value[np.isfinite(value)])
        ranked = finite if mode == "min" else finite[::-1]
        top = (len(here) + (reduction_factor - 1) * rounds_up) // reduction_factor
        is_last = level == levels[-1]
        went_on = here["trial"].map(furthest).to_numpy() > level
        columns["level"].append(level)
        columns["entrants"].append(len(here))
        columns["survivors"].append(len(finite) if is_last else int(np.count_nonzero(went_on)))
        columns["cutoff"].append(ranked[top - 1] if 0 < top <= len(ranked) else None)
        columns["best"].append(ranked[0] if len(ranked) else None)
        columns["median"].append(np.median(finite) if len(finite) else None)
    return frame("rungs", columns)
