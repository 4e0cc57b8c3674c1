"""`RecommenderModel`: what the trainable, the metrics and serving need of a model.

A model makes its own training batches, because what belongs into one differs (pairs with negatives,
whole users, sequences). b users or pairs, n_items items, d dimensions. Start with the four methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainables.data.user_items import RecommenderData, UserItems
from trainables.recommender_hyperparameters import RecommenderHyperparameters

Batch = tuple[Tensor, ...]
"""One gradient step's data, on the model's device; each model defines its own."""


class RecommenderModel(nn.Module, ABC):
    """A model that scores all items for users.

    What changes over epochs is in parameters and buffers, so that `state_dict` restores it exactly;
    what follows from the data (graph, rows) is kept outside, on the device that is given.

    Args:
        h: Hyperparameters.
        data: Training interactions and features.
        device: Where it computes; it stays there.
    """

    uses_history: ClassVar[bool] = False
    """Whether a user is computed from a history, so that users who were not trained on can be."""
    scores_are_products: ClassVar[bool] = False
    """Whether the scores are the dot products of `embeddings`."""

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__()
        self.h = h
        self.device = device
        self.n_users = data.n_users
        self.n_items = data.n_items
        self._prepared: Any = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]  # torch does not annotate it

    @property
    @abstractmethod
    def n_batches(self) -> int:
        """Gradient steps in an epoch."""

    def start_epoch(self, epoch: int) -> None:
        """Take note of the epoch that begins, counted from 1. Called before `batches`."""

    @abstractmethod
    def batches(self, generator: torch.Generator) -> Iterator[Batch]:
        """Make the batches of one epoch.

        Args:
            generator: A CPU generator; order, negatives and noise come from it. (Dropout, which
                depends on the device, comes from torch's own, which the trainable lends.)
        """

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, with the l2 penalty on what the batch looked up."""

    @abstractmethod
    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score all items; the higher, the better. In eval mode, without gradients.

        Args:
            users: (b,), int64, on the model's device.
            history: What is known of all users; on the model's device. Most models ignore it.

        Returns:
            (b, n_items), float32.
        """

    def embeddings(self) -> dict[str, Tensor]:
        """Return `users` (n_users, d) and `items` (n_items, d), or what there is of them.

        Where the score is a dot product, it is the dot product of these (a bias is one more
        column).
        """
        return {}

    def prepare(self) -> Any:
        """Compute what all users' scores need. Called by `prepared`."""
        return None

    def prepared(self) -> Any:
        """Return what `prepare` computes; once only, until the model is trained or loaded."""
        with torch.no_grad():
            if self.training:
                return self.prepare()
            if self._prepared is None:
                self._prepared = self.prepare()
            return self._prepared

    def train(self, mode: bool = True) -> RecommenderModel:
        """Switch to training or, with false, to evaluation."""
        self._prepared = None
        super().train(mode)
        return self

    def embedding(self, n: int, dim: int) -> nn.Embedding:
        """Make n embeddings from N(0, init_std ** 2)."""
        table = nn.Embedding(n, dim)
        nn.init.normal_(table.weight, std=self.h.init_std)
        return table


class UserBatches:
    """Batches of whole users, of about `batch_size` training pairs each.

    Args:
        train: Training interactions, on the model's device.
        batch_size: Training pairs in a batch, on average over all users who have any.
    """

    def __init__(self, train: UserItems, batch_size: int) -> None:
        self._users = torch.nonzero(train.counts.cpu() > 0).squeeze(1)
        self._device = train.items.device
        self._size = max(1, round(batch_size * len(self._users) / max(1, len(train))))

    def __len__(self) -> int:
        return -(-len(self._users) // self._size)

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the users (m,) of each batch in a random order."""
        order = self._users[torch.randperm(len(self._users), generator=generator)]
        yield from torch.split(order.to(self._device), self._size)


def _forget(model: nn.Module, _: object) -> None:
    assert isinstance(model, RecommenderModel)
    model._prepared = None
