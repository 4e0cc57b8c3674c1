"""`MnistTrainable`: a multilayer perceptron or a plain CNN on handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from trainables.data.images import ImageSplits
from trainables.hyperparameters import choice, number, whole
from trainables.image_trainable import ImageTrainable
from trainables.models import ACTIVATIONS, cnn, mlp
from trainables.optimisation import OPTIMIZERS, Optimisation


@dataclass(frozen=True)
class MnistHyperparameters(Optimisation):
    """All hyperparameters of `MnistTrainable` with their defaults."""

    optimizer: str = choice("adamw", OPTIMIZERS)
    """See `Optimisation`."""
    lr: float = number(4e-3, 1e-8, 100.0)
    """Highest learning rate."""
    model: str = choice("cnn", ("mlp", "cnn"))
    """`mlp`: a multilayer perceptron on the pixels; `cnn`: 3 x 3 convolutions."""
    layers: int = whole(2, 1, 8)
    """Hidden layers of the `mlp`; no effect on the `cnn`."""
    width: int = whole(256, 1, 8192)
    """Units of each hidden layer of the `mlp`; no effect on the `cnn`."""
    stages: int = whole(3, 1, 5)
    """Convolution stages of the `cnn`, whose filters double each time; no effect on the `mlp`."""
    filters: int = whole(32, 1, 512)
    """Filters of the first stage of the `cnn`; no effect on the `mlp`."""
    dropout: float = number(0.0, 0.0, 0.95)
    """`mlp`: after each hidden layer; `cnn`: before the classifier."""
    activation: str = choice("relu", list(ACTIVATIONS))
    """Activation function."""


class MnistTrainable(ImageTrainable):
    """Tunes an MLP or a CNN on `mnist`, or on the embedded `digits`.

    See `MnistHyperparameters` for the hyperparameters, `ImageSettings` for the settings, and
    `TorchTrainable` for what is reported.
    """

    datasets: ClassVar[tuple[str, ...]] = ("digits", "mnist")
    hyperparameters: ClassVar[type[Optimisation]] = MnistHyperparameters

    def build_network(self, h: Any, splits: ImageSplits) -> nn.Module:
        """Make the MLP or the CNN."""
        height, width = splits.height_width
        if h.model == "mlp":
            return mlp(
                splits.channels * height * width,
                splits.n_classes,
                layers=h.layers,
                width=h.width,
                dropout=h.dropout,
                activation=h.activation,
            )
        return cnn(
            splits.channels,
            splits.n_classes,
            image_size=height,
            stages=h.stages,
            filters=h.filters,
            dropout=h.dropout,
            activation=h.activation,
        )
