"""How many trials fit, what is refused at once, and what a waiting trial waits for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raytune_ahu.adapters import slots as module
from raytune_ahu.adapters.nodes import Node, trials_per_node
from raytune_ahu.adapters.shortage import missing, refusal, taken
from raytune_ahu.adapters.slots import Slots
from raytune_ahu.errors import ClusterError

A100 = "accelerator_type:A100"


@pytest.mark.parametrize(
    ("resources", "request_", "expected"),
    [
        ({"CPU": 2.0}, {"CPU": 1.0}, 2),
        ({"CPU": 2.0}, {"CPU": 0.5}, 4),
        ({"CPU": 2.0}, {"CPU": 3.0}, 0),
        ({"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 0.25}, 4),
        ({"CPU": 64.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 0.25}, 8),
        ({"CPU": 64.0, "GPU": 3.0}, {"CPU": 1.0, "GPU": 0.4}, 6),  # two per GPU, the rest is wasted
        ({"CPU": 64.0, "GPU": 8.0}, {"CPU": 1.0, "GPU": 2.0}, 4),
        ({"CPU": 64.0, "GPU": 8.0}, {"CPU": 1.0, "GPU": 3.0}, 2),
        ({"CPU": 64.0}, {"CPU": 1.0, "GPU": 1.0}, 0),
        ({"GPU": 4.0}, {"GPU": 1.0}, 4),
        ({"CPU": 0.3}, {"CPU": 0.1}, 3),  # 0.3 / 0.1 is 2.999... in floating point
        ({"CPU": 64.0, "TPU": 4.0}, {"CPU": 1.0, "TPU": 4.0}, 1),
        ({"CPU": 64.0, "TPU": 3.0}, {"CPU": 1.0, "TPU": 0.6}, 3),  # a device is not split over two
        ({"CPU": 64.0, "licence": 3.0}, {"CPU": 1.0, "licence": 0.6}, 5),  # but a custom one is
        ({"CPU": 64.0}, {"CPU": 1.0, "licence": 1.0}, 0),
        ({"CPU": 8.0, "GPU": 8.0, A100: 1.0}, {"CPU": 1.0, "GPU": 2.0, A100: 0.001}, 4),
        ({"CPU": 8.0, "GPU": 8.0}, {"CPU": 1.0, "GPU": 2.0, A100: 0.001}, 0),
        ({"CPU": 8.0, "memory": 32e9}, {"CPU": 1.0, "memory": 8e9}, 4),
    ],
)
def test_trials_that_fit_onto_a_node(resources, request_, expected):
    assert trials_per_node(resources, request_) == expected


def empty(**total):
    total = {name.replace("A100", A100): float(amount) for name, amount in total.items()}
    return Node(total, total)


def busy(total, free):
    return Node(total, free)


NODES = [
    empty(CPU=4),
    empty(CPU=8, GPU=2, TPU=4, A100=1),
    Node({"CPU": 2.0, "node:10.0.0.1": 1}, {}),
]


@pytest.mark.parametrize(
    ("request_", "fragments"),
    [
        ({"CPU": 9.0}, ["cpus_per_trial=9", "more than 8 CPUs", "--cpus-per-trial 8 or less"]),
        ({"CPU": 1.0, "GPU": 4.0}, ["gpus_per_trial=4", "more than 2 GPUs", "--gpus-per-trial 2"]),
        ({"CPU": 1.0, "TPU": 8.0}, ["TPU=8", "more than 4", "--resource TPU=4 or less"]),
        (
            {"CPU": 1.0, "licence": 2.0},
            ["has licence=2", "custom resources there: TPU;", """--resources='{"licence": 2}'"""],
        ),
        (
            {"CPU": 1.0, "accelerator_type:H100": 0.001},
            ["accelerator_type='H100'", "those of the cluster are A100", "--accelerator-type"],
        ),
        (
            {"CPU": 1.0, "TPU": 1.0, "node:10.0.0.1": 0.01},
            ["1 CPU, 1 TPU and 0.01 node:10.0.0.1", "none has all of them together"],
        ),
    ],
)
def test_what_no_node_can_run_is_refused_with_the_option_and_the_most_there_is(request_, fragments):
    message = refusal(NODES, request_)
    for fragment in fragments:
        assert fragment in message
    assert "\n" not in message


def test_a_cluster_without_accelerators_or_custom_resources_says_so():
    assert "no node has any" in refusal([empty(CPU=1)], {A100: 0.001})
    assert "custom resources there: none" in refusal([empty(CPU=1)], {"TPU": 1.0})
    assert "use --gpus-per-trial 0, or start a node" in refusal([empty(CPU=1)], {"GPU": 0.5})


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"CPU": 1.0, "GPU": 1.0}, "needs 1 GPU; the largest alive has 0"),
        ({"CPU": 4.0}, "needs 4 CPUs; the largest alive has 2"),
        ({"CPU": 1.0, A100: 0.001}, "needs an accelerator A100; none has one"),
        ({"CPU": 2.0, "memory": 2.0}, "needs 2 CPUs and 2 memory on one node"),
    ],
)
def test_what_the_nodes_that_are_alive_have_too_little_of(request_, expected):
    assert missing([empty(CPU=2), empty(CPU=1, memory=4)], request_) == expected


@pytest.mark.parametrize(
    ("nodes", "request_", "running", "expected"),
    [
        (
            [busy({"CPU": 8, "GPU": 4}, {"CPU": 8})],
            {"CPU": 1.0, "GPU": 1.0},
            0,
            "all 4 GPUs are in use (by other jobs on the cluster)",
        ),
        (
            [busy({"CPU": 8, "GPU": 4}, {"CPU": 8})],
            {"CPU": 1.0, "GPU": 0.5},
            3,
            "all 4 GPUs are in use (1.5 by this run, 2.5 by other jobs on the cluster)",
        ),
        ([busy({"CPU": 2}, {})], {"CPU": 1.0}, 2, "all 2 CPUs are in use (by this run)"),
        (
            [busy({"CPU": 1}, {})],
            {"CPU": 1.0},
            0,
            "the only CPU is in use (by other jobs on the cluster)",
        ),
        (
            [busy({"CPU": 4}, {"CPU": 1}), busy({"CPU": 4}, {"CPU": 1})],
            {"CPU": 2.0},
            0,
            "6 of 8 CPUs are in use (by other jobs on the cluster) and no node has 2 free",
        ),
        (
            [busy({"CPU": 4, "GPU": 1}, {"CPU": 4}), busy({"CPU": 4, "GPU": 1}, {"GPU": 1})],
            {"CPU": 1.0, "GPU": 1.0},
            0,
            "no node has 1 CPU and 1 GPU free at once",
        ),
    ],
)
def test_what_is_in_use_and_by_whom(nodes, request_, running, expected):
    assert taken(nodes, request_, running) == expected


def test_the_cluster_is_read_every_few_seconds_only(monkeypatch):
    nodes, now, reads = [empty(CPU=2)], [1000.0], []

    def read():
        reads.append(now[0])
        return list(nodes)

    monkeypatch.setattr(module, "read_nodes", read)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    slots = Slots({"CPU": 1.0}, None)
    assert slots() == 2
    nodes.append(empty(CPU=4))
    now[0] += Slots.REFRESH_S
    assert slots() == 2
    assert slots.why_waiting() is None
    now[0] += 0.1
    assert slots() == 6
    del nodes[:]
    now[0] += Slots.REFRESH_S + 0.1
    assert slots() == 1  # never none: the cluster may grow
    assert "waiting for one to join" in slots.why_waiting()
    assert len(reads) == 3


def test_a_trial_that_has_its_place_is_not_called_waiting(monkeypatch):
    """Its worker process may take long to start, while its resources are taken, by itself."""
    monkeypatch.setattr(module, "read_nodes", lambda: [busy({"CPU": 1}, {})])
    slots = Slots({"CPU": 1.0}, None)
    monkeypatch.setattr(module, "any_waits_for", lambda request: False)
    assert slots.why_waiting() is None
    slots = Slots({"CPU": 1.0}, None)
    monkeypatch.setattr(module, "any_waits_for", lambda request: True)
    assert slots.why_waiting(running=1) == "the only CPU is in use (by this run)"


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_slots_are_what_the_cluster_has_room_for():
    assert Slots({"CPU": 1.0}, None)() == 2
    assert Slots({"CPU": 0.5}, None)() == 4
    assert Slots({"CPU": 0.5}, 3)() == 3
    assert Slots({"CPU": 64.0}, None)() == 1
    assert Slots({"CPU": 64.0}, None).fitting() == 0
    Slots({"CPU": 2.0}, None).check()
    with pytest.raises(ClusterError, match="cpus_per_trial=64"):
        Slots({"CPU": 64.0}, None).check()
    with pytest.raises(ClusterError, match=r"HPU=0\.5 per trial is refused by Ray"):
        Slots({"CPU": 1.0, "HPU": 0.5}, None).check()


NODES_COME_AND_GO = """
import time
import ray
from ray.cluster_utils import Cluster
from raytune_ahu.adapters.slots import Slots
from ray.util.placement_group import placement_group, remove_placement_group

