"""A virtual clock that runs searcher x scheduler on recorded or synthetic learning curves.

`simulate` runs one tuning, `regret_at` reads it; tasks are `TableTask` (recorded curves, loaded by
`load_taskset` and `load_lcbench`) and `BowlTask` (synthetic, optimum known).
"""

from raytune_ahu.simulation.clock import simulate
from raytune_ahu.simulation.outcome import SimulatedTrial, SimulationResult
from raytune_ahu.simulation.regret import normalised_regret, regret_at
from raytune_ahu.simulation.synthetic import BowlTask
from raytune_ahu.simulation.tables import load_lcbench, load_taskset
from raytune_ahu.simulation.tasks import Curve, Evaluator, TableTask, Task

__all__ = [
    "BowlTask",
    "Curve",
    "Evaluator",
    "SimulatedTrial",
    "SimulationResult",
    "TableTask",
    "Task",
    "load_lcbench",
    "load_taskset",
    "normalised_regret",
    "regret_at",
    "simulate",
]
