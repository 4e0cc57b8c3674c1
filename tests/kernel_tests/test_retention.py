"""Which checkpoints are kept, over whole runs made of random events."""

from __future__ import annotations

import random

import pytest

from raytune_ahu.retention import Retention
from raytune_ahu.run_state import RunState
from raytune_ahu.types import TrialStatus


class Run:
    """Feeds events into a state and asks the retention as the runner does."""

    def __init__(self, keep_best, mode="min", **options):
        self.state = RunState(mode)
        self.retention = Retention(self.state, keep_best, **options)
        self.deleted = []

    def apply(self, event, trial, **fields):
        self.state.apply({"event": event, "time": 0.0, "trial": trial, **fields})

    def start(self, trial, configuration=None):
        self.apply("suggested", trial, origin="random", configuration=configuration or {})
        self.apply("started", trial, resource=0)

    def epoch(self, trial, resource, value, decision="continue", save=True):
        self.apply("reported", trial, resource=resource, value=value, decision=decision, metrics={})
        if save:
            self.save(trial, resource)

    def save(self, trial, resource):
        path = f"{trial}/checkpoint_{resource:06d}"
        self.apply("saved", trial, resource=resource, checkpoint=path, bytes=10)
        self.release(trial)

    def finish(self, trial, status):
        self.apply("finished", trial, status=status.value)
        self.release(trial)

    def release(self, trial):
        self.deleted += self.retention.release(trial)

    def kept(self, trial):
        return sorted(self.state.trials[trial].checkpoints)

    def ended(self, trial, resource, value, status=TrialStatus.STOPPED, *, configuration=None):
        self.start(trial, configuration)
        for epoch in range(1, resource):
            self.epoch(trial, epoch, 9.0)
        worth = value is not None and self.will_keep(trial, resource, value)
        self.epoch(trial, resource, value, "stop", save=worth)
        self.finish(trial, status)

    def will_keep(self, trial, resource, value):
        state = self.state.trials[trial]
        before = state.resource, state.value, state.best_value
        state.resource, state.value = resource, value
        state.best_value = min(value, 9.0 if before[2] is None else before[2])
        answer = self.retention.is_worth_keeping(trial)
        state.resource, state.value, state.best_value = before
        return answer


def test_a_live_trial_keeps_its_newest_two():
    run = Run(keep_best=3)
    run.start("a")
    for epoch in range(1, 6):
        run.epoch("a", epoch, 1.0)
    assert run.kept("a") == [4, 5]
    assert run.deleted == [f"a/checkpoint_{n:06d}" for n in (1, 2, 3)]
    assert run.state.checkpoint_bytes == 20


def test_a_paused_trial_keeps_its_checkpoints():
    run = Run(keep_best=0)
    run.start("a")
    run.epoch("a", 1, 1.0, "pause")
    assert run.kept("a") == [1]


def test_the_best_at_the_highest_resource_keep_their_newest():
    run = Run(keep_best=2)
    run.ended("low", 1, 0.0)  # better, but judged at the first epoch only
    run.ended("worse", 9, 0.5, TrialStatus.COMPLETED)
    run.ended("best", 9, 0.1, TrialStatus.COMPLETED)
    assert [run.kept(name) for name in ("low", "worse", "best")] == [[], [9], [9]]
    run.ended("better", 9, 0.3, TrialStatus.COMPLETED)
    assert [run.kept(name) for name in ("worse", "best", "better")] == [[], [9], [9]]
    assert "worse/checkpoint_000009" in run.deleted


def test_the_best_are_the_highest_when_maximising():
    run = Run(keep_best=1, mode="max")
    run.ended("bad", 9, 0.1)
    run.ended("good", 9, 0.9)
    assert (run.kept("bad"), run.kept("good")) == ([], [9])


def test_keep_best_of_zero_keeps_nothing_of_what_has_ended():
    run = Run(keep_best=0)
    run.ended("a", 9, 0.1, TrialStatus.COMPLETED)
    assert run.kept("a") == []


@pytest.mark.parametrize(("value", "kept"), [(float("nan"), []), (0.5, [3])])
def test_a_trial_that_raised_keeps_its_newest_one_that_diverged_none(value, kept):
    run = Run(keep_best=3)
    run.start("a")
    for epoch in range(1, 4):
        run.epoch("a", epoch, 1.0 if epoch < 3 else value)
    run.finish("a", TrialStatus.FAILED)
    assert run.kept("a") == kept


def test_the_last_checkpoint_of_a_trial_that_is_not_among_the_best_need_not_be_written():
    run = Run(keep_best=1)
    run.ended("a", 9, 0.1)
    run.start("b")
    run.epoch("b", 1, 0.0, "stop", save=False)
    assert not run.retention.is_worth_keeping("b")
    run.start("c")
    run.epoch("c", 9, 0.05, "stop", save=False)
    assert run.retention.is_worth_keeping("c")


def test_the_best_at_any_resource_keep_theirs_where_checkpoints_hold_the_best_epoch():
    run = Run(keep_best=1, at="any")
    run.start("early")
    run.epoch("early", 1, 0.1)
    run.epoch("early", 2, 0.8, "stop")
    run.finish("early", TrialStatus.COMPLETED)
    run.ended("far", 9, 0.5, TrialStatus.COMPLETED)
    assert (run.kept("early"), run.kept("far")) == ([2], [])


