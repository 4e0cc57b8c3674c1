"""The lock of a run whose storage is an object store: `driver.json` beside its checkpoints.

It names the driver and is written anew as long as the driver lives. What it guarantees: a second
driver is refused while the first one's sign of life is younger than `STALE_S`, and a driver that
was taken for dead (suspended, or cut off from the store) finds out with its next sign of life and
touches nothing any more. What it cannot: an object store has no lock, so of two drivers that claim
a run within the same second both may believe to have it, until the first sign of life of one of
them (`HEARTBEAT_S` at the latest); and the clocks of two hosts must agree within `STALE_S`. (A run
in a folder has a real lock instead, see `records.RunLog`.)
"""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from collections.abc import Callable
from typing import Any

from raytune_ahu.errors import RunBusyError
from raytune_ahu.storage import CheckpointStorage

DRIVER_FILE = "driver.json"
HEARTBEAT_S = 15.0
"""A driver gives a sign of life at least so often."""
STALE_S = 60.0
"""A driver without a sign of life for so long is taken for dead."""


class DriverLock:
    """One driver's claim on a run.

    All methods raise as pyarrow does (`storage.FAILURES`) if the storage cannot be reached.

    Args:
        storage: The run's storage.
        clock: Returns the seconds since the epoch.
    """

    def __init__(
        self, storage: CheckpointStorage, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage = storage
        self._path = storage.full(DRIVER_FILE)
        self._clock = clock
        self._me = {"host": platform.node(), "pid": os.getpid(), "token": uuid.uuid4().hex}

    def claim(self) -> None:
        """Take the run, unless another living driver has it.

        A driver of this host whose process is gone, and any driver whose last sign of life is too
        old, is dead: its run is taken over.

        Raises:
            RunBusyError: If another driver has it; names its host, process and last sign of life.
        """
        owner = self._owner()
        if owner is not None and self._lives(owner):
            age = max(0.0, self._clock() - owner["time"])
            raise RunBusyError(
                f"the run in {self._storage.uri} has another driver ({owner['host']}, pid "
                f"{owner['pid']}; its last sign of life was {age:.0f} s ago); stop it, or wait "
                f"until it has given none for {STALE_S:.0f} s"
            )
        self._write()
        if not self.is_mine():
            raise RunBusyError(
                f"another driver claimed the run in {self._storage.uri} at the same moment; only "
                "one can have it"
            )

    def renew(self) -> bool:
        """Give a sign of life; return whether the run is still this driver's."""
        if not self.is_mine():
            return False
        self._write()
        return True

    def is_mine(self) -> bool:
        """Whether the storage names this driver."""
        owner = self._owner()
        return owner is not None and owner["token"] == self._me["token"]

    def release(self) -> None:
        """Give the run free, so that the next driver need not wait; does nothing if it is lost."""
        if self.is_mine():
            self._storage.filesystem.delete_file(self._path)

    def _owner(self) -> dict[str, Any] | None:
        """Return who has the run; None: nobody, or what is there cannot be read."""
        try:
            owner = json.loads(self._storage.read_bytes(self._path))
            return {key: kind(owner[key]) for key, kind in _KEYS.items()}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None

    def _write(self) -> None:
        content = json.dumps({**self._me, "time": round(self._clock(), 3)})
        self._storage.write_bytes(self._path, content.encode())

    def _lives(self, owner: dict[str, Any]) -> bool:
        if owner["token"] == self._me["token"] or self._clock() - owner["time"] >= STALE_S:
            return False
        if owner["host"] != self._me["host"]:
            return True
        return owner["pid"] != self._me["pid"] and _is_running(owner["pid"])


_KEYS: dict[str, Callable[[Any], Any]] = {"host": str, "pid": int, "token": str, "time": float}


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
