"""Augmentation and normalisation of whole batches of uint8 images.

Images are (n, c, h, w). Everything random comes from a generator on the CPU that is passed in, so a
trial draws the same crops on every device, and after a restore.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `padding` pixels in both directions; what moves in is 0.

    The same as padding each image with zeros on all sides and cutting a random window of its
    original size out of it.
    """
    n, channels, height, width = images.shape
    padded = functional.pad(images, (padding, padding, padding, padding))
    row_length = width + 2 * padding
    offsets = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).to(images.device)
    window = (
        torch.arange(height, device=images.device)[:, None] * row_length
        + torch.arange(width, device=images.device)
    ).view(1, 1, -1)
    start = (offsets[0] * row_length + offsets[1]).view(n, 1, 1)
    pixels = (window + start).expand(n, channels, height * width)
    return padded.view(n, channels, -1).gather(2, pixels).view(n, channels, height, width)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


@dataclass(frozen=True)
class Augment:
    """Random shifts and flips, as switched on."""

    padding: int = 0
    """Largest shift in pixels; 0 for none."""
    flip: bool = False
    """Whether half of the images are mirrored left to right."""

    @property
    def is_on(self) -> bool:
        """Whether it changes anything."""
        return self.flip or self.padding > 0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment one batch; returns the batch itself where nothing is switched on."""
        if self.padding:
            images = random_crop(images, self.padding, generator)
        if self.flip:
            images = random_flip(images, generator)
        return images


class Normalise:
    """Turn uint8 images into floats of mean 0 and deviation 1 per channel, channels last.

    Args:
        mean: Mean of each channel on the scale [0, 1].
        std: Standard deviation of each channel on the same scale.
        device: Where the images are.

    Attributes:
        scale: (1, c, 1, 1), float32; what a value is multiplied by.
        shift: (1, c, 1, 1), float32; what is added then.
    """

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
    ) -> None:
        scale = [1 / (255 * s) for s in std]
        shift = [-m / s for m, s in zip(mean, std, strict=True)]
        self.scale = torch.tensor(scale, device=device).view(1, -1, 1, 1)
        self.shift = torch.tensor(shift, device=device).view(1, -1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise a batch (n, c, h, w) of uint8 to float32 in the channels-last layout."""
        floats = images.to(torch.float32, memory_format=torch.channels_last)
        return torch.addcmul(self.shift, floats, self.scale)
