"""Everything that touches Ray: cluster, space, search algorithm, callbacks, progress, runner.

Start with `run`: it takes an `ExperimentSpec` and is the only caller of `tune.run`.
"""

from raytune_ahu.adapters.cluster import connect, disconnect, has_gpus, is_connected
from raytune_ahu.adapters.repeats import Repeated, repeat
from raytune_ahu.adapters.reruns import Means
from raytune_ahu.adapters.retraining import Tested, retrain
from raytune_ahu.adapters.runner import RunResult, run
from raytune_ahu.adapters.search import RaySearch
from raytune_ahu.adapters.slots import Slots
from raytune_ahu.adapters.space import from_tune, to_search_space, to_tune
from raytune_ahu.adapters.summary import print_summary

__all__ = [
    "Means",
    "RaySearch",
    "Repeated",
    "RunResult",
    "Slots",
    "Tested",
    "connect",
    "disconnect",
    "from_tune",
    "has_gpus",
    "is_connected",
    "print_summary",
    "repeat",
    "retrain",
    "run",
    "to_search_space",
    "to_tune",
]
