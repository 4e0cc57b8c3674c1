"""Tests of raytune_ahu/simulation/regret.py (see also test_clock.py)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from raytune_ahu.simulation import (
    SimulationResult,
    final_regret,
    normalised_regret,
    regret_at,
    simulate,
    synthetic_task,
)
from raytune_ahu.types import Suggestion
from schedulers import NoEarlyStopping


@pytest.mark.parametrize("mode", ["min", "max"])
def test_final_regret_is_that_of_the_configuration_which_holds_the_incumbent(mode):
    sign = 1.0 if mode == "min" else -1.0
    worth = [0.9, 0.3, 0.6]
    result = SimulationResult(
        mode=mode,
        trials=[SimpleNamespace(configuration={"row": i}) for i in range(3)],
        time_s=np.arange(1.0, 6.0),
        trial=np.array([0, 0, 1, 2, 1]),
        resource=np.array([1, 2, 1, 1, 2]),
        value=sign * np.array([np.nan, 0.8, 0.5, 0.4, 0.45]),
    )
    task = SimpleNamespace(mode=mode, best_value=sign * 0.1, typical_value=sign * 0.6)

    def final_value(configuration):
        return sign * worth[configuration["row"]]

    # nothing yet, worse than typical, then row 1, then row 2 by a lucky report
    regret = final_regret(result, task, final_value)
    assert regret == pytest.approx([1.0, 1.0, 0.4, 1.0, 1.0])
    times = np.array([3.5, 0.0])
    assert regret_at(result, task, times, final_value=final_value) == pytest.approx([0.4, 1.0])


def test_with_noise_the_best_report_is_luck_and_final_regret_is_not_deceived():
    task, rng = synthetic_task("noisy", 1), np.random.default_rng(0)

    class Sampler:
        def suggest(self, trial_id):
            return Suggestion(task.space.sample(rng), "random")

        def observe(self, report): ...
        def finish(self, trial_id, status): ...

    result = simulate(Sampler(), NoEarlyStopping(max_resource=51), task, workers=4, max_trials=150)
    assert normalised_regret(result, task)[-1] == 0.0
    assert 0.05 < final_regret(result, task, task.final_value)[-1] < 1.0


def test_without_noise_a_full_training_has_the_same_regret_either_way():
    task, rng = synthetic_task("smooth"), np.random.default_rng(0)
    configurations = iter([task.space.sample(rng) for _ in range(5)])

    class Lister:
        def suggest(self, trial_id):
            return Suggestion(next(configurations), "random")

        def observe(self, report): ...
        def finish(self, trial_id, status): ...

    result = simulate(Lister(), NoEarlyStopping(max_resource=51), task, workers=1, max_trials=5)
    ends = result.resource == 51
    one, other = normalised_regret(result, task), final_regret(result, task, task.final_value)
    assert one[ends][-1] == pytest.approx(other[ends][-1])
