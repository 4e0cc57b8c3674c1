"""Everything that touches Ray: cluster, space, search algorithm, callbacks, progress, runner.

Start with `run`: it takes an `ExperimentSpec` and is the only caller of `tune.run`.
"""

from raytune_ahu.adapters.cluster import connect, disconnect, has_gpus, is_connected
from raytune_ahu.adapters.runner import RunResult, run
from raytune_ahu.adapters.search import RaySearch
from raytune_ahu.adapters.slots import Slots
from raytune_ahu.adapters.space import from_tune, to_search_space, to_tune
from raytune_ahu.adapters.summary import print_summary

__all__ = [
    "RaySearch",
    "RunResult",
    "Slots",
    "connect",
    "disconnect",
    "from_tune",
    "has_gpus",
    "is_connected",
    "print_summary",
    "run",
    "to_search_space",
    "to_tune",
]
