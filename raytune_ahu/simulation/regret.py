"""How good a simulated tuning was: the regret of its incumbent over time, on a common scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.simulation.outcome import SimulationResult
from raytune_ahu.simulation.tasks import Task
from raytune_ahu.types import as_loss


def normalised_regret(result: SimulationResult, task: Task) -> NDArray[np.float64]:
    """How far the incumbent is from the best, on a scale that tasks share.

    With oriented losses, (incumbent - best) / (typical - best), clipped to [0, 1]: 0 is the best
    value that any configuration of the task reaches at any epoch, 1 a median configuration
    trained in full, or worse. The incumbent is the best value reported so far at any epoch.

    Returns:
        (n,) the regret after each report.
    """
    best = as_loss(task.best_value, task.mode)
    typical = as_loss(task.typical_value, task.mode)
    sign = 1.0 if task.mode == "min" else -1.0
    regret = (sign * result.incumbent() - best) / (typical - best)
    return np.clip(regret, 0.0, 1.0)


def regret_at(
    result: SimulationResult, task: Task, time_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the normalised regret at given virtual times; 1 before the first report.

    Args:
        result: What happened.
        task: The task it happened on.
        time_s: (m,) virtual times, in any order.

    Returns:
        (m,) normalised regret.
    """
    steps = np.concatenate([[1.0], normalised_regret(result, task)])
    return steps[np.searchsorted(result.time_s, time_s, side="right")]
