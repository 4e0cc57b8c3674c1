"""Which hyperparameters mattered: `importance`, and how the metric depends on one: `marginal`.

A random forest learns the metric from the configurations; fANOVA (`effects.py`) and permutation
(`permutation.py`) ask it. Both say what the forest has learnt: pure interactions, without a main
effect, it finds late. What is explained is told in `targets.py`, over what in `population.py`.

Symbols: n trials that have a value, d parameters that vary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from raytune_ahu.analysis.effects import Effects, decompose
from raytune_ahu.analysis.forest import Forest
from raytune_ahu.analysis.permutation import permutation_excess
from raytune_ahu.analysis.problem import (
    WANTED_PER_PARAMETER,
    Problem,
    fit_forest,
    problem_of,
    resample_scale,
    resampled_effects,
)
from raytune_ahu.analysis.targets import Target
from raytune_ahu.errors import SpecError
from raytune_ahu.results import Results
from raytune_ahu.search.model import Floats
from raytune_ahu.seeding import generator

_COVERAGE = 0.9
_MAIN = (
    "parameter",
    "importance",
    "ci_low",
    "ci_high",
    "permutation",
    "permutation_ci_low",
    "permutation_ci_high",
    "active",
)


@dataclass(frozen=True)
class Importance:
    """How much of the metric's variance each hyperparameter explains."""

    main: pd.DataFrame
    """One row a parameter, the most important first: `parameter`; `importance`, its main effect as
    a share of the forest's variance over the search space, in [0, 1] (of what the forest has
    learnt: see `fit`), and its 90 % interval `ci_low`, `ci_high`; `permutation`, the growth of the
    out-of-bag squared error when it is shuffled, as a share of the variance of the values (0: none;
    below 0: chance), and its interval `permutation_ci_low`, `permutation_ci_high`; `active`, the
    share of trials that have it."""
    pairs: pd.DataFrame
    """One row for each two that are ever active together, the most important first: `first`,
    `second`, `importance` (what the two explain beyond their main effects), `ci_low`, `ci_high`."""
    n_trials: int
    """Trials that were used."""
    fit: float
    """Out-of-bag R2 of the forest: at 0 or below, it has learnt nothing."""
    notes: tuple[str, ...]
    """What was explained and changed, and what is doubtful, in words."""


def importance(
    results: Results, *, at: Target = "rungs", seed: int = 0, n_bootstrap: int = 40
) -> Importance:
    """Say which hyperparameters mattered, over the whole search space.

    A conditional parameter is judged among the configurations in which it is active, weighted by
    their share of the space; being active counts for the parent (`effects.Effects`). Configurations
    are weighted as a uniform draw would: not as the searcher has drawn them.

    Intervals: for fANOVA, the whole is repeated on trials drawn with replacement, with forests of
    16 trees, and the spread about the resamples' median put around the estimate (of more than 400
    trials, 400 are drawn and the spread is scaled by the square root). For permutation, the trials'
    errors are drawn with replacement, the forest is not fitted again.

    Args:
        results: The run.
        at: Which value of a trial is explained (`targets.targets`).
        seed: Seed of forests, shuffles and resamples.
        n_bootstrap: Resamples, 0 for no intervals (NaN).

    Raises:
        SpecError: If no parameter varied, there are not more trials with a value than parameters
            that varied, or `at` is unknown.
    """
    problem = problem_of(results, at)
    forest = fit_forest(problem, seed)
    effects = decompose(forest, problem.population, generator(seed, "analysis", "importance"))
    resampled = list(resampled_effects(problem, seed, n_bootstrap))
    main = _main_frame(problem, forest, effects, resampled, seed)
    fit = _out_of_bag_r2(problem, forest)
    return Importance(
        main=main,
        pairs=_pairs_frame(problem, effects, resampled),
        n_trials=len(problem.y),
        fit=fit,
        notes=(*problem.notes, *_doubts(problem, main, fit)),
    )


def _main_frame(
    problem: Problem, forest: Forest, effects: Effects, resampled: list[Effects], seed: int
) -> pd.DataFrame:
    population, x, y = problem.population, problem.x, problem.y
    share = _shares(effects.main, effects)
    low, high = _interval(share, [_shares(e.main, e) for e in resampled], resample_scale(len(y)))
    rng = generator(seed, "analysis", "permutation")
    permuted = _permutation(permutation_excess(forest, x, y, population, rng), y, rng)
    columns = (share, low, high, *permuted, (~np.isnan(x)).mean(axis=0))
    main = pd.DataFrame(dict(zip(_MAIN[1:], columns, strict=True)))
    main.insert(0, _MAIN[0], [dim.name for dim in population.dimensions])
    return _ranked(main)


def _pairs_frame(problem: Problem, effects: Effects, resampled: list[Effects]) -> pd.DataFrame:
    share = _shares(np.array(list(effects.pairs.values())), effects)
    drawn = [_shares(np.array(list(e.pairs.values())), e) for e in resampled]
    low, high = _interval(share, drawn, resample_scale(len(problem.y)))
    dimensions = problem.population.dimensions
    names = [(dimensions[i].name, dimensions[j].name) for i, j in effects.pairs]
    pairs = pd.DataFrame(names, columns=["first", "second"])
    return _ranked(pairs.assign(importance=share, ci_low=low, ci_high=high))


def _out_of_bag_r2(problem: Problem, forest: Forest) -> float:
    """1 - squared error / variance, over the trials that some tree has not seen; 0 if all equal."""
    missed = problem.y - forest.out_of_bag(problem.x)
    known = ~np.isnan(missed)
    variance = float(np.square(problem.y[known] - problem.y[known].mean()).sum())
    return 1.0 - float(np.square(missed[known]).sum()) / variance if variance else 0.0


