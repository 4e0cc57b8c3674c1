"""Chance that belongs to a configuration: the same in every simulation, order and process."""

from __future__ import annotations

import json

import numpy as np

from raytune_ahu.seeding import generator
from raytune_ahu.types import Configuration


def configuration_generator(
    seed: int, purpose: str, configuration: Configuration
) -> np.random.Generator:
    """Make the generator of one configuration for one named purpose.

    The order of the keys does not matter, and a tuple is the list with the same items.

    Args:
        seed: Root seed, at least 0.
        purpose: What the numbers are for, such as `crash`.
        configuration: JSON-ready, as all configurations.

    Raises:
        ValueError: If `seed` is negative.
    """
    return generator(seed, purpose, json.dumps(configuration, sort_keys=True))