def wait_until(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.05)

Slots.REFRESH_S = 0.0
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
request = {"CPU": 1.0, "GPU": 0.5, "licence": 1.0, "accelerator_type:A100": 0.001}
slots = Slots(request, None)
assert slots.fitting() == 0
print("WHY", slots.why_waiting())

has = {"num_cpus": 2, "num_gpus": 2, "resources": {"licence": 3, "accelerator_type:A100": 1}}
node = cluster.add_node(**has)
cluster.wait_for_nodes()
wait_until(lambda: slots() == 2)
assert slots.why_waiting() is None

theirs = placement_group([{"GPU": 2}])
assert theirs.wait(30)
ours = placement_group([request])
wait_until(slots.why_waiting)
print("WHY", slots.why_waiting())
remove_placement_group(theirs)
assert ours.wait(30)
wait_until(lambda: slots.why_waiting(running=1) is None)
second = placement_group([request])
assert second.wait(30)
third = placement_group([request])
wait_until(lambda: slots.why_waiting(running=2))
print("WHY", slots.why_waiting(running=2))

cluster.remove_node(node, allow_graceful=False)
wait_until(lambda: slots.fitting() == 0)
print("WHY", slots.why_waiting())
cluster.add_node(**has)
wait_until(lambda: slots() == 2)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_slots_follow_nodes_that_join_and_leave_and_say_what_is_missing():
    code = [sys.executable, "-c", NODES_COME_AND_GO]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()  # Ray writes there as well
    said = [line.removeprefix("WHY ") for line in lines if line.startswith("WHY ")]
    alone, others, ourselves, gone = said
    lack = "needs 0.5 GPU; the largest alive has 0"
    assert alone == gone == f"no node that is alive fits ({lack}): waiting for one to join"
    assert others == "all 2 GPUs are in use (by other jobs on the cluster)"
    assert ourselves == "all 2 CPUs are in use (by this run)"


