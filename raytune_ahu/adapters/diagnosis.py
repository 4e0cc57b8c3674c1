"""What went wrong with a trial, read from the exception that Ray hands over.

Start with `diagnose`.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)

from raytune_ahu.errors import CheckpointError
from raytune_ahu.faults import Fault

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# The line of a traceback that names the exception, not a line of source code.
_OUT_OF_MEMORY = re.compile(
    r"^[\w.]*(OutOfMemoryError|MemoryError)\b"
    r"|^[\w.]+(Error|Exception): .*(CUDA out of memory|CUDA error: out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|not enough memory: you tried to allocate)",
    re.MULTILINE,
)
_KILLED_FOR_MEMORY = re.compile(r"running low on memory|memory pressure|Memory on the node")
_NODE_DIED = re.compile(r"node has died|node was terminated|node is (dead|preempted)")
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_UNREADABLE = ("CheckpointError", "UnpicklingError", "EOFError", "BadZipFile", "JSONDecodeError")
_PROBE_S = 1.0


def diagnose(error: BaseException | None, *, restoring: bool, saving: bool) -> Fault:
    """Tell what an exception of a trial means.

    Args:
        error: What Ray handed over.
        restoring: Whether the trial was being restored from a checkpoint.
        saving: Whether a checkpoint was being written.
    """
    text = text_of(error)
    if isinstance(error, OutOfMemoryError) or _KILLED_FOR_MEMORY.search(text):
        return Fault.OUT_OF_MEMORY
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return Fault.NODE_LOST if _node_is_lost(error, text) else Fault.WORKER_LOST
    cause = getattr(error, "cause", error)
    if isinstance(cause, MemoryError) or _OUT_OF_MEMORY.search(text):
        return Fault.OUT_OF_MEMORY
    if _is_disk_full(cause, text):
        return Fault.DISK_FULL
    if restoring and _is_unreadable(cause, text):
        return Fault.BAD_CHECKPOINT
    if (saving or restoring) and isinstance(cause, OSError):
        return Fault.STORAGE
    return Fault.EXCEPTION


class LostWorkerError(ActorDiedError):
    """A worker that was lost for a reason which Ray gives by an exception of another kind."""

    def __init__(self, reason: RayError) -> None:
        super().__init__()
        self.error_msg = f"{type(reason).__name__}: {reason}"


def contain_losses(controller: Any) -> None:
    """Let Ray's controller outlive a worker that was killed for memory, or lost with its node.

    Its actor manager knows only errors of tasks and of actors, and ends the run at any other: also
    at the one with which Ray tells that its memory monitor has killed a worker.
    """
    manager = controller._actor_manager
    if getattr(manager, "losses_are_contained", False):
        return
    manager.losses_are_contained = True
    handle = manager._actor_task_failed

    def handle_all(tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(
            exception, RayActorError | RayTaskError
        ):
            exception = LostWorkerError(exception)
        handle(tracked_actor_task=tracked_actor_task, exception=exception)

    manager._actor_task_failed = handle_all


def text_of(error: BaseException | None) -> str:
    """The text of an exception, with the worker's traceback, without colours."""
    return _ANSI.sub("", str(error) if error is not None else "no exception was handed over")


def is_missing(text: str) -> bool:
    """Whether Ray says that a worker did not find the checkpoint it was to go on from."""
    return "does not exist on storage anymore" in text


def _is_disk_full(cause: Any, text: str) -> bool:
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(cause, OSError | RuntimeError) and bool(_DISK_FULL.search(text))


def _is_unreadable(cause: Any, text: str) -> bool:
    if isinstance(cause, CheckpointError) or type(cause).__name__ in _UNREADABLE:
        return True
    return is_missing(text)


def _node_is_lost(error: RayActorError, text: str) -> bool:
    """Whether the actor died with its node.

    When a node vanishes, the first that is heard of it is a broken connection, seconds before Ray
    calls it dead; whether it still answers is tried out then.
    """
    if error.preempted or _NODE_DIED.search(text):
        return True
    return isinstance(error, ActorUnavailableError) and not _node_answers(error.actor_id)


def _node_answers(actor_id: str | None) -> bool:
    with contextlib.suppress(Exception):
        address = ray._private.state.actors(actor_id)["Address"]
        for node in ray.nodes():
            if node["NodeID"] == address["NodeID"]:
                place = (node["NodeManagerAddress"], node["NodeManagerPort"])
                if not node["Alive"]:
                    return False
                try:
                    socket.create_connection(place, _PROBE_S).close()
                except OSError:
                    return False
    return True
