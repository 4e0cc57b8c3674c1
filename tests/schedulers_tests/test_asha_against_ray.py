"""AshaStopping beside Ray's AsyncHyperBandScheduler: where they agree, and where they do not."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from raytune_ahu.types import Report
from schedulers import AshaStopping

pytestmark = pytest.mark.ray


def ray_decisions(eta: int, mode: str, values: np.ndarray) -> list[str]:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    scheduler = AsyncHyperBandScheduler(
        metric="value", mode=mode, max_t=100, grace_period=1, reduction_factor=eta
    )
    decisions = []
    for i, value in enumerate(values):
        trial = SimpleNamespace(trial_id=f"t{i}")
        scheduler.on_trial_add(None, trial)
        result = {"training_iteration": 1, "value": float(value)}
        decisions.append(scheduler.on_trial_result(None, trial, result).lower())
    return decisions


def our_decisions(eta: int, mode: str, values: np.ndarray) -> list[str]:
    scheduler = AshaStopping(max_resource=100, grace_period=1, reduction_factor=eta, mode=mode)
    decisions = []
    for i, value in enumerate(values):
        scheduler.add(f"t{i}")
        decisions.append(scheduler.report(Report(f"t{i}", 1, float(value))).value)
    return decisions


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("eta", [2, 3, 4])
def test_we_differ_from_ray_only_between_the_two_neighbours_of_its_quantile(eta, mode):
    """Ray interpolates the quantile of the others; a value in that one gap may go either way."""
    values = np.random.default_rng(eta).normal(size=400)
    ours, rays = our_decisions(eta, mode, values), ray_decisions(eta, mode, values)
    losses = values if mode == "min" else -values
    differ = 0
    for n_others in range(1, len(values)):
        n_better = int((losses[:n_others] < losses[n_others]).sum())
        in_the_gap = n_better == math.floor((n_others - 1) / eta) + 1
        if not in_the_gap:
            assert ours[n_others] == rays[n_others]
        differ += ours[n_others] != rays[n_others]
    assert ours[0] == rays[0] == "continue"
    assert differ <= 0.05 * len(values)


def test_ray_lets_a_nan_trial_go_on_and_we_stop_it():
    values = np.array([1.0, math.nan])
    assert our_decisions(3, "min", values) == ["continue", "stop"]
    assert ray_decisions(3, "min", values) == ["continue", "continue"]
