"""Image data in memory: one uint8 tensor per data set file, and index sets that share it.

Shapes: images (n, c, h, w) uint8, labels (n,) int64. A `Subset` is a tensor pair plus the positions
that belong to it, so that the training and the validation split of a data set, and every trial on a
machine, read the same memory (a memory map on the CPU). Start with `Subset.take`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageData:
    """All images of one file of a data set (its training or its test part)."""

    images: Tensor
    """(n, c, h, w), uint8."""
    labels: Tensor
    """(n,), int64, in [0, n_classes)."""
    n_classes: int
    """Number of classes."""
    mean: tuple[float, ...]
    """Mean of each channel, pixel values scaled to [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel, same scale; at least 1e-6."""

    @classmethod
    def measure(cls, images: Tensor, labels: Tensor, n_classes: int) -> ImageData:
        """Wrap tensors and measure the mean and deviation of each channel exactly.

        They are computed from the 256-bin histogram of each channel, so no float copy is made.
        """
        channels = images.shape[1]
        counts = torch.zeros(channels, 256, dtype=torch.float64)
        for block in torch.split(images, 4096):
            for channel in range(channels):
                values = block[:, channel].reshape(-1).long()
                counts[channel] += torch.bincount(values, minlength=256)
        weights = counts / counts.sum(1, keepdim=True)
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean = weights @ levels
        variance = (weights * (levels - mean[:, None]) ** 2).sum(1)
        std = variance.sqrt().clamp(min=1e-6)
        return cls(images, labels.long(), n_classes, tuple(mean.tolist()), tuple(std.tolist()))


@dataclass(frozen=True)
class Subset:
    """Some rows of a pair of tensors, without a copy of them."""

    inputs: Tensor
    """(n, ...), any type: all rows, of which this subset uses some."""
    targets: Tensor
    """(n, ...): the targets of all rows."""
    indices: Tensor
    """(m,), int64: the rows that belong to this subset."""

    @classmethod
    def whole(cls, inputs: Tensor, targets: Tensor) -> Subset:
        """Make the subset of all rows."""
        return cls(inputs, targets, torch.arange(len(inputs), device=inputs.device))

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, positions: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Copy out one batch: the rows at these positions of the subset."""
        rows = self.indices[positions]
        return self.inputs.index_select(0, rows), self.targets.index_select(0, rows)

    def joined(self, other: Subset) -> Subset:
        """Return the rows of this subset and then those of another one."""
        if self.inputs is other.inputs and self.targets is other.targets:
            rows = torch.cat([self.indices, other.indices])
            return Subset(self.inputs, self.targets, rows)
        mine, others = self.take(slice(None)), other.take(slice(None))
        return Subset.whole(torch.cat([mine[0], others[0]]), torch.cat([mine[1], others[1]]))

    def to(self, device: torch.device) -> Subset:
        """Move the rows of this subset to a device; on the CPU it stays the shared memory."""
        if self.inputs.device == device:
            return self
        inputs, targets = self.take(slice(None))
        return Subset.whole(inputs.to(device), targets.to(device))


@dataclass(frozen=True)
class ImageSplits:
    """What a trial trains and validates on. The test images are not here."""

    train: Subset
    """Training images and labels."""
    validation: Subset
    """Validation images and labels, disjoint from the training ones."""
    n_classes: int
    """Number of classes."""
    mean: tuple[float, ...]
    """Mean of each channel, for normalising (see `ImageData.mean`)."""
    std: tuple[float, ...]
    """Standard deviation of each channel, for normalising."""

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.train.inputs.shape[1])

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        return int(self.train.inputs.shape[2]), int(self.train.inputs.shape[3])

    def to(self, device: torch.device) -> ImageSplits:
        """Move both splits to a device."""
        return ImageSplits(
            self.train.to(device),
            self.validation.to(device),
            self.n_classes,
            self.mean,
            self.std,
        )


def shuffled_batches(
    n: int, batch_size: int, generator: torch.Generator, device: torch.device
) -> Iterator[Tensor]:
    """Yield the positions 0..n-1 in random order, `batch_size` at a time.

    The last, smaller batch is left out unless it is the only one: batch normalisation cannot work
    on a single image, and every step of an epoch then weighs the same.

    Args:
        n: Number of rows.
        batch_size: Rows in a batch; where it exceeds `n`, one batch of `n` is yielded.
        generator: CPU generator that the order is drawn from.
        device: Where the positions are needed.
    """
    order = torch.randperm(n, generator=generator).to(device, non_blocking=True)
    for batch in range(n_batches(n, batch_size)):
        yield order[batch * batch_size : (batch + 1) * batch_size]


def n_batches(n: int, batch_size: int) -> int:
    """Return the number of batches that `shuffled_batches` yields."""
    return max(1, n // batch_size)
