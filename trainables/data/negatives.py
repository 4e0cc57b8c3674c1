"""Negative items for many training pairs at once.

A negative is an item that the user does not have in training; with implicit feedback nothing more
is known. Draws are vectorised: all are made at once, those that hit an item of the user are made
again, and the few that are left after some rounds are drawn exactly, from a list of what the user
does not have. So nothing depends on luck, and one user with almost everything costs nothing extra.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainables.data.user_items import UserItems

_MATRIX_LIMIT = 1 << 28
"""Largest users x items (bytes) for which a matrix of truth values is kept."""
_ROUNDS = 8
_EXPONENT = 0.75


class NegativeSampler:
    """Draws items that users do not have; everything is on the CPU.

    What pairs are looked up in is made at the first look: a model that is only served, or whose
    loss takes all items, never pays for it.

    Args:
        positives: What the users have (training items). An item may occur twice.
        kind: `uniform` over the items that the user does not have, or `popularity`: in proportion
            to (number of users who have the item, at least 1) ** 0.75 over the same (the exponent
            of Mikolov et al. 2013). At least 1, so that items nobody has are pushed down as well.

    Raises:
        ValueError: If `kind` is none of them.
    """

    def __init__(self, positives: UserItems, kind: str = "uniform") -> None:
        if kind not in ("uniform", "popularity"):
            raise ValueError(f"kind={kind!r} must be one of uniform, popularity")
        self.kind = kind
        self.n_items = positives.n_items
        self._positives = positives = positives.to("cpu")
        weights = positives.popularity.clamp(min=1).double() ** _EXPONENT
        if kind == "uniform":
            weights = torch.ones_like(weights)
        self.probabilities = weights / weights.sum()
        self._cumulative = torch.cumsum(self.probabilities, 0)

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """Tell which pairs are positives: users and items of one shape to bool of that shape."""
        keys, owned = users * self.n_items + items, self._owned
        if owned.matrix is not None:
            return owned.matrix[keys]
        if not len(owned.keys):
            return torch.zeros_like(keys, dtype=torch.bool)
        places = torch.searchsorted(owned.keys, keys).clamp(max=len(owned.keys) - 1)
        return torch.eq(owned.keys[places], keys)

    def draw(self, users: Tensor, k: int, generator: torch.Generator) -> Tensor:
        """Draw with replacement.

        Args:
            users: (n,), int64.
            k: Negatives for each.
            generator: A CPU generator.

        Returns:
            (n, k), int64: items that the users do not have. A user who has all items gets any.
        """
        if not k:
            return torch.zeros(len(users), 0, dtype=torch.int64)
        wanted = users.repeat_interleave(k)
        items = self._propose(len(wanted), generator)
        open_ = torch.nonzero(self.contains(wanted, items)).squeeze(1)
        for _ in range(_ROUNDS):
            if not len(open_):
                break
            items[open_] = self._propose(len(open_), generator)
            open_ = open_[self.contains(wanted[open_], items[open_])]
        if len(open_):
            self._draw_exactly(items, wanted, open_, generator)
        return items.view(len(users), k)

    @cached_property
    def _owned(self) -> _Owned:
        positives = self._positives
        keys = torch.unique(positives.users * self.n_items + positives.items)  # ascending
        rows = keys // self.n_items
        counts = torch.bincount(rows, minlength=positives.n_users)
        starts = torch.cumsum(counts, 0) - counts
        # Below the item s that is number j of a user's items, in order of their indices, there are
        # s - j that he does not have; so item number r of those is r + #{j: s_j - j <= r}.
        numbers = torch.arange(len(keys)) - starts[rows]
        matrix = None
        if positives.n_users * self.n_items <= _MATRIX_LIMIT:
            matrix = torch.zeros(positives.n_users * self.n_items, dtype=torch.bool)
            matrix[keys] = True
        return _Owned(keys, counts, starts, keys - numbers, matrix)

    def _propose(self, n: int, generator: torch.Generator) -> Tensor:
        if self.kind == "uniform":
            return torch.randint(self.n_items, (n,), generator=generator)
        return _invert(self._cumulative, torch.rand(n, generator=generator, dtype=torch.float64))

    def _draw_exactly(
        self, items: Tensor, wanted: Tensor, open_: Tensor, generator: torch.Generator
    ) -> None:
        uniform = torch.rand(len(open_), generator=generator, dtype=torch.float64)
        owned = self._owned
        if self.kind == "uniform":
            users = wanted[open_]
            absent = self.n_items - owned.counts[users]
            ranks = torch.minimum((uniform * absent).long(), absent - 1)
            keys = users * self.n_items + ranks
            below = torch.searchsorted(owned.absent_below, keys, right=True)
            items[open_] = torch.where(
                absent > 0, ranks + below - owned.starts[users], items[open_]
            )
            return
        for user in torch.unique(wanted[open_]).tolist():  # rare: users with the popular items
            rows = wanted[open_] == user
            weights = self.probabilities.clone()
            start = owned.starts[user]
            mine = owned.keys[start : start + owned.counts[user]]
            weights[mine - user * self.n_items] = 0.0
            if weights.sum() > 0:
                cumulative = torch.cumsum(weights / weights.sum(), 0)
                items[open_[rows]] = _invert(cumulative, uniform[rows])


@dataclass(frozen=True)
class _Owned:
    """What users have, for looking up; the key of a pair is user * n_items + item."""

    keys: Tensor
    """(p,), ascending: the pairs, each once."""
    counts: Tensor
    """(n_users,): pairs of each user."""
    starts: Tensor
    """(n_users,): where each user's begin in `keys`."""
    absent_below: Tensor
    """(p,), ascending in each user: user * n_items + the lower items that he does not have."""
    matrix: Tensor | None
    """(n_users * n_items,), bool: whether a key is a pair; none where it were too large."""


def _invert(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """Draw indices by their cumulative probabilities; those of probability 0 are never drawn."""
    top = cumulative[-1]  # 1, up to rounding
    places = torch.searchsorted(cumulative, uniform * top, right=True)
    last = int(torch.nonzero(cumulative >= top)[0])
    return places.clamp(max=last)
