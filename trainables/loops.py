"""One epoch of training, and one pass of evaluation.

`Training` is all that an epoch needs; a trainable's `build` returns one. The sums of losses stay on
the device, so that a GPU is waited for once in `_CHECK_EVERY` batches and not after each one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainables.data.images import Subset, shuffled_batches

_CHECK_EVERY = 64
_EVALUATION_BATCH = 500

Measure = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""(outputs, targets) of a batch to named means over that batch."""


def accuracy(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Measure the share of rows whose largest output is the target: {"accuracy": in [0, 1]}."""
    return {"accuracy": (outputs.argmax(1) == targets).float().mean()}


@dataclass(kw_only=True)
class Optimised:
    """Model and optimizer of one trial: what every trainable's `build` returns."""

    model: nn.Module
    """The model. It is moved to the trial's device after `build`."""
    optimizer: Optimizer
    """Optimizer over the model's parameters."""
    schedule: LRScheduler | None = None
    """Learning-rate schedule, stepped after each gradient step."""
    penalise: Callable[[], None] | None = None
    """Adds to the gradients before the optimizer's step."""

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self.model.to(device)


@dataclass(kw_only=True)
class Training(Optimised):
    """Model, optimizer and data of one trial: what `TorchTrainable.build` returns."""

    train: Subset
    """Training rows."""
    validation: Subset
    """Validation rows."""
    batch_size: int
    """Rows in a gradient step."""
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy
    """(outputs, targets) to the mean loss of the batch, for training."""
    validation_loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy
    """The same for evaluation, where it may leave out label smoothing."""
    measure: Measure = accuracy
    """What else to measure in evaluation; reported as `validation_<name>`."""
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """Changes the inputs of a training batch at random."""
    transform: Callable[[Tensor], Tensor] | None = None
    """Turns a batch of inputs into what the model takes (uint8 images into floats)."""

    def to(self, device: torch.device) -> None:
        """Move model and rows to a device."""
        super().to(device)
        self.train, self.validation = self.train.to(device), self.validation.to(device)


@dataclass(frozen=True)
class Precision:
    """The type of number that the forward pass computes in."""

    device: torch.device
    """Where."""
    dtype: torch.dtype = torch.float32
    """float32 (no autocast), bfloat16, or float16 (CUDA only; needs a gradient scaler)."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def train_epoch(
    training: Training,
    precision: Precision,
    scaler: torch.amp.GradScaler,
    *,
    shuffle: torch.Generator,
    augment: torch.Generator,
) -> float:
    """Train on each row once (up to a smaller last batch).

    Args:
        training: What to train; its model, optimizer and schedule are changed.
        precision: Device and number type.
        scaler: Gradient scaler; does nothing unless it is enabled.
        shuffle: Generator of the order.
        augment: Generator of the augmentation.

    Returns:
        The mean training loss, without penalties. NaN or infinite if it was so in any batch; the
        epoch is then broken off early.
    """
    batches = shuffled_batches(len(training.train), training.batch_size, shuffle, precision.device)

    def losses() -> Iterator[Callable[[], Tensor]]:
        for rows in batches:
            inputs, targets = training.train.take(rows)
            if training.augment:
                inputs = training.augment(inputs, augment)
            yield partial(_loss, training, inputs, targets)

    return run_steps(training, precision, scaler, losses())


def _loss(training: Training, inputs: Tensor, targets: Tensor) -> Tensor:
    if training.transform:
        inputs = training.transform(inputs)
    return training.loss(training.model(inputs), targets)


def run_steps(
    training: Optimised,
    precision: Precision,
    scaler: torch.amp.GradScaler,
    losses: Iterable[Callable[[], Tensor]],
) -> float:
    """Take one gradient step for each batch of an epoch.

    Args:
        training: What to train; its model, optimizer and schedule are changed.
        precision: Device and number type.
        scaler: Gradient scaler; does nothing unless it is enabled.
        losses: For each batch a function that computes its mean loss.

    Returns:
        The mean loss over the batches. NaN or infinite if it was so in any; the epoch is then
        broken off early.
    """
    training.model.train()
    total = torch.zeros((), device=precision.device)
    count = 0
    for count, loss in enumerate(losses, start=1):
        total += _step(training, precision, scaler, loss)
        if count % _CHECK_EVERY == 0 and not math.isfinite(total.item()):
            break
    return float(total.item()) / count


def _step(
    training: Optimised,
    precision: Precision,
    scaler: torch.amp.GradScaler,
    compute: Callable[[], Tensor],
) -> Tensor:
    with precision.autocast():
        loss = compute()
    training.optimizer.zero_grad()
    if scaler.is_enabled():
        torch.autograd.backward(scaler.scale(loss))
        scaler.unscale_(training.optimizer)
    else:
        torch.autograd.backward(loss)
    if training.penalise:
        training.penalise()
    if scaler.is_enabled():
        scaler.step(training.optimizer)
        scaler.update()
    else:
        training.optimizer.step()
    if training.schedule:
        training.schedule.step()
    return loss.detach()


@torch.inference_mode()
def evaluate(training: Training, rows: Subset, precision: Precision) -> dict[str, float]:
    """Measure the model on some rows.

    Returns:
        `loss` and what `training.measure` returns, means over all rows.
    """
    training.model.eval()
    sums: dict[str, Tensor] = {}
    for start in range(0, len(rows), _EVALUATION_BATCH):
        inputs, targets = rows.take(slice(start, start + _EVALUATION_BATCH))
        if training.transform:
            inputs = training.transform(inputs)
        with precision.autocast():
            outputs = training.model(inputs)
        outputs = outputs.float()
        means = {"loss": training.validation_loss(outputs, targets)}
        means.update(training.measure(outputs, targets))
        for name, mean in means.items():
            sums[name] = sums.get(name, torch.zeros_like(mean)) + mean * len(inputs)
    return {name: float(value.item()) / len(rows) for name, value in sums.items()}
