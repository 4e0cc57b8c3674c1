"""The nodes of a cluster, and what fits onto them.

Start with `trials_per_node`, and `read_nodes` for what Ray says now.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray._private.accelerators import get_all_accelerator_resource_names
from ray._private.state import available_resources_per_node, state
from ray.util.placement_group import placement_group_table

_PRECISION = 1e-6


@dataclass(frozen=True)
class Node:
    """A node that takes new work."""

    total: Mapping[str, float]
    """Ray's resources of it (`CPU`, `GPU`, ...) when it is empty."""
    free: Mapping[str, float]
    """What nobody has taken of them; zeros are left out."""


def trials_per_node(resources: Mapping[str, float], request: Mapping[str, float]) -> int:
    """How many trials fit onto an empty node.

    A fraction of an accelerator (GPU, TPU, ...) must fit onto one of them: two trials of 0.4 on
    each GPU, and the rest of it stays free. Of anything else, amounts just add up.

    Args:
        resources: Ray's resources of the node.
        request: What a trial takes, by the same names; at least one of them.
    """
    devices = get_all_accelerator_resource_names()
    fits = math.inf
    for kind, amount in request.items():
        has = resources.get(kind, 0.0)
        if kind in devices and amount < 1:
            fits = min(fits, int(has) * math.floor(1 / amount + _PRECISION))
        else:
            fits = min(fits, math.floor(has / amount + _PRECISION))
    return int(fits)


def has_free(node: Node, request: Mapping[str, float]) -> bool:
    """Whether a trial could start on the node now (fractions on one GPU are not looked at)."""
    return all(node.free.get(kind, 0.0) >= need - _PRECISION for kind, need in request.items())


def read_nodes() -> list[Node]:
    """Read the nodes that are alive and not about to be taken away (drained)."""
    free = available_resources_per_node()
    leaving = state.get_draining_nodes()
    return [
        Node(node["Resources"], free.get(node["NodeID"], {}))
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in leaving
    ]


def any_waits_for(request: Mapping[str, float]) -> bool:
    """Whether something has asked for a place of this size on a node and has not got it yet."""
    return any(
        group["state"] in ("PENDING", "RESCHEDULING") and _is(group["bundles"].get(0, {}), request)
        for group in placement_group_table().values()
    )


def _is(bundle: Mapping[str, float], request: Mapping[str, float]) -> bool:
    return bundle.keys() == request.keys() and all(
        math.isclose(bundle[kind], amount, abs_tol=_PRECISION) for kind, amount in request.items()
    )
