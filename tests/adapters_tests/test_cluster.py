"""Joining clusters."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from raytune_ahu.adapters.cluster import connect
from raytune_ahu.errors import ClusterError


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
    def find_nothing(address):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address_or_die", find_nothing)
    with pytest.raises(ClusterError, match="ray start --head"):
        connect("auto")


CLUSTER = """
import os, subprocess, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
for changes in ({"RAY_AUTH_TOKEN": "right" * 8}, {"RAY_AUTH_TOKEN": "wrong" * 8}, {}):
    environment = {**os.environ, **changes}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        if name not in changes:
            environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", sys.argv[1], cluster.address],
        env=environment, capture_output=True, text=True,
    )
    print(done.returncode, " ".join(done.stderr.split()))
    print(done.stdout.strip().splitlines()[-1:])
cluster.shutdown()
"""
JOIN = """
import sys
import ray
from raytune_ahu.adapters.cluster import connect
from raytune_ahu.errors import ClusterError
try:
    connect(sys.argv[1])
except ClusterError as error:
    print(error, file=sys.stderr)
    sys.exit(7)

@ray.remote
class Worker:
    def answer(self):
        return 42

print(ray.get(Worker.remote().answer.remote(), timeout=60))
"""


@pytest.mark.ray
@pytest.mark.parametrize("mode", ["token", pytest.param("disabled", marks=pytest.mark.slow)])
def test_a_cluster_is_joined_with_the_token_that_it_asks_for(tmp_path, mode):
    """With the right token, a wrong one, and none at all; actors really run in the end."""
    token = "right" * 8
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, JOIN],
        env={**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    right, right_out, wrong, _, none, none_out = done.stdout.strip().splitlines()[-6:]
    if mode == "disabled":
        for outcome, out in ((right, right_out), (none, none_out)):
            assert outcome.startswith("0 ")
            assert "asks for no token" in outcome
            assert "42" in out
        return
    assert right.startswith("0 ")
    assert "42" in right_out
    assert wrong.startswith("7 ")
    assert "refused the token" in wrong
    assert none.startswith("7 ")
    assert "asks for a token and there is none here" in none


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