def test_the_best_of_each_value_of_a_parameter_keep_theirs_as_well():
    run = Run(keep_best=1, per="net/model")
    mf, mlp = {"net": {"model": "mf"}}, {"net": {"model": "mlp"}}
    run.ended("mf_1", 9, 0.1, configuration=mf)
    run.ended("mlp_1", 9, 0.5, configuration=mlp)
    run.ended("mlp_2", 9, 0.4, configuration=mlp)
    run.ended("mlp_3", 9, 0.6, configuration=mlp)
    run.ended("mf_2", 9, 0.2, configuration=mf)
    assert [run.kept(name) for name in ("mf_1", "mlp_1", "mlp_2", "mlp_3", "mf_2")] == [
        [9], [], [9], [], []
    ]  # fmt: skip
    again = Retention(run.state, 1, per="net/model")
    assert again.release_all() == []


def test_the_best_of_a_value_that_is_displaced_by_the_best_of_all_keeps_nothing():
    run = Run(keep_best=1, per="model")
    run.ended("a", 9, 0.5, configuration={"model": "mf"})
    run.ended("b", 9, 0.3, configuration={"model": "mf"})
    assert (run.kept("a"), run.kept("b")) == ([], [9])


def test_a_trial_that_diverged_keeps_the_weights_of_its_best_epoch_if_they_are_the_best():
    run = Run(keep_best=1, at="any")
    run.start("a")
    run.epoch("a", 1, 0.1)
    run.epoch("a", 2, float("nan"))
    run.finish("a", TrialStatus.FAILED)
    assert run.kept("a") == [2]
    run.ended("b", 9, 0.5, TrialStatus.COMPLETED)
    assert (run.kept("a"), run.kept("b")) == ([2], [])
    run.ended("c", 9, 0.05, TrialStatus.COMPLETED)
    assert (run.kept("a"), run.kept("c")) == ([], [9])


def test_a_trial_that_raised_and_is_tried_again_is_not_deleted_when_others_displace_it():
    run = Run(keep_best=1, at="any")
    run.start("a")
    run.epoch("a", 1, 0.5)
    run.finish("a", TrialStatus.FAILED)
    run.apply("retried", "a")
    run.ended("b", 9, 0.3, TrialStatus.COMPLETED)
    assert (run.kept("a"), run.kept("b")) == ([1], [9])
    run.epoch("a", 2, 0.2, "stop")
    run.finish("a", TrialStatus.COMPLETED)
    assert (run.kept("a"), run.kept("b")) == ([2], [])


@pytest.mark.parametrize("seed", range(20))
def test_the_best_at_any_resource_and_of_each_value_agree_with_a_sort(seed):
    rng = random.Random(seed)
    run = Run(keep_best=2, at="any", per="model")
    for number in range(60):
        name, model = f"t{number:02d}", rng.choice("xyz")
        run.start(name, {"model": model})
        for epoch in range(1, rng.randint(2, 6)):
            run.epoch(name, epoch, rng.random())
        diverges = rng.random() < 0.2
        run.epoch(name, epoch + 1, float("nan") if diverges else rng.random(), "stop")
        run.finish(name, TrialStatus.FAILED if diverges else TrialStatus.STOPPED)
    ranked = sorted(run.state.trials.values(), key=lambda trial: trial.best_value)
    expected = {trial.trial_id for trial in ranked[:2]}
    for model in "xyz":
        expected.add(next(t.trial_id for t in ranked if t.configuration["model"] == model))
    assert {t.trial_id for t in run.state.trials.values() if t.checkpoints} == expected
    assert Retention(run.state, 2, at="any", per="model").release_all() == []


@pytest.mark.parametrize("seed", range(20))
def test_what_is_on_disk_is_bounded_and_a_resume_agrees(seed):
    rng = random.Random(seed)
    run = Run(keep_best=3)
    live = {}
    for number in range(120):
        while len(live) >= 4 or (live and rng.random() < 0.5):
            trial = rng.choice(sorted(live))
            live[trial] += 1
            value = rng.choice([float("nan"), *[rng.random()] * 9])
            ends = live[trial] == 9 or value != value or rng.random() < 0.5
            if not ends:
                run.epoch(trial, live[trial], value)
                continue
            run.epoch(trial, live[trial], value, "stop", save=False)
            if run.retention.is_worth_keeping(trial):
                run.save(trial, live[trial])
            run.finish(trial, TrialStatus.FAILED if value != value else TrialStatus.STOPPED)
            del live[trial]
        name = f"t{number:03d}"
        live[name] = 0
        run.start(name)
    kept = sum(len(trial.checkpoints) for trial in run.state.trials.values())
    assert kept <= 2 * len(live) + 3
    assert run.state.checkpoint_bytes == 10 * kept
    ended = [t for t in run.state.trials.values() if t.status is TrialStatus.STOPPED]
    best = sorted(ended, key=lambda t: (-t.resource, t.value))[:3]
    assert [sorted(t.checkpoints) for t in best] == [[t.resource] for t in best]
    again = Retention(run.state, 3)
    assert again.release_all() == []
    assert all(again.is_worth_keeping(t.trial_id) for t in best)
