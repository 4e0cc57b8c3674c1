"""From hyperparameters to an optimizer, a learning-rate schedule and penalties."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from trainables.hyperparameters import choice, number, whole

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class Optimisation:
    """The hyperparameters of training itself, shared by the trainables."""

    optimizer: str = choice("sgd", OPTIMIZERS)
    """`sgd` (with Nesterov momentum where momentum > 0), `adam`, `adamw`, `rmsprop`."""
    lr: float = number(0.05, 1e-8, 100.0)
    """Highest learning rate; the schedule rises to it and falls from it."""
    momentum: float = number(0.9, 0.0, 0.9999)
    """Momentum of `sgd` and `rmsprop`; no effect on the others."""
    beta1: float = number(0.9, 0.0, 0.9999)
    """Decay of the mean gradient of `adam` and `adamw`; no effect on the others."""
    beta2: float = number(0.999, 0.0, 0.99999)
    """Decay of the mean squared gradient of `adam` and `adamw`; no effect on the others."""
    weight_decay: float = number(0.0, 0.0, 10.0)
    """Weight decay as the optimizer defines it (decoupled for `adamw`), on weight matrices and
    filters only."""
    l1: float = number(0.0, 0.0, 10.0)
    """Factor of the penalty sum |w| over weights and filters."""
    l2: float = number(0.0, 0.0, 10.0)
    """Factor of the penalty sum w^2 over weights and filters (of the loss, unlike
    `weight_decay`, whose meaning depends on the optimizer)."""
    label_smoothing: float = number(0.0, 0.0, 0.9)
    """Share of the target that is spread over all classes; training only."""
    batch_size: int = whole(128, 1, 65536)
    """Images in a gradient step."""
    schedule: str = choice("cosine", SCHEDULES)
    """`cosine` falls to zero at `max_epochs`; `constant` stays."""
    warmup_fraction: float = number(0.15, 0.0, 0.9)
    """Share of all steps in which the learning rate rises linearly to `lr`."""


def make_optimizer(h: Optimisation, model: nn.Module) -> Optimizer:
    """Build the optimizer; fused, where torch has it for all parameters' device."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]  # biases, normalisation, PReLU slopes
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": h.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    betas = (h.beta1, h.beta2)
    if h.optimizer == "adam":
        return torch.optim.Adam(groups, lr=h.lr, betas=betas, fused=True)
    if h.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=h.lr, betas=betas, fused=True)
    if h.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=h.lr, momentum=h.momentum)
    return torch.optim.SGD(
        groups, lr=h.lr, momentum=h.momentum, nesterov=h.momentum > 0, fused=True
    )


def make_schedule(h: Optimisation, optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """Build the learning-rate schedule; one step of it per gradient step."""
    warmup = round(total_steps * h.warmup_fraction)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if h.schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)


def penalise(parameters: Iterable[Tensor], l1: float, l2: float) -> Callable[[], None] | None:
    """Make the gradient of the penalty l1 * sum |w| + l2 * sum w^2 over weights and filters.

    Returns:
        A function that adds it to the gradients, to be called between the backward pass and the
        optimizer's step; None where both factors are 0. (Biases and normalisation are not
        penalised, and the training loss that is reported does not contain the penalty.)
    """
    if l1 == 0 and l2 == 0:
        return None
    weights = [p for p in parameters if p.ndim > 1]

    def add() -> None:
        with torch.no_grad():
            grads = [p.grad for p in weights if p.grad is not None]
            values = [p for p in weights if p.grad is not None]
            if l2:
                torch._foreach_add_(grads, values, alpha=2 * l2)
            if l1:
                torch._foreach_add_(grads, torch._foreach_sign(values), alpha=l1)

    return add
