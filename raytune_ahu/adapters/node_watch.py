"""Asks nodes that join during a run whether they share its storage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from raytune_ahu.adapters.shared_storage import check_shared
from raytune_ahu.errors import AhuError, StorageError
from raytune_ahu.storage import CheckpointStorage

_LOOK_EVERY_S = 5.0


class NodeWatch:
    """Looks for new nodes every few seconds; each is asked in a thread, which may take a while.

    Args:
        storage: The run's storage.
        known: The nodes that were asked at the start (`ray.nodes()`).
        on_error: Called with the error if a node does not share the storage.
    """

    def __init__(
        self,
        storage: CheckpointStorage,
        known: Sequence[Mapping[str, Any]],
        on_error: Callable[[AhuError], None],
    ) -> None:
        self._storage = storage
        self._known = {node["NodeID"] for node in known}
        self._on_error = on_error
        self._due = time.monotonic() + _LOOK_EVERY_S

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
        except StorageError as error:
            self._on_error(error)
