"""Stratified splits: each class keeps its share, and the same seed gives the same rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import DataError

Rows = NDArray[np.int64]


def stratified_split(
    labels: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Split rows into a rest and a held-out part that holds `fraction` of each class.

    Args:
        labels: (n,), the class of each row.
        fraction: Share of each class that is held out, in (0, 1).
        rng: Where the choice is drawn from.

    Returns:
        The rows of the rest and of the held-out part, each ascending.

    Raises:
        DataError: If a class is too small to be in both parts.
    """
    held_out: list[Rows] = []
    for value in np.unique(labels):
        rows = np.flatnonzero(labels == value)
        count = round(len(rows) * fraction)
        if not 1 <= count < len(rows):
            raise DataError(
                f"class {value} has {len(rows)} images, too few to hold out a share of "
                f"{fraction:g} and keep some; add images of this class, or change the share"
            )
        held_out.append(rng.permutation(rows)[:count])
    chosen = np.sort(np.concatenate(held_out))
    rest = np.setdiff1d(np.arange(len(labels)), chosen, assume_unique=True)
    return rest.astype(np.int64), chosen.astype(np.int64)


def stratified_subset(
    labels: NDArray[np.int64], rows: Rows, count: int, rng: np.random.Generator
) -> Rows:
    """Choose `count` of the rows so that each class keeps its share, to within one row.

    Args:
        labels: (n,), the class of each row.
        rows: The rows to choose from.
        count: How many to choose, at most `len(rows)`.
        rng: Where the choice is drawn from.

    Returns:
        The chosen rows, ascending.
    """
    shuffled = rng.permutation(rows)
    classes = labels[shuffled]
    # Position of each row within its class, scaled to (0, 1): taking the smallest takes from all
    # classes evenly.
    place = np.empty(len(shuffled))
    for value in np.unique(classes):
        members = np.flatnonzero(classes == value)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(shuffled[np.argsort(place, kind="stable")[:count]]).astype(np.int64)
