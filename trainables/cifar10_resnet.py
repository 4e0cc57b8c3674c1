"""`CifarResNetTrainable`: a residual network on CIFAR-10, your own image folders, or the digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from trainables.data.images import ImageSplits
from trainables.hyperparameters import choice, number, whole
from trainables.image_trainable import ImageTrainable
from trainables.models import ACTIVATIONS, DEPTHS, resnet
from trainables.optimisation import OPTIMIZERS, Optimisation


@dataclass(frozen=True)
class ResNetHyperparameters(Optimisation):
    """All hyperparameters of `CifarResNetTrainable` with their defaults."""

    optimizer: str = choice("sgd", OPTIMIZERS)
    """See `Optimisation`."""
    lr: float = number(0.1, 1e-8, 100.0)
    """Highest learning rate."""
    weight_decay: float = number(5e-4, 0.0, 10.0)
    """See `Optimisation`."""
    depth: str = choice("resnet20", list(DEPTHS))
    """Depth preset: resnet8, 14 and 20 have three stages, resnet18, 34 and 50 have four."""
    filters: int | None = whole(None, 1, 1024, optional=True)
    """Filters of the first stage; null: the preset's (16 with three stages, 64 with four)."""
    filters_2: int | None = whole(None, 1, 4096, optional=True)
    """Filters of the second stage; null: twice those of the stage before."""
    filters_3: int | None = whole(None, 1, 4096, optional=True)
    """Filters of the third stage; null: twice those of the stage before."""
    filters_4: int | None = whole(None, 1, 4096, optional=True)
    """Filters of the fourth stage (no effect with three stages); null: twice the stage before."""
    filter_size: int = whole(3, 3, 7, options=(3, 5, 7))
    """Height and width of the filters, in pixels."""
    activation: str = choice("relu", list(ACTIVATIONS))
    """Activation function."""
    dropout: float = number(0.0, 0.0, 0.95)
    """Dropout between the convolutions of each block."""

    def stage_filters(self) -> list[int]:
        """Return the filters of each stage."""
        preset = DEPTHS[self.depth]
        chosen = [self.filters or preset.filters]
        for own in (self.filters_2, self.filters_3, self.filters_4):
            chosen.append(own or 2 * chosen[-1])
        return chosen[: len(preset.blocks)]


class CifarResNetTrainable(ImageTrainable):
    """Tunes a residual network on `cifar10`, `folder:PATH`, `mnist`, or the embedded `digits`.

    See `ResNetHyperparameters` for the hyperparameters, `ImageSettings` for the settings, and
    `TorchTrainable` for what is reported. Training images are shifted by up to 4 pixels of 32, and
    mirrored where the data set allows it. The embedded digits are scaled up to 16 x 16.
    """

    datasets: ClassVar[tuple[str, ...]] = ("digits", "cifar10", "mnist", "folder:PATH")
    hyperparameters: ClassVar[type[Optimisation]] = ResNetHyperparameters
    default_padding: ClassVar[int] = 4
    default_image_sizes: ClassVar[dict[str, int]] = {"digits": 16}

    def build_network(self, h: Any, splits: ImageSplits) -> nn.Module:
        """Make the residual network."""
        return resnet(
            h.depth,
            splits.channels,
            splits.n_classes,
            filters=h.stage_filters(),
            kernel=h.filter_size,
            activation=h.activation,
            dropout=h.dropout,
        )
