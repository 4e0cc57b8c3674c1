"""Activation functions by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from raytune_ahu.errors import SpaceError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.1, inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "prelu": nn.PReLU,
    "selu": lambda: nn.SELU(inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
"""All activation functions. `leaky_relu` has slope 0.1 below zero; `prelu` learns its slope."""


def make_activation(name: str) -> nn.Module:
    """Make a new activation module.

    Raises:
        SpaceError: If the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise SpaceError(f"activation={name!r} must be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
