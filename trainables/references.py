"""Well-known recommenders that take seconds: what a tuned model must be shown against.

Notation: X (n_users, n_items) has a 1 where a user has an item; G = X'X counts for each pair of
items the users who have both. Popularity and the two models of items are here, implicit ALS is in
`trainables.ials`, and `trainables.tuned_references` picks the settings of all four by validation.
All of them take and return CPU tensors. Start with `Reference`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from raytune_ahu.errors import DataError, SpaceError
from trainables.data.user_items import UserItems

REFERENCES = ("popularity", "itemknn", "ease", "ials")
"""Names of all references, the simplest first."""
MAX_ITEMS = 20_000
"""Beyond it no item-item matrix is made: 3.2 GB in float64, and EASE holds 2.7 such: 9 GB."""
_MATRICES = 2.7
"""Memory of EASE's fit in item-item matrices of float64, as measured at 5,000 items."""


class Reference(Protocol):
    """A recommender that is fitted at once. The same training items give the same scores."""

    @property
    def name(self) -> str:
        """Short name."""
        ...

    @property
    def settings(self) -> dict[str, int | float | None]:
        """Its hyperparameters."""
        ...

    def fit(self, train: UserItems) -> None:
        """Learn from training items.

        Raises:
            DataError: If there are too many items for this model.
        """
        ...

    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score all items: (b, n_items), float32, higher is better.

        Args:
            users: (b,), int64.
            history: What is known of all users by now, which may be more than was trained on.
        """
        ...


class Popularity:
    """Score an item by the number of users who have it in training; the same for every user."""

    name = "popularity"

    def __init__(self) -> None:
        self.settings: dict[str, int | float | None] = {}

    def fit(self, train: UserItems) -> None:
        """Count."""
        self._counts = train.popularity.float()

    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score all items (see `Reference`)."""
        return self._counts.expand(len(users), -1)


class ItemKNN:
    """Score an item by those of its neighbours that the user has (Sarwar et al., WWW 2001).

    The similarity of items i and j is the shrunk cosine G_ij / (sqrt(G_ii G_jj) + shrinkage). The
    neighbours of an item are the k most similar others; its score is the sum of its similarities
    to those of them that are in the user's history.

    Args:
        k: Number of neighbours of an item; at least 1, None for all.
        shrinkage: Takes weight from items that few users have; at least 0, in users.

    Raises:
        SpaceError: If an argument is out of its range.
    """

    name = "itemknn"

    def __init__(self, k: int | None = 100, shrinkage: float = 0.0) -> None:
        if k is not None and k < 1:
            raise SpaceError(f"k={k} must be a whole number of at least 1; None for all neighbours")
        if not shrinkage >= 0:
            raise SpaceError(f"shrinkage={shrinkage} must be at least 0; 0 is the plain cosine")
        self.k, self.shrinkage = k, shrinkage
        self.settings: dict[str, int | float | None] = {"k": k, "shrinkage": shrinkage}

    def fit(self, train: UserItems) -> None:
        """Compute the similarities (see `Reference`)."""
        counts = co_occurrences(train).float()
        norms = counts.diagonal().sqrt()
        similarity = counts / (torch.outer(norms, norms) + self.shrinkage).clamp(min=1e-12)
        similarity.fill_diagonal_(0.0)
        if self.k is not None and self.k < train.n_items:
            values, items = similarity.topk(self.k, 0)
            similarity = torch.zeros_like(similarity).scatter_(0, items, values)
        self._similarity = similarity

    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score all items (see `Reference`)."""
        return history.dense(users) @ self._similarity


class EASE:
    """A linear model of items that cannot explain an item by itself (Steck, WWW 2019).

    B minimises |X - XB|^2 + l2 |B|^2 with a zero diagonal. With P = (G + l2 I)^-1 that is
    B_ij = -P_ij / P_jj off the diagonal. Scores are the user's row of history times B.

    Args:
        l2: The penalty, above 0; 100 to 1000 suit most data.

    Raises:
        SpaceError: If `l2` is not above 0.
    """

    name = "ease"

    def __init__(self, l2: float = 250.0) -> None:
        if not l2 > 0:
            raise SpaceError(f"l2={l2} must be above 0, or no inverse exists; 250 is usual")
        self.l2 = l2
        self.settings: dict[str, int | float | None] = {"l2": l2}

    def fit(self, train: UserItems) -> None:
        """Invert, in float64 (see `Reference`)."""
        gram = co_occurrences(train)
        gram.diagonal().add_(self.l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weights = inverse.div_(-inverse.diagonal()).fill_diagonal_(0.0)
        self._weights = weights.float()

    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score all items (see `Reference`)."""
        return history.dense(users) @ self._weights


def refusal(n_items: int) -> str | None:
    """Say why no item-item matrix is made for so many items, or None where it is."""
    if n_items <= MAX_ITEMS:
        return None
    return (
        f"n_items={n_items:,} must be at most {MAX_ITEMS:,}, as the item-item matrices would take "
        f"{_MATRICES * n_items**2 * 8 / 1e9:.0f} GB; keep only items with more interactions "
        "(k-core)"
    )


def co_occurrences(train: UserItems) -> Tensor:
    """(n_items, n_items), float64: G. Takes the sum over users of (their items)^2 additions.

    Raises:
        DataError: If there are more than `MAX_ITEMS` items.
    """
    reason = refusal(train.n_items)
    if reason:
        raise DataError(reason)
    ones = np.ones(len(train), np.float64)
    shape = (train.n_users, train.n_items)
    matrix = sparse.csr_array((ones, train.items.numpy(), train.starts.numpy()), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return torch.from_numpy((matrix.T @ matrix).toarray())
