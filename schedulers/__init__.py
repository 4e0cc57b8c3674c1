"""Schedulers: after each epoch they decide which trials go on. Pure, but for `ray_scheduler`.

`AshaStopping` and `AshaPromotion` are the two variants of ASHA, `NoEarlyStopping` the baseline;
`build_scheduler` makes one by its name, `rung_levels` builds the ladder they share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raytune_ahu.errors import SpecError
from raytune_ahu.types import Mode, check_mode
from schedulers.asha import AshaPromotion, AshaStopping
from schedulers.base import RungScheduler
from schedulers.fifo import NoEarlyStopping
from schedulers.rungs import Rung, rung_levels

if TYPE_CHECKING:
    from raytune_ahu.experiment import ExperimentSpec

__all__ = [
    "SCHEDULERS",
    "AshaPromotion",
    "AshaStopping",
    "NoEarlyStopping",
    "Rung",
    "RungScheduler",
    "build_scheduler",
    "rung_levels",
    "scheduler_for",
]

SCHEDULERS: dict[str, type[RungScheduler]] = {
    "asha": AshaStopping,
    "asha-promotion": AshaPromotion,
    "none": NoEarlyStopping,
}
"""Every scheduler by the name a user gives it."""


def build_scheduler(
    name: str,
    *,
    max_resource: int,
    mode: Mode = "min",
    grace_period: int = 1,
    reduction_factor: int = 3,
    brackets: int = 1,
    seed: int = 0,
) -> RungScheduler:
    """Build a scheduler by its name in `SCHEDULERS`.

    Args:
        name: `asha-promotion` (the default of an experiment), `asha` (by stopping) or `none`.
        max_resource: Epochs of a full training.
        mode: Whether the metric is minimised or maximised.
        grace_period: Lowest rung level, in epochs.
        reduction_factor: eta; the keep fraction is 1/eta.
        brackets: How many brackets.
        seed: Root seed of the run.

    Raises:
        SpecError: If the name is unknown or a value out of its range. With `none` grace period and
            reduction factor have no effect, but are checked all the same.
    """
    if name not in SCHEDULERS:
        raise SpecError(f"scheduler={name!r} must be one of {', '.join(SCHEDULERS)}")
    try:
        check_mode(mode)
    except ValueError as error:
        raise SpecError(str(error)) from None
    if name == "none":
        rung_levels(grace_period, reduction_factor, max_resource)  # raises as for the others
        return NoEarlyStopping(max_resource=max_resource, mode=mode, seed=seed)
    return SCHEDULERS[name](
        max_resource=max_resource,
        grace_period=grace_period,
        reduction_factor=reduction_factor,
        brackets=brackets,
        mode=mode,
        seed=seed,
    )


def scheduler_for(spec: ExperimentSpec) -> RungScheduler:
    """Build the scheduler that an experiment names.

    Raises:
        SpecError: If its name is unknown or a value out of its range.
    """
    return build_scheduler(
        spec.scheduler,
        max_resource=spec.max_epochs,
        mode=spec.mode,
        grace_period=spec.grace_period,
        reduction_factor=spec.reduction_factor,
        brackets=spec.brackets,
        seed=spec.seed,
    )
