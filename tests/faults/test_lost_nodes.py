"""Nodes that crash, leave and join during a run. The driver is on a head that takes no trials."""

from __future__ import annotations

import pytest

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
        bare_cluster.remove(node, "crash")  # does nothing if it is gone


def errors_of(run):
    return [e for events in run.by_trial().values() for e in events if e["event"] == "errored"]


def assert_epochs_are_repeated_at_most_once(run, lost):
    for trial in run.by_trial():
        began = [epoch for name, epoch, _, _ in run.journal() if name == trial]
        assert len(began) - len(set(began)) <= (trial in lost), trial


@pytest.mark.parametrize("how", ["crash", "lose_raylet", "leave"])
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
    lost = driver.wait_for(lambda e: e["event"] == "reported" and e["metrics"]["node"] == first)
    bare_cluster.remove(first, how)
    assert driver.finish() == "finished"
    driver.close()
    assert_nothing_is_lost(run, workers=2)
    assert run.state().counts()[TrialStatus.COMPLETED] == 5
    errors = errors_of(run)
    assert [(e["fault"], e["will_retry"]) for e in errors] == [("node lost", True)]
    trial = errors[0]["trial"]
    assert_epochs_are_repeated_at_most_once(run, {trial})
    events = [event for each in run.by_trial().values() for event in each]
    goes_on = next(
        e["time"] for e in events if e["trial"] == trial and e["time"] > errors[0]["time"]
    )
    begun = [e for e in events if e["event"] == "suggested"]
    assert not [e for e in begun if errors[0]["time"] < e["time"] < goes_on]
    after = [e for e in run.by_trial()[trial] if e["time"] >= goes_on and e["event"] == "reported"]
    assert {e["metrics"]["node"] for e in after} == {second}
    assert lost["metrics"]["node"] == first
