"""Hyperparameter tuning on Ray Tune in which search and early stopping work together.

Start with `ExperimentSpec` (what is tuned, how, for how long) and `SearchSpace`;
`raytune_ahu.adapters` runs an experiment on Ray. Nothing here imports Ray or torch.
"""

from raytune_ahu.experiment import ExperimentSpec
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Configuration, Decision, Report, Suggestion, TrialStatus

__all__ = [
    "Configuration",
    "Decision",
    "ExperimentSpec",
    "Report",
    "SearchSpace",
    "Suggestion",
    "TrialStatus",
]
