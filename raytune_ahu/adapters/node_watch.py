"""Asks nodes that join during a run whether they share its storage.

One that does not is named in the live view, and asked again: it may only be slow. If a trial runs
there all the same, its first checkpoint shows it, and the run is ended in order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from raytune_ahu.adapters.shared_storage import check_shared
from raytune_ahu.errors import StorageError
from raytune_ahu.storage import CheckpointStorage

_LOOK_EVERY_S = 5.0
_ASK_AGAIN_S = 60.0


class NodeWatch:
    """Looks for new nodes every few seconds; each is asked in a thread, which may take a while.

    Args:
        storage: The run's storage.
        known: The nodes that were asked at the start (`ray.nodes()`).
    """

    def __init__(
        self,
        storage: CheckpointStorage,
        known: Sequence[Mapping[str, Any]],
    ) -> None:
        self._storage = storage
        self._known = {node["NodeID"] for node in known}
        self._due = time.monotonic() + _LOOK_EVERY_S
        self.problem: str | None = None
        """Which node does not share the storage, as far as is known."""

    def refresh(self) -> None:
        """Look, if it is time."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _LOOK_EVERY_S
        new = [n for n in ray.nodes() if n["Alive"] and n["NodeID"] not in self._known]
        if new:
            self._known.update(node["NodeID"] for node in new)
            threading.Thread(target=self._ask, args=(new,), daemon=True).start()

    def _ask(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        try:
            check_shared(self._storage, nodes)
            self.problem = None
        except StorageError as error:
            self.problem = str(error)
            self._due = time.monotonic() + _ASK_AGAIN_S
            self._known.difference_update(node["NodeID"] for node in nodes)
