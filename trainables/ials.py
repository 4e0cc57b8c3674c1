"""`IALS`: matrix factorisation of all zeros and ones, by alternating least squares.

For user factors W (n_users, d) and item factors H (n_items, d), with S the pairs of the data, the
loss is (Hu, Koren & Volinsky, ICDM 2008, in the form of Rendle, Krichene, Zhang & Koren,
"Revisiting the performance of iALS on item recommendation benchmarks", RecSys 2022):

    sum over (u, i) in S of (w_u . h_i - 1)^2 + alpha0 * sum over all u, i of (w_u . h_i)^2
    + reg * (sum over u of (n_u + alpha0 n_items) |w_u|^2
             + sum over i of (n_i + alpha0 n_users) |h_i|^2)

where n_u and n_i are the numbers of pairs. With H fixed each w_u has a closed form, and so has each
h_i with W fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from raytune_ahu.errors import SpaceError
from raytune_ahu.seeding import generator
from trainables.data.user_items import UserItems

_BLOCK = 2**18
"""Numbers in the largest tensor of a half step (1 MB: it stays in the cache)."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in one thread: more only wait for each other in many small systems."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class IALS:
    """Implicit ALS; a `Reference`.

    A sweep solves the item factors, then the user factors. Users are folded in when they are
    scored: their factors are solved from their history, which for the training items gives what
    training gave.

    Args:
        d: Number of factors, at least 1.
        reg: Penalty, above 0; scaled by frequency (the paper's nu = 1).
        alpha0: Weight of the pairs that are not in the data, above 0; those in it have 1 + alpha0.
        sweeps: How often both sides are solved, at least 1.
        seed: Root seed of the first item factors.

    Raises:
        SpaceError: If an argument is out of its range.
    """

    name = "ials"

    def __init__(
        self, d: int = 64, reg: float = 0.01, alpha0: float = 0.3, sweeps: int = 12, seed: int = 0
    ) -> None:
        for label, value in (("d", d), ("sweeps", sweeps)):
            if value < 1:
                raise SpaceError(f"{label}={value} must be a whole number of at least 1; try 16")
        for label, number in (("reg", reg), ("alpha0", alpha0)):
            if not 0 < number < math.inf:
                raise SpaceError(f"{label}={number} must be a number above 0; try 0.1")
        self.d, self.reg, self.alpha0, self.sweeps, self.seed = d, reg, alpha0, sweeps, seed

    @property
    def settings(self) -> dict[str, int | float | None]:
        """Its hyperparameters."""
        return {"d": self.d, "reg": self.reg, "alpha0": self.alpha0, "sweeps": self.sweeps}

    def fit(self, train: UserItems) -> None:
        """Run all sweeps."""
        for _ in self.run(train):
            pass

    def run(self, train: UserItems) -> Iterator[int]:
        """Run one sweep after the other, and yield the number of each; it can be scored then."""
        by_item = transposed(train)
        start = generator(self.seed, "ials", "factors").normal(size=(train.n_items, self.d))
        self._train = train
        self.items = torch.from_numpy(start).float() * (0.1 / math.sqrt(self.d))
        self.users = self._solve(train, self.items)
        for sweep in range(1, self.sweeps + 1):
            self.items = self._solve(by_item, self.users)
            self.users = self._solve(train, self.items)
            yield sweep

    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score all items (see `Reference`)."""
        if history is self._train:
            return self.users[users] @ self.items.T
        rows, items = history.of(users)
        starts = torch.zeros(len(users) + 1, dtype=torch.int64)
        starts[1:] = torch.bincount(rows, minlength=len(users)).cumsum(0)
        return self._solve(UserItems(starts, items, history.n_items), self.items) @ self.items.T

    def loss(self, train: UserItems) -> float:
        """Return the loss that the sweeps lower (see the module), in float64."""
        users, items = self.users.double(), self.items.double()
        fit = (users[train.users] * items[train.items]).sum(1)
        user_weights = train.counts + self.alpha0 * train.n_items
        item_weights = train.popularity + self.alpha0 * train.n_users
        penalty = (user_weights * users.square().sum(1)).sum()
        penalty += (item_weights * items.square().sum(1)).sum()
        everywhere = ((users.T @ users) * (items.T @ items)).sum()
        total = (fit - 1).square().sum() + self.alpha0 * everywhere + self.reg * penalty
        return float(total)

    @_one_thread()
    def _solve(self, pairs: UserItems, others: Tensor) -> Tensor:
        """Solve one side for all its rows: (n_users of `pairs`, d), given the other side's.

        With V (n, d) the factors of a row's n items, and p its penalty, the row solves
        (alpha0 * others' others + p I + V'V) w = V'1. Along the eigenvectors of the first term,
        which all rows share, it and p are a diagonal D. So where n < d the smaller system
        (I + V D^-1 V') z = 1 has the same answer, w = D^-1 V' z.
        """
        counts = pairs.counts
        values, axes = torch.linalg.eigh(self.alpha0 * (others.T @ others).double())
        values, axes = values.clamp(min=0.0).float(), axes.float()
        penalties = self.reg * (counts + self.alpha0 * pairs.n_items)
        padded = torch.cat([others @ axes, torch.zeros(1, self.d)])
        solution = torch.zeros(pairs.n_users, self.d)
        # Rows of like length together, so that little of a block is padding.
        for rows in _blocks(counts, self.d):
            width = int(counts[rows].max())
            places = torch.arange(width)
            inside = places < counts[rows][:, None]
            index = torch.full((len(rows), width), pairs.n_items)
            index[inside] = pairs.items[(pairs.starts[rows][:, None] + places)[inside]]
            chosen = padded[index]
            diagonals = values + penalties[rows][:, None]
            if width < self.d:
                scaled = chosen / diagonals[:, None]
                matrices = torch.baddbmm(torch.eye(width), scaled, chosen.transpose(1, 2))
                weights = torch.linalg.solve(matrices, torch.ones(len(rows), width))
                solution[rows] = (weights[:, None] @ scaled).squeeze(1)
            else:
                matrices = chosen.transpose(1, 2) @ chosen
                matrices.diagonal(dim1=1, dim2=2).add_(diagonals)
                solution[rows] = torch.linalg.solve(matrices, chosen.sum(1))
        result: Tensor = solution @ axes.T
        return result


def transposed(pairs: UserItems) -> UserItems:
    """Return the users of each item in the place of the items of each user."""
    order = torch.argsort(pairs.items, stable=True)
    starts = torch.zeros(pairs.n_items + 1, dtype=torch.int64)
    starts[1:] = pairs.popularity.cumsum(0)
    return UserItems(starts, pairs.users[order], pairs.n_users)


def _blocks(counts: Tensor, d: int) -> Iterator[Tensor]:
    """Yield the rows that have items, in blocks of like counts that `_BLOCK` has room for."""
    order = torch.argsort(counts, stable=True)
    lengths = counts[order].tolist()
    start = next((place for place, length in enumerate(lengths) if length), len(lengths))
    while start < len(lengths):
        end = start + 1
        while end < len(lengths) and (end + 1 - start) * d * lengths[end] <= _BLOCK:
            end += 1
        yield order[start:end]
        start = end
