"""Two towers: a network of the user and one of the item, which meet in a dot product.

The form is that of Covington et al. (2016) and Yi et al. (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.data.user_items import RecommenderData, UserItems
from trainables.models.pair_model import DotModel
from trainables.recommender_hyperparameters import RecommenderHyperparameters


class TwoTower(DotModel):
    """vector = x + network(x), x = embedding of the id + mean embedding of its features.

    A network has `layers` hidden layers of `width` units with ReLU and dropout, and `dim` outputs;
    with layers = 0 there is none. The way past it, which the papers do not have, keeps small data
    sets from ending at popularity. Where the data have no features, the id alone serves. With
    `cosine` vectors are scaled to length 1 and the product is divided by `temperature`.
    """

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        self.users = _Tower(self, self.n_users, data.user_features)
        self.items = _Tower(self, self.n_items, data.item_features)

    def vectors(self, users: Tensor, items: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the vectors of both sides."""
        user_vectors = self.users(users)
        if items is None or len(items) >= self.n_items:  # then every item once is less work
            item_vectors = self.items(torch.arange(self.n_items, device=self.device))
            item_vectors = item_vectors if items is None else item_vectors[items]
        else:
            item_vectors = self.items(items)
        if self.h.similarity == "cosine":
            item_vectors = functional.normalize(item_vectors, dim=1)
            user_vectors = functional.normalize(user_vectors, dim=1) / self.h.temperature
        return user_vectors, item_vectors

    def looked_up(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Look up the embeddings of the ids."""
        return self.users.ids(users), self.items.ids(items)


class _Tower(nn.Module):
    """Rows (m,) to their vectors (m, dim)."""

    def __init__(self, model: TwoTower, n: int, features: UserItems | None) -> None:
        super().__init__()
        h = model.h
        self._features = None if features is None else features.to(model.device)
        self.ids = model.embedding(n, h.dim)
        self.feature_table = None if features is None else model.embedding(features.n_items, h.dim)
        modules: list[nn.Module] = []
        size = h.dim
        for _ in range(h.layers):
            modules += [nn.Linear(size, h.width), nn.ReLU(), nn.Dropout(h.dropout)]
            size = h.width
        if h.layers:
            modules.append(nn.Linear(size, h.dim))
        self.network = nn.Sequential(*modules) if h.layers else None

    def forward(self, rows: Tensor) -> Tensor:
        """Embed, add the features' mean (zero where a row has none), apply the network."""
        x: Tensor = self.ids(rows)
        if self._features is not None and self.feature_table is not None:
            _, features = self._features.of(rows)
            counts = self._features.counts[rows]
            x = x + functional.embedding_bag(
                features,
                self.feature_table.weight,
                torch.cumsum(counts, 0) - counts,
                mode="mean",
            )
        if self.network is not None:
            x = x + self.network(x)
        return x
