"""How good a simulated tuning was: the regret of its incumbent over time, on a common scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.simulation.outcome import SimulationResult
from raytune_ahu.simulation.tasks import Task
from raytune_ahu.types import Configuration, as_loss


def normalised_regret(result: SimulationResult, task: Task) -> NDArray[np.float64]:
    """How far the incumbent is from the best, on a scale that tasks share.

    With oriented losses, (incumbent - best) / (typical - best), clipped to [0, 1]: 0 is the best
    value that any configuration of the task reaches at any epoch, 1 a median configuration
    trained in full, or worse. The incumbent is the best value reported so far at any epoch.

    Returns:
        (n,) the regret after each report.
    """
    sign = 1.0 if task.mode == "min" else -1.0
    return regret_of(sign * result.incumbent(), task)


def regret_of(loss: NDArray[np.float64] | float, task: Task) -> NDArray[np.float64]:
    """Put oriented losses on the scale of `normalised_regret`, in the shape they have."""
    best = as_loss(task.best_value, task.mode)
    typical = as_loss(task.typical_value, task.mode)
    return np.clip((np.asarray(loss) - best) / (typical - best), 0.0, 1.0)


def final_regret(
    result: SimulationResult, task: Task, final_value: Callable[[Configuration], float]
) -> NDArray[np.float64]:
    """How far the configuration of the incumbent, trained in full and without noise, is from best.

    On the scale of `normalised_regret`, clipped too. For tasks with noise, where the best of many
    reports is below the best value by luck; it may go up again, when a lucky report deceives.

    Args:
        result: What happened.
        task: The task it happened on.
        final_value: What a configuration is worth, such as `PowerLawTask.final_value`.

    Returns:
        (n,) the regret after each report; 1 before the first finite one.
    """
    regret, lowest, current = np.ones(result.value.shape), np.inf, 1.0
    for i, value in enumerate(result.value):
        loss = as_loss(float(value), task.mode)
        if loss < lowest:
            lowest = loss
            configuration = result.trials[int(result.trial[i])].configuration
            current = float(regret_of(as_loss(final_value(configuration), task.mode), task))
        regret[i] = current
    return regret


def regret_at(
    result: SimulationResult,
    task: Task,
    time_s: NDArray[np.float64],
    *,
    final_value: Callable[[Configuration], float] | None = None,
) -> NDArray[np.float64]:
    """Return the regret at given virtual times; 1 before the first report.

    Args:
        result: What happened.
        task: The task it happened on.
        time_s: (m,) virtual times, in any order.
        final_value: What a configuration is worth: gives `final_regret` instead of
            `normalised_regret`.

    Returns:
        (m,) regret.
    """
    regret = (
        normalised_regret(result, task)
        if final_value is None
        else final_regret(result, task, final_value)
    )
    steps = np.concatenate([[1.0], regret])
    return steps[np.searchsorted(result.time_s, time_s, side="right")]
