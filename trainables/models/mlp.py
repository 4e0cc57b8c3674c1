"""A multilayer perceptron on flattened images."""

from __future__ import annotations

from torch import nn

from trainables.models.activations import make_activation


def mlp(
    n_inputs: int, n_classes: int, *, layers: int, width: int, dropout: float, activation: str
) -> nn.Sequential:
    """Build `layers` hidden layers of `width` units, each with activation and dropout.

    Args:
        n_inputs: Values of one image: channels x height x width.
        n_classes: Outputs (logits).
        layers: Hidden layers, at least 1.
        width: Units of each hidden layer.
        dropout: Probability that a hidden unit is zeroed in training.
        activation: A name of `ACTIVATIONS`.
    """
    modules: list[nn.Module] = [nn.Flatten()]
    size = n_inputs
    for _ in range(layers):
        modules += [nn.Linear(size, width), make_activation(activation)]
        if dropout:
            modules.append(nn.Dropout(dropout))
        size = width
    modules.append(nn.Linear(size, n_classes))
    return nn.Sequential(*modules)