NODE_IS_DRAINED = """
import time
import ray
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from raytune_ahu.adapters.slots import Slots

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
node = cluster.add_node(num_cpus=2)
cluster.wait_for_nodes()
ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
slots = Slots({"CPU": 1.0}, None)
print("SAID", slots.fitting())

@ray.remote(num_cpus=2)
class Busy:
    def answer(self):
        return 42

busy = Busy.remote()
assert ray.get(busy.answer.remote()) == 42
preemption, in_ten_minutes = 2, int(time.time() * 1000) + 600_000
gcs = GcsClient(address=cluster.address)
assert gcs.drain_node(node.node_id, preemption, "notice", in_ten_minutes)[0]
print("SAID", slots.fitting())
print("SAID", ray.get(busy.answer.remote()))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
@pytest.mark.ray
def test_a_node_that_is_about_to_be_taken_away_gets_no_new_trials():
    code = [sys.executable, "-c", NODE_IS_DRAINED]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert said == ["3", "1", "42"]


A_RUN_OF_THE_KIND = """
import json, sys
from ray import tune
from ray.cluster_utils import Cluster
from raytune_ahu import ExperimentSpec, SearchSpace
from raytune_ahu.adapters import connect, run
from raytune_ahu.records import read_events
from schedulers import scheduler_for
from schedulers.ray_scheduler import RayScheduler

class Toy(tune.Trainable):
    def step(self):
        import ray
        taken = json.dumps(self.trial_resources.required_resources, sort_keys=True)
        node = ray.get_runtime_context().get_node_id()
        return {"loss": 0.0, "taken": taken, "node": node, "gpus": len(ray.get_gpu_ids())}

    def reset_config(self, new_config):
        return True

    def save_checkpoint(self, checkpoint_dir):
        pass

    def load_checkpoint(self, checkpoint_dir):
        pass

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
kinds = {"licence": 1, "accelerator_type:A100": 1}
node = cluster.add_node(num_cpus=4, num_gpus=4, resources=kinds)
cluster.add_node(num_cpus=4, num_gpus=4)
cluster.wait_for_nodes()
connect(cluster.address)
spec = ExperimentSpec(
    name="kinds",
    trainable="__main__:Toy",
    space=SearchSpace.from_dict({"x": {"domain": "uniform", "lower": 0.0, "upper": 1.0}}),
    metric="loss",
    mode="min",
    max_epochs=1,
    num_samples=4,
    gpus_per_trial=2.0,
    resources_per_trial={"licence": 0.25},
    accelerator_type="A100",
    storage_path=sys.argv[1],
)
result = run(spec, trainable=Toy, scheduler=RayScheduler(scheduler_for(spec)))
metrics = [e["metrics"] for e in read_events(result.folder) if e["event"] == "reported"]
assert len(metrics) == 4
print("NODES", {one["node"] for one in metrics} == {node.node_id})
print("TAKEN", json.loads(metrics[0]["taken"]) == spec.resources, {one["gpus"] for one in metrics})
"""


@pytest.mark.slow
@pytest.mark.ray
def test_trials_run_where_what_they_take_is(tmp_path):
    """Several GPUs, a fraction of a custom resource and a kind of accelerator, at once."""
    code = [sys.executable, "-c", A_RUN_OF_THE_KIND, str(tmp_path)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "NODES True" in done.stdout
    assert "TAKEN True {2}" in done.stdout
