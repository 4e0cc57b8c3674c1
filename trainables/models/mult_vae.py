"""Mult-VAE: a variational autoencoder of a user's row of items (Liang et al. 2018).

m users, d latent dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.data.user_items import RecommenderData, UserItems
from trainables.models.recommender_losses import full_softmax_loss
from trainables.models.recommender_model import Batch, RecommenderModel, UserBatches
from trainables.recommender_hyperparameters import RecommenderHyperparameters


class MultVAE(RecommenderModel):
    """n_items -> width -> d (mean and variance) -> width -> n_items, with tanh between.

    loss = -(mean over a batch's pairs of log softmax) + weight * KL / (its pairs), where the weight
    rises from 0 to `kl_weight` over `kl_epochs`. It is per pair, and not per user as in the paper,
    so that learning rates compare with the other models'; the ratio of the two terms is the
    paper's. The softmax is the paper's multinomial likelihood.

    Batches: users (m,), rows (p,) and items (p,) of their pairs, and noise (m, d).
    """

    uses_history: ClassVar[bool] = True

    steps: Tensor

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        self._train = data.train.to(device)
        self._user_batches = UserBatches(self._train, h.batch_size)
        self.encoder = nn.Linear(self.n_items, h.width)
        self.latent = nn.Linear(h.width, 2 * h.dim)
        self.decoder = nn.Linear(h.dim, h.width)
        self.out = nn.Linear(h.width, self.n_items)
        for layer in (self.encoder, self.latent, self.decoder, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def n_batches(self) -> int:
        """Gradient steps in an epoch."""
        return len(self._user_batches)

    @property
    def kl_weight(self) -> Tensor:
        """Weight of the divergence at this step."""
        rise = self.h.kl_epochs * self.n_batches
        share = (self.steps / rise).clamp(max=1.0) if rise else torch.ones_like(self.steps)
        return self.h.kl_weight * share

    def batches(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield all users who have items in random order."""
        for users in self._user_batches.shuffled(generator):
            noise = torch.randn(len(users), self.h.dim, generator=generator).to(self.device)
            yield users, *self._train.of(users), noise

    def loss(self, batch: Batch) -> Tensor:
        """Return the negative evidence bound per pair; counts a step in training."""
        users, rows, items, noise = batch
        mean, log_variance = self._encode(self._train.dense(users))
        state = mean + noise * torch.exp(0.5 * log_variance) if self.training else mean
        likelihood = full_softmax_loss(self._decode(state), rows, items)
        divergence = 0.5 * (log_variance.exp() + mean.square() - 1.0 - log_variance).sum()
        loss = likelihood + self.kl_weight * divergence / len(items)
        if self.training:
            self.steps += 1
        return loss

    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score from the mean of the latent state, given `history`."""
        mean, _ = self._encode(history.dense(users))
        return self._decode(mean)

    def embeddings(self) -> dict[str, Tensor]:
        """Return the items' weights in the last layer; users have none."""
        return {"items": self.out.weight.detach()}

    def _encode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        rows = functional.normalize(rows)  # a user without items stays at zero
        rows = functional.dropout(rows, self.h.dropout, self.training)
        mean, log_variance = self.latent(torch.tanh(self.encoder(rows))).chunk(2, 1)
        return mean, log_variance

    def _decode(self, state: Tensor) -> Tensor:
        logits: Tensor = self.out(torch.tanh(self.decoder(state)))
        return logits
