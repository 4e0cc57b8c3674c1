"""What earlier runs do for BOHB's process: a faster start, and no lasting harm if they mislead."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from raytune_ahu.search import BohbSearcher, PriorTrial
from raytune_ahu.simulation import final_regret, simulate, synthetic_task
from schedulers import build_scheduler

SEEDS = range(8)
MAX_RESOURCE = 27


def built(task, seed):
    scheduler = build_scheduler("asha", max_resource=MAX_RESOURCE, seed=seed)
    levels = scheduler.rung_levels
    options = {"mode": "min", "seed": seed, "rung_levels": levels, "model": "gp"}
    return BohbSearcher(task.space, **options), scheduler


@lru_cache(maxsize=64)
def earlier_trials(seed, n_trials, kind):
    """What a run with another seed reported; values turned round if it is to mislead."""
    task = synthetic_task("smooth", seed, max_resource=MAX_RESOURCE)
    searcher, scheduler = built(task, seed + 1000)
    result = simulate(searcher, scheduler, task, workers=4, max_trials=n_trials)
    sign = -1.0 if kind == "reversed" else 1.0
    reports = [[] for _ in result.trials]
    for trial, resource, value in zip(result.trial, result.resource, result.value, strict=True):
        reports[trial].append((int(resource), sign * float(value)))
    pairs = zip(result.trials, reports, strict=True)
    return [PriorTrial(trial.configuration, tuple(seen)) for trial, seen in pairs]


@lru_cache(maxsize=64)
def regret(seed, kind, n_earlier, n_trials):
    """Final regret of the best of the first n trials, for each n up to `n_trials`."""
    task = synthetic_task("smooth", seed, max_resource=MAX_RESOURCE)
    searcher, scheduler = built(task, seed)
    if kind != "cold":
        searcher.begin_from(earlier_trials(seed, n_earlier, kind))
    result = simulate(searcher, scheduler, task, workers=4, max_trials=n_trials)
    value = final_regret(result, task, task.final_value)
    return [value[np.flatnonzero(result.trial < n)[-1]] for n in range(1, n_trials + 1)]


def mean_regret(kind, n, n_earlier=40):
    return np.mean([regret(seed, kind, n_earlier, 40)[n - 1] for seed in SEEDS])


@pytest.mark.slow
@pytest.mark.parametrize("n_earlier", [40, 150])
@pytest.mark.parametrize("n", [5, 10])
def test_an_earlier_run_on_the_same_task_speeds_up_the_start(n, n_earlier):
    assert mean_regret("same", n, n_earlier) < 0.6 * mean_regret("cold", n)


@pytest.mark.slow
@pytest.mark.parametrize("n_earlier", [15, 40, 150])
def test_a_run_whose_ranking_is_reversed_does_not_mislead_for_long(n_earlier):
    """Regret is on a scale on which a median configuration has 1."""
    assert mean_regret("reversed", 10, n_earlier) > mean_regret("reversed", 40, n_earlier) + 0.1
    assert mean_regret("reversed", 40, n_earlier) < mean_regret("cold", 40) + 0.2
