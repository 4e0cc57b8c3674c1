"""What BOHB's model thinks of one parameter: densities of the good and of the other trials.

Start with `density`. The model is the searcher's own (`raytune_ahu.search.kde`), fitted to all that
the run has reported; a product kernel's mean over all other parameters is, in closed form, the mean
of the one parameter's kernels.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas as pd

from raytune_ahu.analysis.configurations import encode_trials
from raytune_ahu.analysis.population import Dimension, dimension_of
from raytune_ahu.errors import SpecError
from raytune_ahu.results import Results
from raytune_ahu.search.history import History
from raytune_ahu.search.kde import KdeModel, KdeSettings
from raytune_ahu.search.kernels import ProductKernelDensity, category_index
from raytune_ahu.search.model import Floats
from raytune_ahu.seeding import generator
from raytune_ahu.types import TrialStatus, as_loss


def density(results: Results, parameter: str, *, seed: int = 0) -> pd.DataFrame:
    """Return the densities of BOHB's model along one parameter.

    The run need not have been searched by BOHB: the model is what it would have after the last
    report. Trials in which the parameter is inactive take part as they do there, with a value from
    another trial.

    Args:
        results: The run.
        parameter: Flat name.
        seed: Seed of those values.

    Returns:
        Columns `value` (of the parameter, 64 of them or all that there are), `good` and `other`:
        the densities against a uniform one, which would be 1 everywhere. Empty where there is no
        model: the search space is not known, or no rung level has enough trials.

    Raises:
        SpecError: If there is no such parameter, or it is a constant.
    """
    space = results.space
    if space is None:
        return _frame((), np.empty(0), np.empty(0))
    if parameter not in space.names:
        raise SpecError(
            f"parameter {parameter!r} is not one that varies; there are {', '.join(space.names)}"
        )
    model = fitted_model(results, seed=seed)
    if model is None:
        return _frame((), np.empty(0), np.empty(0))
    domains = {p.name: p.domain for p in space.declaration.parameters}
    dimension = dimension_of(parameter, domains[parameter])
    j = space.names.index(parameter)
    return _frame(
        dimension.values, _along(model.good, j, dimension), _along(model.bad, j, dimension)
    )


def _frame(values: tuple[object, ...], good: Floats, other: Floats) -> pd.DataFrame:
    return pd.DataFrame({"value": list(values), "good": good, "other": other})


def fitted_model(results: Results, *, seed: int = 0) -> KdeModel | None:
    """Fit BOHB's model to a run; None where it has too little data, or there is no search space."""
    space = results.space
    if space is None or results.trials.empty or not results.rung_levels:
        return None
    history = History(len(space.names), results.rung_levels)
    for trial, vector in zip(results.trials["trial"], encode_trials(results, space), strict=True):
        history.add(trial, vector)
    reports = results.reports[["trial", "resource", "value"]]
    for trial, resource, value in reports.itertuples(index=False, name=None):
        history.observe(trial, int(resource), as_loss(float(value), results.mode))
    for trial, status in zip(results.trials["trial"], results.trials["status"], strict=True):
        if TrialStatus(status).is_final:
            history.finish(trial, TrialStatus(status))
    model = KdeModel(space.n_choices, _settings(results))
    level = model.fit(history.observations(), generator(seed, "analysis", "density"))
    return None if level is None else model


def _settings(results: Results) -> KdeSettings:
    """The run's own, if it was searched by BOHB."""
    options = results.spec.search_options if results.spec is not None else {}
    known = {field.name for field in fields(KdeSettings)}
    return KdeSettings(**{name: value for name, value in options.items() if name in known})


def _along(kernels: ProductKernelDensity, j: int, dimension: Dimension) -> Floats:
    """(g,) density of one column at the dimension's grid points, relative to a uniform one."""
    column, h = kernels.data[:, j], float(kernels.bandwidths[j])
    k = int(kernels.n_choices[j])
    if k > 0:
        same, other = kernels.categorical_weights(j)
        share = np.bincount(category_index(column, k), minlength=k) / len(column)
        return np.asarray(k * (share * same + (1.0 - share) * other))
    z = (dimension.grid[:, None] - column[None, :]) / h
    return np.asarray(np.exp(-0.5 * z**2).mean(axis=1) / (h * np.sqrt(2.0 * np.pi)))