def marginal(
    results: Results,
    parameter: str,
    *,
    at: Target = "any",
    n_points: int = 32,
    seed: int = 0,
    n_bootstrap: int = 20,
) -> pd.DataFrame:
    """Follow the metric along one parameter; args and frame: see `marginals`.

    Raises:
        SpecError: As `importance`, or if there is no such parameter, or it did not vary.
    """
    found = marginals(results, at=at, n_points=n_points, seed=seed, n_bootstrap=n_bootstrap)
    if parameter not in found:
        raise SpecError(f"parameter {parameter!r} did not vary; there are {', '.join(found)}")
    return found[parameter]


def marginals(
    results: Results,
    *,
    at: Target = "any",
    n_points: int = 32,
    seed: int = 0,
    n_bootstrap: int = 20,
) -> dict[str, pd.DataFrame]:
    """Follow the metric along each parameter, averaged over all others (where it is active).

    Args:
        results: The run.
        at: Which value of a trial is explained (`targets.targets`); here each trial's best one by
            default, as in a scatter plot of trials.
        n_points: Points of a curve; all values, where there are no more.
        seed: Seed of forests and resamples.
        n_bootstrap: Resamples for the intervals, 0 for none (NaN).

    Returns:
        For each parameter that varied, by its flat name, columns `value` (of the parameter), `mean`
        and its 90 % interval `ci_low`, `ci_high`, in the metric's units.

    Raises:
        SpecError: As `importance`.
    """
    problem = problem_of(results, at)
    rng = generator(seed, "analysis", "importance")
    effects = decompose(fit_forest(problem, seed), problem.population, rng, pairs=False)
    resampled = list(resampled_effects(problem, seed, n_bootstrap, pairs=False))
    dimensions = problem.population.dimensions
    return {
        dimensions[j].name: _curve_frame(problem, j, effects, resampled, n_points)
        for j in problem.varied
    }


def _curve_frame(
    problem: Problem, j: int, effects: Effects, resampled: list[Effects], n_points: int
) -> pd.DataFrame:
    dimension, curve = problem.population.dimensions[j], effects.curves[j]
    scale = resample_scale(len(problem.y))
    unbounded = (-math.inf, math.inf)
    low, high = _interval(curve, [e.curves[j] for e in resampled], scale, bounds=unbounded)
    centre, spread = problem.metric.mean(), problem.metric.std()
    frame = pd.DataFrame(
        {
            "value": list(dimension.values),
            "mean": centre + spread * curve,
            "ci_low": centre + spread * low,
            "ci_high": centre + spread * high,
        }
    )
    points = np.arange(len(frame))
    if not dimension.is_categorical and len(frame) > n_points:
        points = np.unique(np.linspace(0, len(frame) - 1, max(n_points, 2)).round().astype(int))
    return frame.iloc[points].dropna(subset="mean").reset_index(drop=True)


def _shares(effects: Floats, of: Effects) -> Floats:
    if of.variance <= 0:
        return np.zeros(len(effects))
    return np.asarray(np.minimum(effects / of.variance, 1.0))


def _interval(
    estimate: Floats,
    resampled: list[Floats],
    scale: float,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> tuple[Floats, Floats]:
    if not resampled or not len(estimate):
        return np.full(len(estimate), np.nan), np.full(len(estimate), np.nan)
    tail = (1.0 - _COVERAGE) / 2
    low, middle, high = np.quantile(np.array(resampled), [tail, 0.5, 1.0 - tail], axis=0)
    below, above = estimate + scale * (low - middle), estimate + scale * (high - middle)
    return np.clip(below, *bounds), np.clip(above, *bounds)


def _permutation(
    excess: Floats, y: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Share of the variance, and its interval from 1,000 draws of trials."""
    known = ~np.isnan(excess[0])
    grown, square = excess[:, known], np.square(y[known] - y[known].mean())
    if not square.sum():
        none = np.zeros(len(excess))
        return none, none, none
    counts = rng.multinomial(len(square), np.full(len(square), 1.0 / len(square)), size=1000)
    drawn = (counts @ grown.T) / np.maximum(counts @ square, 1e-12)[:, None]
    tail = (1.0 - _COVERAGE) / 2
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return grown.sum(axis=1) / square.sum(), low, high


def _ranked(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("importance", ascending=False, kind="stable").reset_index(drop=True)


def _doubts(problem: Problem, main: pd.DataFrame, fit: float) -> Iterator[str]:
    n, d = len(problem.y), len(problem.varied)
    if n < WANTED_PER_PARAMETER * d:
        yield (
            f"too few trials to mean anything: {n} for {d} parameters, "
            f"{WANTED_PER_PARAMETER * d} are wanted"
        )
    if fit <= 0:
        yield (
            f"the forest has learnt nothing (out-of-bag R2 {fit:.2f}): these numbers mean nothing; "
            "more trials may help, or the parameters do not matter"
        )
    active = main.set_index("parameter")["active"]
    varied = {problem.population.dimensions[j].name for j in problem.varied}
    never = [name for name in active.index if active[name] == 0]
    fixed = [name for name in active.index if active[name] > 0 and name not in varied]
    if never:
        yield f"never active, so importance 0: {', '.join(never)}"
    if fixed:
        yield f"never varied, so importance 0: {', '.join(fixed)}"
    if len(main) > 1 and main["ci_low"].iloc[0] <= main["ci_high"].iloc[1]:
        first, second = main["parameter"].iloc[:2]
        yield f"whether {first} or {second} matters more is not settled: their intervals overlap"
