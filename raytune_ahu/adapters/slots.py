"""How many trials run at the same time, which never can, and why one has to wait.

`Slots(spec.resources, spec.max_concurrent)` is called for the number of trials; `check` refuses at
the start what no node could run, and `why_waiting` says what is missing at the moment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from ray._private.accelerators import (
    get_accelerator_manager_for_resource,
    get_all_accelerator_resource_names,
)

from raytune_ahu.adapters.nodes import Node, any_waits_for, has_free, read_nodes, trials_per_node
from raytune_ahu.adapters.shortage import missing, refusal, taken
from raytune_ahu.errors import ClusterError


class Slots:
    """The number of trials that may run at the same time, read from the cluster every few seconds.

    Nodes that join or leave count from the next reading on.

    Args:
        request: What a trial takes of its node, by Ray's names (`ExperimentSpec.resources`).
        limit: Upper limit set by the user, or None.
    """

    REFRESH_S = 5.0

    def __init__(self, request: Mapping[str, float], limit: int | None) -> None:
        self._request, self._limit = dict(request), limit
        self._nodes: list[Node] = []
        self._nodes_read_at = -math.inf
        self._waits = False
        self._waits_read_at = -math.inf

    def __call__(self) -> int:
        """Return the number, at least 1 (a cluster that is empty now may grow)."""
        self._refresh()
        count = self._count()
        return max(1, count if self._limit is None else min(count, self._limit))

    def fitting(self) -> int:
        """Trials that fit onto the nodes that are alive at this moment; 0 if none does."""
        self._read_nodes()
        return self._count()

    def why_waiting(self, running: int = 0) -> str | None:
        """Say why a trial that is to start has to wait, or None if it has not.

        A trial whose worker process is starting up has its place on a node: that is no waiting.

        Args:
            running: Trials of this run that have their place, to tell them from other jobs.
        """
        self._refresh()
        fitting = [node for node in self._nodes if trials_per_node(node.total, self._request) > 0]
        if not fitting:
            lack = missing(self._nodes, self._request)
            return f"no node that is alive fits ({lack}): waiting for one to join"
        if any(has_free(node, self._request) for node in fitting) or not self._is_kept_waiting():
            return None
        return taken(fitting, self._request, running)

    def check(self) -> None:
        """Refuse trials that no node of the cluster can run.

        Raises:
            ClusterError: Names what is asked for, the most that a node has, and the option.
        """
        for kind, amount in self._request.items():
            if kind in get_all_accelerator_resource_names():
                manager = get_accelerator_manager_for_resource(kind)
                valid, problem = manager.validate_resource_request_quantity(amount)
                if not valid:
                    raise ClusterError(f"{kind}={amount:g} per trial is refused by Ray: {problem}")
        if self.fitting() == 0:
            raise ClusterError(refusal(self._nodes, self._request))

    def _count(self) -> int:
        return sum(trials_per_node(node.total, self._request) for node in self._nodes)

    def _refresh(self) -> None:
        if time.monotonic() - self._nodes_read_at > self.REFRESH_S:
            self._read_nodes()

    def _read_nodes(self) -> None:
        self._nodes_read_at = time.monotonic()
        self._nodes = read_nodes()

    def _is_kept_waiting(self) -> bool:
        if time.monotonic() - self._waits_read_at > self.REFRESH_S:
            self._waits_read_at = time.monotonic()
            self._waits = any_waits_for(self._request)
        return self._waits
