"""A cluster whose nodes do not share the storage is found out at the start.

Two nodes are two raylets on this machine; one that shares nothing has a mount of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from raytune_ahu.adapters.shared_storage import check_shared
from raytune_ahu.errors import StorageError
from raytune_ahu.storage import CheckpointStorage

CLUSTER = """
import json, os, signal, subprocess, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from raytune_ahu.adapters.shared_storage import check_shared
from raytune_ahu.errors import StorageError
from raytune_ahu.storage import CheckpointStorage

mounts, cases = sys.argv[1], json.loads(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
ray_start = [
    str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1",
    f"--address={cluster.address}",
]
if mounts:
    ray_start = ["unshare", "-m", "sh", "-e", "-c", mounts + '; exec "$@"', "sh", *ray_start]

def start():
    with open(sys.argv[3], "a") as output:
        return subprocess.Popen(
            ray_start, stdout=output, stderr=output, start_new_session=True
        )

second, restarts = start(), 2
try:
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    while sum(node["Alive"] for node in ray.nodes()) < 2:
        if second.poll() is None:
            continue
        if restarts == 0:
            sys.exit(f"the second node ended: {Path(sys.argv[3]).read_text()}")
        second, restarts = start(), restarts - 1  # Ray gives it 30 s, a busy machine takes longer
    said = {}
    for case, (storage_path, options) in cases.items():
        storage = CheckpointStorage(storage_path, "a")
        storage.check_writable()
        try:
            said[case] = check_shared(storage, ray.nodes(), **options)
        except StorageError as error:
            said[case] = str(error)
    print(json.dumps(said))
finally:
    if second.poll() is None:
        os.killpg(second.pid, signal.SIGTERM)
    second.wait()
    ray.shutdown()
    cluster.shutdown()
"""


def may_mount():
    try:
        return not subprocess.run(
            ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"],
            capture_output=True,
        ).returncode
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("storage")
    for name in ("both", "own", "read_only"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def said(places, s3_server):
    """What the check says on a cluster of two nodes, by case; None: they share the storage.

    The second node has a disk of its own over `own`, and may only read `read_only`.
    """
    mounts = (
        f"mount -t tmpfs tmpfs {places}/own; mount -o bind,ro {places}/read_only {places}/read_only"
    )
    uri = s3_server.format(f"shared-{uuid.uuid4().hex}")
    cases = {
        **{name: (str(places / name), {}) for name in ("both", "own", "read_only")},
        "late": (str(places / "both"), {"node_timeout_s": 0.0}),
        "s3": (uri, {}),
    }
    command = [sys.executable, "-c", CLUSTER, mounts if may_mount() else "", json.dumps(cases)]
    done = subprocess.run(
        [*command, str(places / "output")],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def private_mounts():
    """Skips where a process may not have mounts of its own."""
    if not may_mount():
        pytest.skip("a process may not have mounts of its own here (unshare -m)")


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_on_the_driver_s_machine_alone_there_is_nothing_to_check(tmp_path):
    import ray

    check_shared(CheckpointStorage(str(tmp_path / "runs"), "a"), ray.nodes())
    assert not (tmp_path / "runs").exists()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_storage_that_the_driver_cannot_write_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    other = {"NodeID": "f" * 56, "Alive": True, "NodeManagerHostname": "h"}
    with pytest.raises(StorageError, match=r"/file/a cannot be used from here"):
        check_shared(CheckpointStorage(str(tmp_path / "file"), "a"), [other])


@pytest.mark.ray
def test_a_folder_that_both_nodes_see_is_shared(said):
    assert said["both"] is None


@pytest.mark.ray
@pytest.mark.usefixtures("private_mounts")
def test_a_node_with_a_disk_of_its_own_is_named_with_the_fix(said, places):
    error, host = said["own"], os.uname().nodename
    start = f"not every node can use the storage {places}/own/a: node {host} ("
    assert error.startswith(start)
    assert "it does not see what the driver wrote there" in error
    assert "use a --storage-path that every node sees" in error
    assert "s3://bucket/prefix" in error
    assert error.count(f"node {host}") == 1  # the driver's own is in order


@pytest.mark.ray
@pytest.mark.usefixtures("private_mounts")
def test_a_node_that_may_only_read_is_named(said):
    assert said["read_only"].startswith("not every node can use the storage")
    assert "Read-only file system" in said["read_only"]


@pytest.mark.ray
def test_a_node_that_does_not_answer_in_time_is_named(said):
    assert said["late"].startswith("not every node can use the storage")
    assert "it gave no answer within 0 s" in said["late"]


@pytest.mark.ray
def test_an_object_store_is_shared(said):
    assert said["s3"] is None


@pytest.mark.ray
@pytest.mark.usefixtures("said")
def test_the_check_leaves_nothing_behind(places):
    assert [list((places / name).iterdir()) for name in ("both", "own", "read_only")] == [[]] * 3


@pytest.mark.slow
@pytest.mark.ray
def test_ray_stores_checkpoints_under_the_same_uri(s3_server, tmp_path, toy_trainable):
    storage_path = s3_server.format(f"ray-{uuid.uuid4().hex}")
    storage = CheckpointStorage(storage_path, "a")
    code = f"""
import sys, cloudpickle, ray
from ray import tune
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
tune.run(
    cloudpickle.loads(sys.stdin.buffer.read()), config={{"x": 0.5}}, stop={{"own_epoch": 2}},
    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
    storage_path={storage_path!r}, name="a", verbose=0,
)
"""
    import cloudpickle

    subprocess.run(
        [sys.executable, "-c", code],
        input=cloudpickle.dumps(toy_trainable),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=240,
    )
    [(trial, checkpoints)] = storage.checkpoints().items()
    assert checkpoints == {f"{trial}/checkpoint_{number:06d}" for number in range(2)}
    newest = max(checkpoints)
    state = storage.read_bytes(storage.full(f"{newest}/state.json"))
    assert state == b'{"epoch": 2}'
    assert storage.size(newest) >= len(state)
    storage.delete(newest)
    assert storage.checkpoints() == {trial: checkpoints - {newest}}
