"""A script joins a real cluster of two nodes (two raylets on this machine)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raytune_ahu.records import read_events

CLUSTER = """
import subprocess, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
done = subprocess.run([sys.executable, *sys.argv[1:], "--address", cluster.address])
cluster.shutdown()
sys.exit(done.returncode)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_script_joins_a_cluster_and_uses_both_nodes(root, tmp_path):
    script = root / "scripts" / "tune_resnet.py"
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(script), "--smoke-test", "--name", "joined"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    events = list(read_events(tmp_path / "runs" / "joined"))
    assert events[0]["slots"] == 2
    assert events[-1]["reason"] == "finished"
    # Each node has one CPU, so two trials at once are on two nodes.
    running, most = set(), 0
    for event in events:
        if event["event"] == "started":
            running.add(event["trial"])
        elif event["event"] == "finished":
            running.discard(event["trial"])
        most = max(most, len(running))
    assert most == 2
