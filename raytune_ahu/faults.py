"""What can go wrong with a trial, and whether it is tried again. Pure: the adapters tell which.

A trial pays only for its own faults: `max_failures` counts exceptions that it raised. A lost node,
a full disk or an unreadable checkpoint are not its doing; it goes on from its newest whole
checkpoint.
"""

from __future__ import annotations

from enum import Enum

MAX_LOSSES = 3
"""A trial whose worker dies (or whose checkpoint cannot be written) so often without getting any
further is failed: its configuration may be what kills the worker."""


class Fault(str, Enum):
    """Why a trial could not go on."""

    EXCEPTION = "exception"
    """The trainable raised; tried again up to `max_failures` times."""
    OUT_OF_MEMORY = "out of memory"
    """On the GPU or the host. Not tried again with the same resources, unless that is asked for
    (`retry_oom`): then as an exception."""
    TIMEOUT = "timeout"
    """It reported nothing for `trial_timeout_s`; its worker was ended. Not tried again."""
    WORKER_LOST = "worker lost"
    """Its worker process died (a SIGKILL, a crash in native code); see `MAX_LOSSES`."""
    NODE_LOST = "node lost"
    """The node it ran on is gone. Always tried again, elsewhere."""
    BAD_CHECKPOINT = "bad checkpoint"
    """Its checkpoint is damaged or gone. It goes on from the one before, or from the beginning."""
    DISK_FULL = "disk full"
    """Its checkpoint did not fit. Always tried again, once there is room."""
    STORAGE = "storage"
    """Its checkpoint could not be written for another reason; see `MAX_LOSSES`."""

    @property
    def is_failure(self) -> bool:
        """Whether it counts against `max_failures`."""
        return self in (Fault.EXCEPTION, Fault.OUT_OF_MEMORY)

    @property
    def is_loss(self) -> bool:
        """Whether it counts against `MAX_LOSSES`."""
        return self in (Fault.WORKER_LOST, Fault.STORAGE)


def will_retry(
    fault: Fault, *, failures: int, losses: int, max_failures: int, retry_oom: bool
) -> bool:
    """Decide whether a trial is tried again.

    Args:
        fault: What happened now.
        failures: Faults of the trial before this one that count as failures.
        losses: Losses since it last got further than ever before, without this one.
        max_failures: How often a trial is tried again after a failure.
        retry_oom: Whether running out of memory counts as any other exception.
    """
    if fault is Fault.TIMEOUT or (fault is Fault.OUT_OF_MEMORY and not retry_oom):
        return False
    if fault.is_failure:
        return failures < max_failures
    return not fault.is_loss or losses + 1 < MAX_LOSSES
