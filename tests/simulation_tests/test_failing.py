"""Tests of raytune_ahu/simulation/failing.py and chance.py."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from raytune_ahu.errors import SpecError
from raytune_ahu.simulation import FailingTask, Task, simulate, synthetic_task
from raytune_ahu.simulation.chance import configuration_generator
from raytune_ahu.types import Suggestion, TrialStatus
from schedulers import AshaPromotion, AshaStopping

KINDS = ("crash", "diverge", "region")


def drawn(task, n, seed=0):
    rng = np.random.default_rng(seed)
    return [task.space.sample(rng) for _ in range(n)]


def failure(curve):
    """Epoch in which a curve fails, or None."""
    if curve.crash_at is not None:
        return curve.crash_at
    bad = np.flatnonzero(~np.isfinite(curve.values))
    return int(bad[0]) + 1 if len(bad) else None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["smooth", "conditional"])
def test_the_failing_share_lies_within_binomial_bounds(kind, name):
    task = FailingTask(synthetic_task(name), 0.2, 3, kind)
    evaluate = task.evaluator()
    n_failed = sum(failure(evaluate(c)) is not None for c in drawn(task, 2000))
    # the edge of a region is itself an estimate from 2,000 draws
    allowed = 1e-4 if kind != "region" else 1e-8
    assert binomtest(n_failed, 2000, 0.2).pvalue > allowed


@pytest.mark.parametrize("kind", KINDS)
def test_failures_do_not_depend_on_the_order_of_evaluation(kind):
    task = FailingTask(synthetic_task("conditional"), 0.4, 1, kind)
    configurations = drawn(task, 60)
    forth, back = task.evaluator(), task.evaluator()
    epochs = [failure(forth(c)) for c in configurations]
    assert [failure(back(c)) for c in reversed(configurations)] == epochs[::-1]
    assert None in epochs
    assert len(set(epochs)) > 2
    shuffled = [dict(reversed(c.items())) for c in configurations]
    assert [failure(forth(c)) for c in shuffled] == epochs
    other = FailingTask(synthetic_task("conditional"), 0.4, 2, kind).evaluator()
    assert [failure(other(c)) for c in configurations] != epochs


def test_failures_are_the_same_in_another_process():
    code = (
        "import numpy as np\n"
        "from raytune_ahu.simulation import FailingTask, synthetic_task\n"
        "task = FailingTask(synthetic_task('noisy', 2), 0.5, 7)\n"
        "rng = np.random.default_rng(0)\n"
        "curves = [task.evaluator()(task.space.sample(rng)) for _ in range(20)]\n"
        "print([(c.crash_at, float(c.values.sum()).hex()) for c in curves])"
    )
    task = FailingTask(synthetic_task("noisy", 2), 0.5, 7)
    curves = [task.evaluator()(c) for c in drawn(task, 20)]
    here = str([(c.crash_at, float(c.values.sum()).hex()) for c in curves])
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(p for p in sys.path if p)},
        )
        assert done.stdout.strip() == here


def test_crashes_come_in_every_epoch_of_the_curve_alike():
    task = FailingTask(synthetic_task("smooth", max_resource=6), 1.0, 0)
    counts = np.bincount([task.failing_epoch(c) for c in drawn(task, 1200)], minlength=7)
    assert counts[0] == 0
    assert ((counts[1:] > 150) & (counts[1:] < 250)).all()


def test_a_diverging_curve_is_that_of_the_task_up_to_its_epoch():
    inner = synthetic_task("smooth")
    task = FailingTask(inner, 1.0, 0, "diverge")
    for configuration in drawn(task, 20):
        curve, whole = task.evaluator()(configuration), inner.evaluator()(configuration)
        epoch = task.failing_epoch(configuration)
        assert curve.crash_at is None
        assert curve.values[: epoch - 1].tolist() == whole.values[: epoch - 1].tolist()
        assert np.isnan(curve.values[epoch - 1 :]).all()


def test_a_failing_region_is_a_half_space_and_fails_soon():
    task = FailingTask(synthetic_task("smooth"), 0.3, 5, "region")
    configurations = drawn(task, 400)
    epochs = [task.failing_epoch(c) for c in configurations]
    assert set(epochs) == {None, 1, 2, 3}
    points, fails = (
        task.space.encode_many(configurations),
        np.array([e is not None for e in epochs]),
    )
    positions = points @ task._direction
    assert positions[fails].min() > positions[~fails].max()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_fails_at_a_share_of_0_and_everything_at_1(kind):
    inner = synthetic_task("conditional", max_resource=2)
    never, always = FailingTask(inner, 0.0, 0, kind), FailingTask(inner, 1.0, 0, kind)
    assert {never.failing_epoch(c) for c in drawn(inner, 50)} == {None}
    assert {always.failing_epoch(c) for c in drawn(inner, 50)} == {1, 2}


def test_the_rest_is_that_of_the_wrapped_task():
    inner = synthetic_task("smooth")
    task: Task = FailingTask(inner, 0.25, 0)
    assert task.name == "smooth, 25% crash"
    for name in ("space", "mode", "max_resource", "best_value", "typical_value", "median_epoch_s"):
        assert getattr(task, name) == getattr(inner, name)
    twice = FailingTask(FailingTask(inner, 1.0, 0), 1.0, 1)
    for configuration in drawn(inner, 20):
        earliest = min(twice.failing_epoch(configuration), twice.task.failing_epoch(configuration))
        assert twice.evaluator()(configuration).crash_at == earliest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 0), r"share=1.5 must be in \[0, 1\]"),
        ((float("nan"), 0), "share=nan"),
        ((0.1, 0, "explode"), "kind='explode' must be one of crash, diverge, region"),
        ((0.1, -1), "seed=-1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        FailingTask(synthetic_task("smooth"), *arguments)
    assert isinstance(caught.value, SpecError) == (arguments[1] >= 0)


@pytest.mark.parametrize("scheduler", [AshaStopping, AshaPromotion])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tuning_with_failures_runs_to_its_end(kind, scheduler):
    task = FailingTask(synthetic_task("conditional"), 0.5, 0, kind)
    rng = np.random.default_rng(0)

    class Sampler:
        def suggest(self, trial_id):
            return Suggestion(task.space.sample(rng), "random")

        def observe(self, report): ...
        def finish(self, trial_id, status): ...

    result = simulate(Sampler(), scheduler(max_resource=27), task, workers=4, max_trials=80)
    failed = [t for t in result.trials if t.status is TrialStatus.FAILED]
    assert failed  # few: most trials are stopped before the epoch in which they would fail
    for trial in failed:
        done = task.failing_epoch(trial.configuration) - (0 if kind == "diverge" else 1)
        assert (trial.epochs, trial.crashed) == (done, kind != "diverge")
    assert any(t.status is TrialStatus.COMPLETED for t in result.trials)


def test_chance_belongs_to_seed_purpose_and_configuration():
    a = {"x": 0.5, "group": {"y": (1, 2)}}
    same = {"group": {"y": [1, 2]}, "x": 0.5}
    first = configuration_generator(0, "crash", a).random()
    assert configuration_generator(0, "crash", same).random() == first
    others = [(1, "crash", a), (0, "noise", a), (0, "crash", a | {"x": 0.5000001})]
    assert all(configuration_generator(*other).random() != first for other in others)
