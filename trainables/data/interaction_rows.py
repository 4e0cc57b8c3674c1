"""Who did what, when: the rows of an interaction file, and the features of users and items.

Every row is one interaction of a user with an item. Users and items are counted from 0; their ids
in the file are kept beside. Start with `Interactions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.user_items import UserItems

Ids = NDArray[Any]
"""(n,), int64, or object holding str: the id of each index."""


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
    """(n,): how much the user liked it; None where the data has no ratings, or not all."""
    times: NDArray[np.int64] | NDArray[np.float64] | None = None
    """(n,), in any unit; only their order is used. Floats where some have fractions: of seconds
    since 1970 they tell apart what is 1e-6 s apart. None where the data has no times."""
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


def _rows(features: UserItems | None, kept: NDArray[np.bool_]) -> UserItems | None:
    if features is None:
        return None
    users, items = features.users.numpy(), features.items.numpy()
    rows = kept[users]
    number = np.cumsum(kept) - 1
    return UserItems.from_pairs(number[users[rows]], items[rows], int(kept.sum()), features.n_items)
