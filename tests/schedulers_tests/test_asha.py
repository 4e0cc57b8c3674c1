"""Tests of schedulers/asha.py: rules by hand, and against slow references written from the rule."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from raytune_ahu.errors import SpecError
from raytune_ahu.types import Decision, Report, TrialStatus
from schedulers import AshaPromotion, AshaStopping
from schedulers.base import bracket_weights

NAN = float("nan")


def feed(scheduler, resource, *values):
    """Add one new trial per value and report it at a resource; return the decisions."""
    decisions = []
    start = len(scheduler.state_dict()["trials"])
    for i, value in enumerate(values, start):
        scheduler.add(f"t{i}")
        decisions.append(scheduler.report(Report(f"t{i}", resource, value)).value)
    return decisions


def rung(scheduler, level, bracket=0):
    return next(r for r in scheduler.rungs() if (r.bracket, r.level) == (bracket, level))


# ---------------------------------------------------------------------- stopping, by hand


def test_while_the_rung_is_small_only_a_trial_that_nobody_beats_goes_on():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, 5.0, 6.0, 4.0) == ["continue", "stop", "continue"]
    # the fourth entry opens a second place
    assert feed(scheduler, 1, 4.5, 4.6) == ["continue", "stop"]
    assert rung(scheduler, 1).entrants == 5
    assert rung(scheduler, 1).survivors == 3
    assert rung(scheduler, 1).cutoff == 4.5


def test_a_tie_with_the_worst_kept_entry_goes_on():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, 1.0, 1.0, 1.0, 1.0, 2.0) == ["continue"] * 4 + ["stop"]


def test_a_later_arrival_never_stops_a_trial_that_was_let_through():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, 9.0, 1.0, 0.5) == ["continue"] * 3
    assert scheduler.report(Report("t0", 2, 99.0)) is Decision.CONTINUE


def test_a_skipped_milestone_is_not_filled_with_a_later_value():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, 1.0)
    scheduler.add("skips")
    assert scheduler.report(Report("skips", 2, 99.0)) is Decision.CONTINUE
    assert rung(scheduler, 1).entrants == 1
    assert scheduler.report(Report("skips", 3, 99.0)) is Decision.CONTINUE  # first arrival at 3
    assert rung(scheduler, 3).entrants == 1


def test_a_milestone_whose_report_lacks_the_metric_is_skipped():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, 1.0, None) == ["continue", "continue"]
    assert rung(scheduler, 1).entrants == 1
    assert scheduler.report(Report("t1", 9, None)) is Decision.STOP
    assert rung(scheduler, 9).entrants == 0


def test_a_failed_trial_counts_as_an_entry_worse_than_every_other():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, NAN, math.inf, -math.inf) == ["stop"] * 3
    assert rung(scheduler, 1).entrants == 3
    assert rung(scheduler, 1).cutoff is None
    # n = 4 has two places: even the worse of the two healthy ones takes one
    assert feed(scheduler, 1, 5.0, 6.0) == ["continue", "continue"]
    assert rung(scheduler, 1).survivors == 2


def test_a_failure_between_milestones_stops_the_trial_and_is_recorded_nowhere():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, 1.0)
    assert scheduler.report(Report("t0", 2, NAN)) is Decision.STOP
    assert [r.entrants for r in scheduler.rungs()] == [1, 0, 0]


def test_stop_remains_stop_whatever_is_reported_afterwards():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, 1.0, 2.0) == ["continue", "stop"]
    before = scheduler.rungs()
    for report in (Report("t1", 1, 0.0), Report("t1", 2, 0.0), Report("t1", 3, None)):
        assert scheduler.report(report) is Decision.STOP
    assert scheduler.rungs() == before


def test_an_epoch_repeated_after_a_restore_keeps_its_first_entry():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, 1.0, 0.5, 0.1) == ["continue"] * 3
    assert scheduler.report(Report("t0", 1, 7.0)) is Decision.CONTINUE
    assert rung(scheduler, 1).entrants == 3
    assert rung(scheduler, 1).cutoff == 0.1


def test_a_completed_trial_is_recorded_in_the_top_rung_as_a_survivor():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3, mode="max")
    assert feed(scheduler, 9, 0.7, 0.9) == ["stop", "stop"]
    top = rung(scheduler, 9)
    assert (top.entrants, top.survivors, top.cutoff) == (2, 2, 0.9)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("eta", [2, 3, 4])
def test_the_rule_is_the_interpolated_quantile_of_numpy(eta, mode):
    rng = np.random.default_rng(eta)
    for size in (5, 40, 200):
        values = rng.normal(size=size)
        scheduler = AshaStopping(max_resource=64, reduction_factor=eta, mode=mode)
        decisions = feed(scheduler, 1, *map(float, values))
        for n in range(1, size + 1):
            q = 1 / eta if mode == "min" else 1 - 1 / eta
            cutoff = np.quantile(values[:n], q)
            inside = values[n - 1] <= cutoff if mode == "min" else values[n - 1] >= cutoff
            if not math.isclose(values[n - 1], cutoff, rel_tol=1e-12):  # numpy rounds, ranks don't
                assert decisions[n - 1] == ("continue" if inside else "stop")


# ---------------------------------------------------------------------- promotion, by hand


def test_trials_pause_and_the_best_of_eta_is_promoted():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, 3.0, 1.0) == ["pause", "pause"]
    assert scheduler.next_trial() is None
    assert feed(scheduler, 1, 2.0) == ["pause"]
    assert scheduler.next_trial() == "t1"
    assert rung(scheduler, 1).survivors == 0
    scheduler.resume("t1")
    assert rung(scheduler, 1).survivors == 1
    assert scheduler.next_trial() is None
    assert scheduler.report(Report("t1", 2, 5.0)) is Decision.CONTINUE
    assert scheduler.report(Report("t1", 3, 5.0)) is Decision.PAUSE


def test_places_of_promoted_trials_stay_taken():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, 3.0, 1.0, 2.0)
    scheduler.resume("t1")
    feed(scheduler, 1, 9.0, 9.0)
    assert scheduler.next_trial() is None
    feed(scheduler, 1, 9.0)
    assert scheduler.next_trial() == "t2"


def test_a_trial_may_become_promotable_late_and_cease_to_be():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, 2.0, 3.0, 3.0)
    assert scheduler.next_trial() == "t0"
    feed(scheduler, 1, 1.0)  # better, and there is still one place
    assert scheduler.next_trial() == "t3"
    feed(scheduler, 1, 4.0, 4.0)  # six entries, two places
    scheduler.resume("t3")
    assert scheduler.next_trial() == "t0"


def test_equal_values_are_promoted_by_arrival_and_never_more_than_a_third():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, *[1.0] * 7)
    promoted = []
    while (trial := scheduler.next_trial()) is not None:
        scheduler.resume(trial)
        promoted.append(trial)
    assert promoted == ["t0", "t1"]


def test_the_highest_rung_goes_first():
    scheduler = AshaPromotion(max_resource=27, reduction_factor=3)
    feed(scheduler, 3, 8.0, 8.0, 7.0)
    feed(scheduler, 1, 0.0, 0.0, 0.0)
    assert scheduler.next_trial() == "t2"


def test_a_failed_or_ended_trial_is_never_promoted_though_its_entry_stays():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, 1.0, 2.0, 3.0, NAN, NAN, NAN)
    assert scheduler.next_trial() == "t0"
    scheduler.finish("t0", TrialStatus.FAILED)
    assert scheduler.next_trial() == "t1"
    scheduler.finish("t1", TrialStatus.STOPPED)
    assert scheduler.next_trial() is None
    assert rung(scheduler, 1).entrants == 6
    with pytest.raises(ValueError, match="failed, not paused"):
        scheduler.resume("t0")


def test_failed_entries_are_not_promoted_even_when_they_are_all_there_is():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, *[NAN] * 9) == ["stop"] * 9
    assert scheduler.next_trial() is None


def test_a_paused_trial_that_reports_again_stays_paused_and_a_promoted_one_goes_on():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, 1.0, 2.0, 3.0)
    for resource in (1, 2, 3):
        assert scheduler.report(Report("t0", resource, 1.0)) is Decision.PAUSE
    assert rung(scheduler, 3).entrants == 0
    scheduler.resume("t0")
    assert scheduler.report(Report("t0", 1, 1.0)) is Decision.CONTINUE
    assert scheduler.report(Report("t1", 1, NAN)) is Decision.STOP
    assert [entry[0] for entry in scheduler.state_dict()["rungs"][0][0][1]] == ["t0", "t1", "t2"]


def test_a_milestone_without_the_metric_does_not_pause_the_trial():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, None) == ["continue"]
    assert scheduler.report(Report("t0", 3, 1.0)) is Decision.PAUSE


# ---------------------------------------------------------------------- promotion, the queue


def test_a_trial_that_nine_better_ones_wait_ahead_of_is_stopped():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    better = [float(i) for i in range(9)]
    assert feed(scheduler, 1, *better) == ["pause"] * 9
    assert feed(scheduler, 1, 50.0, 8.5) == ["stop", "stop"]
    assert feed(scheduler, 1, 7.5) == ["pause"]  # eight are ahead
    assert feed(scheduler, 1, 7.6) == ["stop"]
    summary = rung(scheduler, 1)
    assert (summary.entrants, summary.survivors, summary.cutoff) == (13, 0, 3.0)


def test_the_length_of_the_queue_goes_with_the_reduction_factor():
    for eta in (2, 3, 4):
        scheduler = AshaPromotion(max_resource=eta * eta, reduction_factor=eta)
        decisions = feed(scheduler, 1, *[float(i) for i in range(30)])
        assert decisions == ["pause"] * (3 * eta) + ["stop"] * (30 - 3 * eta)


def test_ties_are_ahead_of_a_later_arrival():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3, mode="max")
    assert feed(scheduler, 1, *[1.0] * 11) == ["pause"] * 9 + ["stop"] * 2
    assert feed(scheduler, 1, 1.5) == ["pause"]


def test_a_better_trial_pauses_however_long_the_queue_and_stops_nobody():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, *[float(-i) for i in range(30)]) == ["pause"] * 30
    assert scheduler.report(Report("t0", 1, 0.0)) is Decision.PAUSE  # 29 have overtaken it
    assert scheduler.next_trial() == "t29"


@pytest.mark.parametrize("how", ["promoted", "failed", "stopped", "diverged"])
def test_a_trial_that_leaves_the_queue_makes_room(how):
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, *[float(i) for i in range(9)])
    assert feed(scheduler, 1, 20.0) == ["stop"]
    if how == "promoted":
        assert scheduler.next_trial() == "t0"
        scheduler.resume("t0")
    elif how == "diverged":
        assert scheduler.report(Report("t0", 2, NAN)) is Decision.STOP
    else:
        scheduler.finish("t0", TrialStatus(how))
    assert feed(scheduler, 1, 20.0, 20.0) == ["pause", "stop"]


def test_the_entry_of_a_stopped_trial_counts_for_the_promotion_of_others():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, *[float(i) for i in range(9)])
    for trial in ("t0", "t1", "t2"):
        assert scheduler.next_trial() == trial
        scheduler.resume(trial)
    assert scheduler.next_trial() is None
    assert feed(scheduler, 1, 30.0, 31.0, 32.0, 33.0) == ["pause"] * 3 + ["stop"]
    scheduler.resume("t3")  # twelve entries have four places
    assert feed(scheduler, 1, 34.0, 35.0) == ["pause", "stop"]
    assert scheduler.next_trial() == "t4"


def test_a_trial_stopped_at_the_end_of_the_queue_stays_stopped_and_is_never_promoted():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, *[float(i) for i in range(9)], 20.0)
    for trial in (f"t{i}" for i in range(9)):
        scheduler.finish(trial, TrialStatus.FAILED)  # nobody is ahead of it any more
    before = scheduler.rungs()
    for report in (Report("t9", 1, 20.0), Report("t9", 1, -1.0), Report("t9", 3, None)):
        assert scheduler.report(report) is Decision.STOP
    scheduler.finish("t9", TrialStatus.STOPPED)
    assert scheduler.report(Report("t9", 1, 20.0)) is Decision.STOP
    assert scheduler.rungs() == before
    assert scheduler.next_trial() is None
    with pytest.raises(ValueError, match="stopped, not paused"):
        scheduler.resume("t9")
    with pytest.raises(ValueError, match="told to stop"):
        scheduler.reopen("t9")


def test_each_rung_has_a_queue_of_its_own():
    scheduler = AshaPromotion(max_resource=27, reduction_factor=3)
    assert feed(scheduler, 1, *[float(i) for i in range(10)]) == ["pause"] * 9 + ["stop"]
    assert feed(scheduler, 3, *[float(i) for i in range(10)]) == ["pause"] * 9 + ["stop"]
    assert feed(scheduler, 27, *[float(i) for i in range(10)]) == ["stop"] * 10  # completed
    assert [r.survivors for r in scheduler.rungs()] == [0, 0, 0, 10]


def test_each_bracket_has_queues_of_its_own():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3, brackets=2, seed=0)
    members: dict[int, list[str]] = {0: [], 1: []}
    for i in range(80):
        scheduler.add(f"t{i}")
        members[scheduler.state_dict()["trials"][f"t{i}"][0]].append(f"t{i}")
    for bracket in (0, 1):
        decisions = [
            scheduler.report(Report(trial, 3, float(i))).value
            for i, trial in enumerate(members[bracket][:11])
        ]
        assert decisions == ["pause"] * 9 + ["stop"] * 2
        assert rung(scheduler, 3, bracket=bracket).entrants == 11


def failed_while_pausing(*later):
    """t8 fails while it is being paused behind eight; then others arrive, and it is reopened."""
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    assert feed(scheduler, 1, *[float(i) for i in range(8)], 50.0)[-1] == "pause"
    scheduler.finish("t8", TrialStatus.FAILED)
    feed(scheduler, 1, *later)
    scheduler.reopen("t8")
    return scheduler


def test_a_trial_that_failed_while_it_was_being_paused_takes_its_place_again():
    scheduler = failed_while_pausing(60.0)  # behind it: it does not count
    # judged by its first entry, whatever the repeated epoch gave
    assert scheduler.report(Report("t8", 1, 99.0)) is Decision.PAUSE
    assert rung(scheduler, 1).entrants == 10
    assert feed(scheduler, 1, 55.0) == ["stop"]


def test_a_trial_that_failed_while_it_was_being_paused_is_stopped_if_its_place_is_gone():
    scheduler = failed_while_pausing(8.0)
    assert scheduler.report(Report("t8", 1, 50.0)) is Decision.STOP
    assert scheduler.report(Report("t8", 1, 50.0)) is Decision.STOP
    assert rung(scheduler, 1).entrants == 10
    scheduler.finish("t8", TrialStatus.STOPPED)
    with pytest.raises(ValueError, match="reopen takes a failed trial"):
        scheduler.reopen("t8")


def test_a_promoted_trial_that_failed_and_was_reopened_goes_on_past_a_full_queue():
    scheduler = AshaPromotion(max_resource=9, reduction_factor=3)
    feed(scheduler, 1, *[float(i) for i in range(9)])
    scheduler.resume("t0")
    scheduler.finish("t0", TrialStatus.FAILED)
    feed(scheduler, 1, *[-1.0] * 12)
    scheduler.reopen("t0")
    assert scheduler.report(Report("t0", 1, 0.0)) is Decision.CONTINUE


@pytest.mark.parametrize("brackets", [1, 2])
def test_a_restored_scheduler_has_the_same_queues(brackets):
    def build():
        return AshaPromotion(max_resource=9, reduction_factor=3, brackets=brackets, seed=3)

    rng = np.random.default_rng(brackets)
    straight = build()
    stopped = feed(straight, 3, *map(float, rng.normal(size=60))).count("stop")
    assert stopped > 10
    restored = build()
    restored.load_state_dict(json.loads(json.dumps(straight.state_dict())))
    for scheduler in (straight, restored):
        for _ in range(4):
            trial = scheduler.next_trial()
            scheduler.resume(trial)
    values = list(map(float, rng.normal(size=60)))
    decisions = feed(straight, 3, *values)
    assert feed(restored, 3, *values) == decisions
    assert {"pause", "stop"} <= set(decisions)
    assert restored.state_dict() == straight.state_dict()


def test_a_full_resource_of_one_epoch_has_one_rung_and_completes_every_trial():
    for build in (AshaStopping, AshaPromotion):
        scheduler = build(max_resource=1)
        assert feed(scheduler, 1, 1.0, 2.0) == ["stop", "stop"]
        assert scheduler.rungs()[0].survivors == 2
        assert scheduler.next_trial() is None


# ---------------------------------------------------------------------- brackets


def test_brackets_start_one_level_higher_each():
    scheduler = AshaStopping(max_resource=27, reduction_factor=3, brackets=4)
    assert [(r.bracket, r.level) for r in scheduler.rungs()] == [
        (b, level) for b, start in enumerate([0, 1, 2, 3]) for level in (1, 3, 9, 27)[start:]
    ]


def test_more_brackets_than_the_ladder_has_levels_are_refused():
    with pytest.raises(SpecError, match=r"brackets=4 must be in \[1, 3\].*\[1, 3, 9\]; use fewer"):
        AshaStopping(max_resource=9, reduction_factor=3, brackets=4)
    with pytest.raises(SpecError, match="brackets=0 must be a whole number of at least 1"):
        AshaPromotion(max_resource=9, brackets=0)


def test_brackets_are_drawn_as_hyperband_sizes_them():
    assert bracket_weights(5, 3, 5) == pytest.approx(
        np.array([81, 27 * 5 / 4, 9 * 5 / 3, 3 * 5 / 2, 5]) / 142.25 * 1.0, rel=1e-12
    )
    scheduler = AshaStopping(max_resource=9, reduction_factor=3, brackets=3, seed=1)
    for i in range(4000):
        scheduler.add(f"t{i}")
    drawn = np.bincount([t[0] for t in scheduler.state_dict()["trials"].values()]) / 4000
    # three standard errors of a share are at most 0.024
    assert drawn == pytest.approx(bracket_weights(3, 3, 3), abs=0.024)


def test_another_seed_draws_other_brackets():
    def drawn(seed):
        scheduler = AshaStopping(max_resource=9, reduction_factor=3, brackets=3, seed=seed)
        for i in range(50):
            scheduler.add(f"t{i}")
        return [t[0] for t in scheduler.state_dict()["trials"].values()]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_trials_of_different_brackets_are_not_compared():
    scheduler = AshaStopping(max_resource=9, reduction_factor=3, brackets=2, seed=0)
    first = {}
    for i in range(40):
        scheduler.add(f"t{i}")
        first.setdefault(scheduler.state_dict()["trials"][f"t{i}"][0], f"t{i}")
    low, high = first[0], first[1]
    assert scheduler.report(Report(low, 1, 0.0)) is Decision.CONTINUE
    assert scheduler.report(Report(low, 3, 0.0)) is Decision.CONTINUE
    assert scheduler.report(Report(high, 1, 9.0)) is Decision.CONTINUE
    assert scheduler.report(Report(high, 3, 9.0)) is Decision.CONTINUE
    assert rung(scheduler, 3, bracket=1).entrants == 1


def test_among_brackets_the_better_value_of_the_highest_level_is_promoted():
    scheduler = AshaPromotion(max_resource=27, reduction_factor=3, brackets=2, seed=0)
    members: dict[int, list[str]] = {0: [], 1: []}
    for i in range(60):
        scheduler.add(f"t{i}")
        members[scheduler.state_dict()["trials"][f"t{i}"][0]].append(f"t{i}")
    low, high = members[0], members[1]
    for trials, values in ((low, (0.5, 9.0, 9.0)), (high, (0.4, 9.0, 9.0))):
        for trial, value in zip(trials, values, strict=False):
            assert scheduler.report(Report(trial, 3, value)) is Decision.PAUSE
    for trial in low[3:6]:
        assert scheduler.report(Report(trial, 1, 0.0)) is Decision.PAUSE
    promoted = []
    while (trial := scheduler.next_trial()) is not None:
        scheduler.resume(trial)
        promoted.append(trial)
    assert promoted == [high[0], low[0], low[3]]


# ---------------------------------------------------------------------- slow references


@dataclass
class Reference:
    """The rules as written in the class docstrings, in O(n) a question, without shared code."""

    eta: int
    levels: tuple[int, ...]
    entries: dict[int, list[tuple[float, str]]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    paused: dict[str, int] = field(default_factory=dict)
    promoted: set[tuple[str, int]] = field(default_factory=set)

    def report(self, trial, resource, loss, promotion):
        if trial in self.stopped:
            return "stop"
        rung = self.entries.setdefault(resource, []) if resource in self.levels else None
        known = rung is not None and any(name == trial for _, name in rung)
        if loss is not None and not math.isfinite(loss):
            if rung is not None and not known:
                rung.append((math.inf, trial))
            return self.stop(trial)
        if resource >= self.levels[-1]:
            if rung is not None and not known and loss is not None:
                rung.append((loss, trial))
            return self.stop(trial)
        if trial in self.paused:
            return "pause"
        if rung is None or loss is None:
            return "continue"
        if known and not (promotion and (trial, resource) not in self.promoted):
            return "continue"
        if not known:
            rung.append((loss, trial))
        if promotion:
            order = [name for _, name in sorted(rung, key=lambda entry: entry[0])]  # stable
            ahead = order[: order.index(trial)]
            if sum(self.paused.get(name) == resource for name in ahead) >= 3 * self.eta:
                return self.stop(trial)
            self.paused[trial] = resource
            return "pause"
        better = sum(other < loss for other, _ in rung)
        return "continue" if better < math.ceil(len(rung) / self.eta) else self.stop(trial)

    def promote(self, trial):
        self.promoted.add((trial, self.paused.pop(trial)))

    def fail_and_reopen(self, trial):
        self.paused.pop(trial, None)

    def stop(self, trial):
        self.stopped.add(trial)
        self.paused.pop(trial, None)
        return "stop"

    def next_trial(self):
        for level in sorted(self.levels[:-1], reverse=True):
            rung = self.entries.get(level, [])
            order = sorted(range(len(rung)), key=lambda i: (rung[i][0], i))
            for i in order[: len(rung) // self.eta]:
                if self.paused.get(rung[i][1]) == level:
                    return rung[i][1]
        return None


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("kind", [AshaStopping, AshaPromotion])
def test_random_sequences_agree_with_the_slow_reference(kind, seed):
    """Reports in any order: ties, NaN, None, gaps, repeats, after pause, stop and failure."""
    rng = np.random.default_rng(seed)
    eta, top = int(rng.integers(2, 5)), int(rng.choice([1, 5, 9, 16, 20]))
    sign = 1 if seed % 2 else -1
    scheduler = kind(max_resource=top, reduction_factor=eta, mode="min" if sign == 1 else "max")
    reference = Reference(eta=eta, levels=tuple(scheduler.rung_levels))
    epochs: dict[str, int] = {}
    for _ in range(600):
        trial = scheduler.next_trial()
        assert trial == reference.next_trial()
        action = rng.random()
        if trial is not None and action < 0.5:
            scheduler.resume(trial)
            reference.promote(trial)
            continue
        if not epochs or action < 0.7:
            trial = f"t{len(epochs)}"
            scheduler.add(trial)
            epochs[trial] = 0
        else:
            trial = str(rng.choice(list(epochs)))
            if trial not in reference.stopped and rng.random() < 0.1:
                scheduler.finish(trial, TrialStatus.FAILED)
                scheduler.reopen(trial)
                reference.fail_and_reopen(trial)
        epochs[trial] = max(1, epochs[trial] + int(rng.choice([0, 1, 1, 1, 2, -1])))
        special = rng.random()
        value = NAN if special < 0.04 else None if special < 0.08 else float(rng.integers(0, 12))
        signed = value if value is None else sign * value
        decision = scheduler.report(Report(trial, epochs[trial], signed))
        assert decision.value == reference.report(
            trial, epochs[trial], value, kind is AshaPromotion
        )
    for summary in scheduler.rungs():
        assert summary.entrants == len(reference.entries.get(summary.level, []))


def test_about_one_trial_in_eta_survives_each_rung():
    rng = np.random.default_rng(7)
    scheduler = AshaStopping(max_resource=27, reduction_factor=3)
    decisions = feed(scheduler, 1, *map(float, rng.normal(size=3000)))
    # a stream of independent values: the share let through is 1/3 up to early luck
    assert decisions.count("continue") / 3000 == pytest.approx(1 / 3, abs=0.03)
