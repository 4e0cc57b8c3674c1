"""A virtual clock that runs searcher x scheduler on recorded or synthetic learning curves.

`simulate` runs one tuning, `regret_at` reads it; tasks are `TableTask` (recorded curves, loaded by
`load_taskset` and `load_lcbench`), `synthetic_task` (six by name, optimum known) and `BowlTask`
(the simplest). `FailingTask` lets a share of the configurations of any of them fail.
"""

from raytune_ahu.simulation.catalogue import SYNTHETIC_TASKS, synthetic_task
from raytune_ahu.simulation.clock import simulate
from raytune_ahu.simulation.failing import FailingTask, FailureKind
from raytune_ahu.simulation.outcome import SimulatedTrial, SimulationResult
from raytune_ahu.simulation.power_law import Landscape, PowerLawTask
from raytune_ahu.simulation.regret import final_regret, normalised_regret, regret_at
from raytune_ahu.simulation.synthetic import BowlTask
from raytune_ahu.simulation.tables import load_lcbench, load_taskset
from raytune_ahu.simulation.tasks import Curve, Evaluator, TableTask, Task

__all__ = [
    "SYNTHETIC_TASKS",
    "BowlTask",
    "Curve",
    "Evaluator",
    "FailingTask",
    "FailureKind",
    "Landscape",
    "PowerLawTask",
    "SimulatedTrial",
    "SimulationResult",
    "TableTask",
    "Task",
    "final_regret",
    "load_lcbench",
    "load_taskset",
    "normalised_regret",
    "regret_at",
    "simulate",
    "synthetic_task",
]
