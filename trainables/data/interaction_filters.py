"""What is left out before interactions are split: low ratings, repetitions, rare users and items.

Start with `filter_interactions`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import DataError
from trainables.data.interaction_rows import Interactions

Duplicates = Literal["first", "last"]
"""Which of several interactions of one user with one item is kept."""

DUPLICATES: tuple[Duplicates, ...] = ("first", "last")
"""All rules for duplicates."""


def filter_interactions(
    data: Interactions,
    *,
    min_rating: float | None = None,
    duplicates: Duplicates = "first",
    min_user_interactions: int = 3,
    min_item_interactions: int = 1,
) -> Interactions:
    """Apply the filters, in this order: rating, duplicates, k-core. What they drop is noted.

    The first of several interactions with an item is kept by default: whether a row stays then
    depends on nothing that happens after it, so no knowledge of the test time gets into training.

    Args:
        data: The rows.
        min_rating: Drop rows rated lower; None: every row counts, whatever its rating.
        duplicates: Which row of a (user, item) pair to keep, by time and then by place in the file.
        min_user_interactions: Drop users with fewer rows, at least 1.
        min_item_interactions: Drop items with fewer rows, at least 1. Users and items are dropped
            in turn until no more go.

    Raises:
        DataError: If a value is out of range, a rating is asked for where there is none, or no row
            is left.
    """
    _check(duplicates, min_user_interactions, min_item_interactions)
    if len(data) == 0:
        raise DataError("the data set has no interactions; give a file with rows")
    data = _drop_low_ratings(data, min_rating)
    data = _drop_duplicates(data, duplicates)
    data = _k_core(data, min_user_interactions, min_item_interactions)
    return data.compact()


def _check(duplicates: str, min_user: int, min_item: int) -> None:
    if duplicates not in DUPLICATES:
        raise DataError(f"duplicates={duplicates!r} is not known; use one of {list(DUPLICATES)}")
    for name, value in (
        ("min_user_interactions", min_user),
        ("min_item_interactions", min_item),
    ):
        if value < 1:
            raise DataError(f"{name}={value} must be at least 1; use 1 to keep all")


def _drop_low_ratings(data: Interactions, min_rating: float | None) -> Interactions:
    if min_rating is None:
        return data
    if data.ratings is None:
        raise DataError(
            f"min_rating={min_rating:g} needs a rating in every row, and there is none, or not in "
            "all; name their column (rating=...), fill them in, or leave min_rating out to "
            "count every row as a positive"
        )
    kept = data.ratings >= min_rating
    if not kept.any():
        raise DataError(
            f"min_rating={min_rating:g} leaves no interaction: the ratings are in "
            f"[{data.ratings.min():g}, {data.ratings.max():g}]; use a lower one"
        )
    dropped = int(len(kept) - kept.sum())
    return data.keep(kept).noting(
        f"{dropped:,} of {len(kept):,} interactions have a rating under {min_rating:g} and were "
        "dropped"
    )


def _drop_duplicates(data: Interactions, keep: Duplicates) -> Interactions:
    pairs = data.users * data.n_items + data.items
    ordered = np.sort(pairs)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return data
    del ordered
    nearest = np.searchsorted(repeated[:-1], pairs)
    rows = np.flatnonzero(repeated[nearest] == pairs)
    if data.times is not None:
        rows = rows[np.argsort(data.times[rows], kind="stable")]
    if keep == "last":
        rows = rows[::-1]
    # `unique` names the first place of each pair in the order given.
    _, first = np.unique(pairs[rows], return_index=True)
    kept = np.ones(len(pairs), np.bool_)
    kept[rows] = False
    kept[rows[first]] = True
    return data.keep(kept).noting(
        f"{len(rows) - len(first):,} of {len(kept):,} interactions repeat an item that the user "
        f"has already and were dropped (the {keep} one was kept)"
    )


def _k_core(data: Interactions, min_user: int, min_item: int) -> Interactions:
    kept = np.ones(len(data), np.bool_)
    few = int((np.bincount(data.users, minlength=data.n_users) < min_user).sum())
    present = _present(data.users), _present(data.items)
    few -= data.n_users - present[0]  # those without any row were not dropped here
    users, items = data.users, data.items
    while len(users):
        enough = np.bincount(users)[users] >= min_user
        enough &= np.bincount(items)[items] >= min_item
        if enough.all():
            break
        kept[kept] = enough
        users, items = users[enough], items[enough]
    if kept.all():
        return data
    if not len(users):
        raise DataError(
            f"no interaction is left: no users with at least {min_user} interactions and items "
            f"with at least {min_item} remain of {present[0]:,} users and {present[1]:,} items; "
            "use lower values of min_user_interactions and min_item_interactions"
        )
    lost = present[0] - _present(users), present[1] - _present(items)
    return data.keep(kept).noting(
        f"{few:,} users have fewer than {min_user} interactions; with users of at least {min_user} "
        f"and items of at least {min_item}, {lost[0]:,} users, {lost[1]:,} items and "
        f"{len(kept) - len(users):,} of {len(kept):,} interactions were dropped"
    )


def _present(indices: NDArray[np.int64]) -> int:
    return int((np.bincount(indices) > 0).sum())
