"""What every scheduler must do, whatever its rule: subclass `SchedulerContract`, give `build`."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from raytune_ahu.protocols import Scheduler
from raytune_ahu.types import Decision, Mode, Report, TrialStatus

NAN = float("nan")


class Driver:
    """A driver with a few workers; trial i at epoch r reports `curves[i, r - 1]`."""

    def __init__(self, scheduler: Scheduler, curves: np.ndarray, workers: int = 3) -> None:
        self.scheduler = scheduler
        self.curves = curves
        self.workers = workers
        self.epochs: dict[str, int] = {}
        self.running: list[str] = []
        self.log: list[tuple[str, int, str]] = []

    def step(self) -> bool:
        """Fill the free workers, run one epoch of the longest waiting trial; False at the end."""
        while len(self.running) < self.workers and self._start_one():
            pass
        if not self.running:
            return False
        trial = self.running.pop(0)
        self.epochs[trial] += 1
        value = float(self.curves[int(trial[1:]), self.epochs[trial] - 1])
        decision = self.scheduler.report(Report(trial, self.epochs[trial], value))
        self.log.append((trial, self.epochs[trial], decision.value))
        if decision is Decision.CONTINUE:
            self.running.append(trial)
        elif decision is Decision.STOP:
            done = self.epochs[trial] == self.scheduler.max_resource
            ended = TrialStatus.COMPLETED if done else TrialStatus.STOPPED
            self.scheduler.finish(trial, TrialStatus.FAILED if math.isnan(value) else ended)
        return True

    def _start_one(self) -> bool:
        trial = self.scheduler.next_trial()
        assert self.scheduler.next_trial() == trial, "next_trial has a side effect"
        if trial is not None:
            self.scheduler.resume(trial)
        elif len(self.epochs) < len(self.curves):
            trial = f"t{len(self.epochs)}"
            self.scheduler.add(trial)
            self.epochs[trial] = 0
        else:
            return False
        self.running.append(trial)
        return True


def random_curves(seed: int, n: int, length: int, *, special: bool = True) -> np.ndarray:
    """Random curves, rounded so that there are ties, some turning NaN."""
    rng = np.random.default_rng(seed)
    curves = rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, length))
    if special:
        curves = curves.round(1)
        for row in rng.choice(n, n // 8, replace=False):
            curves[row, rng.integers(length) :] = NAN
    return curves


class SchedulerContract:
    """The suite. `build` returns a fresh scheduler; equal arguments give equal schedulers."""

    max_resource = 9

    def build(self, mode: Mode = "min", seed: int = 0) -> Scheduler:
        raise NotImplementedError

    def run(self, mode: Mode = "min", seed: int = 0, curves: np.ndarray | None = None) -> Driver:
        curves = random_curves(seed, 80, self.max_resource) if curves is None else curves
        driver = Driver(self.build(mode, seed), curves)
        while driver.step():
            pass
        return driver

    def test_it_implements_the_protocol(self):
        assert isinstance(self.build(), Scheduler)

    def test_rung_levels_ascend_and_end_at_the_full_resource(self):
        levels = list(self.build().rung_levels)
        assert levels == sorted(set(levels))
        assert levels[-1] == self.build().max_resource == self.max_resource

    def test_no_trial_runs_beyond_its_full_resource_and_some_get_there(self):
        driver = self.run()
        assert len(driver.epochs) == 80
        assert max(driver.epochs.values()) == self.max_resource
        assert not driver.running

    def test_a_trial_that_reports_nan_is_stopped_and_never_runs_again(self):
        driver = self.run()
        failed = [
            (trial, epoch, decision)
            for trial, epoch, decision in driver.log
            if math.isnan(driver.curves[int(trial[1:]), epoch - 1])
        ]
        assert failed
        assert all(decision == "stop" for _, _, decision in failed)
        for trial, epoch, _ in failed:
            assert driver.epochs[trial] == epoch

    @pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
    @pytest.mark.parametrize("resource", [1, 2, 9])
    @pytest.mark.parametrize("mode", ["min", "max"])
    def test_a_value_that_is_not_finite_stops_the_trial_at_any_resource(
        self, value, resource, mode
    ):
        scheduler = self.build(mode)
        scheduler.add("a")
        assert scheduler.report(Report("a", resource, value)) is Decision.STOP
        assert sum(rung.survivors for rung in scheduler.rungs()) == 0
        assert all(rung.cutoff is None for rung in scheduler.rungs())

    @pytest.mark.parametrize("resource", [1, 2, 3])
    def test_a_missing_metric_is_no_judgement_below_the_full_resource(self, resource):
        scheduler = self.build()
        scheduler.add("a")
        assert scheduler.report(Report("a", resource, None)) is Decision.CONTINUE
        assert sum(rung.entrants for rung in scheduler.rungs()) == 0

    @pytest.mark.parametrize("value", [1.0, None])
    @pytest.mark.parametrize("resource", [9, 10])
    def test_a_report_at_or_beyond_the_full_resource_stops_the_trial(self, value, resource):
        scheduler = self.build()
        scheduler.add("a")
        assert scheduler.report(Report("a", resource, value)) is Decision.STOP
        recorded = int(value is not None and resource == self.max_resource)
        assert sum(rung.entrants for rung in scheduler.rungs()) == recorded
        assert sum(rung.survivors for rung in scheduler.rungs()) == recorded

    def test_a_repeated_report_gets_the_same_answer_and_no_second_entry(self):
        driver = Driver(self.build(), random_curves(1, 40, 9))
        while driver.step():
            trial, epoch, decision = driver.log[-1]
            value = float(driver.curves[int(trial[1:]), epoch - 1])
            before = driver.scheduler.rungs()
            assert driver.scheduler.report(Report(trial, epoch, value)).value == decision
            assert driver.scheduler.rungs() == before

    def test_minimising_and_maximising_the_negative_are_the_same(self):
        low = self.run("min", curves=random_curves(3, 60, 9))
        high = self.run("max", curves=-random_curves(3, 60, 9))
        assert low.log == high.log
        assert [r.cutoff for r in low.scheduler.rungs()] == [
            None if r.cutoff is None else -r.cutoff for r in high.scheduler.rungs()
        ]

    def test_the_same_seed_gives_the_same_decisions(self):
        assert self.run(seed=5).log == self.run(seed=5).log

    @pytest.mark.parametrize("after", [0, 1, 30, 100, 160])
    def test_state_goes_through_json_and_the_run_goes_on_as_if_nothing_had_happened(self, after):
        straight, saved = (
            Driver(self.build(seed=2), random_curves(2, 70, 9)) for _ in ("straight", "saved")
        )
        for _ in range(after):
            assert straight.step()
            assert saved.step()
        state = json.loads(json.dumps(saved.scheduler.state_dict()))
        saved.scheduler = self.build(seed=2)
        saved.scheduler.load_state_dict(state)
        assert saved.scheduler.rungs() == straight.scheduler.rungs()
        assert json.loads(json.dumps(saved.scheduler.state_dict())) == state
        while straight.step():
            assert saved.step()
        assert saved.log == straight.log
        assert saved.scheduler.rungs() == straight.scheduler.rungs()

    def test_a_saved_state_does_not_change_when_the_scheduler_goes_on(self):
        driver = Driver(self.build(), random_curves(4, 30, 9))
        for _ in range(40):
            driver.step()
        state = driver.scheduler.state_dict()
        text = json.dumps(state)
        while driver.step():
            pass
        assert json.dumps(state) == text

    def test_an_unknown_trial_is_a_key_error(self):
        scheduler = self.build()
        with pytest.raises(KeyError, match="ghost"):
            scheduler.report(Report("ghost", 1, 0.0))
        with pytest.raises(KeyError, match="ghost"):
            scheduler.finish("ghost", TrialStatus.FAILED)
        with pytest.raises(KeyError, match="ghost"):
            scheduler.resume("ghost")

    def test_a_trial_cannot_be_added_twice(self):
        scheduler = self.build()
        scheduler.add("a")
        with pytest.raises(ValueError, match="'a'"):
            scheduler.add("a")

    def test_only_a_paused_trial_can_be_resumed(self):
        scheduler = self.build()
        scheduler.add("a")
        with pytest.raises(ValueError, match="paused"):
            scheduler.resume("a")

    def test_finish_is_idempotent_and_takes_final_statuses_only(self):
        scheduler = self.build()
        scheduler.add("a")
        with pytest.raises(ValueError, match="running"):
            scheduler.finish("a", TrialStatus.RUNNING)
        scheduler.finish("a", TrialStatus.FAILED)
        scheduler.finish("a", TrialStatus.FAILED)
        assert scheduler.next_trial() is None
        assert scheduler.report(Report("a", 1, 0.0)) is Decision.STOP
        assert sum(rung.entrants for rung in scheduler.rungs()) == 0

    def test_a_failed_trial_that_is_reopened_goes_on_as_if_it_had_not_failed(self):
        plain, reopened = self.build(), self.build()
        for scheduler in (plain, reopened):
            for name, value in (("a", 3.0), ("b", 2.0), ("c", 1.0)):
                scheduler.add(name)
                scheduler.report(Report(name, 1, value))
            scheduler.add("d")
        reopened.finish("d", TrialStatus.FAILED)
        reopened.reopen("d")
        assert reopened.state_dict() == plain.state_dict()
        assert reopened.report(Report("d", 1, 0.5)) == plain.report(Report("d", 1, 0.5))

    def test_a_trial_that_failed_while_it_was_being_paused_is_judged_again(self):
        plain, reopened = self.build(), self.build()
        for scheduler in (plain, reopened):
            for name, value in (("a", 3.0), ("b", 2.0), ("c", 1.0)):
                scheduler.add(name)
                scheduler.report(Report(name, 1, value))
        if plain.state_dict()["trials"]["a"][1] != "paused":
            pytest.skip("this scheduler did not pause the trial")
        reopened.finish("a", TrialStatus.FAILED)
        reopened.reopen("a")
        assert reopened.report(Report("a", 1, 3.0)) is Decision.PAUSE
        assert reopened.state_dict() == plain.state_dict()

    def test_only_a_failed_trial_that_was_not_told_to_stop_can_be_reopened(self):
        scheduler = self.build()
        for name in ("a", "b"):
            scheduler.add(name)
        with pytest.raises(ValueError, match="running"):
            scheduler.reopen("a")
        scheduler.report(Report("b", 1, math.nan))
        scheduler.finish("b", TrialStatus.FAILED)
        with pytest.raises(ValueError, match="told to stop"):
            scheduler.reopen("b")
        with pytest.raises(KeyError, match="ghost"):
            scheduler.reopen("ghost")

    def test_a_fresh_scheduler_has_no_trial_to_promote_and_empty_rungs(self):
        scheduler = self.build()
        assert scheduler.next_trial() is None
        assert all(
            (rung.entrants, rung.survivors, rung.cutoff) == (0, 0, None)
            for rung in scheduler.rungs()
        )

    def test_rungs_are_described_bracket_by_bracket_level_ascending(self):
        rungs = self.run().scheduler.rungs()
        assert [(r.bracket, r.level) for r in rungs] == sorted((r.bracket, r.level) for r in rungs)
        assert {r.level for r in rungs} == set(self.build().rung_levels)
        assert all(r.survivors <= r.entrants for r in rungs)

    def test_a_state_saved_with_other_arguments_is_refused(self):
        with pytest.raises(ValueError, match="mode"):
            self.build("max").load_state_dict(self.build("min").state_dict())
