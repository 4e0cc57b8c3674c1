"""What a data set of images must be able to do, and how its two parts are loaded.

One subclass of `ImageSource` per data set, one file each. `require` is called in the driver before
any trial starts; `load` in every process, where it opens the shared cache.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from trainables.data.cache import Entry, digest, load_or_build
from trainables.data.images import ImageData

Part = Literal["train", "test"]
"""The two files of a data set. Validation images are split off the training file."""

Say = Callable[[str], None]
"""Receives one line for the user about something that takes a while."""


def to_stderr(line: str) -> None:
    """Say it on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class Decoded:
    """What a source reads from its files."""

    images: Tensor
    """(n, c, h, w), uint8."""
    labels: Tensor
    """(n,), int64."""
    n_classes: int
    """Number of classes."""


class ImageSource(ABC):
    """A data set of images, in two parts.

    Args:
        data_dir: Folder of the data set; None where it needs none.
    """

    image_size: ClassVar[int]
    """Height and width of its images, unless the settings say otherwise, in pixels."""
    validation_fraction: ClassVar[float]
    """Share of the training file that is held out for validation by default."""
    flip: ClassVar[bool]
    """Whether a mirrored image still shows the same thing."""
    takes_a_while: ClassVar[bool] = True
    """Whether decoding it is worth telling the user."""

    def __init__(self, data_dir: Path | None) -> None:
        self.data_dir = data_dir

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name, the start of its cache entries."""

    @abstractmethod
    def require(self, say: Say) -> None:
        """Make sure that both parts are there; download what is missing and can be.

        Raises:
            DataError: If something is absent or damaged; the message says what to put where.
        """

    @abstractmethod
    def fingerprint(self, part: Part) -> object:
        """Describe the files of a part, so that a change is noticed. JSON-ready."""

    @abstractmethod
    def decode(self, part: Part, image_size: int) -> Decoded:
        """Read a part. The images may have any size; `load` resizes them."""

    def load(self, part: Part, image_size: int, say: Say | None = None) -> ImageData:
        """Open a part in its cache entry, which is built first where there is none."""
        key = digest([part, image_size, self.fingerprint(part)])

        def build() -> Entry:
            if say and self.takes_a_while:
                say(f"decoding the {part} images of {self.name} once; later runs reuse them")
            decoded = self.decode(part, image_size)
            images = resize(decoded.images, image_size)
            return to_entry(ImageData.measure(images, decoded.labels, decoded.n_classes))

        return from_entry(load_or_build(f"{self.name}-{part}", key, self.data_dir, build))


def to_entry(data: ImageData) -> Entry:
    """Write images down as a cache entry."""
    arrays = {"images": data.images.contiguous().numpy(), "labels": data.labels.numpy()}
    return Entry(arrays, {"n_classes": data.n_classes, "mean": data.mean, "std": data.std})


def from_entry(entry: Entry) -> ImageData:
    """Read images from a cache entry, without a copy (see `to_entry`)."""
    return ImageData(
        images=torch.from_numpy(entry.arrays["images"]),
        labels=torch.from_numpy(entry.arrays["labels"]),
        n_classes=int(entry.meta["n_classes"]),
        mean=tuple(entry.meta["mean"]),
        std=tuple(entry.meta["std"]),
    )


def resize(images: Tensor, size: int) -> Tensor:
    """Scale uint8 images (n, c, h, w) to `size` x `size`, bilinear with antialiasing."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    blocks = [
        functional.interpolate(
            block.float(), (size, size), mode="bilinear", align_corners=False, antialias=True
        )
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        for block in torch.split(images, 4096)
    ]
    return torch.cat(blocks)
