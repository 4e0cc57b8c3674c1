"""Drivers killed with SIGKILL, each run going on in a new process on the same cluster."""

from __future__ import annotations

import random

import pytest

from tests.faults.harness import assert_nothing_is_lost

pytestmark = [pytest.mark.ray]

VARIANTS = [("bohb", "asha"), ("bohb", "asha-promotion"), ("random", "asha")]


def kill_drivers(run, kills, *, seed, most_events):
    """Drive a run to its end, and kill the driver at random moments on the way.

    A moment is a number of events of the session. Half of the drivers kill themselves right after
    the event, before it takes effect; the others are killed from outside, somewhere behind it.
    """
    moments = random.Random(seed)
    killed = 0
    while killed < kills:
        count = moments.randrange(1, most_events + 1)
        inside = moments.random() < 0.5
        driver = run.next_driver(die_after={"event": None, "count": count} if inside else None)
        seen = leftovers = 0
        for event in driver.events():
            seen += event["event"] not in ("taken up", "printed")
            leftovers = leftovers or event.get("leftovers")
            if not inside and seen == count:
                driver.process.kill()
        driver.close()
        assert not leftovers, "checkpoints that no state names"
        assert driver.was_killed, "the run ended too early: more trials, or earlier kills"
        killed += 1
    assert run.next_driver().finish() == "finished"


def assert_kills_change_nothing(start_run, options, kills, *, seed, most_events):
    """Compare a killed run of one trial at a time with one that was never killed."""
    options = {**options, "max_concurrent": 1}
    never_killed = start_run("never_killed", **options)
    assert never_killed.next_driver().finish() == "finished"
    run = start_run("killed", **options)
    kill_drivers(run, kills, seed=seed, most_events=most_events)
    assert_nothing_is_lost(run, workers=1)
    assert run.frame() == never_killed.frame()


@pytest.mark.parametrize(
    ("search", "scheduler"),
    [
        pytest.param("bohb", "asha", marks=pytest.mark.slow),
        pytest.param("bohb", "asha-promotion", marks=pytest.mark.slow),
        pytest.param("random", "asha", marks=pytest.mark.slow),
    ],
)
def test_three_kills_change_nothing_with_one_trial_at_a_time(start_run, search, scheduler):
    options = {"search": search, "scheduler": scheduler, "num_samples": 12}
    assert_kills_change_nothing(start_run, options, 3, seed=1, most_events=25)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("search", "scheduler"), VARIANTS)
def test_twenty_kills_change_nothing_with_one_trial_at_a_time(start_run, search, scheduler):
    options = {"search": search, "scheduler": scheduler, "num_samples": 30}
    assert_kills_change_nothing(start_run, options, 20, seed=2, most_events=14)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("search", "scheduler"), VARIANTS)
def test_twenty_kills_lose_nothing_with_two_trials_at_a_time(start_run, search, scheduler):
    run = start_run(search=search, scheduler=scheduler, num_samples=30)
    kill_drivers(run, 20, seed=3, most_events=14)
    assert_nothing_is_lost(run, workers=2)


WORST_MOMENTS = [
    {"event": "suggested", "count": 2},  # before Ray has heard of the trial
    {"event": "reported", "count": 3},  # before the scheduler's decision takes effect, and a save
    {"event": "saved", "count": 4},  # before older checkpoints are deleted
    {"deletion": 2},  # a checkpoint is half gone
    {"event": "resumed", "count": 1},  # before the promoted trial has a worker
    {"event": "finished", "count": 2},  # before its worker is free
]


def test_kills_at_the_worst_moments_lose_nothing(start_run):
    run = start_run(search="bohb", scheduler="asha-promotion", num_samples=20)
    for moment in WORST_MOMENTS:
        driver = run.next_driver(die_after=moment)
        assert not any(event.get("leftovers") for event in driver.events())
        driver.close()
        assert driver.was_killed, moment
    assert run.next_driver().finish() == "finished"
    assert_nothing_is_lost(run, workers=2)
