"""Which items each user has, in order: how models, metrics and splits see interactions.

`UserItems` is a sparse matrix by rows (CSR): `items[starts[u]:starts[u + 1]]` are the items of user
`u`, the oldest first. The same form holds the features of users and items (`UserItems` of feature
indices). Everything is a tensor, so that it moves to a GPU as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class UserItems:
    """For each of `n_users` users some of `n_items` items, in order (of time, if there is any)."""

    starts: Tensor
    """(n_users + 1,), int64, ascending: where each user's items begin; the last is the total."""
    items: Tensor
    """(n,), int64, in [0, n_items)."""
    n_items: int
    """Number of items that there are, seen here or not."""

    @classmethod
    def from_pairs(
        cls, users: NDArray[np.int64], items: NDArray[np.int64], n_users: int, n_items: int
    ) -> UserItems:
        """Group pairs by user; within a user they keep their order.

        Args:
            users: (n,), in [0, n_users).
            items: (n,), in [0, n_items).
            n_users: Number of users.
            n_items: Number of items.
        """
        order = np.argsort(users, kind="stable")
        starts = np.zeros(n_users + 1, np.int64)
        np.cumsum(np.bincount(users, minlength=n_users), out=starts[1:])
        return cls(torch.from_numpy(starts), torch.from_numpy(items[order].copy()), n_items)

    @property
    def n_users(self) -> int:
        """Number of users, with items or without."""
        return len(self.starts) - 1

    def __len__(self) -> int:
        return len(self.items)

    @property
    def counts(self) -> Tensor:
        """(n_users,), int64: how many items each user has."""
        return self.starts.diff()

    @property
    def users(self) -> Tensor:
        """(n,), int64: the user of each item."""
        rows = torch.arange(self.n_users, device=self.items.device)
        return torch.repeat_interleave(rows, self.counts)

    @property
    def popularity(self) -> Tensor:
        """(n_items,), int64: how many users have each item."""
        return torch.bincount(self.items, minlength=self.n_items)

    def of(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return all pairs of some users.

        Args:
            users: (b,), int64.

        Returns:
            Rows (m,), positions in `users`, ascending; and items (m,).
        """
        counts = self.starts[users + 1] - self.starts[users]
        rows = torch.repeat_interleave(torch.arange(len(users), device=users.device), counts)
        ends = torch.cumsum(counts, 0)
        within = torch.arange(len(rows), device=users.device) - (ends - counts)[rows]
        return rows, self.items[self.starts[users][rows] + within]

    def dense(self, users: Tensor) -> Tensor:
        """(b, n_items), float32: 1 where one of some users (b,) has an item, else 0."""
        rows, items = self.of(users)
        matrix = torch.zeros(len(users), self.n_items, device=users.device)
        matrix[rows, items] = 1.0
        return matrix

    def followed_by(self, later: UserItems) -> UserItems:
        """Return each user's items here and then those of `later`."""
        users = torch.cat([self.users, later.users])
        order = torch.argsort(users, stable=True)
        items = torch.cat([self.items, later.items])[order]
        return UserItems(self.starts + later.starts, items, self.n_items)

    def only(self, chosen: Tensor) -> UserItems:
        """Return the items of some users, (n_users,) bool; the others have none then."""
        counts = torch.where(chosen, self.counts, 0)
        starts = torch.cat([self.starts.new_zeros(1), counts.cumsum(0)])
        return UserItems(starts, self.items[chosen[self.users]], self.n_items)

    def to(self, device: torch.device | str) -> UserItems:
        """Move it to a device."""
        return UserItems(self.starts.to(device), self.items.to(device), self.n_items)


@dataclass(frozen=True)
class RecommenderData:
    """What a trial trains and validates on. The test interactions are not here."""

    train: UserItems
    """Training interactions."""
    validation: UserItems
    """Validation interactions, disjoint from the training ones."""
    user_features: UserItems | None = None
    """Feature indices of each user (its "items"), such as age group and occupation."""
    item_features: UserItems | None = None
    """Feature indices of each item, such as its genres."""

    @property
    def n_users(self) -> int:
        """Number of users."""
        return self.train.n_users

    @property
    def n_items(self) -> int:
        """Number of items, those never seen in training included."""
        return self.train.n_items

    def to(self, device: torch.device | str) -> RecommenderData:
        """Move it to a device."""
        users, items = self.user_features, self.item_features
        return RecommenderData(
            self.train.to(device),
            self.validation.to(device),
            users.to(device) if users else None,
            items.to(device) if items else None,
        )
