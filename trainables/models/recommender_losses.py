"""Losses of recommenders: a positive item's score against the scores of negative ones.

b rows (training pairs), k negatives each; scores are logits. Where `valid` is given, negatives at
which it is false count for nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def bpr_loss(positive: Tensor, negative: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of -log sigmoid(positive - negative) (Rendle et al. 2009).

    Args:
        positive: (b,).
        negative: (b, k).
        valid: (b, k), bool; None: all.
    """
    losses = functional.softplus(negative - positive[:, None])
    return losses.mean() if valid is None else _mean(losses, valid)


def bce_loss(positive: Tensor, negative: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean log loss over the positives (label 1) and the negatives (label 0).

    Args:
        positive: (b,).
        negative: (b, k).
        valid: (b, k), bool; None: all.
    """
    losses = functional.softplus(negative)
    total, count = losses.sum(), torch.as_tensor(losses.numel())
    if valid is not None:
        total, count = torch.where(valid, losses, 0.0).sum(), valid.sum()
    return (functional.softplus(-positive).sum() + total) / (count + len(positive))


def softmax_loss(positive: Tensor, negative: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of -log(e^positive / (e^positive + sum e^negative)), the sampled softmax.

    Where negatives were not drawn uniformly, the caller first takes the logarithm of each item's
    probability of being drawn off its score (Bengio & Senecal 2008).

    Args:
        positive: (b,).
        negative: (b, k).
        valid: (b, k), bool; None: all.
    """
    if valid is not None:
        negative = negative.masked_fill(~valid, -math.inf)
    logits = torch.cat([positive[:, None], negative], 1)
    return (torch.logsumexp(logits, 1) - positive).mean()


def full_softmax_loss(logits: Tensor, rows: Tensor, items: Tensor) -> Tensor:
    """Return the mean of -log softmax over all items, over pairs of which many share a row.

    Args:
        logits: (m, n_items).
        rows: (p,), int64: the row in `logits` of each pair.
        items: (p,), int64: its positive item.
    """
    normalisers = torch.logsumexp(logits, 1)
    return (normalisers[rows] - logits[rows, items]).mean()


LOSS_FUNCTIONS = {"bpr": bpr_loss, "bce": bce_loss, "softmax": softmax_loss}
"""The losses on sampled negatives, by name."""


def _mean(losses: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, losses, 0.0).sum() / valid.sum().clamp(min=1)
