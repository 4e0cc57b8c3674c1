"""Searchers: they propose configurations and learn from reports. No Ray, no torch.

`bohb.py` is the one to read; its models are `kde.py` and `gp.py`, behind the interface of
`model.py`. `auto.py` says which searcher suits a space and a budget.
"""

from raytune_ahu.search.auto import Choice, choose_search
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
    "Choice",
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
    "choose_search",
    "searcher_for",
]
