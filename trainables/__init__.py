"""Trainables: what is tuned. One `step` is one epoch.

To tune a model of your own, subclass `TorchTrainable` and implement `build`; its docstring has an
example. `MnistTrainable`, `CifarResNetTrainable` and `RecommenderTrainable`
are ready to use, and `Recommender` serves what the last one has found.
"""

from trainables.base import TorchTrainable
from trainables.catalogue import TRAINABLES, default_space_path
from trainables.cifar10_resnet import CifarResNetTrainable, ResNetHyperparameters
from trainables.data.images import Subset
from trainables.data.registry import DATASETS, prepare
from trainables.epoch_trainable import EpochTrainable
from trainables.image_trainable import ImageSettings, ImageTrainable
from trainables.loops import Optimised, Training
from trainables.mnist import MnistHyperparameters, MnistTrainable
from trainables.ready_trainable import ReadyTrainable
from trainables.recommender import RecommenderTrainable
from trainables.recommender_hyperparameters import RecommenderHyperparameters
from trainables.recommender_settings import RecommenderSettings
from trainables.serving import Recommender

__all__ = [
    "DATASETS",
    "TRAINABLES",
    "CifarResNetTrainable",
    "EpochTrainable",
    "ImageSettings",
    "ImageTrainable",
    "MnistHyperparameters",
    "MnistTrainable",
    "Optimised",
    "ReadyTrainable",
    "Recommender",
    "RecommenderHyperparameters",
    "RecommenderSettings",
    "RecommenderTrainable",
    "ResNetHyperparameters",
    "Subset",
    "TorchTrainable",
    "Training",
    "default_space_path",
    "prepare",
]
