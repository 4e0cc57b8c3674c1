"""No early stopping: every trial runs to its full resource. The baseline of every comparison."""

from __future__ import annotations

from raytune_ahu.types import Decision, Mode
from schedulers.base import RungScheduler, ScheduledTrial
from schedulers.rungs import Rung


class NoEarlyStopping(RungScheduler):
    """Every trial runs to `max_resource`, where it is recorded and stopped, having completed.

    The only rung level is `max_resource`; nobody is compared, so there is no cut-off. A non-finite
    value is a failed report and stops the trial at once; a missing metric (None) is passed over.

    Args:
        max_resource: Epochs of a full training.
        mode: Whether the metric is minimised or maximised.
        seed: Root seed; unused, nothing here is random.

    Raises:
        SpecError: If a value is out of its range.
    """

    kind = "none"

    def __init__(self, *, max_resource: int, mode: Mode = "min", seed: int = 0) -> None:
        super().__init__(max_resource=max_resource, grace_period=max_resource, mode=mode, seed=seed)

    def _judge(self, trial_id: str, trial: ScheduledTrial, rung: Rung) -> Decision:
        raise AssertionError("there is no rung below the top")

    def _keep(self, n_entries: int) -> int:
        return 0
