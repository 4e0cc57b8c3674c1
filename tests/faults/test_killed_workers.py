"""Workers killed with SIGKILL: by name, by their own configuration, and while they idle."""

from __future__ import annotations

import os
import signal

import pytest

from raytune_ahu.faults import MAX_LOSSES
from raytune_ahu.types import TrialStatus
from tests.faults.harness import assert_nothing_is_lost

pytestmark = [pytest.mark.ray]


def kill_worker(event):
    """Kill the process that a report came from."""
    os.kill(event["metrics"]["worker"], signal.SIGKILL)


def test_killed_workers_cost_their_trials_at_most_an_epoch(start_run):
    run = start_run(max_failures=0, num_samples=10, settings={"epoch_s": 0.2})
    driver = run.next_driver()
    killed = {}
    for event in driver.events():
        if event["event"] != "reported" or event["decision"] != "continue" or len(killed) == 4:
            continue
        trial = event["trial"]
        if event["metrics"]["worker"] not in killed.values() and trial not in killed:
            kill_worker(event)
            killed[trial] = event["metrics"]["worker"]
    driver.close()
    assert len(killed) == 4
    assert_nothing_is_lost(run, workers=2)
    for trial, events in run.by_trial().items():
        errors = [event for event in events if event["event"] == "errored"]
        assert [event["fault"] for event in errors] == ["worker lost"] * (trial in killed)
        assert all(event["will_retry"] for event in errors)
        began = [epoch for name, epoch, _, _ in run.journal() if name == trial]
        assert len(began) - len(set(began)) <= (trial in killed)
        if trial in killed:
            goes_on = events[events.index(errors[0]) + 1]
            assert (goes_on["event"], goes_on["trial"]) == ("started", trial)
    assert run.state().counts()[TrialStatus.FAILED] == 0


@pytest.mark.slow
def test_a_configuration_that_always_kills_its_worker_fails_and_the_others_go_on(start_run):
    run = start_run(max_failures=0, num_samples=6, scheduler="none", settings={"die_above": 0.6})
    assert run.next_driver().finish() == "finished"
    trials = run.state().trials.values()
    deadly = [trial for trial in trials if trial.configuration["x"] > 0.6]
    assert 1 <= len(deadly) < len(trials)
    for trial in trials:
        events = [e for e in run.by_trial()[trial.trial_id] if e["event"] == "errored"]
        if trial not in deadly:
            assert (trial.status, events) == (TrialStatus.COMPLETED, [])
            continue
        assert trial.status is TrialStatus.FAILED
        assert [event["fault"] for event in events] == ["worker lost"] * MAX_LOSSES
        assert [event["will_retry"] for event in events] == [True] * (MAX_LOSSES - 1) + [False]
        assert trial.error is not None
        began = [epoch for name, epoch, _, _ in run.journal() if name == trial.trial_id]
        assert began == [1] + [2] * MAX_LOSSES


@pytest.mark.slow
def test_a_worker_killed_between_two_trials_fails_neither(start_run):
    """It idles while its last trial's end is recorded; the next trial is to reuse it."""
    run = start_run(max_failures=0, num_samples=6, max_concurrent=1)
    driver = run.next_driver()
    worker, killed = None, 0
    for event in driver.events():
        if event["event"] == "reported":
            worker = event["metrics"]["worker"]
        elif event["event"] == "finished" and killed < 3:
            os.kill(worker, signal.SIGKILL)
            killed += 1
    driver.close()
    assert killed == 3
    assert_nothing_is_lost(run, workers=1)
    errors = [e for events in run.by_trial().values() for e in events if e["event"] == "errored"]
    assert {(event["fault"], event["will_retry"]) for event in errors} <= {("worker lost", True)}
    assert run.state().counts()[TrialStatus.FAILED] == 0
    epochs = [(trial, epoch) for trial, epoch, _, _ in run.journal()]
    assert len(epochs) == len(set(epochs))  # none had begun, so none is repeated
