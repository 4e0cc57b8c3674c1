"""Who did what, when: the rows of an interaction file, and the filters that come before a split.

Every row is one interaction of a user with an item. Users and items are counted from 0; their ids
in the file are kept beside. Start with `filter_interactions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raytune_ahu.errors import DataError
from trainables.data.user_items import UserItems

Ids = NDArray[Any]
"""(n,), int64, or object holding str: the id of each index."""

Duplicates = Literal["first", "last"]
"""Which of several interactions of one user with one item is kept."""

DUPLICATES: tuple[Duplicates, ...] = ("first", "last")
"""All rules for duplicates."""


@dataclass(frozen=True)
class Interactions:
    """The rows of a data set, in the order of the file."""

    users: NDArray[np.int64]
    """(n,), in [0, n_users)."""
    items: NDArray[np.int64]
    """(n,), in [0, n_items)."""
    user_ids: Ids
    """(n_users,): the id of each user in the file, ascending."""
    item_ids: Ids
    """(n_items,): the id of each item in the file, ascending."""
    ratings: NDArray[np.float32] | None = None
    """(n,): how much the user liked it; None where the data has no ratings."""
    times: NDArray[np.int64] | None = None
    """(n,), in any unit; only their order is used. None where the data has no times."""
    user_features: UserItems | None = None
    """Feature indices of each user; None where the data has none."""
    item_features: UserItems | None = None
    """Feature indices of each item; None where the data has none."""
    user_feature_names: tuple[str, ...] = ()
    """What each feature index of a user means, such as `occupation=writer`."""
    item_feature_names: tuple[str, ...] = ()
    """What each feature index of an item means, such as `genre=Drama`."""
    notes: tuple[str, ...] = ()
    """What was dropped and what is odd, one sentence each, for the user."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_ids)

    def noting(self, *notes: str) -> Interactions:
        """Add notes."""
        return replace(self, notes=(*self.notes, *notes))

    def keep(self, rows: NDArray[np.bool_]) -> Interactions:
        """Keep some rows; users and items that have none left keep their index.

        Args:
            rows: (n,), True for those to keep.
        """
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            ratings=None if self.ratings is None else self.ratings[rows],
            times=None if self.times is None else self.times[rows],
        )

    def compact(self) -> Interactions:
        """Forget the users and items without interactions; the others keep their order."""
        has_user = np.bincount(self.users, minlength=self.n_users) > 0
        has_item = np.bincount(self.items, minlength=self.n_items) > 0
        if has_user.all() and has_item.all():
            return self
        return replace(
            self,
            users=(np.cumsum(has_user) - 1)[self.users],
            items=(np.cumsum(has_item) - 1)[self.items],
            user_ids=self.user_ids[has_user],
            item_ids=self.item_ids[has_item],
            user_features=_rows(self.user_features, has_user),
            item_features=_rows(self.item_features, has_item),
        )


def features_of(
    ids: Ids, described: Mapping[Any, Sequence[str]]
) -> tuple[UserItems, tuple[str, ...]]:
    """Number the features of users or items.

    Args:
        ids: The id of each index.
        described: The features of each id, such as `["gender=F", "age=25-34"]`; an id that is
            absent has none.

    Returns:
        The feature indices of each index, and what each feature is, sorted.
    """
    lists = [sorted(set(described.get(name, ()))) for name in ids.tolist()]
    names = sorted(set().union(*lists))
    number = {name: index for index, name in enumerate(names)}
    rows = np.repeat(np.arange(len(ids)), [len(features) for features in lists])
    values = np.array([number[name] for features in lists for name in features], np.int64)
    return UserItems.from_pairs(rows, values, len(ids), len(names)), tuple(names)


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
            f"min_rating={min_rating:g} needs ratings and the data has none; name their column "
            "(rating=...), or leave min_rating out to count every row as a positive"
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
    if not (ordered[1:] == ordered[:-1]).any():
        return data
    del ordered
    by_time = np.arange(len(pairs)) if data.times is None else np.argsort(data.times, kind="stable")
    if keep == "last":
        by_time = by_time[::-1]
    # `unique` names the first place of each pair in the order given.
    _, first = np.unique(pairs[by_time], return_index=True)
    kept = np.zeros(len(pairs), np.bool_)
    kept[by_time[first]] = True
    return data.keep(kept).noting(
        f"{len(kept) - len(first):,} of {len(kept):,} interactions repeat an item that the user "
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


def _rows(features: UserItems | None, kept: NDArray[np.bool_]) -> UserItems | None:
    if features is None:
        return None
    users, items = features.users.numpy(), features.items.numpy()
    rows = kept[users]
    number = np.cumsum(kept) - 1
    return UserItems.from_pairs(number[users[rows]], items[rows], int(kept.sum()), features.n_items)
