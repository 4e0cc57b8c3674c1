"""Joining clusters, and how many trials fit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from raytune_ahu.adapters.cluster import Slots, connect, trials_per_node
from raytune_ahu.errors import ClusterError


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "expected"),
    [
        ({"CPU": 2.0}, 1.0, 0.0, 2),
        ({"CPU": 2.0}, 0.5, 0.0, 4),
        ({"CPU": 2.0}, 3.0, 0.0, 0),
        ({"CPU": 16.0, "GPU": 2.0}, 4.0, 0.25, 4),
        ({"CPU": 64.0, "GPU": 2.0}, 1.0, 0.25, 8),
        ({"CPU": 64.0, "GPU": 3.0}, 1.0, 0.4, 6),  # two per GPU, the rest of each is wasted
        ({"CPU": 64.0, "GPU": 8.0}, 1.0, 2.0, 4),
        ({"CPU": 64.0}, 1.0, 1.0, 0),
        ({"GPU": 4.0}, 0.0, 1.0, 4),
        ({"CPU": 0.3}, 0.1, 0.0, 3),  # 0.3 / 0.1 is 2.999... in floating point
    ],
)
def test_trials_that_fit_onto_a_node(resources, cpus, gpus, expected):
    assert trials_per_node(resources, cpus, gpus) == expected


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_slots_are_what_the_cluster_has_room_for():
    assert Slots(1.0, 0.0, None)() == 2
    assert Slots(0.5, 0.0, None)() == 4
    assert Slots(0.5, 0.0, 3)() == 3
    assert Slots(64.0, 0.0, None)() == 1  # never none: the cluster may grow
    assert Slots(64.0, 0.0, None).fitting() == 0


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_connecting_twice_does_nothing():
    connect(None)
    connect("auto")


def test_an_address_where_nothing_answers_is_named_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, error = run_connect(f"127.0.0.1:{port}")
    assert code == 7
    assert f"nothing answers at 127.0.0.1:{port}" in error


@pytest.mark.parametrize("address", ["localhost", "ray://localhost:10001", "host:port"])
def test_an_address_of_another_form_is_refused(address):
    code, error = run_connect(address)
    assert code == 7
    assert "must be 'auto' or 'host:port'" in error


def test_auto_without_a_cluster_says_how_to_start_one(monkeypatch):
    # Ray looks for any cluster on the machine, and other tests have one: it is asked to find none.
    def find_nothing(**options):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", find_nothing)
    with pytest.raises(ClusterError, match="ray start --head"):
        connect("auto")


CODE = """
import sys
from raytune_ahu.adapters.cluster import connect
from raytune_ahu.errors import ClusterError
try:
    connect(sys.argv[1])
except ClusterError as error:
    print(error, file=sys.stderr)
    sys.exit(7)
"""


def run_connect(address, **changes):
    """Call `connect` in a process of its own, where no other test's Ray is running."""
    environment = {**os.environ, **changes}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", CODE, address],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    return done.returncode, done.stderr
