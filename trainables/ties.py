"""The highest scores of each user, equal ones in a random but fixed order. Start with `Ties`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from raytune_ahu.seeding import generator


@dataclass(frozen=True)
class Ties:
    """An order of the items for each user that has nothing to do with the items.

    Among equal scores of user u the item i of the larger (items_i factors_u + shifts_u) mod 2^31
    comes first. As the factors are odd and the items' words distinct, no two are alike. The order
    differs for each user, yet neither the number of places asked for, nor the block of users, nor
    the device changes it. (`torch.topk` promises no order.)
    """

    items: Tensor
    """(n_items,), int64: 31 random bits, no two alike."""
    factors: Tensor
    """(n_users,), int64: 31 random bits, odd."""
    shifts: Tensor
    """(n_users,), int64: 31 random bits."""

    @classmethod
    @lru_cache(maxsize=2)  # every epoch asks for the same
    def of(cls, n_users: int, n_items: int, device: torch.device) -> Ties:
        """Draw the order: the same for the same numbers of users and items, everywhere."""
        items = generator(0, "ties", "items").choice(2**31, size=n_items, replace=False)
        factors = generator(0, "ties", "factors").integers(2**31, size=n_users) | 1
        shifts = generator(0, "ties", "shifts").integers(2**31, size=n_users)
        words = (torch.from_numpy(array).to(device) for array in (items, factors, shifts))
        return cls(*words)

    def words(self, users: Tensor) -> Tensor:
        """(b, n_items), int64: what orders equal scores of some users (b,), the larger first."""
        words = self.items * self.factors[users][:, None] + self.shifts[users][:, None]
        return words & 0x7FFFFFFF

    def top(self, scores: Tensor, users: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k highest scores of each row, the highest first, and their items: (b, k).

        Args:
            scores: (b, n_items), float32.
            users: (b,), int64: the user of each row.
            k: At most n_items.
        """
        # One more than k shows whether the last place is tied. Few rows are, as a rule, and only
        # those take the exact way, which is three times slower.
        values, items = scores.topk(min(k + 1, scores.shape[1]), 1)
        alike = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -math.inf)
        tied = alike.any(1).nonzero().squeeze(1)
        values, items = values[:, :k], items[:, :k]
        if len(tied):
            exact = self._keys(scores[tied], users[tied]).topk(k, 1).indices
            items = items.index_copy(0, tied, exact)
            values = scores.gather(1, items)
        return values, items

    def _keys(self, scores: Tensor, users: Tensor) -> Tensor:
        """(b, n_items), int64, ordered as the scores, and no two in a row alike."""
        bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0
        ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
        return (ordered << 32) | self.words(users)
