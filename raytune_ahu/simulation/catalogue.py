"""The synthetic tasks by name: `synthetic_task("smooth", seed=3)`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from raytune_ahu.errors import SpecError
from raytune_ahu.simulation import landscapes
from raytune_ahu.simulation.power_law import Landscape, PowerLawTask

SYNTHETIC_TASKS: dict[str, Callable[[int], Landscape]] = {
    "smooth": landscapes.smooth,
    "multimodal": landscapes.multimodal,
    "conditional": landscapes.conditional,
    "many": landscapes.many,
    "crossing": landscapes.crossing,
    "noisy": landscapes.noisy,
}
"""Every synthetic task by its name, with the function that builds its landscape from a seed."""


@lru_cache(maxsize=128)
def synthetic_task(name: str, seed: int = 0, *, max_resource: int = 51) -> PowerLawTask:
    """Build a synthetic task with a known optimum, or return the same one as before.

    A task cannot be pickled; other processes build it again from name and seed, which gives the
    same curves.

    Args:
        name: One of `SYNTHETIC_TASKS`.
        seed: Moves optimum and interactions, so that no method can be tuned to one instance; at
            least 0.
        max_resource: Epochs of a full training, at least 2.

    Raises:
        SpecError: If the name is unknown or `max_resource` out of its range.
        ValueError: If `seed` is negative.
    """
    if name not in SYNTHETIC_TASKS:
        raise SpecError(f"synthetic task {name!r} must be one of {', '.join(SYNTHETIC_TASKS)}")
    return PowerLawTask(name, SYNTHETIC_TASKS[name](seed), seed=seed, max_resource=max_resource)
