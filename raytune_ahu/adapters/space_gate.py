"""Holds new work back while the disk is nearly full, so that what runs can still be saved."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from raytune_ahu.adapters.progress import format_bytes
from raytune_ahu.run_state import RunState

if TYPE_CHECKING:
    from raytune_ahu.storage import CheckpointStorage

RESERVE_BYTES = 16 * 2**20
"""Kept free for the log, whatever the checkpoints take."""

_LOOK_EVERY_S = 1.0
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 2.0, 60.0


class SpaceGate:
    """Says whether there is room for more work.

    What is needed is known from the checkpoints written so far: each running trial writes its next
    one before its oldest is deleted, and one more trial would start.

    Args:
        storage: Where the checkpoints lie.
        state: The run's state.
        running: Counts the trials that run now.
    """

    def __init__(
        self, storage: CheckpointStorage, state: RunState, running: Callable[[], int]
    ) -> None:
        self._storage = storage
        self._state = state
        self._running = running
        self._looked_at = float("-inf")
        self._full_until = float("-inf")
        self._wait_s = _SHORTEST_WAIT_S
        self._answer: str | None = None

    def note_full(self) -> None:
        """A worker found the disk full, maybe for a reason that cannot be seen from here.

        New work waits for some seconds, twice as long each time it happens again.
        """
        now = time.monotonic()
        again = now < self._full_until + _LONGEST_WAIT_S
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S) if again else _SHORTEST_WAIT_S
        self._full_until = now + self._wait_s
        self._looked_at = float("-inf")

    def blocked(self) -> str | None:
        """Why no new work may start, with what is needed; None if it may. Read once a second."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._answer = self._look(now)
        return self._answer

    def needed(self) -> int:
        """Bytes that should be free before more work starts."""
        return RESERVE_BYTES + (self._running() + 1) * self._state.largest_checkpoint

    def _look(self, now: float) -> str | None:
        free, needed = self._storage.free_bytes(), self.needed()
        if free is not None and free < needed:
            return (
                f"disk nearly full: {format_bytes(free)} free at {self._storage.uri}, "
                f"{format_bytes(needed)} needed; no new work starts until there is room"
            )
        if now < self._full_until:
            return (
                f"a worker found no space (quota of {self._storage.uri}, or its temporary folder "
                f"{tempfile.gettempdir()}); trying again within {self._wait_s:g} s"
            )
        return None
