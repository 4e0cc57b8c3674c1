"""Networks for small images."""

from trainables.models.activations import ACTIVATIONS
from trainables.models.cnn import cnn
from trainables.models.mlp import mlp
from trainables.models.resnet import DEPTHS, resnet

__all__ = ["ACTIVATIONS", "DEPTHS", "cnn", "mlp", "resnet"]
