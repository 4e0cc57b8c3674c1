"""Trainables: what is tuned. One `step` is one epoch.

To tune a model of your own, subclass `TorchTrainable` and implement `build`; its docstring has an
example. `MnistTrainable` and `CifarResNetTrainable` are ready to use.
"""

from trainables.base import TorchTrainable
from trainables.catalogue import TRAINABLES, default_space_path
from trainables.cifar10_resnet import CifarResNetTrainable, ResNetHyperparameters
from trainables.data.images import Subset
from trainables.data.registry import DATASETS, prepare
from trainables.image_trainable import ImageSettings, ImageTrainable
from trainables.loops import Training
from trainables.mnist import MnistHyperparameters, MnistTrainable

__all__ = [
    "DATASETS",
    "TRAINABLES",
    "CifarResNetTrainable",
    "ImageSettings",
    "ImageTrainable",
    "MnistHyperparameters",
    "MnistTrainable",
    "ResNetHyperparameters",
    "Subset",
    "TorchTrainable",
    "Training",
    "default_space_path",
    "prepare",
]
