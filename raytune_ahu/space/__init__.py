"""Search spaces: what may be tuned, and how a configuration becomes a point of the unit cube."""

from raytune_ahu.space.nested import flatten, unflatten
from raytune_ahu.space.prior import Prior
from raytune_ahu.space.search_space import SearchSpace

__all__ = ["Prior", "SearchSpace", "flatten", "unflatten"]
