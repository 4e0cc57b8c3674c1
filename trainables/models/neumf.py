"""NeuMF and its MLP half: neural collaborative filtering (He et al. 2017).

b users, c items each; the tower's hidden layers have width / 2, width / 4, ... units.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.data.user_items import RecommenderData, UserItems
from trainables.models.pair_model import PairModel
from trainables.models.recommender_model import Batch
from trainables.recommender_hyperparameters import RecommenderHyperparameters

_VALUES_AT_ONCE = 1 << 21
"""Hidden values (8 MB) at once when all items are scored: they stay in the cache."""
_TRADE_OFF = 0.5


class NeuMF(PairModel):
    """The logit is the sum of a GMF half's and an MLP half's (`neumf`), or the latter's (`mlp`).

    That sum is the paper's output layer over the two halves side by side. Pre-training: in the
    first `pretrain_epochs` epochs each half has a loss of its own and nothing of the other's; then
    the output weights of both are halved (the paper's trade-off alpha = 0.5) and the sum is
    trained. Departure: the optimizer goes on as it is, where the paper changes to SGD.

    Dropout is on embeddings and hidden units; the paper has none.
    """

    joined: Tensor

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        self.tower = _Tower(self, h)
        self.product = _Product(self, h) if h.model == "neumf" else None
        together = h.pretrain_epochs == 0 or h.model != "neumf"
        self.register_buffer("joined", torch.tensor(together))

    def start_epoch(self, epoch: int) -> None:
        """Join the halves in the epoch after the last one of pre-training."""
        if self.product is None or epoch <= self.h.pretrain_epochs or bool(self.joined):
            return
        with torch.no_grad():
            for half in (self.product, self.tower):
                for parameter in half.out.parameters():
                    parameter.mul_(_TRADE_OFF)
            self.joined.fill_(True)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of the sum or, in pre-training, the sum of the halves' losses."""
        if self.product is None or self.h.pretrain_epochs == 0 or bool(self.joined):
            return super().loss(batch)
        users, items = batch
        halves = [half.pairs(users, items) for half in (self.product, self.tower)]
        losses = [self.pair_loss(logits, items) for logits in halves]
        return losses[0] + losses[1] + self.penalty(users, items)

    def logits(self, users: Tensor, items: Tensor) -> Tensor:
        """Score users (b,) with items (b, c): (b, c)."""
        logits = self.tower.pairs(users, items)
        return logits if self.product is None else logits + self.product.pairs(users, items)

    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score all items; `history` is ignored. In pre-training: of the halves as if joined."""
        projected = self.prepared()
        rows = max(1, _VALUES_AT_ONCE // (self.n_items * max(1, self.h.width // 2)))
        blocks = [self.tower.all(block, projected) for block in torch.split(users, rows)]
        scores = torch.cat(blocks)
        if self.product is None:
            return scores
        return scores + self.product.all(users)

    def prepare(self) -> Tensor:
        """Compute the items' share of the first hidden layer (n_items, units)."""
        return self.tower.item_part(self.tower.items.weight)

    def looked_up(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Look up the embeddings of both halves, side by side."""
        user_rows, item_rows = self.tower.users(users), self.tower.items(items)
        if self.product is not None:
            user_rows = torch.cat([user_rows, self.product.users(users)], 1)
            item_rows = torch.cat([item_rows, self.product.items(items)], 1)
        return user_rows, item_rows

    def embeddings(self) -> dict[str, Tensor]:
        """Return the embeddings of both halves, side by side; their dot product is no score."""
        with torch.no_grad():
            every = (torch.arange(n, device=self.device) for n in (self.n_users, self.n_items))
            users, items = self.looked_up(*every)
        return {"users": users, "items": items}


class _Product(nn.Module):
    """The GMF half: out . (p_u * q_i)."""

    def __init__(self, model: NeuMF, h: RecommenderHyperparameters) -> None:
        super().__init__()
        self._dropout = h.dropout
        self.users = model.embedding(model.n_users, h.dim)
        self.items = model.embedding(model.n_items, h.dim)
        self.out = nn.Linear(h.dim, 1)
        nn.init.ones_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score users (b,) with items (b, c)."""
        left = self.users(users) * self.out.weight
        left = functional.dropout(left, self._dropout, self.training)
        products: Tensor = torch.linalg.vecdot(self.items(items), left[:, None])
        return products + self.out.bias

    def all(self, users: Tensor) -> Tensor:
        """Score users (b,) with all items."""
        left: Tensor = self.users(users) * self.out.weight
        return left @ self.items.weight.T + self.out.bias


class _Tower(nn.Module):
    """The MLP half: a network on p_u and q_i side by side.

    The first layer is computed as one part of the user, plus one of the item, so that a user's part
    serves all his items and an item's all users.
    """

    def __init__(self, model: NeuMF, h: RecommenderHyperparameters) -> None:
        super().__init__()
        self._dropout = h.dropout
        half = h.width // 2
        self.users = model.embedding(model.n_users, half)
        self.items = model.embedding(model.n_items, half)
        sizes = [2 * half] + [h.width >> n for n in range(1, h.layers + 1)]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.out = nn.Linear(sizes[-1], 1)
        for layer in (*self.hidden, self.out):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def user_part(self, vectors: Tensor) -> Tensor:
        """(..., width / 2) to the users' share of the first layer, with its bias."""
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        return functional.linear(vectors, first.weight[:, : vectors.shape[-1]], first.bias)

    def item_part(self, vectors: Tensor) -> Tensor:
        """(..., width / 2) to the items' share of the first layer."""
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        return functional.linear(vectors, first.weight[:, -vectors.shape[-1] :])

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score users (b,) with items (b, c)."""
        left = functional.dropout(self.users(users), self._dropout, self.training)
        right = functional.dropout(self.items(items), self._dropout, self.training)
        return self._upper(self.user_part(left)[:, None] + self.item_part(right))

    def all(self, users: Tensor, projected: Tensor) -> Tensor:
        """Score users (b,) with all items, whose share of the first layer is `projected`."""
        return self._upper(self.user_part(self.users(users))[:, None] + projected)

    def _upper(self, x: Tensor) -> Tensor:
        x = functional.dropout(functional.relu(x), self._dropout, self.training)
        for layer in self.hidden[1:]:
            x = functional.dropout(functional.relu(layer(x)), self._dropout, self.training)
        logits: Tensor = self.out(x)
        return logits.squeeze(-1)
