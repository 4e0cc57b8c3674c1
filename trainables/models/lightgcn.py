"""LightGCN: embeddings averaged along the graph of users and items (He et al. 2020)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from trainables.data.user_items import RecommenderData, UserItems
from trainables.models.pair_model import DotModel
from trainables.recommender_hyperparameters import RecommenderHyperparameters


class LightGCN(DotModel):
    """vectors = mean over h = 0 .. hops of A^h E, and the score is their dot product.

    E: the embeddings of users and items, one below the other; A = D^-1/2 G D^-1/2, G the graph of
    the training pairs, D its degrees. The whole graph is used in every step. The items that nobody
    has keep E / (hops + 1). As in the paper l2 shrinks E, not the vectors.
    The averages are in float32 in every precision.
    """

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        self._graph = normalised_graph(data.train).to(device)
        self.users = self.embedding(self.n_users, h.dim)
        self.items = self.embedding(self.n_items, h.dim)

    def vectors(self, users: Tensor, items: Tensor | None) -> tuple[Tensor, Tensor]:
        """Average over the graph, then look up."""
        layer = torch.cat([self.users.weight, self.items.weight])
        total = layer
        for _ in range(self.h.hops):
            layer = _SymmetricProduct.apply(self._graph, layer)
            total = total + layer
        sizes = [self.n_users, self.n_items]
        user_table, item_table = torch.split(total / (self.h.hops + 1), sizes)
        return user_table[users], item_table if items is None else item_table[items]

    def looked_up(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Look up E."""
        return self.users(users), self.items(items)


def normalised_graph(train: UserItems) -> Tensor:
    """Return A (see `LightGCN`) as a sparse CSR matrix of n_users + n_items rows."""
    train = train.to("cpu")
    n = train.n_users + train.n_items
    pairs = torch.unique(torch.stack([train.users, train.items + train.n_users]), dim=1)
    indices = torch.cat([pairs, pairs.flip(0)], 1)
    degrees = torch.bincount(indices[0], minlength=n).float()
    values = (degrees[indices[0]] * degrees[indices[1]]).rsqrt()
    order = torch.argsort(indices[0] * n + indices[1])
    starts = torch.zeros(n + 1, dtype=torch.int64)
    starts[1:] = torch.cumsum(torch.bincount(indices[0], minlength=n), 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            starts, indices[1, order], values[order], (n, n), check_invariants=True
        )


class _SymmetricProduct(torch.autograd.Function):
    """A @ x for a sparse symmetric A: the gradient is A @ gradient, no transposition needed."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, x: Tensor) -> Tensor:
        ctx.matrix = matrix
        return _product(matrix, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, _product(ctx.matrix, gradients[0])


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """A @ x in float32: on the CPU there is no sparse product of bfloat16."""
    with torch.autocast(x.device.type, enabled=False):
        return matrix @ x
