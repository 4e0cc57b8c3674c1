"""Nodes that crash, leave and join during a run. The driver is on a head that takes no trials."""

from __future__ import annotations

import signal

import pytest

from raytune_ahu.records import read_events
from raytune_ahu.types import TrialStatus
from tests.faults.harness import assert_nothing_is_lost

pytestmark = [pytest.mark.ray]


@pytest.fixture
def add_node(bare_cluster):
    """Lets a node of one CPU join; those that are left at the end of the test leave."""
    nodes = []

    def add():
        nodes.append(bare_cluster.add(1))
        return nodes[-1]

    yield add
    for node in nodes:
        # Ray counts a crashed node for half a minute yet. Does nothing if it is gone.
        bare_cluster.remove(node, "leave")


def errors_of(run):
    return [e for events in run.by_trial().values() for e in events if e["event"] == "errored"]


def next_start(run, error):
    """The first trial that begins or goes on after an error."""
    events = list(read_events(run.record))
    after = events[events.index(error) + 1 :]
    return next(event for event in after if event["event"] in ("suggested", "started"))


def assert_epochs_are_repeated_at_most_once(run, lost):
    for trial in run.by_trial():
        began = [epoch for name, epoch, _, _ in run.journal() if name == trial]
        assert len(began) - len(set(began)) <= (trial in lost), trial


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("crash", marks=pytest.mark.slow),
        pytest.param("crash_workers_first", marks=pytest.mark.slow),
        pytest.param("lose_raylet", marks=pytest.mark.slow),
        pytest.param("leave", marks=pytest.mark.slow),
        pytest.param("freeze", marks=pytest.mark.slow),
    ],
)
def test_the_trial_of_a_lost_node_goes_on_elsewhere_before_any_new_one(
    bare_cluster, add_node, start_run, how
):
    first, second = add_node(), add_node()
    run = start_run(
        cluster=bare_cluster,
        scheduler="none",
        num_samples=5,
        max_failures=0,
        settings={"epoch_s": 0.3},
    )
    driver = run.next_driver()
    seen = set()

    def is_time(event):
        seen.add(event.get("metrics", {}).get("node"))
        return {first, second} <= seen and event.get("resource", 0) >= 3

    driver.wait_for(is_time)
    driver.wait_for(lambda e: e["event"] == "reported" and e["metrics"]["node"] == first)
    bare_cluster.remove(first, how)
    assert driver.finish() == "finished"
    driver.close()
    assert_nothing_is_lost(run, workers=2)
    assert run.state().counts()[TrialStatus.COMPLETED] == 5
    errors = errors_of(run)
    assert [(e["fault"], e["will_retry"]) for e in errors] == [("node lost", True)]
    trial = errors[0]["trial"]
    assert_epochs_are_repeated_at_most_once(run, {trial})
    goes_on = next_start(run, errors[0])
    assert goes_on["trial"] == trial
    after = [
        e
        for e in run.by_trial()[trial]
        if e["time"] >= goes_on["time"] and e["event"] == "reported"
    ]
    assert {e["metrics"]["node"] for e in after} == {second}


@pytest.mark.slow
def test_a_node_that_joins_during_the_run_takes_trials(bare_cluster, add_node, start_run):
    add_node()
    run = start_run(cluster=bare_cluster, num_samples=None, time_budget_s=600.0, scheduler="none")
    driver = run.next_driver()
    driver.wait_for(lambda event: event["event"] == "finished")
    joined = add_node()
    driver.wait_for(lambda e: e["event"] == "reported" and e["metrics"]["node"] == joined)
    driver.process.send_signal(signal.SIGTERM)
    assert driver.finish() == "interrupted"
    driver.close()
    assert errors_of(run) == []


@pytest.mark.slow
def test_a_run_whose_nodes_are_all_lost_waits_and_says_so_until_one_joins(
    bare_cluster, add_node, start_run
):
    only = add_node()
    run = start_run(cluster=bare_cluster, num_samples=3, scheduler="none")
    driver = run.next_driver()
    driver.wait_for(lambda event: event.get("resource", 0) >= 4)
    bare_cluster.remove(only, "crash")
    driver.wait_for(lambda event: "waiting for one to join" in event.get("text", ""))
    joined = add_node()
    assert driver.finish() == "finished"
    driver.close()
    assert_nothing_is_lost(run, workers=1)
    errors = errors_of(run)
    assert {(e["fault"], e["will_retry"]) for e in errors} == {("node lost", True)}
    assert run.state().counts()[TrialStatus.COMPLETED] == 3
    assert_epochs_are_repeated_at_most_once(run, {event["trial"] for event in errors})
    assert next_start(run, errors[0])["trial"] == errors[0]["trial"]
    last = [e for e in run.by_trial()["trial_00002"] if e["event"] == "reported"]
    assert {event["metrics"]["node"] for event in last} == {joined}
