"""SASRec: self-attention over a user's items in order of time (Kang & McAuley 2018).

w windows of l tokens, d dimensions. A user's sequence is a start token and then the items; the
state at each token predicts the item that comes next. So a user without items is scored from the
start token: what users begin with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.data.negatives import NegativeSampler
from trainables.data.user_items import RecommenderData, UserItems
from trainables.models.recommender_losses import LOSS_FUNCTIONS
from trainables.models.recommender_model import Batch, RecommenderModel
from trainables.recommender_hyperparameters import RecommenderHyperparameters

_VALUES_AT_ONCE = 1 << 22
"""Numbers (16 MB) in the largest tensor when users are scored; a few such are held at a time."""


class SASRec(RecommenderModel):
    """Causal transformer blocks whose output is compared with the item embeddings.

    Departures from the paper: a long history is cut into windows of `max_length` and all are
    trained on, not only the newest; layer normalisation comes before attention and network alike;
    GELU; the loss may be a softmax over all items, which does far better (Klenitskiy & Vasilev
    2023). As in the paper, positions are counted back from the end of a window, and item
    embeddings serve for input and output.

    Batches: tokens (w, l), lengths (w,), targets (p,) for the p tokens within the lengths, and
    negatives (p, k) (k = 0 with `full-softmax`).
    """

    uses_history: ClassVar[bool] = True

    def __init__(
        self, h: RecommenderHyperparameters, data: RecommenderData, device: torch.device
    ) -> None:
        super().__init__(h, data, device)
        self._train = data.train.to("cpu")
        kind = "popularity" if h.sampling == "popularity" else "uniform"
        self._sampler = NegativeSampler(self._train, kind)
        self._log_q: Tensor | None = None
        if kind == "popularity":
            self._log_q = torch.log(self._sampler.probabilities).float().to(device)
        self._windows = _windows(self._train.counts, h.max_length)
        per_batch = h.batch_size * len(self._windows[0]) / max(1, len(self._train))
        self._windows_per_batch = max(1, round(per_batch))
        self.items = self.embedding(self.n_items + 1, h.dim)  # the last one: the start token
        self.positions = self.embedding(h.max_length, h.dim)
        self.blocks = nn.ModuleList(_Block(h) for _ in range(h.layers))
        self.norm = nn.LayerNorm(h.dim)

    @property
    def n_batches(self) -> int:
        """Gradient steps in an epoch."""
        return -(-len(self._windows[0]) // self._windows_per_batch)

    def batches(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield all windows in random order."""
        order = torch.randperm(len(self._windows[0]), generator=generator)
        for rows in torch.split(order, self._windows_per_batch):
            users, firsts, lengths = (part[rows] for part in self._windows)
            tokens = self._tokens(self._train, users, firsts, lengths)
            inside = torch.arange(tokens.shape[1]) < lengths[:, None]
            # The target of token j of a user is his item j: token 0 is the start.
            places = (self._train.starts[users] + firsts)[:, None] + torch.arange(tokens.shape[1])
            targets = self._train.items[places[inside]]
            k = 0 if self.h.loss == "full-softmax" else self.h.negatives
            negatives = self._sampler.draw(users.repeat_interleave(lengths), k, generator)
            batch = (tokens, lengths, targets, negatives)
            yield tuple(part.to(self.device) for part in batch)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss over all tokens and, with l2, the penalty on targets and negatives."""
        tokens, lengths, targets, negatives = batch
        inside = torch.arange(tokens.shape[1], device=self.device) < lengths[:, None]
        states = self.states(tokens, lengths)[inside]
        if self.h.loss == "full-softmax":
            logits = states @ self.items.weight[: self.n_items].T
            loss = functional.cross_entropy(logits, targets)
            vectors = self.items(targets[:, None]) if self.h.l2 else None
        else:
            candidates = torch.cat([targets[:, None], negatives], 1)
            vectors = self.items(candidates)
            logits = torch.linalg.vecdot(vectors, states[:, None])
            if self._log_q is not None and self.h.loss == "softmax":
                logits = logits - self._log_q[candidates]
            loss = LOSS_FUNCTIONS[self.h.loss](logits[:, 0], logits[:, 1:])
        if vectors is not None and self.h.l2:
            squares = vectors.square().sum(2)
            loss = loss + self.h.l2 * squares[:, 0].mean()
            if squares.shape[1] > 1:
                loss = loss + self.h.l2 * squares[:, 1:].mean()
        return loss

    def scores(self, users: Tensor, history: UserItems) -> Tensor:
        """Score from the newest items in `history`."""
        most = int(history.counts[users].max()) if len(users) else 0
        length = min(self.h.max_length, most + 1)
        wide = max(3 * self.h.dim, self.h.width, self.h.heads * length)
        blocks = torch.split(users, max(1, _VALUES_AT_ONCE // (length * wide)))
        return torch.cat([self._scores(block, history) for block in blocks])

    def _scores(self, users: Tensor, history: UserItems) -> Tensor:
        counts = history.counts[users]
        firsts = (counts + 1 - self.h.max_length).clamp(min=0)
        lengths = counts + 1 - firsts
        tokens = self._tokens(history, users, firsts, lengths)
        rows = torch.arange(len(users), device=users.device)
        states = self.states(tokens, lengths)[rows, lengths - 1]
        return states @ self.items.weight[: self.n_items].T

    def embeddings(self) -> dict[str, Tensor]:
        """Return the item embeddings; users have none."""
        return {"items": self.items.weight.detach()[: self.n_items]}

    def states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Compute the state after each token.

        Args:
            tokens: (w, l), filled up at the end, which causal attention never looks back from.
            lengths: (w,): how many tokens of each window count.

        Returns:
            (w, l, d).
        """
        places = torch.arange(tokens.shape[1], device=tokens.device)
        from_end = self.h.max_length - lengths[:, None] + places
        positions = self.positions(from_end.clamp(max=self.h.max_length - 1))
        x = self.items(tokens) * self.h.dim**0.5 + positions
        x = functional.dropout(x, self.h.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        states: Tensor = self.norm(x)
        return states

    def _tokens(self, of: UserItems, users: Tensor, firsts: Tensor, lengths: Tensor) -> Tensor:
        """Gather tokens firsts .. firsts + lengths - 1 of users (w,) into (w, longest)."""
        longest = int(lengths.max()) if len(lengths) else 0
        places = torch.arange(longest, device=users.device)
        numbers = firsts[:, None] + places
        is_item = (numbers > 0) & (places < lengths[:, None])
        tokens = torch.full_like(numbers, self.n_items)
        rows = (of.starts[users][:, None] + numbers - 1)[is_item]
        tokens[is_item] = of.items[rows]
        return tokens


class _Block(nn.Module):
    """x + attention(norm(x)), then x + network(norm(x))."""

    def __init__(self, h: RecommenderHyperparameters) -> None:
        super().__init__()
        self._heads, self._dropout = h.heads, h.dropout
        self.attention_norm = nn.LayerNorm(h.dim)
        self.query_key_value = nn.Linear(h.dim, 3 * h.dim)
        self.out = nn.Linear(h.dim, h.dim)
        self.network = nn.Sequential(
            nn.LayerNorm(h.dim),
            nn.Linear(h.dim, h.width),
            nn.GELU(),
            nn.Dropout(h.dropout),
            nn.Linear(h.width, h.dim),
            nn.Dropout(h.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(w, l, d) to the same."""
        w, length, d = x.shape
        joint = self.query_key_value(self.attention_norm(x))
        parts = joint.view(w, length, 3, self._heads, d // self._heads).permute(2, 0, 3, 1, 4)
        dropout = self._dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            parts[0], parts[1], parts[2], dropout_p=dropout, is_causal=True
        )
        mixed = self.out(mixed.transpose(1, 2).reshape(w, length, d))
        x = x + functional.dropout(mixed, self._dropout, self.training)
        y: Tensor = x + self.network(x)
        return y


def _windows(counts: Tensor, max_length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut token sequences 0 .. count - 1 into windows, full ones counted back from the end.

    Returns:
        users, first tokens and lengths, (w,) each.
    """
    per_user = -(-counts // max_length)
    users = torch.repeat_interleave(torch.arange(len(counts)), per_user)
    numbers = torch.arange(len(users)) - (torch.cumsum(per_user, 0) - per_user)[users]
    ends = counts[users] - numbers * max_length
    firsts = (ends - max_length).clamp(min=0)
    return users, firsts, ends - firsts
