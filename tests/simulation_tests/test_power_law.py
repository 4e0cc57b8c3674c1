"""Tests of raytune_ahu/simulation/power_law.py."""

from __future__ import annotations

import numpy as np
import pytest

from raytune_ahu.errors import SpecError
from raytune_ahu.simulation import Landscape, PowerLawTask, synthetic_task
from raytune_ahu.space import SearchSpace

LINE = SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}})


def line_task(noise=0.0, **options):
    """Badness 9 x: final values from 0.05 at x = 0 to 0.05 + 0.85 * 0.9 at x = 1."""
    landscape = Landscape(
        space=LINE,
        optimum={"x": 0.0},
        badness=lambda u: 9.0 * u[:, 0],
        shape=lambda u, h: (np.full(len(u), 0.5), 0.5 + u[:, 0]),
        epoch_s=lambda u: 1.0 + u[:, 0],
        noise=noise,
    )
    return PowerLawTask("line", landscape, **options)


def test_a_curve_is_the_power_law_that_ends_at_the_final_value():
    curve = line_task(max_resource=4).evaluator()({"x": 1.0})
    final = 0.05 + 0.85 * 0.9
    r = np.arange(1, 5)
    assert curve.values == pytest.approx(final + 0.5 * (r**-1.5 - 4**-1.5))
    assert curve.values[-1] == final
    assert curve.epoch_s == 2.0


def test_best_typical_and_median_are_what_they_say():
    task = line_task()
    assert task.max_resource == 51
    assert task.best_value == task.final_value(task.optimum) == 0.05
    assert task.typical_value == pytest.approx(task.final_value({"x": 0.5}), abs=0.01)
    assert task.median_epoch_s == pytest.approx(1.5, abs=0.03)


def test_noise_belongs_to_seed_and_configuration_and_has_its_size():
    clean, task = line_task(seed=1), line_task(noise=0.15, seed=1)
    sd = 0.15 * (task.typical_value - task.best_value)
    assert task.typical_value == clean.typical_value
    residuals = []
    for x in np.linspace(0.0, 1.0, 100):
        curve = task.evaluator()({"x": float(x)})
        assert curve.values.tolist() == task.evaluator()({"x": float(x)}).values.tolist()
        residuals.append(curve.values - clean.evaluator()({"x": float(x)}).values)
        assert task.final_value({"x": float(x)}) == clean.final_value({"x": float(x)})
    assert np.std(residuals) == pytest.approx(sd, rel=0.05)
    assert abs(np.corrcoef(residuals[0], residuals[1])[0, 1]) < 0.5
    other = line_task(noise=0.15, seed=2).evaluator()({"x": 0.0})
    assert other.values.tolist() != task.evaluator()({"x": 0.0}).values.tolist()


def test_a_curve_of_one_epoch_is_refused():
    with pytest.raises(SpecError, match="max_resource=1 must be at least 2 epochs"):
        synthetic_task("smooth", max_resource=1)
