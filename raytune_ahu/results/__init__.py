"""A run's folder as tidy frames: `load("runs/NAME")`. Pure: neither Ray nor torch is needed."""

from raytune_ahu.results.loading import load
from raytune_ahu.results.results import At, Best, Results
from raytune_ahu.results.schema import SCHEMA_VERSION
from raytune_ahu.results.warm_start import WarmStart, prior_trials

__all__ = ["SCHEMA_VERSION", "At", "Best", "Results", "WarmStart", "load", "prior_trials"]
