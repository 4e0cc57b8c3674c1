"""Models that are trained on pairs of a user and an item, against negative items.

`PairModel` draws the negatives and computes the losses; `DotModel` adds the losses that need many
scores per user, which are affordable where the score is a dot product. b pairs, c = 1 + k items in
each (the positive one first), d dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from trainables.data.negatives import NegativeSampler
from trainables.data.user_items import RecommenderData, UserItems
from trainables.models.recommender_losses import LOSS_FUNCTIONS, full_softmax_loss
from trainables.models.recommender_model import Batch, RecommenderModel, UserBatches
from trainables.recommender_hyperparameters import FULL_LOSSES, RecommenderHyperparameters

_DRAW_AT_ONCE = 1 << 22
"""Item indices (32 MB) that are drawn at once; for smaller data sets, a whole epoch."""


class PairModel(RecommenderModel):
    """Batches: users (b,) and items (b, 1 + k); items[:, 0] are the training pairs'."""

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        train = data.train.to("cpu")
        self._pairs = (train.users, train.items)
        kind = "popularity" if h.sampling == "popularity" else "uniform"
        self._sampler = NegativeSampler(train, kind)
        self._log_q: Tensor | None = None  # log of the probability of each item to be a negative
        if h.sampling == "popularity":
            self._log_q = torch.log(self._sampler.probabilities).float().to(device)
        elif h.sampling == "in-batch":
            shares = train.popularity / max(1, len(train))
            self._log_q = torch.log(shares.clamp(min=1e-12)).to(device)

    @property
    def n_batches(self) -> int:
        """Gradient steps in an epoch."""
        return -(-len(self._pairs[0]) // self.h.batch_size)

    @abstractmethod
    def logits(self, users: Tensor, items: Tensor) -> Tensor:
        """Score users (b,) with items (b, c): (b, c)."""

    @abstractmethod
    def looked_up(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings that l2 shrinks: of users (b,), (b, d), and items (m,), (m, d)."""

    def batches(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield all training pairs in random order, each with fresh negatives."""
        users, items = self._pairs
        size, k = self.h.batch_size, self.h.negatives
        order = torch.randperm(len(users), generator=generator)
        for rows in torch.split(order, size * max(1, _DRAW_AT_ONCE // (size * (1 + k)))):
            negatives = self._sampler.draw(users[rows], k, generator)
            candidates = torch.cat([items[rows, None], negatives], 1).to(self.device)
            parts = [torch.split(part, size) for part in (users[rows].to(self.device), candidates)]
            yield from zip(*parts, strict=True)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss over sampled negatives."""
        users, items = batch
        return self.pair_loss(self.logits(users, items), items) + self.penalty(users, items)

    def pair_loss(self, logits: Tensor, items: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return `h.loss` of logits (b, c) of items (b, c), without the penalty."""
        if self._log_q is not None and self.h.loss == "softmax":
            logits = logits - self._log_q[items]
        return LOSS_FUNCTIONS[self.h.loss](logits[:, 0], logits[:, 1:], valid)

    def penalty(self, users: Tensor, items: Tensor) -> Tensor | float:
        """Return l2 times the mean squared norms of users, positive and negative items."""
        if self.h.l2 == 0:
            return 0.0
        user_rows, item_rows = self.looked_up(users, items.flatten())
        squares = item_rows.square().sum(1).view(items.shape)
        total = user_rows.square().sum(1).mean() + squares[:, 0].mean()
        if items.shape[1] > 1:
            total = total + squares[:, 1:].mean()
        return self.h.l2 * total


class DotModel(PairModel):
    """The score is the dot product of a user's and an item's vector, plus the item's bias.

    Besides batches of pairs with drawn negatives there are:

    - `full-softmax`: users (m,), rows (p,) and items (p,). All pairs of a user are in one batch, so
      that his scores of all items and their normaliser are computed once for all of them. The
      loss of a batch is the mean over its own pairs, whose number differs a little between batches;
      so in batches of few pairs a pair weighs a little more than in those of many.
    - `full-square`: the same batches. The squared error of all ones and zeros, which implicit ALS
      solves in closed form (see `trainables.ials`): with W = `unobserved_weight`, per pair,
      sum over pairs of (s - 1)^2 + W * sum over all of s^2, and l2 times the squared norms of users
      and items, each weighted by how often it is in these sums.
    - `in-batch`: users (b,), items (b, 1), and (b, b) bool: whether the item of pair j may serve
      as a negative of pair i, i.e. its user does not have it. In the softmax the logarithm of
      each item's share of the training pairs is taken off its score (Yi et al. 2019).
    """

    scores_are_products: ClassVar[bool] = True

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        self._train = data.train.to(device)
        self._user_batches = UserBatches(self._train, h.batch_size)

    @abstractmethod
    def vectors(self, users: Tensor, items: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the vectors of users (b,), (b, d), and of items (m,), or of all, (m, d)."""

    def item_bias(self) -> Tensor | None:
        """Return the items' biases (n_items,), if there are any."""
        return None

    @property
    def n_batches(self) -> int:
        """Gradient steps in an epoch."""
        return len(self._user_batches) if self.h.loss in FULL_LOSSES else super().n_batches

    def batches(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of the loss and the sampling (see the class)."""
        if self.h.loss in FULL_LOSSES:
            for users in self._user_batches.shuffled(generator):
                yield users, *self._train.of(users)
        elif self.h.sampling == "in-batch":
            order = torch.randperm(len(self._pairs[0]), generator=generator)
            for rows in torch.split(order, self.h.batch_size):
                users, items = self._pairs[0][rows], self._pairs[1][rows]
                valid = ~self._sampler.contains(users[:, None], items[None, :])
                batch = (users, items[:, None], valid)
                yield tuple(part.to(self.device) for part in batch)
        else:
            yield from super().batches(generator)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss and the penalty (of users and positive items, where all are scored)."""
        if self.h.loss == "full-softmax":
            users, rows, items = batch
            logits = self._dot_all(*self._dropped(users, None))
            loss = full_softmax_loss(logits, rows, items)
            return loss + self.penalty(users[rows], items[:, None])
        if self.h.loss == "full-square":
            return self._square_loss(*batch)
        if self.h.sampling == "in-batch":
            return self._in_batch_loss(*batch)
        return super().loss(batch)

    def logits(self, users: Tensor, items: Tensor) -> Tensor:
        """Score users (b,) with items (b, c): (b, c)."""
        user_vectors, item_vectors = self._dropped(users, items.flatten())
        item_vectors = item_vectors.view(*items.shape, -1)
        logits: Tensor = torch.linalg.vecdot(item_vectors, user_vectors[:, None])
        bias = self.item_bias()
        return logits if bias is None else logits + bias[items]

    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score all items; `history` is ignored."""
        user_table, item_table = self.prepared()
        return self._dot_all(user_table[users], item_table)

    def prepare(self) -> tuple[Tensor, Tensor]:
        """Compute the vectors of all users and items."""
        return self.vectors(torch.arange(self.n_users, device=self.device), None)

    def embeddings(self) -> dict[str, Tensor]:
        """Return vectors whose dot product is the score."""
        users, items = (table.detach() for table in self.prepared())
        bias = self.item_bias()
        if bias is not None:
            users = torch.cat([users, torch.ones_like(users[:, :1])], 1)
            items = torch.cat([items, bias.detach()[:, None]], 1)
        return {"users": users, "items": items}

    def _dropped(self, users: Tensor, items: Tensor | None) -> tuple[Tensor, Tensor]:
        user_vectors, item_vectors = self.vectors(users, items)
        if self.h.dropout and self.training:
            user_vectors = functional.dropout(user_vectors, self.h.dropout)
        return user_vectors, item_vectors

    def _dot_all(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        bias = self.item_bias()
        if bias is None:
            return user_vectors @ item_vectors.T
        return torch.addmm(bias, user_vectors, item_vectors.T)

    def _square_loss(self, users: Tensor, rows: Tensor, items: Tensor) -> Tensor:
        weight = self.h.unobserved_weight
        logits = self._dot_all(*self._dropped(users, None))
        total = (logits[rows, items] - 1.0).square().sum() + weight * logits.square().sum()
        if self.h.l2:
            everything = torch.arange(self.n_items, device=self.device)
            user_rows, item_rows = self.looked_up(users, everything)
            user_counts = torch.bincount(rows, minlength=len(users)) + weight * self.n_items
            item_counts = torch.bincount(items, minlength=self.n_items) + weight * len(users)
            norms = user_counts @ user_rows.square().sum(1)
            total = total + self.h.l2 * (norms + item_counts @ item_rows.square().sum(1))
        return total / len(items)

    def _in_batch_loss(self, users: Tensor, items: Tensor, valid: Tensor) -> Tensor:
        column = items[:, 0]
        user_vectors, item_vectors = self._dropped(users, column)
        logits = user_vectors @ item_vectors.T
        bias = self.item_bias()
        if bias is not None:
            logits = logits + bias[column]
        # The positive goes first; it is also in its own row, where `valid` excludes it.
        logits = torch.cat([logits.diagonal()[:, None], logits], 1)
        candidates = torch.cat([items, column.expand(len(users), -1)], 1)
        return self.pair_loss(logits, candidates, valid) + self.penalty(users, items)
