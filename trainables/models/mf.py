"""Matrix factorisation, and its generalised form GMF of He et al. (2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.data.user_items import RecommenderData
from trainables.models.pair_model import DotModel
from trainables.recommender_hyperparameters import RecommenderHyperparameters


class _Factors(DotModel):
    """A vector p for each user and q for each item."""

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        self.users = self.embedding(self.n_users, h.dim)
        self.items = self.embedding(self.n_items, h.dim)

    def looked_up(self, users: Tensor, items: Tensor | None) -> tuple[Tensor, Tensor]:
        """Look up p and q."""
        item_rows = self.items.weight if items is None else self.items(items)
        return self.users(users), item_rows


class MF(_Factors):
    """score(u, i) = p_u . q_i + b_i (Koren et al. 2009).

    A user's bias cannot change the order of his items, and as every positive of his brings the same
    number of negatives it would hardly change the log loss; there is none. Nor is there a common
    one: b_i holds it.
    """

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        self.bias = nn.Parameter(torch.zeros(self.n_items))

    def vectors(self, users: Tensor, items: Tensor | None) -> tuple[Tensor, Tensor]:
        """Look up p and q."""
        return self.looked_up(users, items)

    def item_bias(self) -> Tensor | None:
        """Return b."""
        return self.bias


class GMF(_Factors):
    """score(u, i) = w . (p_u * q_i) + b (He et al. 2017, eq. 9, as a logit).

    w starts at ones, where GMF is a plain dot product; in the paper it starts at random.
    """

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        self.weight = nn.Parameter(torch.ones(h.dim))
        self.bias = nn.Parameter(torch.zeros(()))

    def vectors(self, users: Tensor, items: Tensor | None) -> tuple[Tensor, Tensor]:
        """Look up p * w and q."""
        user_rows, item_rows = self.looked_up(users, items)
        return user_rows * self.weight, item_rows

    def item_bias(self) -> Tensor | None:
        """Return b, which is the same for all items."""
        return self.bias.expand(self.n_items)
