"""Whether every node of the cluster sees the same storage.

A trial goes on elsewhere from a checkpoint that was written on a node which may be gone: hours into
a run is too late to learn that each node wrote to a disk of its own. Start with `check_shared`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raytune_ahu.errors import StorageError
from raytune_ahu.storage import CHECK_TIMEOUT_S, FAILURES, CheckpointStorage, bounded

STORAGE_TIMEOUT_S = 30.0
"""How long a node's storage may take to answer before it counts as unreachable."""
NODE_TIMEOUT_S = 90.0
"""How long a node may take in all; starting a worker process on a busy one takes a while."""


def check_shared(
    storage: CheckpointStorage,
    nodes: Iterable[Mapping[str, Any]],
    *,
    storage_timeout_s: float = STORAGE_TIMEOUT_S,
    node_timeout_s: float = NODE_TIMEOUT_S,
) -> None:
    """Check that all nodes read what this driver writes, and the other way round.

    On each node that is alive, a task that takes no CPU reads a file of the driver's and writes one
    of its own, which the driver reads. Nodes that leave meanwhile are passed over, and nothing is
    done where the driver's own node is the only one. It uses the node's credentials.

    Args:
        storage: The run's storage; writable for the driver (`CheckpointStorage.check_writable`).
        nodes: What `ray.nodes()` says.
        storage_timeout_s: Seconds that reading and writing may take on a node.
        node_timeout_s: Seconds that all nodes may take, with the start of a worker process.

    Raises:
        StorageError: If a node does not share the storage; names the node, the cause and the fix.
    """
    alive = {node["NodeID"]: node for node in nodes if node["Alive"]}
    if set(alive) <= {ray.get_runtime_context().get_node_id()}:
        return
    token = uuid.uuid4().hex
    prefix = f"{storage.base}/.raytune_ahu_{token}"
    try:
        bounded(lambda: storage.write_bytes(prefix, token.encode()), CHECK_TIMEOUT_S)
        try:
            causes = _ask(storage, alive, token, storage_timeout_s, node_timeout_s)
        finally:
            for path in [prefix, *(f"{prefix}_{node}" for node in alive)]:
                bounded(partial(_remove, storage, path), CHECK_TIMEOUT_S)
    except FAILURES as error:
        raise StorageError(
            f"the storage {storage.uri} cannot be used from here: {error}"
        ) from error
    if causes:
        raise StorageError(_message(storage, [(alive[node], causes[node]) for node in causes]))


def _ask(
    storage: CheckpointStorage,
    alive: Mapping[str, Mapping[str, Any]],
    token: str,
    storage_timeout_s: float,
    node_timeout_s: float,
) -> dict[str, str]:
    """Return what is wrong, by node."""
    task = ray.remote(num_cpus=0, max_retries=0)(_read_and_write())
    tasks = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            storage.storage_path, token, node, storage_timeout_s
        ): node
        for node in alive
    }
    done, late = ray.wait(list(tasks), num_returns=len(tasks), timeout=node_timeout_s)
    causes = {}
    for answer in done:
        cause = _cause(storage, answer, tasks[answer], token)
        if cause is not None:
            causes[tasks[answer]] = cause
    for answer in late:
        ray.cancel(answer, force=True)
        causes[tasks[answer]] = f"it gave no answer within {node_timeout_s:g} s"
    if causes:
        still_alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        causes = {node: cause for node, cause in causes.items() if node in still_alive}
    return causes


def _read_and_write() -> Any:
    """Make the task. It is sent by value: a node need not import the adapters, which takes seconds.

    It returns what went wrong, or None.
    """

    def read_and_write(storage_path: str, token: str, node: str, timeout_s: float) -> str | None:
        from raytune_ahu.storage import FAILURES, CheckpointStorage, bounded

        def act() -> str | None:
            storage = CheckpointStorage(storage_path, "check")
            path = f"{storage.base}/.raytune_ahu_{token}"
            try:
                if storage.read_bytes(path) != token.encode():
                    return "it reads something else than the driver wrote there"
            except FileNotFoundError:
                return "it does not see what the driver wrote there"
            storage.write_bytes(f"{path}_{node}", token.encode())
            return None

        try:
            return bounded(act, timeout_s)
        except FAILURES as error:
            return str(error)

    return read_and_write


def _cause(storage: CheckpointStorage, answer: Any, node: str, token: str) -> str | None:
    try:
        cause: str | None = ray.get(answer)
    except TaskUnschedulableError:
        return None  # it leaves: no trial will run there either
    except RayError as error:
        return f"the check failed there: {str(error).strip().splitlines()[-1]}"
    if cause is not None:
        return cause
    path = f"{storage.base}/.raytune_ahu_{token}_{node}"
    try:
        content = bounded(lambda: storage.read_bytes(path), CHECK_TIMEOUT_S)
    except FileNotFoundError:
        content = b""
    return None if content == token.encode() else "the driver does not see what it wrote there"


def _remove(storage: CheckpointStorage, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        storage.filesystem.delete_file(path)


def _message(storage: CheckpointStorage, wrong: list[tuple[Mapping[str, Any], str]]) -> str:
    lines = [
        f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}): {cause}"
        for node, cause in wrong[:5]
    ]
    if len(wrong) > 5:
        lines.append(f"and {len(wrong) - 5} more nodes")
    fix = (
        "give these nodes the credentials and the network for it"
        if storage.is_remote
        else "use a --storage-path that every node sees at the same place (NFS and the like), or "
        "an object store, such as s3://bucket/prefix"
    )
    return f"not every node can use the storage {storage.uri}: {'; '.join(lines)}. To fix: {fix}"
