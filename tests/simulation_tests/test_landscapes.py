"""Tests of raytune_ahu/simulation/landscapes.py and catalogue.py."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

from raytune_ahu.errors import SpecError
from raytune_ahu.simulation import SYNTHETIC_TASKS, Task, synthetic_task

SEEDS = (0, 1, 2)


def points(task, n, seed=0):
    rng = np.random.default_rng(seed)
    return task.space.encode_many(task.space.sample(rng) for _ in range(n))


def all_tasks(function):
    return pytest.mark.parametrize("seed", SEEDS)(
        pytest.mark.parametrize("name", SYNTHETIC_TASKS)(function)
    )


@all_tasks
def test_the_optimum_attains_the_best_value_after_the_last_epoch(name, seed):
    task: Task = synthetic_task(name, seed)
    task.space.validate(task.optimum)
    assert task.final_value(task.optimum) == task.best_value
    clean = task.clean_values(task.space.encode(task.optimum)[None])[0]
    assert clean[-1] == task.best_value
    if name != "noisy":
        assert task.evaluator()(task.optimum).values.tolist() == clean.tolist()


@all_tasks
def test_nothing_is_better_than_the_optimum(name, seed):
    task = synthetic_task(name, seed)
    u = points(task, 20_000 if seed == 0 else 2000)
    values = task.clean_values(u)
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=1) <= 0).all()
    assert values.min() > task.best_value
    # from the best of them, and from the optimum, ever smaller steps to better places
    rng = np.random.default_rng(1)
    starts = u[np.argsort(values[:, -1])[:5]]
    for at in [*starts, task.space.encode(task.optimum)]:
        value = task.final_values(at[None])[0]
        for scale in np.geomspace(0.3, 1e-4, 12):
            steps = scale * rng.standard_normal((25, len(at)))
            near = np.array([task.space.repair(v) for v in np.nan_to_num(at, nan=0.5) + steps])
            found = task.final_values(near)
            assert (found >= task.best_value).all()
            if found.min() < value:
                at, value = near[found.argmin()], found.min()
    assert value == task.best_value


@pytest.mark.parametrize("name", SYNTHETIC_TASKS)
def test_the_typical_value_is_the_median_of_other_draws_too(name):
    task = synthetic_task(name)
    finals = task.final_values(points(task, 4000, seed=9))
    share = (finals < task.typical_value).mean()
    assert share == pytest.approx(0.5, abs=0.05)
    assert task.best_value < task.typical_value
    assert synthetic_task(name) is task


@pytest.mark.parametrize("name", SYNTHETIC_TASKS)
def test_a_seed_moves_the_optimum_and_the_landscape(name):
    tasks = [synthetic_task(name, seed) for seed in SEEDS]
    optima = [str(task.optimum) for task in tasks]
    assert len(set(optima)) == len(SEEDS)
    assert len({task.final_value(task.space.default_configuration()) for task in tasks}) == 3


@pytest.mark.parametrize("name", sorted(set(SYNTHETIC_TASKS) - {"crossing"}))
def test_first_epochs_tell_something_but_not_all_about_the_last(name):
    for seed in SEEDS:
        task = synthetic_task(name, seed)
        values = task.clean_values(points(task, 1000))
        assert 0.1 < spearmanr(values[:, 0], values[:, -1])[0] < 0.9
        assert spearmanr(values[:, 8], values[:, -1])[0] > 0.85


@pytest.mark.parametrize("seed", range(8))
def test_in_the_crossing_task_first_epochs_mislead_and_half_of_the_training_does_not(seed):
    task = synthetic_task("crossing", seed)
    values = task.clean_values(points(task, 1000))
    first, third, half = (spearmanr(values[:, r - 1], values[:, -1])[0] for r in (1, 3, 26))
    assert first < -0.2
    assert third < 0.3
    assert half > 0.95


@pytest.mark.parametrize(
    ("name", "seed"), [(n, s) for n in ("smooth", "conditional") for s in SEEDS]
)
def test_durations_differ_about_fivefold(name, seed):
    task = synthetic_task(name, seed)
    epoch_s = task.landscape.epoch_s(points(task, 1000))
    assert 4.0 < epoch_s.max() / epoch_s.min() < 6.0
    assert task.median_epoch_s == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_the_many_parameters_four_numeric_ones_matter(seed):
    task = synthetic_task("many", seed)
    best = task.space.encode(task.optimum)
    changed = np.tile(best, (len(best), 1))
    np.fill_diagonal(changed, np.where(best < 0.5, best + 0.4, best - 0.4))
    matter = task.final_values(changed) > task.best_value
    assert len(best) == 20
    assert matter.sum() == 4
    assert not matter[task.space.n_choices > 0].any()
    assert (task.space.n_choices > 0).sum() == 4


def test_the_best_optimizer_depends_on_the_seed_and_each_has_its_own_depth():
    best = {synthetic_task("conditional", seed).optimum["optimizer"] for seed in range(20)}
    assert best == {"sgd", "adam", "rmsprop", "lamb"}
    task = synthetic_task("conditional")
    u = points(task, 8000)
    finals, root = task.final_values(u), u[:, task.space.names.index("optimizer")]
    lowest = sorted(float(finals[root == value].min()) for value in np.unique(root))
    assert len(lowest) == 4
    assert lowest[0] < lowest[1] - 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_the_multimodal_task_has_other_basins_in_which_a_descent_ends(seed):
    task = synthetic_task("multimodal", seed)
    rng = np.random.default_rng(0)
    ends = set()
    for at in rng.random((40, 4)):
        value = task.final_values(at[None])[0]
        for scale in np.geomspace(0.05, 1e-3, 40):
            near = np.clip(at + scale * rng.standard_normal((30, 4)), 0.0, 1.0)
            found = task.final_values(near)
            if found.min() < value:
                at, value = near[found.argmin()], found.min()
        ends.add(round(float(value), 2))
    assert len(ends) >= 3
    assert min(ends) >= task.best_value


def test_noise_hides_the_order_of_close_configurations():
    task = synthetic_task("noisy")
    u = task.space.encode(task.optimum)[None]
    noise = task.evaluator()(task.optimum).values - task.clean_values(u)[0]
    assert np.std(noise) == pytest.approx(0.15 * (task.typical_value - task.best_value), rel=0.3)


def test_tasks_are_the_same_in_another_process():
    code = (
        "from raytune_ahu.simulation import SYNTHETIC_TASKS, synthetic_task\n"
        "for name in SYNTHETIC_TASKS:\n"
        "    task = synthetic_task(name, 4)\n"
        "    curve = task.evaluator()(task.space.default_configuration())\n"
        "    print(name, task.optimum, task.typical_value.hex(), curve.values.tolist())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(p for p in sys.path if p)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert f"smooth {synthetic_task('smooth', 4).optimum}" in runs[0]


def test_an_unknown_name_and_a_negative_seed_are_refused():
    with pytest.raises(SpecError, match="'rough' must be one of smooth, multimodal"):
        synthetic_task("rough")
    with pytest.raises(ValueError, match="seed=-1 must be at least 0"):
        synthetic_task("smooth", -1)
