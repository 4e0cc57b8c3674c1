"""Searchers: they propose configurations and learn from reports. No Ray, no torch.

`bohb.py` is the one to read. Its models, `kde.py` and `gp.py`, stand behind the interface of
`model.py`.
"""

from raytune_ahu.search.base import BaseSearcher
from raytune_ahu.search.bohb import BohbSearcher
from raytune_ahu.search.gp import GpModel, GpSettings
from raytune_ahu.search.grid import GridSearcher
from raytune_ahu.search.kde import KdeModel, KdeSettings
from raytune_ahu.search.model import Observations, SurrogateModel
from raytune_ahu.search.prior import PriorTrial
from raytune_ahu.search.random import RandomSearcher
from raytune_ahu.search.registry import SEARCHERS, build_searcher, searcher_for

__all__ = [
    "SEARCHERS",
    "BaseSearcher",
    "BohbSearcher",
    "GpModel",
    "GpSettings",
    "GridSearcher",
    "KdeModel",
    "KdeSettings",
    "Observations",
    "PriorTrial",
    "RandomSearcher",
    "SurrogateModel",
    "build_searcher",
    "searcher_for",
]
